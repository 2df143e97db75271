"""A test that never stops: do hits come more often than they may?

Page's cumulative sum (1954) of the log likelihood ratio between `suspect` and `allowed`. While hits are independent and
no more likely than `allowed`, there are on average at least exp(limit) trials between false alarms (Lorden, 1971).
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cusum:
    """The test; its state is one number, 0.0 at first, that belongs to whoever is watched."""

    hit: float
    miss: float
    limit: float

    @classmethod
    def of(cls, allowed: float, suspect: float, trials: float) -> "Cusum":
        """The test with at least `trials` trials between false alarms, on average.

        Args:
            allowed: the chance of a hit, a probability, up to which that holds.
            suspect: the higher one that is found the soonest.
            trials: how many.

        Raises:
            ValueError: not 0 < allowed < suspect < 1.
        """
        if not 0 < allowed < suspect < 1:
            raise ValueError(f"0 < allowed < suspect < 1, not {allowed} and {suspect}")
        return cls(math.log(suspect / allowed), math.log((1 - suspect) / (1 - allowed)), math.log(trials))

    def after(self, state: float, hit: bool) -> float:  # noqa: FBT001 - what happened, not a switch
        """The state after one more trial.

        It does not grow beyond one hit above the limit, so that who stops is soon free of suspicion.
        """
        return min(state + self.hit, self.limit + self.hit) if hit else max(state + self.miss, 0.0)

    def score(self, state: float) -> float:
        """1.0 is the limit; above is an alarm."""
        return state / self.limit
