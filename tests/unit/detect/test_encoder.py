from __future__ import annotations

import hashlib
import io
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier

from modelward.detect import baseline, encoder, fitting, verdict
from modelward.detect.encoder import EncoderError
from modelward.detect.encoding import Column

RNG = np.random.default_rng(0)
FAST = ("Mahalanobis", "Tails")
FINITE = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3)


def packed(activations: list[str], *layers: tuple[object, object], **more: object) -> bytes:
    """The file of an encoder, as the how-to page writes it."""
    arrays = {"header": np.frombuffer(json.dumps({"activations": activations}).encode(), dtype=np.uint8)}
    for index, (weights, bias) in enumerate(layers):
        arrays |= {f"weights{index}": np.asarray(weights), f"bias{index}": np.asarray(bias)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | more)
    return buffer.getvalue()


def of_chance(*sizes: int) -> list[tuple[object, object]]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(before, after)), rng.normal(size=after)) for before, after in itertools.pairwise(sizes)]


SMALL = of_chance(3, 5, 4)
CONTENT = packed(["tanh", "identity"], *SMALL)
ROWS = RNG.normal(size=(300, 3)) * 0.3
FITTED = fitting.fit(ROWS, ["a", "b", "c"], detectors=FAST, encoder=encoder.from_bytes(CONTENT))
SCORER = FITTED.scorer()


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, encoder.Encoder]:
    """Digits below 8, to fit on and held back; the others; and the hidden layers of a classifier of the first."""
    rows, labels = load_digits(return_X_y=True)
    known = labels < 8
    network = MLPClassifier((32, 16), max_iter=100, tol=1e-2, random_state=0).fit(
        rows[known][::2] / 16, labels[known][::2]
    )
    first, *others = network.coefs_[:-1]
    hidden = zip([first / 16, *others], network.intercepts_[:-1], strict=True)
    return rows[known][::4], rows[known][1::4], rows[~known], encoder.from_bytes(packed(["relu", "relu"], *hidden))


def test_digits_embedded_by_a_classifier_are_told_from_others_and_from_noise(digits):
    reference, held_back, others, network = digits
    detectors = (*FAST, "NearestNeighbours")
    fitted = fitting.fit(reference, encoder=network, detectors=detectors, false_positive_rate=0.02)
    scorer = baseline.from_bytes(fitted.to_bytes()).scorer()
    noise = np.random.default_rng(0).permuted(held_back, axis=1)
    ordinary, strange, noisy = (scorer.scores(rows)[0] for rows in (held_back, others, noise))
    assert (ordinary > 1).mean() <= 0.06
    assert (noisy > 1).mean() > 0.7
    for scores, least in ((noisy, 0.95), (strange, 0.75)):
        labels = np.repeat([0, 1], [len(ordinary), len(scores)])
        assert roc_auc_score(labels, np.append(ordinary, scores)) > least
    projected = scorer.project(noise[noisy > 1][:20])
    assert scorer.scores(projected).max() <= 1.0
    assert (projected >= reference.min(axis=0)).all()
    assert (projected <= reference.max(axis=0)).all()
    (score,) = verdict.score_rows(fitted, noise[noisy.argmax()][np.newaxis])
    assert score.reasons[0].startswith("part ")


def test_the_network_is_that_of_its_arrays(digits):
    *_, network = digits
    (first, bias), (second, last) = SMALL
    assert encoder.from_bytes(CONTENT).embed(ROWS) == pytest.approx(np.tanh(ROWS @ first + bias) @ second + last)
    assert (network.embed(np.zeros((1, 64))) >= 0).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "identity"])
def test_the_slope_is_that_of_the_embedding(activation):
    network = encoder.from_bytes(packed([activation, "tanh", "identity"], *of_chance(3, 6, 5, 4)))
    row, step = np.array([0.3, -0.2, 0.1]), 1e-6
    for part in range(4):
        around = network.embed(row + step * np.vstack([np.eye(3), -np.eye(3)]))[:, part]
        assert network.slope(row, part) == pytest.approx((around[:3] - around[3:]) / (2 * step), abs=1e-6)


def test_a_baseline_holds_its_encoder_and_says_which():
    content = FITTED.to_bytes()
    assert content == fitting.fit(ROWS, ["a", "b", "c"], detectors=FAST, encoder=encoder.from_bytes(CONTENT)).to_bytes()
    again = baseline.from_bytes(content)
    assert again.to_bytes() == content
    assert again.origin.encoder_sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert np.array_equal(again.scorer().scores(ROWS), SCORER.scores(ROWS))
    assert FITTED.encoding.width == 4
    with pytest.raises(baseline.BaselineError, match="embedded"):
        FITTED.mahalanobis()


def rewritten(**changes: object) -> bytes:
    with np.load(io.BytesIO(FITTED.to_bytes())) as archive:
        arrays = {name: array for name, array in archive.items() if name not in changes}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays | {name: array for name, array in changes.items() if array is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "inside",
    [
        None,
        np.frombuffer(packed(["tanh", "identity"], *of_chance(3, 6, 4)), dtype=np.uint8),
        np.frombuffer(CONTENT[:-30], dtype=np.uint8),
        np.frombuffer(CONTENT, dtype=np.int8),
    ],
)
def test_a_baseline_without_its_encoder_or_with_another_is_refused(inside):
    with pytest.raises(baseline.BaselineError, match=r"encoding \(.*encoder"):
        baseline.from_bytes(rewritten(**{"encoding.encoder": inside}))


