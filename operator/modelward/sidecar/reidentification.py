"""Counts how many rows share their combination of quasi-identifiers, as the model got them. No value is kept.

Combinations are hashed under a key of the namespace's (of the process's own where it has none) when a request is over,
so that nobody waits for it. With an identifier among the inputs people are counted, and not how often they come.
"""

import hashlib
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from modelward.fairness.window import Window as Counters
from modelward.privacy.hierarchy import SUPPRESSED
from modelward.privacy.keys import Keys
from modelward.privacy.spec import Treatment
from modelward.reidentification.figures import Figures, figures
from modelward.reidentification.left_out import MAX_FIELDS, LeftOut
from modelward.reidentification.sample import bit_of
from modelward.reidentification.told import Combinations, Judged, Suppressed
from modelward.reidentification.verdict import verdict
from modelward.reidentification.window import Window
from modelward.sidecar import config
from modelward.sidecar.incidents import rfc3339
from modelward.sidecar.places import Place, place_of
from modelward.sidecar.tensors import Tensor, TensorSpec

MAX_ROWS = 4096
"""Rows of a request that are counted; a larger one is told of as uncounted."""
_encode = msgspec.msgpack.Encoder().encode


class Rows:
    """A request's rows: of each field the values, and of whom each row is; None: that is not known."""

    __slots__ = ("columns", "length", "people")

    def __init__(self, length: int, columns: Sequence[list[Any]], people: list[Any] | None) -> None:
        self.length = length
        self.columns = columns
        self.people = people


