from __future__ import annotations

import hashlib
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect import baseline, fitting

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 3)) * [1, 10, 100] + [0, 50, -300]
FITTED = fitting.fit(ROWS, ["a", "b", "c"], false_positive_rate=0.02, data=b"the file")
CONTENT = FITTED.to_bytes()


def arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def rewritten(**changes: object) -> bytes:
    """The file with arrays changed; `__` in a name stands for a dot."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays(CONTENT) | {name.replace("__", "."): array for name, array in changes.items()})
    return buffer.getvalue()


def header(**changes: object) -> np.ndarray:
    document = json.loads(arrays(CONTENT)["header"].tobytes()) | changes
    return np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)


def test_what_is_written_is_read_again():
    again = baseline.from_bytes(CONTENT)
    assert again.to_bytes() == CONTENT
    assert again.columns == ("a", "b", "c")
    assert (again.origin.rows, again.origin.rows_dropped, again.false_positive_rate) == (400, 0, 0.02)
    assert again.origin.data_sha256 == hashlib.sha256(b"the file").hexdigest()
    rows = ROWS[:50] * 1.5
    asked = [(name, None) for name in FITTED.types]
    assert np.array_equal(again.scorer(asked).scores(rows), FITTED.scorer(asked).scores(rows))


@pytest.mark.parametrize(
    ("only", "made"),
    [
        (["Tails"], {"Mahalanobis", "Tails"}),
        (["Drift"], {"Mahalanobis"}),
        (["Ensemble"], {"Mahalanobis", "NearestNeighbours", "Autoencoder", "IsolationForest"}),
    ],
)
def test_detectors_that_nobody_asks_for_are_not_made(only, made):
    some = baseline.from_bytes(CONTENT, only)
    assert set(some.detectors) == made
    assert some.types == FITTED.types
    asked = [(name, None) for name in only if name in FITTED.types] or [("Mahalanobis", None)]
    assert np.array_equal(some.scorer(asked).scores(ROWS[:50]), FITTED.scorer(asked).scores(ROWS[:50]))
    with pytest.raises(ValueError, match="would be lost"):
        some.to_bytes()


def test_another_rate_can_be_asked_for_later():
    strict, lax = FITTED.threshold(rate=0.2), FITTED.threshold(rate=0.005)
    assert strict < FITTED.threshold() < lax
    with pytest.raises(baseline.BaselineError, match="at least 999 rows"):
        FITTED.threshold(rate=0.001)


def test_a_detector_that_it_does_not_have_is_told():
    few = fitting.fit(ROWS, detectors=["Mahalanobis"])
    with pytest.raises(baseline.BaselineError, match="no detector NearestNeighbours, only Mahalanobis, Ensemble"):
        few.scorer([("NearestNeighbours", 0.01)])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a baseline"),
        (b"PK\x03\x04 rubbish", "not a baseline"),
        (CONTENT[:-50], "not a baseline"),
        (b"x" * (baseline.MAX_FILE_BYTES + 1), "at most"),
        (rewritten(header=header(format=1)), "format"),
        (rewritten(header=header(format=3)), "format"),
        (rewritten(header=np.frombuffer(b"[]", dtype=np.uint8)), "format"),
        (rewritten(header=header(calibrationRows="many")), "format"),
        (rewritten(header=header(more=1)), "format"),
        (rewritten(header=header(detectors=["Oracle"])), "detectors"),
        (rewritten(header=header(columns=[{"name": "a"}] * 3)), "columns"),
        (rewritten(header=header(columns=[{"name": "a"}])), "encoding"),
        (rewritten(header=header(calibrationRows={"Ensemble": 3})), "calibration"),
        (rewritten(header=header(calibrationRows=3)), "format"),
        (rewritten(Mahalanobis__scale=np.array([1.0, 0.0, 1.0])), r"Mahalanobis \(scale"),
        (rewritten(Mahalanobis__scale=np.array([1.0, 1.0])), "Mahalanobis"),
        (rewritten(Mahalanobis__centre=np.array([1.0, np.nan, 1.0])), r"Mahalanobis \(centre"),
        (rewritten(Mahalanobis__precision=np.eye(3, dtype=np.float32)), "precision"),
        (rewritten(Mahalanobis__precision=-np.eye(3)), "precision"),
        (rewritten(Mahalanobis__scale=np.array(["a", "b", "c"])), "scale"),
        (rewritten(NearestNeighbours__reference=np.ones((5, 2), dtype=np.float32)), "reference"),
        (rewritten(NearestNeighbours__reference=np.ones((0, 3), dtype=np.float32)), "kept"),
        (rewritten(calibration__Ensemble=np.array([])), "calibration"),
        (rewritten(calibration__Ensemble=np.array([2.0, 1.0])), "calibration"),
        (rewritten(ensemble__weights=np.ones(8)), "ensemble"),
        (rewritten(ensemble__knots=np.ones((8, 4))), "ensemble"),
        (rewritten(encoding__scale=-np.ones(3)), "encoding"),
        (rewritten(summary__lower=np.full(3, 1e9)), "summary"),
        (rewritten(summary__sizes=np.array([1, 1, 1])), "summary"),
        (rewritten(summary__sizes=np.array([1 << 62, 1 << 62, 1 << 62])), "summary"),
    ],
)
def test_a_file_is_not_trusted(content, told):
    with pytest.raises(baseline.BaselineError, match=told):
        baseline.from_bytes(content)


def test_pickled_objects_are_never_loaded():
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    buffer = io.BytesIO()
    evil = {"Mahalanobis.centre": np.array([Evil()] * 3, dtype=object)}
    np.savez(buffer, **arrays(CONTENT) | evil, allow_pickle=True)
    with pytest.raises(baseline.BaselineError):
        baseline.from_bytes(buffer.getvalue())


def test_a_zip_bomb_is_not_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", bytes(64 << 20))
    assert len(buffer.getvalue()) < 1 << 20
    with pytest.raises(baseline.BaselineError, match="unpacks"):
        baseline.from_bytes(buffer.getvalue())


@given(st.integers(0, len(CONTENT) - 1), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_reads_the_same(position, byte):
    content = bytearray(CONTENT)
    content[position] = byte
    try:
        read = baseline.from_bytes(bytes(content))
    except baseline.BaselineError:
        return
    assert read.to_bytes() == CONTENT
