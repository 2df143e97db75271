"""What detectors say of a request that is not ordinary, and which of several verdicts acts."""

from collections.abc import Iterable
from typing import NamedTuple

from modelward.sidecar.problems import Refusal

ACTIONS = ("blocked", "sanitised", "flagged", "failed", "passed")
"""Of an anomaly: blocked, sanitised, flagged. Of a detector that could not judge: failed (refused), passed."""

_SEVERITY = {"passed": 0, "flagged": 1, "sanitised": 2, "failed": 3, "blocked": 4}


class Verdict(NamedTuple):
    """What a detector says of a request.

    `name` is what the caller and the record are told, `action` one of `ACTIONS`. `refusal`: the request must not go on,
    or its answer not go out. `scores` are those of the request's strangest row, by detector; 1.0 is the threshold.
    `reasons` say in words why: those of a row tell of its values, and are given only where they may be seen. `accuses`:
    it counts towards the client's quarantine.
    """

    name: str
    detector: str
    action: str
    refusal: Refusal | None = None
    scores: dict[str, float] | None = None
    reasons: tuple[str, ...] = ()
    accuses: bool = True

    @property
    def anomaly(self) -> bool:
        """Whether it is held against the client: not where a detector could not judge, or accuses nobody."""
        return self.accuses and self.action not in ("failed", "passed")


def worst(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    """The one that acts: the most severe, of equals the first; with the scores, whichever of them has any."""
    found = [each for each in verdicts if each is not None]
    if len(found) < 2:
        return found[0] if found else None
    scores = next((each.scores for each in found if each.scores), None)
    return max(found, key=lambda each: _SEVERITY[each.action])._replace(scores=scores)


def failed(detector: str, on_error: str) -> Verdict:
    """The verdict of a detector that failed, or whose input could not be built, by the policy's `onDetectorError`."""
    if on_error == "Pass":
        return Verdict("unscreened", detector, "passed")
    refusal = Refusal("detector-failed", "The input could not be screened; tell the model's owner the `instance`.")
    return Verdict("unscreened", detector, "failed", refusal)


def anomalous_input() -> Refusal:
    """What a caller is told: no score, no column, which would show an attacker the way in. The record has the rest."""
    return Refusal(
        "anomalous-input",
        "The input is unlike what this model was made for. If it is genuine, tell its owner the `instance`.",
    )
