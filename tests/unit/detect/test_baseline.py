from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from modelward.detect import baseline, verdict

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 3)) * [1, 10, 100] + [0, 50, -300]
FITTED = baseline.fit(ROWS, ["a", "b", "c"], false_positive_rate=0.02, data=b"the file")


def arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def rewritten(**changes: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays(FITTED.to_bytes()) | changes)
    return buffer.getvalue()


def header(**changes: object) -> np.ndarray:
    document = json.loads(arrays(FITTED.to_bytes())["header"].tobytes()) | changes
    return np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)


def test_what_is_written_is_read_again():
    again = baseline.from_bytes(FITTED.to_bytes())
    assert again.to_bytes() == FITTED.to_bytes()
    assert again.columns == ("a", "b", "c")
    assert (again.rows, again.rows_dropped, again.false_positive_rate) == (400, 0, 0.02)
    assert again.data_sha256 == hashlib.sha256(b"the file").hexdigest()
    assert again.threshold() == FITTED.threshold()


def test_the_same_data_and_seed_give_the_same_bytes():
    assert (
        baseline.fit(ROWS, ["a", "b", "c"], false_positive_rate=0.02, data=b"the file").to_bytes() == FITTED.to_bytes()
    )
    other = baseline.fit(ROWS, ["a", "b", "c"], false_positive_rate=0.02, data=b"the file", seed=1)
    assert other.to_bytes() != FITTED.to_bytes()


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_the_rate_of_false_alarms_is_kept(rate):
    """On rows that the fit has not seen, over many fits: the mean within three standard errors."""
    alarms = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        fitted = baseline.fit(rng.standard_t(5, size=(600, 4)), false_positive_rate=rate, seed=seed)
        fresh = rng.standard_t(5, size=(2000, 4))
        alarms.append((fitted.detector.distances(fresh) > fitted.threshold()).mean())
    spread = np.std(alarms) / np.sqrt(len(alarms))
    assert abs(np.mean(alarms) - rate) < 3 * spread + 0.1 * rate


def test_real_data_are_told_from_impossible_ones():
    data = load_breast_cancer()
    held_back = np.arange(len(data.data)) % 5 == 0
    fitted = baseline.fit(data.data[~held_back], data.feature_names, false_positive_rate=0.01)
    ordinary = verdict.score_rows(fitted, data.data[held_back])
    assert np.mean([score.anomalous for score in ordinary]) <= 0.05
    impossible = data.data[held_back].copy()
    impossible[:, 0], impossible[:, 3] = 1.0, 4000.0  # a tiny radius with a huge area
    assert all(score.anomalous for score in verdict.score_rows(fitted, impossible))


def test_another_rate_can_be_asked_for_later():
    strict, lax = FITTED.threshold(0.2), FITTED.threshold(0.005)
    assert strict < FITTED.threshold() < lax
    with pytest.raises(baseline.BaselineError, match="at least 999 rows"):
        FITTED.threshold(0.001)


def test_a_large_calibration_keeps_its_upper_part(monkeypatch):
    monkeypatch.setattr(baseline, "MAX_CALIBRATION", 100)
    fitted = baseline.fit(ROWS, false_positive_rate=0.02)
    assert fitted.threshold() == pytest.approx(FITTED.threshold())
    with pytest.raises(baseline.BaselineError, match="fit it anew"):
        fitted.threshold(0.5)


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (ROWS[:40], None, "at least 50 rows"),
        (np.ones((100, 2)), None, "nearly the same"),
        (np.column_stack([ROWS, np.full(400, np.nan)]), None, "no row has a number in x3"),
        (np.where(RNG.random(ROWS.shape) < 0.9, np.nan, ROWS), None, "without missing values"),
        (ROWS, ["a", "b"], "2 columns are named"),
        (ROWS, ["a", "a", "b"], "different names"),
        (ROWS[:, :0], None, "1 to 256 columns"),
    ],
)
def test_data_that_tell_too_little_are_refused(rows, columns, told):
    with pytest.raises(baseline.BaselineError, match=told):
        baseline.fit(rows, columns)


def test_a_rate_that_the_rows_cannot_tell_is_refused():
    with pytest.raises(baseline.BaselineError, match="at least 9999 rows"):
        baseline.fit(ROWS, false_positive_rate=0.0001)


