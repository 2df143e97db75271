"""The Adult census as a stream of requests: k, uniqueness and small combinations are those of the table itself.

With few enough combinations exactly; with more, within what is told to be the bounds. Split over replicas and days.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from modelward.privacy.keys import derive
from modelward.reidentification.figures import figures
from modelward.reidentification.sample import MAX_KEPT, Sample
from modelward.sidecar import config
from modelward.sidecar.reidentification import Reidentification, Rows
from modelward.sidecar.tensors import TensorSpec
from tests.conformance.corpora import DATA

ADULT = DATA / "adult" / "adult.csv"
K = 5
SECONDS = 86_400


def people(*names: str) -> list[tuple[str, ...]]:
    with Path(ADULT).open(encoding="utf-8", newline="") as file:
        return [tuple(row[name] for name in names) for row in csv.DictReader(file, delimiter=";")]


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def streamed(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> Sample:
    """Three replicas, ten days, requests of 100 rows."""
    declared = {name: TensorSpec(config.TensorDeclaration(name, "BYTES", [-1])) for name in names}
    settings, clock = config.Reidentification(K, list(names)), Clock()
    keys = derive({1: bytes(32)}, "census")
    replicas = [Reidentification(settings, declared, {}, keys, "adult", clock) for _ in range(3)]
    for number, at in enumerate(range(0, len(rows), 100)):
        some = rows[at : at + 100]
        columns = [list(column) for column in zip(*some, strict=True)]
        replicas[number % 3].count(Rows(len(some), columns, None))
        clock.now += 10 * SECONDS * 100 / len(rows)
    together = Sample()
    for replica in replicas:
        together.merge(Sample.unpack(replica.report().sample))
    return together


@pytest.mark.parametrize(
    "names",
    [
        ("sex", "race", "marital-status", "education"),
        ("sex", "age", "race", "marital-status"),
        ("sex", "age", "race", "marital-status", "education"),
        ("sex", "age", "race", "marital-status", "education", "native-country", "workclass", "occupation"),
    ],
    ids=len,
)
def test_a_stream_tells_what_the_table_does(names: tuple[str, ...]) -> None:
    rows = people(*names)
    counts = Counter(rows)
    share = sum(count for count in counts.values() if count < K) / len(rows)
    sample = streamed(names, rows)
    found = figures(sample, K, people=False)
    assert found.rows == len(rows)
    assert found.exact == (len(counts) <= MAX_KEPT)
    if found.exact:
        assert (found.combinations, found.below, found.smallest) == (len(counts), share, min(counts.values()))
        assert dict(found.sizes) == {size: n for size, n in Counter(counts.values()).items() if size < K}
    else:
        assert found.low <= share <= found.high
        assert abs(found.below / share - 1) < 0.1
        assert abs(found.combinations / len(counts) - 1) < 0.1
