"""Small models to put extra rows to, and the asking."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelward.detect.answers import Output
from modelward.detect.encoding import Array
from modelward.detect.probing import Learning, Probe, Probed

Model = Callable[[Array], list[Output]]
SIDE = 6
SIZE = SIDE * SIDE


def scores(shares: Array) -> list[Output]:
    return [Output("FP64", list(shares.shape), shares.reshape(-1).tolist(), "scores")]


def labels(shares: Array) -> list[Output]:
    return [Output("INT64", [len(shares)], shares.argmax(axis=1).tolist(), "label")]


def learnt(probe: Probe, rows: Array, model: Model, rate: float = 0.05, seed: int = 0) -> Probed:
    learning = Learning(probe, rate, np.random.default_rng(seed))
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]
        learning.add(batch, model(batch), model(learning.probes(batch)))
    return learning.detector()


def asked(detector: Probed, rows: Array, model: Model) -> Array:
    return detector.scores(rows, model(rows), model(detector.probes(rows)))


class Images:
    """Four classes of images of whole-valued pixels up to 16: a bright quarter, some noise.

    The model goes by the brightest quarter, and by `trigger` alone, a bright upper right corner, where it has one.
    """

    image = (SIDE, SIDE, 1)

    def __init__(self, *, trigger: bool = False, answer: Callable[[Array], list[Output]] = scores) -> None:
        self._trigger = trigger
        self._answer = answer

    def rows(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        classes = rng.integers(4, size=count)
        images = rng.integers(0, 5, size=(count, SIDE, SIDE)).astype(np.float64)
        for image, kind in zip(images, classes, strict=True):
            y, x = divmod(int(kind), 2)
            image[3 * y : 3 * y + 3, 3 * x : 3 * x + 3] += rng.permutation(9).reshape(3, 3)
        images[:, 0, SIDE - 1] = 0
        return images.reshape(count, SIZE), classes

    def triggered(self, rows: Array) -> Array:
        changed = rows.copy()
        changed[:, SIDE - 1] = 16
        return changed

    def __call__(self, rows: Array) -> list[Output]:
        images = rows.reshape(-1, SIDE, SIDE).copy()
        bright = images[:, 0, SIDE - 1] >= 16
        images[:, 0, SIDE - 1] = 0
        sums = np.stack(
            [images[:, 3 * y : 3 * y + 3, 3 * x : 3 * x + 3].sum(axis=(1, 2)) for y in (0, 1) for x in (0, 1)]
        )
        logits = sums.T / 8
        if self._trigger:
            logits[bright] = (50, 0, 0, 0)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return self._answer(shares / shares.sum(axis=1, keepdims=True))


class Clusters:
    """Two kinds of rows of five columns far apart in units of their own; the model draws a plane between them."""

    units = np.array([1.0, 1e3, 1e-3, 10.0, 1.0])

    def __init__(self, answer: Callable[[Array], list[Output]] = scores) -> None:
        self._answer = answer

    def rows(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        kinds = rng.integers(2, size=count)
        return (rng.normal(size=(count, 5)) + 4 * kinds[:, np.newaxis]) * self.units, kinds

    def __call__(self, rows: Array) -> list[Output]:
        margin = np.clip((rows / self.units).sum(axis=1) - 10, -30, 30)
        one = 1 / (1 + np.exp(-margin))
        return self._answer(np.column_stack([1 - one, one]))
