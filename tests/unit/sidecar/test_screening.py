from __future__ import annotations

import numpy as np
import pytest

from modelward.detect import baseline, encoder, fitting
from modelward.detect.encoding import Column
from modelward.detect.verdict import score_rows
from modelward.sidecar import config
from modelward.sidecar.detection import MAX_ROWS, Detection
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.problems import Refusal
from modelward.sidecar.screening import MAX_SANITISED, Screen
from modelward.sidecar.tensors import Tensor, TensorSpec
from tests.unit.detect.test_encoder import packed
from tests.unit.sidecar.harness import NORMAL, STRANGE, fitted

UNNAMED = fitting.fit(np.random.default_rng(3).normal(size=(200, 3))).to_bytes()


def spec(name="x", shape=(-1, 3), columns=("a", "b", "c"), datatype="FP64") -> TensorSpec:
    return TensorSpec(config.TensorDeclaration(name=name, datatype=datatype, shape=list(shape), columns=list(columns)))


def detection(screening: config.Screening, content: bytes | None, declared: dict[str, TensorSpec] | None) -> Detection:
    bound, upstream = config.Binding("clinic", "m", 1), config.Upstream(1, "m")
    return Detection(config.Config(bound, upstream, screening=screening), content, declared)


def screen(*specs: TensorSpec, content: bytes | None = None, **options) -> Screen:
    options = {"detectors": [config.Detector(type="Mahalanobis")]} | options
    specs = specs or (spec(),)
    built = detection(config.Screening(**options), content or fitted(), {each.name: each for each in specs}).screen
    assert built is not None
    return built


def score(judge: Screen, tensors: list[Tensor]) -> float:
    """The greatest score of the rows, by either of the two ways there are."""
    whole = float(judge.scores(judge._columns.rows(tensors)).max())
    one = judge._one(tensors) if judge._one is not None else None
    assert one is None or one == pytest.approx(whole)
    return whole


