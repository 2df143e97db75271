"""The detectors' scores as one: how surprising a row is to them, taken together.

Each detector's score becomes its surprise, -ln of the share of held-back ordinary rows that score higher, which means
the same for each of them; beyond the greatest of those it goes on as steeply as it came. The ensemble's score is the
mean.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import Array

_KNOTS = 48
_TAIL = math.log(10)  # the slope beyond the greatest score is that of the greatest tenth


@dataclass(frozen=True, slots=True)
class Ensemble:
    """`parts`: types of detectors; `knots[i]` (2, k): rising scores of the i-th, and the surprise at each."""

    parts: tuple[str, ...]
    knots: tuple[Array, ...]

    def scores(self, of_parts: Mapping[str, Array]) -> Array:
        """The ensemble's score of each row, given the parts' scores of the rows (n,) by type."""
        surprises = [np.interp(of_parts[part], *table) for part, table in zip(self.parts, self.knots, strict=True)]
        mean: Array = np.mean(surprises, axis=0)
        return mean

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        return dict(zip(self.parts, self.knots, strict=True))


def fit(held_back: Mapping[str, Array]) -> Ensemble:
    """Of each part's held-back scores (n,)."""
    return Ensemble(tuple(held_back), tuple(_knots(scores) for scores in held_back.values()))


def read(arrays: dict[str, npt.NDArray[Any]], parts: Sequence[str]) -> Ensemble:
    """What `arrays()` gave.

    Raises:
        ValueError: it cannot be that.
    """
    tables = []
    for part in parts:
        table = checked(arrays, part)
        if table.ndim != 2 or len(table) != 2 or table.shape[1] < 2 or (np.diff(table) <= 0).any():
            raise ValueError(f"of {part}")
        tables.append(table)
    return Ensemble(tuple(parts), tuple(tables))


def _knots(scores: Array) -> Array:
    ordered = np.sort(scores)
    count = len(ordered)
    most = math.log(count + 1)
    surprise = np.linspace(0, most, min(_KNOTS, count))
    ranks = np.minimum(((count + 1) * -np.expm1(-surprise)).astype(np.intp), count - 1)
    values = ordered[ranks]
    distinct = np.append(np.diff(values) > 0, True)  # of equal scores the most surprising
    values, surprise = values[distinct], surprise[distinct]
    if len(values) < 2:  # all are alike: whatever is more is strange
        values, surprise = np.array([values[-1], np.nextafter(values[-1], np.inf)]), np.array([0.0, most])
    start = float(np.interp(most - _TAIL, surprise, values)) if most > _TAIL else values[0]
    run = max(values[-1] - start, 1e-9 * max(abs(values[-1]), 1e-300))
    far = 1e9
    return np.stack([np.append(values, values[-1] + far * run), np.append(surprise, most + far * _TAIL)])
