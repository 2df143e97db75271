"""Scores and their reasons, in words."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelward.detect.baseline import Baseline
from modelward.detect.mahalanobis import Array

_MAX_REASONS = 3
_NOTABLE = 2.5  # deviations
_MOST = 1e6  # deviations; more says no more


@dataclass(frozen=True, slots=True)
class Score:
    """How strange a row is: 1.0 is the threshold, higher is stranger; None where a value is missing."""

    score: float | None
    anomalous: bool
    reasons: tuple[str, ...]


def score_rows(baseline: Baseline, rows: Array, rate: float | None = None) -> list[Score]:
    """The score of each of `rows` (n, d), whose columns are the baseline's in its order."""
    threshold = baseline.threshold(rate)
    finite: npt.NDArray[np.bool_] = np.isfinite(rows)
    whole = np.atleast_1d(finite.all(axis=1))
    scores = np.full(len(rows), np.nan)
    scores[whole] = baseline.detector.distances(rows[whole]) / threshold
    return [
        _missing(baseline, finite[index]) if not whole[index] else _score(baseline, rows[index], float(scores[index]))
        for index in range(len(rows))
    ]


def _missing(baseline: Baseline, finite: npt.NDArray[np.bool_]) -> Score:
    names = [name for name, present in zip(baseline.columns, finite, strict=True) if not present]
    return Score(
        None, anomalous=True, reasons=tuple(f"{name} is missing or not finite" for name in names[:_MAX_REASONS])
    )


def _score(baseline: Baseline, row: Array, score: float) -> Score:
    anomalous = score > 1.0
    return Score(score, anomalous, explain(baseline, row) if anomalous else ())


def explain(baseline: Baseline, row: Array) -> tuple[str, ...]:
    """The columns that make `row` (d,) strange, strangest first; at least one."""
    alone, given_others = baseline.detector.deviations(row)
    strongest = np.maximum(np.abs(alone), np.abs(given_others))
    order = np.argsort(-strongest, kind="stable")[:_MAX_REASONS]
    return tuple(
        _words(baseline.columns[index], float(alone[index]), float(given_others[index]))
        for rank, index in enumerate(order)
        if rank == 0 or strongest[index] >= _NOTABLE
    )


def _words(name: str, alone: float, given_others: float) -> str:
    if abs(alone) >= _NOTABLE:
        direction = "above" if alone > 0 else "below"
        return f"{name} is {_deviations(alone)} deviations {direction} its usual value"
    direction = "higher" if given_others > 0 else "lower"
    return f"{name} is {_deviations(given_others)} deviations {direction} than the other columns suggest"


def _deviations(value: float) -> str:
    return f"{abs(value):.1f}" if abs(value) < _MOST else f"more than {_MOST:.0f}"
