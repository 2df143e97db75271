"""Honest callers of the classifier of digits: sessions of realistic lengths, with repeats.

Lengths are log-normal, median 12, at most 300; a third ask mostly for two of the digits, as a client with cases of one
kind does. One row in ten is sent again as it was, one in 30 with a pixel corrected. 100 networks, 4 issuers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from modelward.detect.clients import Caller
from tests.bench.digits_service import ISSUERS, Digits, Service, Told

SESSIONS = 1000


class Calm(NamedTuple):
    """Sessions with an alarm, by what, how many rows were asked in all, and of each session."""

    alarmed: int
    by: dict[str, int]
    rows: int
    lengths: list[int]


def honest(digits: Digits, opened: Callable[[], AbstractContextManager[Service]]) -> Calm:
    """Have all sessions ask, up to 40 at a time."""
    lengths, waiting = sessions(digits)
    rng = np.random.default_rng(3)
    running: list[tuple[Caller, Iterator[np.ndarray]]] = []
    alarmed: dict[Caller, set[str]] = {}
    rows = 0
    with opened() as service:
        while waiting or running:
            while waiting and len(running) < 40:
                running.append(waiting.pop())
            at = int(rng.integers(len(running)))
            caller, session = running[at]
            row = next(session, None)
            if row is None:
                running.pop(at)
                continue
            rows += 1
            told: Told = service.ask(caller, row)
            if told.found:
                alarmed.setdefault(caller, set()).update(told.found)
    by = Counter(itertools.chain.from_iterable(alarmed.values()))
    return Calm(len(alarmed), dict(by.most_common()), rows, lengths)


def sessions(digits: Digits) -> tuple[list[int], list[tuple[Caller, Iterator[np.ndarray]]]]:
    rng = np.random.default_rng(2)
    lengths = np.clip(np.rint(np.exp(rng.normal(np.log(12), 1.0, size=SESSIONS))), 1, 300).astype(int).tolist()
    return lengths, [
        (Caller(f"user:{at}", ISSUERS[at % 4], f"127.1.{at % 100}.0/24"), _session(digits, length, rng.spawn(1)[0]))
        for at, length in enumerate(lengths)
    ]


def _session(digits: Digits, length: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    weights = np.ones(len(digits.honest))
    if rng.random() < 1 / 3:
        weights[np.isin(digits.honest_labels, rng.choice(10, 2, replace=False))] = 20
    fresh = iter(digits.honest[rng.choice(len(digits.honest), length, replace=False, p=weights / weights.sum())])
    last = None
    for _ in range(length):
        what = rng.random()
        if last is not None and what < 0.1:
            yield last
        elif last is not None and what < 0.1 + 1 / 30:
            last = last.copy()
            last[rng.integers(len(last))] = rng.integers(17)
            yield last
        else:
            last = next(fresh)
            yield last
