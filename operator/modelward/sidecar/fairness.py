"""Counts how groups are treated: which group a row is of, as the caller sent it, and what was answered.

The group is told before any field is treated, and kept as a count; with the outcome it is remembered by the request's
id for as long as the truth may still be told. No value is kept, and nothing of it goes into any record.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelward.detect.answers import AnswerError
from modelward.fairness.counts import CELLS, FairnessReport, from_vector
from modelward.fairness.groups import coder, favourable, group_names
from modelward.fairness.window import Window
from modelward.sidecar import config
from modelward.sidecar.answered import outputs_of
from modelward.sidecar.awaited import Awaited
from modelward.sidecar.binary import Body
from modelward.sidecar.elsewhere import Elsewhere
from modelward.sidecar.incidents import rfc3339
from modelward.sidecar.places import place_of
from modelward.sidecar.reader import run
from modelward.sidecar.tensors import Tensor, TensorSpec

if TYPE_CHECKING:
    from modelward.sidecar.tally import Tally

MAX_ROWS = 4096
"""Rows of a request that are counted; a larger one is counted among the rows of which nothing is known."""
_UNKNOWN = 127  # of an attribute that was not sent
_STEP = len(CELLS)
_ROWS, _SELECTED, _POSITIVES, _TRUE_POSITIVES, _NEGATIVES, _FALSE_POSITIVES = range(len(CELLS))

Label = bool | int | float | str | None


class Rows:
    """How many rows a request has, and for each attribute what each row says of it; None: nothing was sent of it."""

    __slots__ = ("count", "values")

    def __init__(self, count: int, values: list[list[Any] | None]) -> None:
        self.count = count
        self.values = values


class _Attribute:
    """A protected field: where it lies, and its groups. Its counters are those from `base` to `end`."""

    def __init__(self, asked: config.ProtectedField, declared: Mapping[str, TensorSpec], base: int) -> None:
        self.field = asked.field
        self.groups = group_names(asked.groups, asked.edges)
        self.base = base
        self.end = base + len(self.groups) * _STEP
        self.code = coder(asked.groups, asked.edges)
        self.place = place_of("the protected field", asked.field, declared)
        if list(asked.edges) != sorted(set(asked.edges)):
            raise config.ConfigError(f"the edges of the protected field {asked.field} do not ascend")
        if asked.edges and not self.place.numeric:
            raise config.ConfigError(f"the protected field {asked.field} has edges and is no number")


class Fairness:
    """The counts of one configuration.

    Args:
        settings: what is to be counted.
        declared: the model's inputs.
        protocol: by which the model answers.
        clock: seconds since the epoch.
        tally: gives what counts for auditors, and is told what was true as well; None: nothing does.
        kept: what is counted while this holds is not told in any other way, then or later.

    Raises:
        ConfigError: a protected field is not among the inputs, or its edges are none.
    """

    def __init__(
        self,
        settings: config.Fairness,
        declared: Mapping[str, TensorSpec] | None,
        protocol: str,
        clock: Callable[[], float] = time.time,
        tally: "Callable[[], Tally] | None" = None,
        *,
        kept: bool = False,
    ) -> None:
        self.settings = settings
        self.kept = kept
        self._tally = tally
        self._protocol = protocol
        self._favourable = favourable(_wanted(settings.favourable), settings.favourable.at_least)
        self._attributes: list[_Attribute] = []
        width = 0
        for asked in settings.protected:
            self._attributes.append(_Attribute(asked, declared or {}, width))
            width = self._attributes[-1].end
        self._of_input: dict[str, list[tuple[int, int, int]]] = {}
        for index, one in enumerate(self._attributes):
            self._of_input.setdefault(one.place.input, []).append((index, one.place.offset, one.place.width))
        self._uncounted = width  # one more counter, behind the groups'
        self._window = Window(width + 1, clock)
        self._awaited = Awaited(clock)
        self.elsewhere = Elsewhere(clock)
        self.since = clock()

    def inherit(self, previous: "Fairness") -> None:
        """Go on counting where the configuration before this one stopped, if it counted the same."""
        if previous.settings == self.settings and (self.kept or not previous.kept):
            self._window, self._awaited, self.since = previous._window, previous._awaited, previous.since  # noqa: SLF001
            self.elsewhere = previous.elsewhere

    # --- on a request's way

    def rows(self, tensors: Sequence[Tensor]) -> Rows:
        """What a request says of each attribute, before anything of it is treated."""
        values: list[list[Any] | None] = [None] * len(self._attributes)
        most = 0
        for tensor in tensors:
            most = max(most, tensor.rows)
            for index, offset, width in self._of_input.get(tensor.spec.name, ()):
                values[index] = tensor.every(offset, width)
        return Rows(most, values)

    def count(self, number: int | None, rows: Rows, answer: Body | None) -> None:
        """Count the rows of a request that was answered, and remember them by its `number`.

        `answer` None: it was given in a way in which nothing can be told of it.
        """
        outcomes = self.outcomes(answer, rows.count)
        counters = self._window.today()
        if outcomes is None:
            counters[self._uncounted] += rows.count
            return
        told = bytearray()
        unknown = 0
        for attribute, values in zip(self._attributes, rows.values, strict=True):
            if values is None or len(values) != rows.count:
                told += bytes((_UNKNOWN << 1,)) * rows.count
                unknown = rows.count
                continue
            base, code = attribute.base, attribute.code
            for value, selected in zip(values, outcomes, strict=True):
                group = code(value)
                cell = base + group * _STEP
                counters[cell] += 1
                if selected:
                    counters[cell + _SELECTED] += 1
                told.append(group << 1 | selected)
        if unknown:
            counters[self._uncounted] += unknown
        if number is not None:
            self._awaited.keep(number, rows.count, bytes(told))

    def outcomes(self, answer: Body | None, rows: int) -> list[bool] | None:
        """For each row whether the answer is favourable; None: it cannot be told."""
        try:
            return self._outcomes(answer, rows)
        except (AnswerError, TypeError, ValueError):
            return None

    def _outcomes(self, answer: Body | None, rows: int) -> list[bool] | None:
        if answer is None or not 0 < rows <= MAX_ROWS:
            return None
        wanted, element = self.settings.favourable.output, self.settings.favourable.element
        for output in outputs_of(answer, self._protocol):
            if wanted and output.name != wanted:
                continue
            data: Any = output.data
            width, rest = divmod(len(data), rows)
            if rest or element >= width or (rows > 1 and output.shape[0] != rows):
                return None
            found = data[element::width]
            fits = self._favourable
            return [fits(value) for value in (found if isinstance(found, list) else found.tolist())]
        return None

    # --- what was true

    def truths(self, labels: Sequence[Label]) -> list[bool | None]:
        """For each label whether it is the favourable answer; None: nobody knows.

        Raises:
            TypeError: one cannot be compared with a score.
        """
        fits = self._favourable
        return [label if label is None or isinstance(label, bool) else fits(label) for label in labels]

    def learn(self, number: int | None, truths: Sequence[bool | None]) -> int:
        """Count what the answers of a request should have been. How many rows were counted.

        Raises:
            UnknownError, LabelledError: see `Awaited.look`; None is no request's number.
            ValueError: there are not as many truths as rows.
        """
        codes = self._awaited.look(number)
        assert number is not None  # noqa: S101 - it is not known otherwise
        rows = len(codes) // len(self._attributes)
        if len(truths) != rows:
            raise ValueError(rows)
        self._awaited.done(number)
        counters = self._window.today()
        for index, attribute in enumerate(self._attributes):
            for told, truth in zip(codes[index * rows : (index + 1) * rows], truths, strict=True):
                if truth is not None and told >> 1 != _UNKNOWN:
                    self._learn(counters, attribute.base + (told >> 1) * _STEP, bool(told & 1), truth)
        if self._tally is not None:
            for row, truth in enumerate(truths):
                if truth is not None:
                    self._tell(self._tally(), codes[row::rows], truth)
        return sum(truth is not None for truth in truths)

    @staticmethod
    def _tell(tally: "Tally", codes: bytes, truth: bool) -> None:  # noqa: FBT001
        """Have it counted for auditors; a code an attribute."""
        groups = [None if told >> 1 == _UNKNOWN else told >> 1 for told in codes]
        tally.learn(groups, selected=any(told & 1 for told in codes), truth=truth)

    @staticmethod
    def _learn(counters: Any, cell: int, selected: bool, truth: bool) -> None:  # noqa: FBT001
        counters[cell + (_POSITIVES if truth else _NEGATIVES)] += 1
        if selected:
            counters[cell + (_TRUE_POSITIVES if truth else _FALSE_POSITIVES)] += 1

    # --- what is told

    def rows_seen(self) -> tuple[int, int]:
        """How many rows were counted, by any field, and of how many group or outcome could not be told."""
        totals = self._window.totals()
        by_field = [sum(totals[one.base : one.end : _STEP]) for one in self._attributes]
        return max(by_field), totals[self._uncounted]

    def report(self) -> FairnessReport:
        """The counts, as the controller gets them."""
        totals = self._window.totals()
        attributes = tuple(from_vector(one.field, one.groups, totals[one.base : one.end]) for one in self._attributes)
        since = max(self.since, self._window.since or 0.0)
        return FairnessReport(rfc3339(since), attributes, totals[self._uncounted], run(), self.elsewhere.told())

    def labels(self) -> FairnessReport:
        """The labels of answers that others gave, and no count: the controller gets no more where they are kept."""
        return FairnessReport(rfc3339(self.since), (), 0, run(), self.elsewhere.told())


def _wanted(asked: config.Favourable) -> str | None:
    return "1" if asked.equals is None and asked.at_least is None else asked.equals
