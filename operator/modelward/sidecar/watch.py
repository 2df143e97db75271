"""The detectors that remember, together: they see every request and answer in order, and each may find something.

`Block` refuses the request, or withholds the answer. There is no row that could be brought back into the ordinary where
it is a client's pattern or an answer that is odd, so `Sanitise` does the same; `Flag` lets it pass, marked. So does
each of them for what accuses nobody: what a network does as a whole is not held against whoever is in it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from modelward.detect.answers import AnswerError
from modelward.detect.baseline import Baseline
from modelward.detect.clients import Caller, Facts
from modelward.detect.encoding import Array
from modelward.detect.space import Space
from modelward.sidecar import config, log
from modelward.sidecar.answered import outputs_of
from modelward.sidecar.binary import Body
from modelward.sidecar.problems import Refusal
from modelward.sidecar.verdict import Verdict, anomalous_input, failed
from modelward.sidecar.watchers import (
    DriftWatcher,
    ExtractionWatcher,
    Found,
    MembershipWatcher,
    OutputWatcher,
    Watcher,
)

_OF_ANSWERS = ("Output",)
USUAL_RATE = 0.01


class Watch:
    """Those that one configuration asks for, by type."""

    def __init__(self, screening: config.Screening, protocol: str, watchers: Mapping[str, Watcher]) -> None:
        self._on_anomaly = screening.on_anomaly
        self._on_error = screening.on_detector_error
        self._protocol = protocol
        self._take(watchers)

    def inherit(self, previous: "Watch", same: Collection[str]) -> None:
        """Go on remembering what `previous` did, for those of these types."""
        self._take(self.watchers | {name: each for name, each in previous.watchers.items() if name in same})

    def _take(self, watchers: Mapping[str, Watcher]) -> None:
        self.watchers = dict(watchers)
        self._of_rows = {name: each for name, each in watchers.items() if name not in _OF_ANSWERS}
        self._of_answers = {name: each for name, each in watchers.items() if name in _OF_ANSWERS}
        self.needs_rows = bool(self._of_rows)
        self.needs_answers = bool(self._of_answers)

    def before(self, facts: Facts, rows: Array) -> list[Verdict]:
        """What the encoded rows (n, d) of a request are found to be. Those of a security test drift nowhere.

        Drift is of what callers send; all others remember each client by itself.
        """
        return [
            verdict
            for name, watcher in self._of_rows.items()
            if not (facts.tests and isinstance(watcher, DriftWatcher))
            and (verdict := self._judged(name, partial(watcher.before, facts, rows), anomalous_input))
        ]

    def after(self, facts: Facts, body: Body, rows: int) -> list[Verdict]:
        """What the model's answer to so many rows is found to be; 0: nobody has declared what a row is."""
        try:
            outputs = outputs_of(body, self._protocol)
        except AnswerError:
            return [failed(name, self._on_error) for name in self._of_answers]
        rows = rows or next((each.shape[0] for each in outputs if each.shape), 0)
        return [
            verdict
            for name, watcher in self._of_answers.items()
            if (verdict := self._judged(name, partial(watcher.after, facts, outputs, rows), _withheld))
        ]

    def failed(self) -> list[Verdict]:
        """What it means that the rows of a request cannot be had."""
        return [failed(name, self._on_error) for name in self._of_rows]

    def release(self, caller: Caller) -> None:
        """Forget what is held against a client."""
        for watcher in self.watchers.values():
            watcher.release(caller)

    def drift(self) -> DriftWatcher | None:
        """The one that watches drift, if any."""
        return next((each for each in self.watchers.values() if isinstance(each, DriftWatcher)), None)

    def _judged(self, name: str, look: Callable[[], Found | None], refusal: Callable[[], Refusal]) -> Verdict | None:
        try:
            found = look()
        except AnswerError:
            return failed(name, self._on_error)
        except Exception as error:  # noqa: BLE001 - the policy says what a failing detector means
            log.fault("a detector failed", error)
            return failed(name, self._on_error)
        if found is None:
            return None
        if self._on_anomaly == "Flag" or not found.accuses:
            return Verdict("anomalous", name, "flagged", reasons=found.reasons, accuses=found.accuses)
        return Verdict("anomalous", name, "blocked", refusal(), reasons=found.reasons)


def watchers(asked: list[config.Detector], baseline: Baseline | None) -> Iterator[tuple[str, Watcher]]:
    """New ones, by type; `baseline` may be missing where none but Output is asked for."""
    space = Space.of(baseline.summary, baseline.encoding.features) if baseline is not None else None
    for each in asked:
        rate = each.false_positive_rate or USUAL_RATE
        match each.type:
            case "Output":
                yield each.type, OutputWatcher(rate)
            case "Drift" if baseline is not None:
                yield each.type, DriftWatcher(each, rate, baseline)
            case "Extraction" if space is not None:
                yield each.type, ExtractionWatcher(each, rate, space)
            case "Membership" if space is not None:
                yield each.type, MembershipWatcher(rate, space)


def _withheld() -> Refusal:
    return Refusal(
        "answer-withheld",
        "The answer is unlike this model's answers. If the request is genuine, tell its owner the `instance`.",
    )