class Reidentification:
    """The counts of one configuration.

    Args:
        settings: what is to be counted.
        declared: the model's inputs, as callers send them.
        treatments: of the fields.
        keys: of the namespace; None: hashes are this process's own.
        model: its name.
        clock: seconds since the epoch.
        kept: what is counted while this holds is told as a verdict alone, then and later.

    Raises:
        ConfigError: a field is not among the inputs.
    """

    def __init__(
        self,
        settings: config.Reidentification,
        declared: Mapping[str, TensorSpec] | None,
        treatments: Mapping[str, Treatment],
        keys: Keys | None,
        model: str,
        clock: Callable[[], float] = time.time,
        *,
        kept: bool = False,
    ) -> None:
        self.settings = settings
        self.kept = kept
        self._places = [place_of("the quasi-identifier", name, declared or {}) for name in settings.fields]
        self._inputs: dict[str, list[tuple[int, int, int]]] = {}  # where their fields lie: index, offset, width
        for index, place in enumerate(self._places):
            self._inputs.setdefault(place.input, []).append((index, place.offset, place.width))
        self._person = place_of("the subject", settings.subject, declared or {}) if settings.subject else None
        self._suppressible = [index for index, name in enumerate(settings.fields) if _suppresses(treatments.get(name))]
        what = _encode([settings.fields, settings.subject, [_told(treatments.get(one)) for one in settings.fields]])
        key = keys.domain("combination", model) if keys is not None else secrets.token_bytes(32)
        self.name = hashlib.blake2b(what, digest_size=8, key=key, person=b"name").hexdigest()
        self._of_combinations = hashlib.blake2b(digest_size=8, key=key, person=b"combination")
        self._of_people = hashlib.blake2b(digest_size=8, key=key, person=b"person")
        self._clock = clock
        self._judged = Judged(settings.k, tuple(settings.fields), "Unknown")
        self._judged_at: float | None = None
        self._window = Window(clock)
        self._counters = Counters(1 + len(settings.fields), clock)  # rows that are uncounted, and suppressed by field
        self._left_out = LeftOut()
        self._leaves = 1 < len(settings.fields) <= MAX_FIELDS  # of one there is nothing left

    def inherit(self, previous: "Reidentification") -> None:
        """Go on counting where the configuration before this one stopped, if it counted the same by the same key."""
        if previous.name == self.name and (self.kept or not previous.kept):
            self._window, self._counters = previous._window, previous._counters  # noqa: SLF001 - its own kind
            self._left_out = previous._left_out  # noqa: SLF001
            if previous.settings == self.settings:
                self._judged, self._judged_at = previous._judged, previous._judged_at  # noqa: SLF001

    # --- on a request's way

    def begin(self, tensors: Sequence[Tensor]) -> Rows:
        """A request's rows: of whom each is, before anything of it is treated."""
        people = None
        if self._person is not None:
            for tensor in tensors:
                if tensor.spec.name == self._person.input:
                    people = tensor.every(self._person.offset, self._person.width)
        return Rows(0, (), people)

    def treated(self, rows: Rows, tensors: Sequence[Tensor]) -> None:
        """Look at them as the model gets them."""
        columns: list[list[Any]] = [[]] * len(self._places)
        length = 0
        for tensor in tensors:
            places = self._inputs.get(tensor.spec.name)
            if places is not None:
                length = max(length, tensor.rows)
                for index, offset, width in places:
                    columns[index] = tensor.every(offset, width)
        rows.length, rows.columns = length, columns

    # --- when it is over

    def count(self, rows: Rows) -> None:
        """Count the rows of a request that the model was asked about."""
        people = rows.people if rows.people is not None and len(rows.people) == rows.length else None
        counters = self._counters.today()
        if rows.length > MAX_ROWS or any(len(column) != rows.length for column in rows.columns):
            counters[0] += rows.length
            return
        for index in self._suppressible:
            counters[1 + index] += rows.columns[index].count(SUPPRESSED)
        today = self._window.today()
        columns = [_alike(column, place) for column, place in zip(rows.columns, self._places, strict=True)]
        each = zip(zip(*columns, strict=True), people or repeat(None, rows.length), strict=True)
        alike = Counter(each) if rows.length > 1 else dict.fromkeys(each, 1)
        for (combination, person), count in alike.items():
            # Rows of nobody who is known are taken for one person's: that makes a combination smaller, never larger.
            bit = 0 if self._person is None else bit_of(_hash(self._of_people, person))
            hashed = _hash(self._of_combinations, combination)
            today.add(hashed, bit, count)
            if today.level == 0 and self._leaves and self._left_out.lacks(hashed):
                self._left_out.note(hashed, self._without_each(combination))

    def _without_each(self, combination: tuple[Any, ...]) -> list[int]:
        """The hashes of what is left of a combination without its first field, its second, and so on."""
        return [
            _hash(self._of_combinations, (at, combination[:at], combination[at + 1 :]))
            for at in range(len(combination))
        ]

    # --- what is told

    def report(self) -> Combinations:
        """What the controller is told."""
        uncounted, *suppressed = self._counters.totals()
        total, people = self._window.total(), self._person is not None
        return Combinations(
            rfc3339(self._window.begins),
            self.settings.k,
            self.name,
            tuple(self.settings.fields),
            people,
            total.pack(),
            tuple(Suppressed(*one) for one in zip(self.settings.fields, suppressed, strict=True) if one[1]),
            uncounted,
            self._left_out.shares(total, self.settings.k, people=people),
        )

    def judged(self, seconds: int) -> Judged:
        """Whether this replica's own rows keep to k, judged once in so many `seconds`.

        Not oftener: of two verdicts between which one row came anybody could tell whether it was a rare one. The first
        comes so long after this is asked for first, whatever the time of day, and however long periods were before.
        """
        now = self._clock()
        if self._judged_at is None:
            self._judged_at = now
        elif now - self._judged_at >= seconds:
            self._judged_at = now
            settings, uncounted = self.settings, self._counters.totals()[0]
            found = verdict(
                self.figures(),
                settings.k,
                settings.tolerance,
                now - self._window.begins,
                uncounted,
                was_broken=self._judged.verdict == "Risk",
            )
            told = found if found in ("Within", "Risk") else "Unknown"
            self._judged = msgspec.structs.replace(self._judged, verdict=told)
        return self._judged

    def figures(self) -> Figures:
        """What this replica alone has seen."""
        return figures(self._window.total(), self.settings.k, people=self._person is not None)


def _hash(keyed: "hashlib.blake2b", what: Any) -> int:
    begun = keyed.copy()  # the key is taken in already: that is two thirds of the time
    begun.update(_encode(what))
    return int.from_bytes(begun.digest())


def _alike(column: list[Any], place: Place) -> list[Any]:
    """Equal numbers have one encoding, however they were written."""
    return [float(value) + 0.0 for value in column] if place.numeric else column


def _suppresses(treatment: Treatment | None) -> bool:
    """Whether `*` is no group of its hierarchy: then it stands for a value that has no line in it."""
    return treatment is not None and treatment.groups is not None and SUPPRESSED not in treatment.groups.values()


def _told(treatment: Treatment | None) -> bytes:
    return b"" if treatment is None else msgspec.json.encode(treatment)
