"""Thresholds: how high a score ordinary rows reach that the detector has not seen.

The threshold for a rate of false alarms is the k-th of the n held-back scores, k = ceil((n + 1)(1 - rate)), which keeps
the rate for rows like them (split conformal prediction; Vovk and others, 2005).
"""

import math
from dataclasses import dataclass

import numpy as np

from modelward.detect.encoding import Array

MAX_KEPT = 4096
_LEAST = 1e-12  # a threshold that scores can be divided by


class BaselineError(Exception):
    """A baseline that cannot be fitted, read or used; the message says why and what would mend it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """`greatest`: the greatest held-back scores in rising order, of `count` in all."""

    greatest: Array
    count: int

    def added(self, scores: list[float]) -> "Calibration":
        """The same with more scores of rows that are known to be ordinary."""
        return Calibration(np.sort(np.append(self.greatest, scores))[-MAX_KEPT:], self.count + len(scores))

    def threshold(self, rate: float) -> float:
        """The score that ordinary rows exceed with the probability `rate`.

        Raises:
            BaselineError: there are too few scores, or too few are kept, to tell.
        """
        rank = math.ceil((self.count + 1) * (1 - rate) - 1e-9)
        if rank > self.count:
            raise BaselineError(
                f"a false positive rate of {rate:g} needs at least {rows_needed(rate)} rows, the baseline has "
                f"{self.count}: fit on more rows, or ask for a rate of at least {1 / (self.count + 1):.1%}"
            )
        index = rank - 1 - (self.count - len(self.greatest))
        if index < 0:
            raise BaselineError(
                f"a false positive rate of {rate:g} is higher than this baseline was calibrated for: fit it anew"
            )
        return max(float(self.greatest[index]), _LEAST)


def calibrate(scores: Array) -> Calibration:
    """Of held-back scores (n,)."""
    return Calibration(np.sort(scores)[-MAX_KEPT:], len(scores))


def rows_needed(rate: float) -> int:
    """How many held-back scores a threshold for `rate` takes."""
    return math.ceil(1 / rate - 1e-9) - 1
