"""Scores rows by the detectors of a baseline that are asked for; 1.0 is each one's threshold."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from modelward.detect.baseline import Baseline, BaselineError
from modelward.detect.detectors import ENSEMBLE
from modelward.detect.encoding import Array
from modelward.detect.reasons import explain

_HALVINGS = 12


class Scorer:
    """Some detectors of one baseline, each with the rate of false alarms that is asked of it.

    Rows are encoded: one number a column of the baseline, in its order; a category by its place in
    `baseline.encoding.columns[i].categories`, or `encoding.UNSEEN`. A row with a NaN has scores that are NaN: compare
    so that they do not pass.
    """

    def __init__(self, baseline: Baseline, asked: Sequence[tuple[str, float | None]]) -> None:
        """Raises BaselineError: the baseline has no such detector, or cannot tell that rate."""
        self._baseline = baseline
        self.names = tuple(name for name, _ in asked)
        self._thresholds = np.array([baseline.threshold(name, rate) for name, rate in asked])
        self._shape = (len(baseline.columns),)
        self._over = (1 / self._thresholds).tolist()
        needed = {*self.names, *(baseline.ensemble.parts if ENSEMBLE in self.names else ())}
        self._parts = {name: detector for name, detector in baseline.detectors.items() if name in needed}

    def one(self, row: Array) -> list[float]:
        """The scores of one row (d,), in the order of `names`; as fast as can be.

        Raises:
            BaselineError: it has another width.
        """
        if row.shape != self._shape:
            raise self._misfit(row)
        features = self._baseline.encoding.features_of(row)
        views = {name: detector.view(features) for name, detector in self._parts.items()}
        return [
            float(self._baseline.ensemble.score(views) if name == ENSEMBLE else self._parts[name].overall(views[name]))
            * over
            for name, over in zip(self.names, self._over, strict=True)
        ]

    def _misfit(self, rows: Array) -> BaselineError:
        there = f"of shape {rows.shape} and type {rows.dtype}"
        return BaselineError(f"these are {there}; the baseline has {self._shape[0]} numbers a row")

    def scores(self, rows: Array) -> Array:
        """The scores (k, n) of rows (n, d).

        Raises:
            BaselineError: they are no rows of numbers, or of another width.
        """
        if rows.ndim != 2 or rows.shape[1:] != self._shape or rows.dtype.kind not in "fiub":
            raise self._misfit(rows)
        rows = np.asarray(rows, dtype=np.float64)
        features = self._baseline.encoding.features(rows)
        views = {name: detector.views(features) for name, detector in self._parts.items()}
        scores: Array = np.array(
            [
                self._baseline.ensemble.scores(views) if name == ENSEMBLE else self._parts[name].overall(views[name])
                for name in self.names
            ]
        )
        scores /= self._thresholds[:, np.newaxis]
        return scores

    def project(self, rows: Array) -> Array:
        """The rows (n, d), those that score above 1 brought into what the baseline has seen; finite in any case.

        Each value is cut to the range that its column had, a category that was never seen becomes the most frequent
        one; where the combination is still strange, the row goes towards the closest of the rows that the baseline
        keeps, until it is not.
        """
        summary = self._baseline.summary
        with np.errstate(invalid="ignore"):
            strange = ~(self.scores(np.nan_to_num(rows)).max(axis=0) <= 1.0) | ~np.isfinite(rows).all(axis=1)
        projected = rows.copy()
        middle = np.median(summary.sample, axis=0)
        for index, column in enumerate(summary.columns):
            values = projected[:, index]
            if column.categories is None:
                values = np.clip(
                    np.where(np.isnan(values), middle[index], values), summary.lower[index], summary.upper[index]
                )
            else:
                usual = float(summary.counts[index].argmax())
                values = np.where((values >= 0) & (values < len(column.categories)), values, usual)
            projected[strange, index] = values[strange]
        for index in np.flatnonzero(strange).tolist():
            projected[index] = self._drawn_in(projected[index])
        return projected

    def _drawn_in(self, row: Array) -> Array:
        if self._worst(row) <= 1.0:
            return row
        goals, features = self._goals
        distances = ((features - self._baseline.encoding.features_of(row)) ** 2).sum(axis=1)
        goal = goals[int(distances.argmin())]
        numeric = np.array([column.categories is None for column in self._baseline.encoding.columns])
        least, most = 0.0, 1.0  # of the way to the goal
        for _ in range(_HALVINGS):
            share = (least + most) / 2
            if self._worst(_between(row, goal, share, numeric)) <= 1.0:
                most = share
            else:
                least = share
        return _between(row, goal, most, numeric)

    @cached_property
    def _goals(self) -> tuple[Array, Array]:
        """Rows that the baseline keeps and that are ordinary to all the detectors asked for, and their features."""
        sample = self._baseline.summary.sample
        scores = self.scores(sample).max(axis=0)
        least = scores.min()  # with very low thresholds there may be none below: then the most ordinary ones
        goals = sample[scores <= max(1.0, least)]
        return goals, self._baseline.encoding.features(goals)

    def _worst(self, row: Array) -> float:
        return max(self.one(row))

    def explain(self, row: Array) -> tuple[str, ...]:
        """Why a row (d,) is strange, in words: the columns, strangest first; at least one reason."""
        return explain(self._baseline, row)


def _between(row: Array, goal: Array, share: float, numeric: npt.NDArray[np.bool_]) -> Array:
    """Numbers a share of the way; categories all at once, so that no row is half of one and half of another."""
    return np.where(numeric, row + share * (goal - row), goal)
