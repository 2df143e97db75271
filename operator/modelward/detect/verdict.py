"""Scores and their reasons, for tables of rows."""

from dataclasses import dataclass

import numpy as np

from modelward.detect.baseline import Baseline
from modelward.detect.detectors import ENSEMBLE
from modelward.detect.encoding import Array


@dataclass(frozen=True, slots=True)
class Score:
    """How strange a row is: 1.0 is the threshold, higher is stranger; None where a value is missing."""

    score: float | None
    anomalous: bool
    reasons: tuple[str, ...]


def score_rows(baseline: Baseline, rows: Array, rate: float | None = None, detector: str = ENSEMBLE) -> list[Score]:
    """The score of each of the encoded `rows` (n, d), whose columns are the baseline's in its order.

    Raises:
        BaselineError: the baseline has no such detector, or cannot tell that rate.
    """
    scorer = baseline.scorer([(detector, rate)])
    scores = np.full(len(rows), np.nan)
    whole = np.isfinite(rows).all(axis=1)
    scores[whole] = scorer.scores(rows[whole])[0]
    return [
        Score(float(score), anomalous=False, reasons=())
        if score <= 1.0
        else Score(float(score) if np.isfinite(score) else None, anomalous=True, reasons=scorer.explain(row))
        for row, score in zip(rows, scores, strict=True)
    ]
