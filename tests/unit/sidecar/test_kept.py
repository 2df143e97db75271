"""Where counts are kept for an auditor, a sidecar tells them in no other way: not asked, not scraped, not later."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("Pyfhel")

from modelward.audit.layout import Counted
from modelward.fairness.labels import Told
from modelward.incidents import LABELS, Report
from modelward.reidentification.figures import Figures
from modelward.sidecar import config
from modelward.sidecar.config import TensorDeclaration
from modelward.sidecar.reader import run
from modelward.sidecar.reidentification import Reidentification
from modelward.sidecar.tensors import TensorSpec
from tests.unit.sidecar.harness import Answer, settings
from tests.unit.sidecar.test_auditing import AUDIT, Audited, tally
from tests.unit.sidecar.test_fairness import FAIRNESS, FEEDBACK, applicants, grants
from tests.unit.sidecar.test_fairness import INPUTS as APPLICANTS

SEX = {"field": "sex", "names": ["female", "male"], "outcome": True}
COUNTED = [SEX, {**SEX, "truth": True}, {"field": "age", "names": ["young", "old"], "edges": [40]}]
COMBINED = {"k": 3, "fields": ["age", "sex"]}
# female: selected, not; male: selected, not; other: selected, not; unknown
# female: selected rightly, wrongly, not selected wrongly, rightly; male; other; unknown | young, old, other
NOTHING = [0] * 23


def document(generation: int = 1, *, only: bool = True, **changes: Any) -> dict[str, Any]:
    made = settings(inputs=APPLICANTS, fairness=FAIRNESS, reidentification=COMBINED, screening={}, **changes)
    made["access"]["rules"][0]["operations"] = ["Infer", "Metadata", "Feedback"]
    made["audit"] = {**AUDIT, "counted": COUNTED, "only": only}
    made["binding"]["generation"] = generation
    return made


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audited]:
    monkeypatch.setattr(
        "modelward.sidecar.reidentification.secrets.token_bytes", bytes
    )  # the namespace's key, so to say
    running = Audited(document(), tmp_path)
    running.model.behaviour = grants
    running.until(lambda: running.auditing.ready)
    yield running
    running.stop()


def report(running: Audited) -> Report:
    return msgspec.json.decode(running.order().body, type=Report)


def answered(running: Audited, *rows: tuple[float, float, str]) -> Answer:
    before = running.auditing.tally.rows
    answer = running.ask(applicants(*rows))
    assert answer.status == 200
    running.until(lambda: running.auditing.tally.rows == before + len(rows))
    return answer


def test_no_count_of_a_group_is_told_to_who_asks_who_scrapes_and_who_reads_the_log(kept: Audited) -> None:
    answered(kept, *[(30.0, 12.0, "female")] * 37, *[(50.0, 5.0, "male")] * 53)
    told = report(kept)
    assert told.kept
    assert told.combinations is None
    assert told.fairness is not None
    assert (told.fairness.attributes, told.fairness.uncounted) == ((), 0)
    assert told.judged is not None
    assert (told.judged.verdict, told.judged.fields) == ("Unknown", ("age", "sex"))
    shown = kept.order().body + kept.monitor("/metrics").body + kept.log_path.read_bytes()
    for count in (b"37", b"53"):
        values = [line for line in shown.splitlines() if line.endswith(b" " + count) or b":" + count + b"," in line]
        assert values == []
    for name in (b"female", b"reidentification{"):
        assert name not in shown
    assert kept.metric('modelward_fairness_rows{outcome="counted"}') == 90  # how busy it is


def test_what_was_true_goes_to_the_auditor_alone(kept: Audited) -> None:
    answer = answered(kept, (30, 12, "female"), (30, 5, "female"), (50, 5, "male"), (50, 5, "?"))
    request = answer.header["x-modelward-request-id"]
    feedback = kept.ask({"id": request, "labels": [True, True, None, False]}, target=FEEDBACK)
    assert (feedback.status, feedback.json) == (200, {"rows": 3})
    assert kept.auditing.tally.learned == 3
    assert kept.auditing.tally.taken() == [
        *(1, 1, 0, 1, 0, 1, 0),
        *(1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0),
        *(2, 2, 0),
    ]
    assert kept.ask({"id": request, "labels": [1, 1, 1, 1]}, target=FEEDBACK).status == 409
    assert kept.auditing.tally.taken() == NOTHING


def test_labels_that_another_replica_was_told_are_passed_on_and_counted(kept: Audited) -> None:
    number = answered(kept, (30, 12, "female")).header["x-modelward-request-id"]
    kept.auditing.tally.taken()
    brought = {"told": [msgspec.to_builtins(Told(number, "0"))]}
    assert kept.order(LABELS, brought).json == {"clients": 1}
    assert kept.auditing.tally.taken()[7:12] == [0, 1, 0, 0, 0]
    elsewhere = {"id": "0123456789ab-00000001", "labels": [1]}
    assert kept.ask(elsewhere, target=FEEDBACK).status == 202
    told = report(kept).fairness
    assert told is not None
    assert [one.request for one in told.elsewhere] == ["0123456789ab-00000001"]
    assert told.run == run()


def test_what_was_counted_for_an_auditor_is_not_told_in_plain_once_it_may_be(kept: Audited) -> None:
    request = answered(kept, *[(30.0, 12.0, "female")] * 37).header["x-modelward-request-id"]
    kept.source._setup = kept.setup(document(2, only=False))
    assert kept.call(kept.sidecar.reload())
    assert kept.ask({"id": request, "labels": [1] * 37}, target=FEEDBACK).status == 404
    told = report(kept)
    assert not told.kept
    assert told.fairness is not None
    assert told.combinations is not None
    assert told.combinations.sample.rows == 0
    assert {group.vector for one in told.fairness.attributes for group in one.groups} == {(0,) * 6}
    assert kept.auditing.tally.rows == 37  # the auditor's window goes on
    # And back: nothing is told any more.
    kept.ask(applicants((30, 12, "female")))
    kept.source._setup = kept.setup(document(3))
    assert kept.call(kept.sidecar.reload())
    assert report(kept).kept


def test_whether_rows_keep_to_k_is_judged_once_a_period(kept: Audited) -> None:
    combined = kept.sidecar._gateway.chain.reidentification
    assert combined is not None
    now = combined._clock()
    combined._clock = lambda: now
    seconds = kept.auditing.period
    assert report(kept).judged.verdict == "Unknown"  # type: ignore[union-attr]
    answered(kept, *[(30.0, 12.0, "female")] * 2000)
    for _ in range(3):
        assert report(kept).judged.verdict == "Unknown"  # type: ignore[union-attr]
    now += seconds
    assert report(kept).judged.verdict == "Within"  # type: ignore[union-attr]
    answered(kept, *[(float(age), 12.0, "male") for age in range(100)])
    assert report(kept).judged.verdict == "Within"  # type: ignore[union-attr]
    now += seconds
    combined._window._clock = lambda: now
    assert report(kept).judged.verdict == "Risk"  # type: ignore[union-attr]
    kept.source._setup = kept.setup(document(2, recordValues=False))
    assert kept.call(kept.sidecar.reload())
    assert report(kept).judged.verdict == "Risk"  # type: ignore[union-attr]


def test_a_longer_period_puts_the_verdict_off_and_a_shorter_one_gives_no_two_at_once() -> None:
    now = 1_000_000_000.0
    inputs = msgspec.convert(APPLICANTS, list[TensorDeclaration])
    asked = msgspec.convert(COMBINED, config.Reidentification)
    made = Reidentification(
        asked, {one.name: TensorSpec(one) for one in inputs}, {}, None, "credit", lambda: now, kept=True
    )
    looks = list[float]()
    nothing = made.figures()

    def after(seconds: float, period: int) -> int:
        nonlocal now
        now += seconds
        before = len(looks)
        made.judged(period)
        return len(looks) - before

    def figures() -> Figures:
        looks.append(now)
        return nothing

    made.figures = figures  # type: ignore[method-assign]
    assert [after(0, 3600), after(3599, 3600), after(1, 3600)] == [0, 0, 1]
    assert [after(3600, 86_400), after(82_799, 86_400), after(1, 86_400)] == [0, 0, 1]
    assert [after(60, 120), after(59, 120), after(1, 120), after(1, 120)] == [0, 0, 1, 0]


def test_a_window_in_which_there_were_labels_alone_is_handed_over(kept: Audited) -> None:
    request = answered(kept, (30, 12, "female")).header["x-modelward-request-id"]
    kept.auditing.tally.taken()
    assert kept.ask({"id": request, "labels": [1]}, target=FEEDBACK).status == 200
    kept.end_window()
    kept.until(lambda: kept.order().json["encrypted"]["waiting"] == 1)


def test_an_older_configuration_that_does_not_say_keeps_counts(tmp_path: Path) -> None:
    made = document()
    del made["audit"]["only"]
    running = Audited(json.loads(json.dumps(made)), tmp_path)
    try:
        assert report(running).kept
    finally:
        running.stop()


def test_what_was_true_of_a_row_has_a_cell_by_each_field() -> None:
    made = tally(
        Counted("w", ("f",), outcome=True, truth=True),
        Counted("a", ("1",)),
        Counted("b", ("x",), outcome=True, truth=True),
    )
    made.learn([0, None], selected=True, truth=False)
    made.learn([1, 0], selected=False, truth=True)
    #  w: f, other, unknown | a | b: x, other, unknown
    assert made.taken() == [
        *(0, 1, 0, 0, 0, 0, 1, 0, 0),
        *(0, 0),
        *(0, 0, 1, 0, 0, 0, 0, 0, 1),
    ]
    assert tally(Counted("a", ("1",))).learned == 0
