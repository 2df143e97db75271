"""Isolation forest: how few random cuts set a row apart (Liu, Ting and Zhou, 2008).

Every tree is a complete binary tree of the same depth in flat arrays: where a branch ends early, rows pass to the left
until the bottom. So all trees are walked at once, a level at a time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import Array

TREES = 100
SAMPLE = 256
_CHUNK = 4096  # rows scored at once
_EULER = 0.5772156649015329


@dataclass(frozen=True, slots=True)
class Forest:
    """`feature` and `threshold` (t, 2^l - 1): a row goes right where its feature is above the threshold.

    `length` (t, 2^l): at the bottom, how many cuts it takes to set a row apart there. `usual`: how many it takes in a
    tree of random cuts of as many rows.
    """

    feature: npt.NDArray[np.int16]
    threshold: npt.NDArray[np.float32]
    length: npt.NDArray[np.float32]
    usual: float

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        usual = np.array([self.usual])
        return {"feature": self.feature, "threshold": self.threshold, "length": self.length, "usual": usual}

    def scores(self, features: Array) -> Array:
        """How early each of `features` (n, m) is set apart, (n,): between 0 and 1, ordinary rows below a half."""
        scores = np.empty(len(features))
        for start in range(0, len(features), _CHUNK):
            part = features[start : start + _CHUNK]
            scores[start : start + _CHUNK] = np.exp2(-self._lengths(part) / self.usual)
        return scores

    def _lengths(self, features: Array) -> Array:
        trees, inner = self.feature.shape
        first = np.arange(trees) * inner
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        at = np.zeros((len(features), trees), dtype=np.intp)
        row = np.arange(len(features))[:, np.newaxis]
        while at[0, 0] < inner:
            node = at + first
            at = 2 * at + 1 + (features[row, feature[node]] > threshold[node])
        found: Array = self.length[np.arange(trees), at - inner].mean(axis=1, dtype=np.float64)
        return found

    def score(self, row: Array) -> float:
        """The score of one row (m,)."""
        trees, inner = self.feature.shape
        first = np.arange(trees) * inner
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        at = first
        for _ in range(inner.bit_length()):
            at = at + (at - first) + 1 + (row[feature[at]] > threshold[at])
        lengths = self.length.ravel()[at - first - inner + np.arange(trees) * (inner + 1)]
        return float(np.exp2(-lengths.mean() / self.usual))


def fit(features: Array, rng: "np.random.Generator", trees: int = TREES) -> Forest:
    """Grow trees on samples of `features` (n, m)."""
    size = min(SAMPLE, len(features))
    depth = max(1, int(np.ceil(np.log2(size))))
    rows = np.concatenate([rng.choice(len(features), size, replace=False) for _ in range(trees)])
    values = features[rows].astype(np.float32)
    tree = np.repeat(np.arange(trees), size)
    inner = (1 << depth) - 1
    feature = np.zeros((trees, inner), dtype=np.int16)
    threshold = np.full((trees, inner), np.finfo(np.float32).max)
    cuts = np.zeros((trees, 2 * inner + 1), dtype=np.float32)  # to come to a node, but for those that cut nothing
    at = np.zeros(len(values), dtype=np.intp)
    for _ in range(depth):
        order = np.lexsort((at, tree))
        values, tree, at = values[order], tree[order], at[order]
        starts = np.flatnonzero(np.diff(tree * (2 * inner + 1) + at, prepend=-1))
        least, most = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
        chosen = np.where(most > least, rng.random(least.shape), -1.0).argmax(axis=1)
        group = np.arange(len(starts))
        low, high = least[group, chosen], most[group, chosen]
        cut = (low + rng.random(len(starts)) * (high.astype(np.float64) - low)).astype(np.float32)
        splits = high > low
        cut = np.where(splits, np.minimum(cut, np.nextafter(high, low)), np.finfo(np.float32).max).astype(np.float32)
        whose, node = tree[starts], at[starts]
        feature[whose, node], threshold[whose, node] = chosen, cut
        for child in (2 * node + 1, 2 * node + 2):
            cuts[whose, child] = cuts[whose, node] + splits
        sizes = np.diff(starts, append=len(values))
        member = np.repeat(group, sizes)
        at = 2 * at + 1 + (values[np.arange(len(values)), chosen[member]] > cut[member])
    length = cuts[:, inner:]
    left = np.zeros((trees, inner + 1), dtype=np.int64)
    np.add.at(left, (tree, at - inner), 1)
    return Forest(feature, threshold, (length + _usual(left)).astype(np.float32), float(_usual(np.array(size))))


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> Forest:
    """One made again of what `Forest.arrays` gave, for features (n, `width`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    feature, threshold = checked(arrays, "feature", np.int16), checked(arrays, "threshold", np.float32)
    length, usual = checked(arrays, "length", np.float32), checked(arrays, "usual")
    if feature.ndim != 2 or not feature.size or feature.shape != threshold.shape:
        raise ValueError("feature and threshold")
    trees, inner = feature.shape
    if inner & (inner + 1) or length.shape != (trees, inner + 1) or usual.shape != (1,) or not usual[0] > 0:
        raise ValueError("length")
    if (feature < 0).any() or (feature >= width).any() or (length < 0).any():
        raise ValueError("feature")
    return Forest(feature, threshold, length, float(usual[0]))


def _usual(size: npt.NDArray[np.int64]) -> Array:
    """The mean number of random cuts that it takes to set one of `size` rows apart."""
    many = np.maximum(size, 2)
    estimate = 2 * (np.log(many - 1) + _EULER) - 2 * (many - 1) / many
    return np.asarray(np.select([size > 2, size == 2], [estimate, 1.0], 0.0), dtype=np.float64)
