"""Autoencoder: what is lost of a row when it is pressed through a narrow network that was trained on ordinary rows.

Five layers, d-h-b-h-d, with tanh inside; trained here, by Adam (Kingma and Ba, 2015) on the mean squared error, in
batches. What is beyond the reach of a feature's usual values is cut before the network sees it and counts as lost.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import Array

Matrix = npt.NDArray[np.float32]

MAX_HIDDEN = 32
MAX_STEPS = 800
_EPOCHS = 40
_BATCH = 128
_RATE = 5e-3
_REACH = 5.0  # deviations
_LAYERS = 4


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """`centre` and `scale` (m) of the features; of each layer a matrix (in, out) in `weights` and a `bias` (out)."""

    centre: Matrix
    scale: Matrix
    weights: tuple[Matrix, ...]
    biases: tuple[Matrix, ...]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        layers = {f"weights{index}": each for index, each in enumerate(self.weights)}
        layers |= {f"bias{index}": each for index, each in enumerate(self.biases)}
        return {"centre": self.centre, "scale": self.scale, **layers}

    def scores(self, features: Array) -> Array:
        """The length of what is lost of each of `features` (n, m); (n,)."""
        lost = self.lost(features)
        lengths: Array = np.sqrt(np.einsum("ij,ij->i", lost, lost, dtype=np.float64))
        return lengths

    def score(self, row: Array) -> float:
        """The same of one row (m,)."""
        standard = (row.astype(np.float32) - self.centre) / self.scale
        out = np.minimum(np.maximum(standard, -_REACH), _REACH)
        for weights, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            out = np.tanh(out.dot(weights) + bias)
        lost = standard - (out.dot(self.weights[-1]) + self.biases[-1])
        return math.sqrt(lost.dot(lost))

    def lost(self, features: Array) -> Matrix:
        """What is lost of each feature (n, m), in deviations."""
        standard = (features.astype(np.float32) - self.centre) / self.scale
        out = np.minimum(np.maximum(standard, -_REACH), _REACH)
        for index, (weights, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = out @ weights + bias
            if index < _LAYERS - 1:
                out = np.tanh(out)
        lost: Matrix = standard - out
        return lost


def fit(features: Array, rng: "np.random.Generator") -> Autoencoder:
    """Train on `features` (n, m); the same features and stream of chance give the same network."""
    rows = features.astype(np.float32)
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 0, scale, np.float32(1))
    standard = np.clip((rows - centre) / scale, -_REACH, _REACH)
    width = standard.shape[1]
    hidden = min(MAX_HIDDEN, 2 * width + 8)
    sizes = (width, hidden, _bottleneck(standard), hidden, width)
    weights = [
        (rng.normal(size=(fan_in, fan_out)) * np.sqrt(2 / (fan_in + fan_out))).astype(np.float32)
        for fan_in, fan_out in itertools.pairwise(sizes)
    ]
    biases = [np.zeros(size, dtype=np.float32) for size in sizes[1:]]
    _train(standard, weights, biases, rng)
    return Autoencoder(centre, scale, tuple(weights), tuple(biases))


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> Autoencoder:
    """One made again of what `Autoencoder.arrays` gave, for features (n, `width`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    centre, scale = checked(arrays, "centre", np.float32), checked(arrays, "scale", np.float32)
    weights = [checked(arrays, f"weights{index}", np.float32) for index in range(_LAYERS)]
    biases = [checked(arrays, f"bias{index}", np.float32) for index in range(_LAYERS)]
    if centre.shape != (width,) or scale.shape != (width,) or not (scale > 0).all():
        raise ValueError("centre and scale")
    before = width
    for index, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
        after = width if index == _LAYERS - 1 else bias.size
        if bias.shape != (after,) or not 1 <= after <= max(width, MAX_HIDDEN) or matrix.shape != (before, after):
            raise ValueError(f"weights{index}")
        before = after
    return Autoencoder(centre, scale, tuple(weights), tuple(biases))


def _bottleneck(standard: Matrix) -> int:
    """As many as there are directions that matter: nine tenths of the variance, and fewer than there are features."""
    strengths: Matrix = np.linalg.svd(standard[:2000], compute_uv=False) ** 2
    shares = np.cumsum(strengths) / max(float(strengths.sum()), 1e-30)
    needed = int(np.searchsorted(shares, 0.9)) + 1
    return max(1, min(needed, int(standard.shape[1]) - 1, MAX_HIDDEN // 2))


def _batches(count: int, rng: "np.random.Generator") -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    steps = min(MAX_STEPS, _EPOCHS * (1 + (count - 1) // _BATCH))
    done = 0
    while done < steps:
        order = rng.permutation(count)
        for start in range(0, count, _BATCH):
            done += 1
            yield done, order[start : start + _BATCH]
            if done == steps:
                return


def _train(rows: Matrix, weights: list[Matrix], biases: list[Matrix], rng: "np.random.Generator") -> None:
    """Change weights and biases in place."""
    learnt = [*weights, *biases]
    first = [np.zeros_like(each) for each in learnt]
    second = [np.zeros_like(each) for each in learnt]
    for step, batch in _batches(len(rows), rng):
        rate = np.float32(_RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step))
        for index, slope in enumerate(_gradients(rows[batch], weights, biases)):
            first[index] += np.float32(0.1) * (slope - first[index])
            second[index] += np.float32(0.001) * (slope * slope - second[index])
            learnt[index] -= rate * first[index] / (np.sqrt(second[index]) + np.float32(1e-8))


def _gradients(rows: Matrix, weights: list[Matrix], biases: list[Matrix]) -> list[Matrix]:
    """The slope of the mean squared error by each of the weights, then by each of the biases."""
    outputs = [rows]
    for index, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
        out = outputs[-1] @ matrix + bias
        outputs.append(np.tanh(out) if index < _LAYERS - 1 else out)
    back = (outputs[-1] - rows) * np.float32(2 / rows.size)
    by_weights: list[Matrix] = []
    by_biases: list[Matrix] = []
    for index in reversed(range(_LAYERS)):
        by_weights.insert(0, outputs[index].T @ back)
        by_biases.insert(0, back.sum(axis=0))
        if index:
            back = (back @ weights[index].T) * (1 - outputs[index] * outputs[index])
    return by_weights + by_biases
