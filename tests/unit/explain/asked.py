"""Models that conversations are held with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelward.detect.answers import Output
from modelward.explain.methods import Conversation, Explained


def output(values: np.ndarray, name: str = "y") -> Output:
    kind = {"f": "FP64", "i": "INT64", "b": "BOOL"}.get(values.dtype.kind, "BYTES")
    return Output(kind, values.shape, values.ravel().tolist(), name)


def held(conversation: Conversation, model: Callable[[np.ndarray], np.ndarray]) -> tuple[Explained, int]:
    """What a conversation with `model` (rows to values) ends with, and how many rows it asked about."""
    rows, asked = next(conversation), 0
    while True:
        asked += len(rows)
        try:
            rows = conversation.send([output(model(rows))])
        except StopIteration as end:
            return end.value, asked
