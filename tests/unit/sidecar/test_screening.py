from __future__ import annotations

import numpy as np
import pytest

from modelward.detect import baseline, fitting
from modelward.detect.verdict import score_rows
from modelward.sidecar import config
from modelward.sidecar.problems import Refusal
from modelward.sidecar.screening import Screen
from modelward.sidecar.tensors import Tensor, TensorSpec
from tests.unit.sidecar.harness import NORMAL, STRANGE, fitted

UNNAMED = fitting.fit(np.random.default_rng(3).normal(size=(200, 3))).to_bytes()


def spec(name="x", shape=(-1, 3), columns=("a", "b", "c"), datatype="FP64") -> TensorSpec:
    return TensorSpec(config.TensorDeclaration(name=name, datatype=datatype, shape=list(shape), columns=list(columns)))


def screen(*specs: TensorSpec, content: bytes | None = None, **options) -> Screen:
    screening = config.Screening(detectors=[config.Detector(type="Mahalanobis")], **options)
    built = Screen.build(screening, content or fitted(), {each.name: each for each in specs or (spec(),)})
    assert built is not None
    return built


def tensor(data, of: TensorSpec | None = None, shape=None) -> Tensor:
    return Tensor(of or spec(), shape or [len(data) // 3, 3], list(data))


def test_the_score_is_the_detectors_own():
    rows = np.random.default_rng(1).normal(loc=[0, 10, -5], scale=2, size=(20, 3))
    judge = screen()
    expected = [score.score for score in score_rows(baseline.from_bytes(fitted()), rows, detector="Mahalanobis")]
    for row, score in zip(rows, expected, strict=True):
        assert judge.score([tensor(row)]) == pytest.approx(score)
    assert judge.score([tensor(rows.ravel())]) == pytest.approx(max(expected))


def test_ordinary_passes_and_strange_is_blocked():
    assert screen().judge([tensor(NORMAL)]) is None
    verdict = screen().judge([tensor(STRANGE)])
    assert verdict is not None
    assert (verdict.name, verdict.action) == ("anomalous", "blocked")
    assert verdict.refusal is not None
    assert verdict.refusal.problem.slug == "anomalous-input"


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 1e200])
def test_huge_numbers_are_anomalous_and_overflow_nothing(value):
    for data in ([value, 10, -5], [value, -value, value]):
        verdict = screen().judge([tensor(data)])
        assert verdict is not None
        assert verdict.refusal is not None


def test_columns_are_found_by_name_wherever_they_are():
    first, second = spec("first", (-1, 2), ("c", "a")), spec("second", (-1,), ())
    other = spec("b", (-1, 1), ())
    judge = screen(first, second, other)
    data = [
        Tensor(first, [1, 2], [NORMAL[2], NORMAL[0]]),
        Tensor(second, [1], [123.0]),
        Tensor(other, [1, 1], [NORMAL[1]]),
    ]
    assert judge.score(data) == pytest.approx(screen().score([tensor(NORMAL)]))


def test_unnamed_columns_are_taken_in_order():
    parts = [spec(name, (-1,), ()) for name in ("p", "q", "r")]
    judge = screen(*parts, content=UNNAMED)
    rows = [Tensor(part, [2], [0.1 * index, 0.2]) for index, part in enumerate(parts)]
    whole = screen(spec(), content=UNNAMED)
    assert judge.score(rows) == pytest.approx(whole.score([tensor([0, 0.1, 0.2, 0.2, 0.2, 0.2])]))


def test_inputs_of_different_numbers_of_rows_are_refused():
    parts = [spec(name, (-1,), ()) for name in ("p", "q", "r")]
    judge = screen(*parts, content=UNNAMED)
    with pytest.raises(Refusal) as refused:
        judge.judge([Tensor(part, [index + 1], [0.0] * (index + 1)) for index, part in enumerate(parts)])
    assert refused.value.problem.slug == "schema-violation"


@pytest.mark.parametrize(
    ("specs", "told"),
    [
        ([spec(columns=("a", "b", "z"))], "schema does not name: c"),
        ([spec(shape=(-1, 4), columns=())], "3 columns, a row of the schema's numeric inputs 4"),
        ([spec(datatype="BYTES")], "3 columns"),
        ([], "3 columns"),
    ],
)
def test_a_baseline_that_does_not_fit_the_schema_is_refused(specs, told):
    screening = config.Screening(detectors=[config.Detector(type="Mahalanobis")])
    with pytest.raises(config.ConfigError, match=told):
        Screen.build(screening, fitted(), {each.name: each for each in specs})


def test_what_a_detector_needs_is_asked_for():
    screening = config.Screening(detectors=[config.Detector(type="Mahalanobis")])
    with pytest.raises(config.ConfigError, match="needs a baseline"):
        Screen.build(screening, None, {})
    with pytest.raises(config.ConfigError, match="inputs declared"):
        Screen.build(screening, fitted(), None)
    with pytest.raises(config.ConfigError, match="not a baseline"):
        Screen.build(screening, b"rubbish", {"x": spec()})
    rare = config.Screening(detectors=[config.Detector(type="Mahalanobis", false_positive_rate=1e-5)])
    with pytest.raises(config.ConfigError, match="false positive rate"):
        Screen.build(rare, fitted(), {"x": spec()})
    assert Screen.build(config.Screening(), None, None) is None


def test_a_lower_rate_blocks_less():
    screening = config.Screening(detectors=[config.Detector(type="Mahalanobis", false_positive_rate=0.2)])
    strict = Screen.build(screening, fitted(), {"x": spec()})
    assert strict is not None
    row = [tensor([2.5, 10, -5])]
    assert strict.score(row) > screen().score(row)


def test_sanitising_keeps_ordinary_values_and_the_kind_of_numbers():
    whole = spec(datatype="INT32")
    data = Tensor(whole, [2, 3], [0, 99, -5, 0, 10, -5])
    verdict = screen(whole, on_anomaly="Sanitise").judge([data])
    assert verdict is not None
    assert (verdict.name, verdict.refusal) == ("sanitised", None)
    assert data.data[:1] + data.data[2:] == [0, -5, 0, 10, -5]
    assert type(data.data[1]) is int
    assert 11 <= data.data[1] <= 14


def test_a_failing_detector_blocks_unless_told_to_pass(capfd):
    broken = Tensor(spec(), [1, 3], ["not", "a", "number"])
    blocked = screen().judge([broken])
    passed = screen(on_detector_error="Pass").judge([broken])
    assert blocked is not None
    assert passed is not None
    assert blocked.refusal is not None
    assert (blocked.refusal.problem.slug, blocked.action) == ("detector-failed", "failed")
    assert (passed.refusal, passed.name, passed.action) == (None, "unscreened", "passed")
    assert "not" not in capfd.readouterr().err.replace("detector", "").split('"')
