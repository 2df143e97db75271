"""Do detectors alarm as often as they were asked to?"""

from collections import deque
from typing import NamedTuple

from modelward.detect.critical import share_interval

BLOCKS = 20
TOLERANCE = 2.0  # a calibration promises the asked rate within this factor
CONFIDENCE = 0.999


class Observed(NamedTuple):
    """The share of alarms among the last `rows`, and the interval that covers the true one with CONFIDENCE."""

    asked: float
    observed: float
    low: float
    high: float
    rows: int

    @property
    def off(self) -> bool:
        """The whole interval is beyond twice the asked rate, or below half of it."""
        return self.low > self.asked * TOLERANCE or self.high < self.asked / TOLERANCE


class RateWatch:
    """The rate of one detector's alarms over the last `window` rows, in BLOCKS steps.

    For independent rows, a look at a detector that keeps its rate (within TOLERANCE) finds it off in at most one of
    1,000 looks, exactly (Clopper and Pearson). Alarms of one attacker come together: what is off may be the traffic and
    not the calibration, which an owner has to tell.

    Memory: at most 2 * BLOCKS numbers. After a restart it begins anew; `rows` tells how much has been seen.
    """

    def __init__(self, asked: float, window: int = 5000) -> None:
        if not 0 < asked < 1 or window < BLOCKS:
            raise ValueError(f"the rate is between 0 and 1, the window at least {BLOCKS} rows: {asked}, {window}")
        self._asked = asked
        self._block = window // BLOCKS
        self._past: deque[tuple[int, int]] = deque(maxlen=BLOCKS)
        self._rows = self._alarms = 0  # of the block that is being filled

    def add(self, rows: int, alarms: int) -> None:
        """Count `alarms` among `rows` that were screened."""
        self._rows += rows
        self._alarms += alarms
        if self._rows >= self._block:
            self._past.append((self._rows, self._alarms))
            self._rows = self._alarms = 0

    def verdict(self) -> Observed:
        """How it stands."""
        rows = self._rows + sum(block[0] for block in self._past)
        alarms = self._alarms + sum(block[1] for block in self._past)
        low, high = share_interval(alarms, rows, CONFIDENCE)
        return Observed(self._asked, alarms / rows if rows else 0.0, low, high, rows)
