"""Copies of a model, trained on what it has answered: small ones, which a thief has in a second.

Ridge regression of each class on the row itself and on random Fourier features of it (Rahimi and Recht, 2007), and the
nearest answered row. Which of them is best, the held-out rows say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from modelward.attack.oracle import Answer
from modelward.detect.encoding import Array

FEATURES = 192
_RIDGES = (1e-3, 1e-1)
_WIDTHS = (0.5, 1.5)  # of the kernel, in medians of the distances between rows


class Scale(NamedTuple):
    """Brings rows to the length 1 in each column's range; constant columns to 0."""

    low: Array
    span: Array

    @classmethod
    def of(cls, low: Array, high: Array) -> Scale:
        """For columns between `low` and `high` (d,)."""
        span = np.where(high > low, high - low, 1.0)
        return cls(low, span)

    def unit(self, rows: Array) -> Array:
        """The rows, scaled."""
        scaled: Array = (np.asarray(rows, dtype=np.float64) - self.low) / self.span
        return scaled

    def rows(self, unit: Array) -> Array:
        """The rows that these were."""
        rows: Array = unit * self.span + self.low
        return rows


class Copy:
    """A ridge regression of targets (n, c) on features of scaled rows (n, d)."""

    def __init__(self, rows: Array, targets: Array, ridge: float, width: float, rng: np.random.Generator) -> None:
        self._mean = rows.mean(axis=0)
        deviation = rows.std(axis=0)
        self._deviation = np.where(deviation > 1e-12, deviation, 1.0)
        standard = self._standard(rows)
        typical = float(np.median(np.linalg.norm(standard - standard[rng.permutation(len(standard))], axis=1))) or 1.0
        self._turns = rng.normal(size=(rows.shape[1], FEATURES)) / (width * typical) if width else np.zeros(
            (rows.shape[1], 0))  # fmt: skip
        self._phases = rng.uniform(0, 2 * np.pi, size=self._turns.shape[1])
        features = self._features(standard)
        self._bias = targets.mean(axis=0)
        wide = features.shape[1] >= len(features)  # the smaller of the two systems, which have the same solution
        kernel = features @ features.T if wide else features.T @ features
        kernel[np.diag_indices_from(kernel)] += ridge * max(float(np.trace(kernel)) / len(features), 1e-9)
        wanted = targets - self._bias
        solved = np.linalg.solve(kernel, wanted if wide else features.T @ wanted)
        self._weights: Array = features.T @ solved if wide else solved

    def _standard(self, rows: Array) -> Array:
        standard: Array = (rows - self._mean) / self._deviation
        return standard

    def _features(self, standard: Array) -> Array:
        waves = np.cos(standard @ self._turns + self._phases)
        features: Array = np.hstack([standard / np.sqrt(standard.shape[1]), waves / np.sqrt(max(waves.shape[1], 1))])
        return features

    def predict(self, rows: Array) -> Array:
        """The targets of rows (m, d)."""
        predicted: Array = self._features(self._standard(rows)) @ self._weights + self._bias
        return predicted

    def gradient(self, row: Array, output: int) -> Array:
        """How that target changes with each column of a row (d,)."""
        standard = self._standard(row[np.newaxis])[0]
        linear, waves = self._weights[: len(row), output], self._weights[len(row) :, output]
        slope = linear / np.sqrt(len(row))
        if len(waves):
            turned = -np.sin(standard @ self._turns + self._phases) / np.sqrt(len(waves))
            slope = slope + self._turns @ (turned * waves)
        gradient: Array = slope / self._deviation
        return gradient


class Lesson(NamedTuple):
    """Answered rows (n, d), scaled; their `targets` (n, c); the `classes`, empty where a value is measured."""

    rows: Array
    targets: Array
    classes: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Array], answers: Sequence[Answer]) -> Lesson | None:
        """What answered rows teach; None: nothing, or of one class alone."""
        kept = [place for place, answer in enumerate(answers) if answer.given]
        if len(kept) < 2:
            return None
        chosen = np.array([rows[place] for place in kept])
        labels = [answers[place].label for place in kept]
        if labels[0] is None:
            values = np.array([answers[place].scores for place in kept], dtype=np.float64)
            return cls(chosen, values.reshape(len(kept), -1), ())
        classes = tuple(sorted({str(label) for label in labels}))
        if len(classes) < 2:
            return None
        targets = np.array([[float(label == one) for one in classes] for label in labels])
        return cls(chosen, targets, classes)

    def copies(self, rng: np.random.Generator) -> Iterator[Copy]:
        """What may be trained on it."""
        for ridge in _RIDGES:
            for width in (0.0, *_WIDTHS):
                yield Copy(self.rows, self.targets, ridge, width, rng)

    def smooth(self, rng: np.random.Generator) -> Copy:
        """The one whose gradient leads farthest."""
        return Copy(self.rows, self.targets, _RIDGES[-1], _WIDTHS[-1], rng)

    def nearest(self, rows: Array) -> Array:
        """The targets of the nearest answered row, for each of `rows` (m, d)."""
        squares = (rows**2).sum(axis=1)[:, np.newaxis] + (self.rows**2).sum(axis=1) - 2 * rows @ self.rows.T
        nearest: Array = self.targets[squares.argmin(axis=1)]
        return nearest


def agreement(lesson: Lesson | None, rows: Array, answers: Sequence[Answer], rng: np.random.Generator) -> float:
    """How far the best copy says of held-out `rows` (m, d), scaled, what the model says of them: 0 to 1.

    Of classes the share of the same; of values the coefficient of determination.
    """
    if lesson is None or not len(rows):
        return 0.0
    predictions = [copy.predict(rows) for copy in lesson.copies(rng)] + [lesson.nearest(rows)]
    if not lesson.classes:
        truth = np.array([answer.scores for answer in answers], dtype=np.float64).reshape(len(rows), -1)
        spread = float(((truth - truth.mean(axis=0)) ** 2).sum()) or 1.0
        return max(0.0, *(1.0 - float(((one - truth) ** 2).sum()) / spread for one in predictions))
    labels: npt.NDArray[np.str_] = np.array([str(answer.label) for answer in answers])
    named = np.array(lesson.classes)
    return max(float((named[one.argmax(axis=1)] == labels).mean()) for one in predictions)
