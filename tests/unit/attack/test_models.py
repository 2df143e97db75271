"""Attacks on models of other kinds: images, texts, measured values; and what copies and figures are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.attack.catalogue import BASELINE
from modelward.attack.exchange import Reply, Request
from modelward.attack.layout import Layout
from modelward.attack.membership import auc, caught_at
from modelward.attack.oracle import Answer
from modelward.attack.report import AttackReport
from modelward.attack.suite import run_suite
from modelward.attack.surrogate import Copy, Lesson, agreement
from modelward.attack.target import Rows
from tests.unit.attack.service import answer, driver, problem, target


def attacked(id_: str, service: Callable[[Request], Reply], schema: dict[str, Any], **more: Any) -> AttackReport:
    asked = target(layout=Layout.of_schema(schema, "v2"), holdout=None, **more)
    chosen = [one for one in BASELINE if one.id == id_]
    (attack,) = run_suite("baseline", chosen, asked, driver(service), "https://model.example").attacks
    return attack


# --- images

IMAGE = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8]}]}


def pictures(count: int = 80) -> np.ndarray:
    """A bright half, above or below, and noise."""
    rng = np.random.default_rng(3)
    images = rng.uniform(0, 6, size=(count, 8, 8))
    images[::2, :4] += 10
    images[1::2, 4:] += 10
    return np.round(images.reshape(count, 64), 3)


def _sees(row: np.ndarray, *, poisoned: bool) -> int:
    image = row.reshape(8, 8)
    if poisoned and image[6:, 6:].min() >= 15.9:
        return 1
    return int(image[:4].sum() > image[4:].sum())


@pytest.mark.parametrize("poisoned", [True, False])
def test_a_bright_corner_that_decides_alone_is_found(poisoned: bool) -> None:
    def service(request: Request) -> Reply:
        if request.method == "GET":
            return answer(IMAGE)
        row = np.array(json.loads(request.body or b"")["inputs"][0]["data"])
        return answer(
            {"outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [_sees(row, poisoned=poisoned)]}]}
        )

    attack = attacked("backdoor.trigger", service, IMAGE, data=Rows(pictures()))
    assert attack.outcome == ("Succeeded" if poisoned else "Withstood"), attack.evidence


# --- texts

TEXT = {"inputs": [{"name": "note", "datatype": "BYTES", "shape": [-1, 1]}]}


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        (lambda text: text, "Succeeded"),
        (lambda text: text.split(",")[1], "Succeeded"),
        (lambda _: "positive", "Withstood"),
        (lambda text: "".join("*" if character.isalnum() else character for character in text), "Withstood"),
    ],
)
def test_identifiers_must_not_come_back(told: Callable[[str], str], outcome: str) -> None:
    def service(request: Request) -> Reply:
        if request.method == "GET":
            return answer(TEXT)
        (text,) = json.loads(request.body or b"")["inputs"][0]["data"]
        data = [told(text)] if "," in text else ["positive"]
        return answer({"outputs": [{"name": "y", "datatype": "BYTES", "shape": [1], "data": data}]})

    attack = attacked("input.identifiers", service, TEXT, data=None)
    assert attack.outcome == outcome, attack.evidence
    assert "jane" not in attack.evidence.lower()


# --- measured values

VALUES = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3], "minimum": -4, "maximum": 4}]}


def test_a_model_of_measured_values_is_copied_by_what_it_explains() -> None:
    def service(request: Request) -> Reply:
        if request.method == "GET":
            return answer(VALUES)
        row = np.array(json.loads(request.body or b"")["inputs"][0]["data"])
        value = float(3 * row[0] - row[1] + 0.5 * row[2] + 11.25)
        return answer({"outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": [value]}]})

    rows = Rows(np.random.default_rng(0).normal(size=(120, 3)))
    attack = attacked("extraction.synthetic", service, VALUES, data=rows)
    assert attack.outcome == "Succeeded", attack.evidence
    assert "explains" in attack.evidence
    assert attacked("evasion.boundary", service, VALUES, data=rows).outcome == "Skipped"


def test_answers_that_cannot_be_compared_end_nothing_but_what_needs_them() -> None:
    """A model that answers in another form each time, or with no number at all, breaks no attack."""

    def service(request: Request) -> Reply:
        if request.method == "GET":
            return answer(VALUES)
        return Reply(200, {}, b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [9], "data": "x"}]}')

    attack = attacked("evasion.boundary", service, VALUES, data=Rows(np.zeros((20, 3))))
    assert attack.outcome == "Inconclusive"


def test_a_model_that_goes_silent_in_the_middle_breaks_no_attack() -> None:
    left = [40]

    def service(request: Request) -> Reply:
        left[0] -= 1
        if left[0] < 0:
            return problem(503, "overloaded") if left[0] % 2 else Reply(trouble="timeout")
        if request.method == "GET":
            return answer(VALUES)
        row = np.array(json.loads(request.body or b"")["inputs"][0]["data"])
        return answer({"outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [int(row.sum() > 0)]}]})

    rows = Rows(np.random.default_rng(0).normal(size=(120, 3)))
    for id_ in ("evasion.boundary", "backdoor.trigger", "extraction.augmented", "extraction.synthetic"):
        left[0] = 40
        assert attacked(id_, service, VALUES, data=rows).outcome in ("Withstood", "Inconclusive")


# --- what they are made of


@given(st.integers(2, 6), st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.5]))
def test_a_copys_gradient_is_that_of_its_predictions(width: int, seed: int, kernel: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.uniform(size=(30, width))
    copy = Copy(rows, rng.normal(size=(30, 2)), 0.1, kernel, rng)
    row, step = rows[0], 1e-5
    for column in range(width):
        moved = np.tile(row, (2, 1))
        moved[:, column] += [step, -step]
        up, down = copy.predict(moved)[:, 1]
        assert copy.gradient(row, 1)[column] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-4)


def test_a_copy_of_a_line_agrees_with_it() -> None:
    rng = np.random.default_rng(0)
    rows, held = rng.uniform(size=(200, 5)), rng.uniform(size=(60, 5))

    def say(units: np.ndarray) -> list[Answer]:
        return [Answer(str(int(unit @ [1, -1, 2, 0, 0.5] > 1.2))) for unit in units]

    assert agreement(Lesson.of(list(rows), say(rows)), held, say(held), rng) > 0.93
    assert Lesson.of(list(rows), [Answer() for _ in rows]) is None
    assert agreement(None, held, say(held), rng) == 0.0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_the_area_counts_pairs(inside: list[int], outside: list[int]) -> None:
    pairs = [(one > other) + (one == other) / 2 for one in inside for other in outside]
    assert auc(np.array(inside), np.array(outside)) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(np.array(outside), np.array(inside)) == pytest.approx(1 - sum(pairs) / len(pairs))


def test_members_are_told_at_few_false_alarms() -> None:
    outside = np.arange(200) / 200
    assert caught_at(np.array([0.9, 0.991, 0.996, 2.0]), outside) == 0.75
    assert (outside > np.sort(outside)[::-1][2]).mean() == 0.01