def test_an_encoder_that_the_header_does_not_know_is_refused():
    plain = fitting.fit(ROWS, detectors=FAST).to_bytes()
    with np.load(io.BytesIO(plain)) as archive:
        arrays = dict(archive)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **{"encoding.encoder": np.frombuffer(CONTENT, dtype=np.uint8)})
    with pytest.raises(baseline.BaselineError, match="not the one whose digest"):
        baseline.from_bytes(buffer.getvalue())


def broken(layer: int, kind: int, value: object) -> bytes:
    layers = [list(each) for each in SMALL]
    layers[layer][kind] = value
    return packed(["tanh", "identity"], *layers)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not an encoder"),
        (CONTENT[:-40], "not an encoder"),
        (b"x" * (encoder.MAX_FILE_BYTES + 1), "at most 2,097,152"),
        (packed(["sigmoid", "identity"], *SMALL), "relu, tanh, identity"),
        (packed([], *SMALL), "1 to 4 layers"),
        (packed(["relu"] * 5, *of_chance(2, 2, 2, 2, 2, 2)), "1 to 4 layers"),
        (packed(["relu", "relu"], *SMALL, header=np.zeros(3, dtype=np.uint8)), "`header`"),
        (packed(["relu"], *SMALL), "nothing else"),
        (packed(["relu"] * 3, *SMALL), "weights2"),
        (packed(["relu", "relu"], *SMALL, extra=np.zeros(1)), "nothing else"),
        (broken(1, 0, np.zeros((6, 4))), "weights1 takes 6 numbers, the layer before it gives 5"),
        (broken(0, 1, np.zeros(4)), r"bias0 has the shape \(4,\)"),
        (broken(0, 0, np.full((3, 5), np.nan)), "weights0 has numbers that are not finite"),
        (broken(1, 1, np.full(4, np.inf)), "bias1 has numbers that are not finite"),
        (broken(0, 0, np.full((3, 5), 1e200)), "beyond 1e"),
        (broken(0, 0, np.ones((3, 5), dtype=np.int64)), "weights0 has the type int64"),
        (broken(0, 0, np.ones(5)), "weights0 has the shape"),
        (broken(0, 0, np.ones((0, 5))), "weights0 has the shape"),
        (packed(["relu"], *of_chance(2049, 2)), "in at most 2048"),
        (packed(["relu"], *of_chance(2, 257)), "257 outputs, at most 256"),
    ],
)
def test_a_file_is_not_trusted(content, told):
    with pytest.raises(EncoderError, match=told):
        encoder.from_bytes(content)


def test_pickled_objects_are_never_loaded():
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    buffer = io.BytesIO()
    np.savez(buffer, header=np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(EncoderError, match="pickled objects are not read"):
        encoder.from_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["a", "b"], "the encoder takes 3 numbers a row, and the rows have 2"),
        ([Column("a"), Column("kind", ("x", "y")), Column("c")], "kind holds texts"),
    ],
)
def test_rows_that_the_encoder_does_not_take_are_refused(columns, told):
    rows = np.zeros((60, len(columns)))
    with pytest.raises(EncoderError, match=told):
        fitting.fit(rows, columns, encoder=encoder.from_bytes(CONTENT))


def test_an_encoder_that_tells_nothing_apart_is_refused():
    blind = encoder.from_bytes(packed(["relu"], (np.ones((3, 2)), np.full(2, -1e6))))
    with pytest.raises(EncoderError, match="the same"):
        fitting.fit(ROWS, encoder=blind)


@given(FINITE)
def test_any_finite_row_has_scores_and_reasons_and_is_projected(row):
    scores = SCORER.one(np.array(row))
    assert np.isfinite(scores).all()
    assert 1 <= len(SCORER.explain(np.array(row))) <= 3
    projected = SCORER.project(np.array([row]))[0]
    assert max(SCORER.one(projected)) <= 1.0
    if max(scores) <= 1.0:
        assert projected.tolist() == row


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_activation_hides_what_is_not_finite(value):
    """A tanh of infinity is 1 and a relu of minus infinity 0: both quite ordinary."""
    row = np.array([0.0, value, 0.0])
    assert np.isnan(SCORER.one(row)).all()
    assert SCORER.explain(row) == ("b is missing or not finite",)
    assert SCORER.scores(SCORER.project(row[np.newaxis])).max() <= 1.0


def test_reasons_tell_the_part_and_the_columns_that_would_bring_it_nearer():
    turned = packed(["identity"], (np.array([[1.0, 0], [0, 1], [0, -2]]), np.zeros(2)))
    scorer = fitting.fit(ROWS, ["a", "b", "c"], detectors=FAST, encoder=encoder.from_bytes(turned)).scorer()
    (reason,) = scorer.explain(np.array([0.0, 0.0, -5.0]))
    assert reason.startswith("part 1 of the embedding is ")
    assert reason.endswith("deviations above its usual value; nearer with a higher c")


def test_no_column_is_told_where_the_activation_is_saturated():
    flat = packed(["tanh"], (np.eye(3), np.zeros(3)))
    scorer = fitting.fit(ROWS, ["a", "b", "c"], detectors=FAST, encoder=encoder.from_bytes(flat)).scorer()
    (reason,) = scorer.explain(np.array([50.0, 0.0, 0.0]))
    assert reason.startswith("part 0 of the embedding is ")
    assert "nearer" not in reason
