"""Functions of one number each that are straight between knots, many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import Array

_NEVER = np.finfo(np.float64).max  # a knot that no number comes to


@dataclass(frozen=True, slots=True)
class Piecewise:
    """p functions. The i-th goes through (`knots[i, j]`, `values[i, j]`), and on below and above as steep as `ends[i]`.

    `knots` and `values` (p, k), knots rising; where a function has fewer, the last ones are never reached. `_from`,
    `_value` and `_slope` (p, k + 1) are the straight pieces, the first below all knots.
    """

    knots: Array
    values: Array
    ends: Array
    _from: Array
    _value: Array
    _slope: Array

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file keeps."""
        return {"knots": self.knots, "values": self.values, "ends": self.ends}

    def of_rows(self, rows: Array) -> Array:
        """The i-th function of the i-th column of `rows` (n, p); (n, p)."""
        out = np.empty(rows.shape)
        for index in range(rows.shape[1]):
            piece = np.searchsorted(self.knots[index], rows[:, index], side="right")
            run = rows[:, index] - self._from[index, piece]
            out[:, index] = self._value[index, piece] + self._slope[index, piece] * run
        return out

    def of_row(self, row: Array) -> Array:
        """The same of one row (p,)."""
        piece = (self.knots <= row[:, np.newaxis]).sum(axis=1)
        piece += np.arange(0, self._from.size, self._from.shape[1])
        values: Array = self._value.take(piece) + self._slope.take(piece) * (row - self._from.take(piece))
        return values


def through(points: Sequence[tuple[Array, Array]], ends: Array) -> Piecewise:
    """Functions through `points`, for each its knots, rising, and its values; `ends` (p, 2): how steep outside."""
    most = max(len(knots) for knots, _ in points)
    table = np.full((2, len(points), most), _NEVER)
    for index, (knots, values) in enumerate(points):
        table[0, index, : len(knots)] = knots
        table[1, index, : len(knots)] = values
    table[1] = np.where(table[0] < _NEVER, table[1], 0.0)
    return _assembled(table[0], table[1], ends)


def read(arrays: dict[str, npt.NDArray[Any]], count: int) -> Piecewise:
    """As many as `count` functions made again of what `Piecewise.arrays` gave, for rows (n, `count`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    knots, values, ends = (checked(arrays, name) for name in ("knots", "values", "ends"))
    if knots.ndim != 2 or knots.shape[0] != count or not knots.size or values.shape != knots.shape:
        raise ValueError("knots")
    steps = np.diff(knots, axis=1)
    if ends.shape != (count, 2) or not ((steps > 0) | (knots[:, 1:] == _NEVER)).all() or (knots[:, 0] == _NEVER).any():
        raise ValueError("knots")
    return _assembled(knots, values, ends)


def _assembled(knots: Array, values: Array, ends: Array) -> Piecewise:
    reached = knots < _NEVER
    last = reached.sum(axis=1) - 1
    rise, run = np.diff(values, axis=1), np.diff(np.where(reached, knots, 0.0), axis=1)
    inner = np.divide(rise, run, out=np.zeros_like(rise), where=reached[:, 1:])
    slope = np.column_stack([ends[:, 0], inner, ends[:, 1]])
    slope[np.arange(len(knots)), last + 1] = ends[:, 1]
    return Piecewise(
        knots, values, ends, np.column_stack([knots[:, 0], knots]), np.column_stack([values[:, 0], values]), slope
    )
