"""Whether rows keep to k-anonymity: the controller judges those of all replicas, and a sidecar, where asked, its own.

Young counts are held against nobody: at first every combination is rare. So it takes rows enough, and either so many
for each combination that rare ones are rare, or a day.
"""

from __future__ import annotations

from typing import Final, Literal

from modelward.reidentification.figures import Figures

Verdict = Literal["Within", "Risk", "TooFew", "Uncounted", "Young", "Near"]
"""More rows than tolerated share their combination with too few (`Risk`), or no more; else why that cannot be told."""

_LEAST_ROWS: Final = 1000
_ROWS_OF_K: Final = 200
_PER_COMBINATION: Final = 5  # times k rows: then what is rare is rare
_DAY: Final = 86_400
_BACK: Final = 0.8  # of the tolerance: what was too much is enough again below that, so that nothing is told twice


def least_rows(k: int) -> int:
    """Rows that are needed to tell."""
    return max(_LEAST_ROWS, _ROWS_OF_K * k)


def verdict(
    found: Figures, k: int, tolerance: float, seconds: float, uncounted: int = 0, *, was_broken: bool = False
) -> Verdict:
    """Return it.

    Args:
        found: what was counted.
        k: combinations must stand for so many.
        tolerance: share of the rows that may be in smaller ones.
        seconds: for how long rows were counted.
        uncounted: rows that were not.
        was_broken: whether it was `Risk` last.
    """
    if found.rows < least_rows(k):
        return "TooFew"
    if found.high <= tolerance * (_BACK if was_broken else 1):
        return "Uncounted" if uncounted > tolerance * (found.rows + uncounted) else "Within"
    young = found.rows < _PER_COMBINATION * k * found.combinations and seconds < _DAY
    if was_broken or (found.low > tolerance and not young):
        return "Risk"
    return "Young" if young else "Near"
