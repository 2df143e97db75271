from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.lineage import MAX_BYTES, PREFIX, problems

STEP = {"what": "all features", "how": "z-score", "why": "input contract"}


def wrong(name: str, value: str) -> str:
    found = problems({PREFIX + name: value, "other": ""})
    assert len(found) <= 1
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset", "s3://clinic/wdbc.csv@sha256:" + "a" * 64),
        ("dataset", "s3://clinic/wdbc.csv"),
        ("dataset", "https://me@host/data"),
        ("consumer", "oncology-triage"),
        ("training-run", "x" * MAX_BYTES),
        ("transformations", json.dumps([STEP])),
        ("transformations", json.dumps([STEP] * 50)),
        ("transformations", json.dumps([{**STEP, "why": "für die Ärztin"}], ensure_ascii=False)),
    ],
)
def test_good(name: str, value: str) -> None:
    assert wrong(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("consumer", " \n", "says nothing"),
        ("consumer", "x" * (MAX_BYTES + 1), "more than 8,192 bytes"),
        ("consumer", "é" * (MAX_BYTES // 2 + 1), "more than 8,192 bytes"),
        ("dataset", "s3://x@sha256:" + "a" * 63, "64 lower-case hex"),
        ("dataset", "s3://x@sha256:" + "A" * 64, "64 lower-case hex"),
        ("model", "oci://x@sha256:" + "a" * 64 + "?", "64 lower-case hex"),
        ("transformations", "[]", "at least one"),
        ("transformations", "z-score", "not JSON"),
        ("transformations", "{}", "not a list"),
        ("transformations", "null", "not a list"),
        ("transformations", '["z-score"]', "[0] is not an object"),
        ("transformations", json.dumps([STEP, {"what": "x", "how": "y"}]), "[1] is not an object with exactly"),
        ("transformations", json.dumps([{**STEP, "who": "me"}]), "exactly what, how and why"),
        ("transformations", json.dumps([{**STEP, "why": " "}]), "[0].why"),
        ("transformations", json.dumps([{**STEP, "why": 1}]), "[0].why"),
        ("transformations", '[{"what":"a","what":"b","how":"c","why":"d"}]', "twice"),
        ("transformations", '[{"what":"\\u0061","how":"c","why":"d"}]', "escapes"),
        ("transformations", "[NaN]", "not JSON"),
        ("transformations", json.dumps([{"what": "a", "how": "b", "why": "c"}] * 300), "more than 8,192 bytes"),
        ("transformations", "[" * 4000, "is n"),  # nested too deeply, or not JSON: interpreters differ
        ("transformations", f'[{{"what": {"9" * 5000}, "how": "h", "why": "w"}}]', "[0].what is not a text"),
    ],
)
def test_bad(name: str, value: str, says: str) -> None:
    assert says in wrong(name, value)
    assert wrong(name, value).startswith(PREFIX + name)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    for name in ("dataset", "transformations"):
        assert len(wrong(name, text)) < 400


@given(st.lists(st.fixed_dictionaries({key: st.text(min_size=1) for key in STEP}), min_size=1, max_size=5))
def test_what_is_told_in_full_is_accepted(steps: list[dict[str, str]]) -> None:
    text = json.dumps(steps, ensure_ascii=False)
    if "\\u" not in text and all(value.strip() for step in steps for value in step.values()):
        assert wrong("transformations", text) == ""