def test_rows_with_missing_values_are_left_out_and_counted():
    rows = ROWS.copy()
    rows[:7, 1] = np.nan
    rows[7, 0] = np.inf
    fitted = baseline.fit(rows)
    assert (fitted.rows, fitted.rows_dropped) == (400, 8)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a baseline"),
        (b"PK\x03\x04 rubbish", "not a baseline"),
        (FITTED.to_bytes()[:-50], "not a baseline"),
        (b"x" * (baseline.MAX_FILE_BYTES + 1), "at most"),
        (rewritten(header=header(format=2)), "format"),
        (rewritten(header=header(detector="Autoencoder")), "format"),
        (rewritten(header=header(columns=["a"])), "centre"),
        (rewritten(header=header(calibrationRows=3)), "calibration"),
        (rewritten(header=np.frombuffer(b"[]", dtype=np.uint8)), "format"),
        (rewritten(scale=np.array([1.0, 0.0, 1.0])), "scale"),
        (rewritten(scale=np.array([1.0, 1.0])), "scale"),
        (rewritten(centre=np.array([1.0, np.nan, 1.0])), "centre"),
        (rewritten(precision=np.eye(3, dtype=np.float32)), "precision"),
        (rewritten(precision=-np.eye(3)), "precision"),
        (rewritten(scale=np.array(["a", "b", "c"])), "scale"),
        (rewritten(header=header(calibrationRows="many")), "format"),
        (rewritten(header=header(more=1)), "format"),
        (rewritten(centre=np.array(["a", "b", "c"])), "centre"),
        (rewritten(calibration=np.array([])), "calibration"),
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
    np.savez(buffer, **arrays(FITTED.to_bytes()) | {"centre": np.array([Evil()] * 3, dtype=object)}, allow_pickle=True)
    with pytest.raises(baseline.BaselineError):
        baseline.from_bytes(buffer.getvalue())


def test_a_zip_bomb_is_not_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("centre.npy", bytes(64 << 20))
    assert len(buffer.getvalue()) < 1 << 20
    with pytest.raises(baseline.BaselineError, match="unpacks"):
        baseline.from_bytes(buffer.getvalue())


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_reads_the_same(position, byte):
    content = bytearray(CONTENT)
    content[position % len(content)] = byte
    try:
        read = baseline.from_bytes(bytes(content))
    except baseline.BaselineError:
        return
    assert read.columns == FITTED.columns
    assert np.array_equal(read.calibration, FITTED.calibration)


CONTENT = FITTED.to_bytes()


def test_reasons_are_in_words_and_name_the_column():
    row = ROWS[:1].copy()
    row[0, 1] = 500
    (score,) = verdict.score_rows(FITTED, row)
    assert score.anomalous
    assert score.score is not None
    assert score.score > 1
    assert score.reasons[0].startswith("b is ")
    assert "deviations above its usual value" in score.reasons[0]
    row[0, 1] = -1e300
    (score,) = verdict.score_rows(FITTED, row)
    assert "more than 1000000 deviations below" in score.reasons[0]
    (missing,) = verdict.score_rows(FITTED, np.array([[0, np.nan, 0]]))
    assert (missing.score, missing.anomalous, missing.reasons) == (None, True, ("b is missing or not finite",))
    (ordinary,) = verdict.score_rows(FITTED, np.array([[0.0, 50.0, -300.0]]))
    assert (ordinary.anomalous, ordinary.reasons) == (False, ())


def test_a_combination_that_does_not_occur_is_told_as_such():
    rng = np.random.default_rng(1)
    first = rng.normal(size=500)
    fitted = baseline.fit(np.column_stack([first, first + 0.05 * rng.normal(size=500)]), ["in", "out"])
    (score,) = verdict.score_rows(fitted, np.array([[1.0, -1.0]]))
    assert score.anomalous
    assert "than the other columns suggest" in score.reasons[0]


def test_the_threshold_is_where_the_score_is_one():
    rows = np.random.default_rng(5).normal(size=(50, 3)) * [1, 10, 100] + [0, 50, -300]
    distances = FITTED.detector.distances(rows) / FITTED.threshold()
    assert [score.score for score in verdict.score_rows(FITTED, rows)] == pytest.approx(distances.tolist())
    assert replace(FITTED).threshold(0.02) == FITTED.threshold()