def tensor(data, of: TensorSpec | None = None, shape=None) -> Tensor:
    return Tensor(of or spec(), shape or [len(data) // 3, 3], list(data))


def test_the_score_is_the_detectors_own():
    rows = np.random.default_rng(1).normal(loc=[0, 10, -5], scale=2, size=(20, 3))
    judge = screen()
    expected = [each.score for each in score_rows(baseline.from_bytes(fitted()), rows, detector="Mahalanobis")]
    for row, wanted in zip(rows, expected, strict=True):
        assert score(judge, [tensor(row)]) == pytest.approx(wanted)
    assert score(judge, [tensor(rows.ravel())]) == pytest.approx(max(expected))


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


def test_a_baseline_with_an_encoder_screens_embeddings_and_sanitises_rows():
    """Mahalanobis alone, too, which else goes the way of one matrix over the columns."""
    turned = packed(["identity"], (np.array([[1.0, 0], [0, 1], [0, -2]]), np.zeros(2)))
    rows = np.random.default_rng(3).normal(size=(200, 3))
    content = fitting.fit(rows, ["a", "b", "c"], encoder=encoder.from_bytes(turned)).to_bytes()
    for asked in ("Mahalanobis", "Ensemble"):
        judge = screen(content=content, detectors=[config.Detector(type=asked)], on_anomaly="Sanitise")
        assert judge.judge([tensor([0.0, 2.0, 1.0])]) is None
        strange = tensor([0.0, 0.5, 30.0])
        verdict = judge.judge([strange])
        assert verdict is not None
        assert verdict.action == "sanitised"
        assert rows.min() <= min(strange.data) <= max(strange.data) <= rows.max()
        assert score(judge, [strange]) <= 1.0


def test_columns_are_found_by_name_wherever_they_are():
    first, second = spec("first", (-1, 2), ("c", "a")), spec("second", (-1,), ())
    other = spec("b", (-1, 1), ())
    judge = screen(first, second, other)
    data = [
        Tensor(first, [1, 2], [NORMAL[2], NORMAL[0]]),
        Tensor(second, [1], [123.0]),
        Tensor(other, [1, 1], [NORMAL[1]]),
    ]
    assert score(judge, data) == pytest.approx(score(screen(), [tensor(NORMAL)]))


def test_unnamed_columns_are_taken_in_order():
    parts = [spec(name, (-1,), ()) for name in ("p", "q", "r")]
    judge = screen(*parts, content=UNNAMED)
    rows = [Tensor(part, [2], [0.1 * index, 0.2]) for index, part in enumerate(parts)]
    whole = screen(spec(), content=UNNAMED)
    assert score(judge, rows) == pytest.approx(score(whole, [tensor([0, 0.1, 0.2, 0.2, 0.2, 0.2])]))


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
        detection(screening, fitted(), {each.name: each for each in specs})


def test_what_a_detector_needs_is_asked_for():
    screening = config.Screening(detectors=[config.Detector(type="Mahalanobis")])
    with pytest.raises(config.ConfigError, match="needs a baseline"):
        detection(screening, None, {})
    with pytest.raises(config.ConfigError, match="inputs declared"):
        detection(screening, fitted(), None)
    with pytest.raises(config.ConfigError, match="not a baseline"):
        detection(screening, b"rubbish", {"x": spec()})
    rare = config.Screening(detectors=[config.Detector(type="Mahalanobis", false_positive_rate=1e-5)])
    with pytest.raises(config.ConfigError, match="false positive rate"):
        detection(rare, fitted(), {"x": spec()})
    assert detection(config.Screening(), None, None).screen is None


def test_a_lower_rate_blocks_less():
    screening = config.Screening(detectors=[config.Detector(type="Mahalanobis", false_positive_rate=0.2)])
    strict = screen(detectors=screening.detectors)
    row = [tensor([2.5, 10, -5])]
    assert score(strict, row) > score(screen(), row)


def test_sanitising_keeps_ordinary_values_and_the_kind_of_numbers():
    whole = spec(datatype="INT32")
    data = Tensor(whole, [2, 3], [0, 99, -5, 0, 10, -5])
    verdict = screen(whole, on_anomaly="Sanitise").judge([data])
    assert verdict is not None
    assert (verdict.name, verdict.refusal) == ("sanitised", None)
    assert data.data[:1] + data.data[2:] == [0, -5, 0, 10, -5]
    assert type(data.data[1]) is int
    assert 11 <= data.data[1] <= 14


SEVERAL = [config.Detector(type="Ensemble"), config.Detector(type="NearestNeighbours", false_positive_rate=0.05)]


def test_several_detectors_at_once_and_the_strangest_score_is_told():
    judge = screen(detectors=SEVERAL)
    assert judge.judge([tensor([*NORMAL, *NORMAL])]) is None
    verdict = judge.judge([tensor([*NORMAL, *STRANGE, *NORMAL])])
    assert verdict is not None
    assert verdict.scores is not None
    assert list(verdict.scores) == ["Ensemble", "NearestNeighbours"]
    assert verdict.scores[verdict.detector] == max(verdict.scores.values()) > 1.0
    assert (judge.seen, judge.found) == (5, [1, 1])
    assert judge.rates == (0.01, 0.05)


def test_a_detector_that_the_baseline_lacks_is_named():
    content = fitting.fit(np.random.default_rng(3).normal(size=(200, 3)), detectors=["Mahalanobis"]).to_bytes()
    with pytest.raises(config.ConfigError, match="no detector NearestNeighbours"):
        screen(content=content, detectors=SEVERAL)
    with pytest.raises(config.ConfigError, match="twice"):
        screen(detectors=[SEVERAL[0], SEVERAL[0]])


def mixed() -> bytes:
    """A baseline of a number and of two categories: text, and a code."""
    rng = np.random.default_rng(5)
    rows = np.column_stack([rng.normal(50, 10, 400), rng.integers(0, 2, 400), rng.integers(0, 3, 400)])
    columns = [Column("age"), Column("sex", ("f", "m")), Column("ward", ("10", "20", "30"))]
    return fitting.fit(rows, columns, detectors=["NearestNeighbours"]).to_bytes()


def of_mixed(sex="f", ward=10, age=50.0) -> list[Tensor]:
    specs = mixed_specs()
    data = {"age": age, "sex": sex, "ward": ward}
    return [Tensor(each, [1], [data[each.name]]) for each in specs]


def mixed_specs() -> list[TensorSpec]:
    kinds = {"ward": "INT32", "age": "FP64", "sex": "BYTES"}
    return [spec(name, (-1,), (), kind) for name, kind in kinds.items()]


def test_categories_are_screened_and_brought_back():
    judge = screen(*mixed_specs(), content=mixed(), detectors=[config.Detector(type="NearestNeighbours")])
    assert judge.judge(of_mixed()) is None
    assert judge.judge(of_mixed("m", 30)) is None
    for strange in (of_mixed("x"), of_mixed(ward=40), of_mixed(age=500.0)):
        verdict = judge.judge(strange)
        assert verdict is not None
        assert verdict.action == "blocked"
    cleaned = screen(
        *mixed_specs(),
        content=mixed(),
        detectors=[config.Detector(type="NearestNeighbours")],
        on_anomaly="Sanitise",
    )
    tensors = of_mixed("x", 40, 500.0)
    verdict = cleaned.judge(tensors)
    assert verdict is not None
    assert verdict.action == "sanitised"
    ward, age, sex = (each.data[0] for each in tensors)
    assert (sex in ("f", "m"), ward in (10, 20, 30), type(ward)) == (True, True, int)
    assert 0 < age < 100
    assert judge.judge(tensors) is None


def test_what_is_sanitised_stays_within_the_declared_bounds():
    bounded = TensorSpec(
        config.TensorDeclaration(name="x", datatype="FP64", shape=[-1, 3], columns=["a", "b", "c"], maximum=10.5)
    )
    data = Tensor(bounded, [1, 3], [0.0, 10.5, -50.0])
    verdict = screen(bounded, on_anomaly="Sanitise").judge([data])
    assert verdict is not None
    assert verdict.name == "sanitised"
    assert max(data.data) <= 10.5
    assert data.data[2] > -10


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


def test_more_rows_than_are_looked_at_are_refused():
    """A body of 4 MiB has a million rows of a column, and the loop belongs to everybody."""
    judged = detection(config.Screening(detectors=[config.Detector(type="Tails")]), fitted(), {"x": spec()})
    exchange = Exchange("1")
    assert judged.judge(exchange, [tensor(NORMAL * MAX_ROWS)]) == ()
    with pytest.raises(Refusal) as refused:
        judged.judge(exchange, [tensor(NORMAL * (MAX_ROWS + 1))])
    assert "send several" in refused.value.detail
    unwatched = detection(config.Screening(), None, {"x": spec()})
    assert unwatched.judge(exchange, [tensor(NORMAL * (MAX_ROWS + 1))]) == ()


def test_a_request_of_many_strange_rows_is_blocked_and_not_brought_back_row_by_row():
    judge = screen(detectors=[config.Detector(type="Ensemble")], on_anomaly="Sanitise")
    few, many = [tensor(NORMAL * 1000 + STRANGE * count) for count in (MAX_SANITISED, MAX_SANITISED + 1)]
    verdicts = [judge.judge([each]) for each in (few, many)]
    assert [each and each.action for each in verdicts] == ["sanitised", "blocked"]
    assert many.data == NORMAL * 1000 + STRANGE * (MAX_SANITISED + 1)
