"""The axioms of Shapley values, for any function and any rows; and the budget."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelward.detect.answers import AnswerError
from modelward.explain.limits import MIN_WALKS, affordable, trouble
from modelward.explain.methods import ByWalks, MethodError
from modelward.explain.permutation import estimate, grouped, walks
from tests.unit.explain.asked import held

Model = st.sampled_from(["products", "steps", "greatest", "curves"])


def model(kind: str, seed: int):
    weights = np.random.default_rng(seed).normal(size=64)

    def answer(rows: np.ndarray) -> np.ndarray:
        own = rows * weights[: rows.shape[1]]
        match kind:
            case "products":
                return own.sum(axis=1) + own[:, 0] * own[:, -1] + 0.37
            case "steps":
                return (own > 0.1) @ weights[: rows.shape[1]] + 0.37
            case "greatest":
                return own.max(axis=1) + 0.37
        return np.sin(own.sum(axis=1)) + 0.37

    return answer


def exactly(answer, row: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Shapley's own formula: over all subsets."""
    width = len(row)
    worth = {}
    for size in range(width + 1):
        for kept in itertools.combinations(range(width), size):
            rows = references.copy()
            rows[:, list(kept)] = row[list(kept)]
            worth[frozenset(kept)] = answer(rows).mean()
    shares = np.zeros(width)
    for column in range(width):
        for kept, value in worth.items():
            if column not in kept:
                share = math.factorial(len(kept)) * math.factorial(width - len(kept) - 1) / math.factorial(width)
                shares[column] += share * (worth[kept | {column}] - value)
    return shares


def rows(seed: int, count: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).round(2)


def none(width: int) -> np.ndarray:
    return np.zeros(width, dtype=bool)


@given(kind=Model, seed=st.integers(0, 99), width=st.integers(1, 12), budget=st.integers(100, 400))
@settings(deadline=None)
def test_all_contributions_sum_to_what_the_answer_is_apart_from_the_reference(kind, seed, width, budget):
    answer, sample, row = model(kind, seed), rows(seed, 30, width), rows(seed + 100, 1, width)[0]
    method = ByWalks(sample, none(width), budget)
    found, asked = held(method.explain(row), answer)
    assert found.value == pytest.approx(answer(row[np.newaxis])[0], abs=1e-12)
    assert found.base + found.contributions.sum() == pytest.approx(found.value, abs=1e-12)
    assert asked <= budget


@given(seed=st.integers(0, 99), width=st.integers(2, 8))
@settings(deadline=None)
def test_a_column_that_changes_nothing_has_no_part(seed, width):
    sample, row = rows(seed, 30, width), rows(seed + 100, 1, width)[0]

    def blind(asked: np.ndarray) -> np.ndarray:
        rest = asked[:, 1:]
        return np.where(rest.sum(axis=1) > 0, rest.max(axis=1), 0.37)

    found, _ = held(ByWalks(sample, none(width), 300).explain(row), blind)
    assert found.contributions[0] == 0
    assert found.errors[0] == 0


@given(seed=st.integers(0, 99), width=st.integers(2, 6))
@settings(deadline=None)
def test_columns_that_do_the_same_have_the_same_part(seed, width):
    """Two copies of a column, in the rows and in the model: alike within what chance leaves to their order."""
    sample, row = rows(seed, 40, width), rows(seed + 100, 1, width)[0]
    sample[:, 1], row[1] = sample[:, 0], row[0]

    def symmetric(asked: np.ndarray) -> np.ndarray:
        return np.maximum(asked[:, 0], asked[:, 1]) + asked[:, 2:].sum(axis=1) + 0.37

    found, _ = held(ByWalks(sample, none(width), 4000).explain(row), symmetric)
    assert found.contributions[0] == pytest.approx(found.contributions[1], abs=1e-9 + 6 * found.errors[:2].max())


@given(kind=Model, seed=st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_with_two_columns_it_is_exact(kind, seed):
    sample, row = rows(seed, 8, 2), rows(seed + 100, 1, 2)[0]
    answer = model(kind, seed)
    found, _ = held(ByWalks(sample, none(2), 200).explain(row), answer)
    assert found.contributions == pytest.approx(exactly(answer, row, sample), abs=1e-12)


@pytest.mark.parametrize("kind", ["products", "steps", "greatest", "curves"])
def test_it_is_within_its_error_of_the_exact_values(kind):
    far = []
    for seed in range(10):
        answer, sample, row = model(kind, seed), rows(seed, 16, 7), rows(seed + 100, 1, 7)[0]
        found, _ = held(ByWalks(sample, none(7), 16 * 13 + 1).explain(row), answer)
        unseen = np.ptp(answer(sample)) / 16  # what happens in fewer walks than one
        far.append(np.abs(found.contributions - exactly(answer, row, sample)) > 2 * found.errors + unseen)
    assert np.mean(far) <= 0.05


def test_the_same_row_is_explained_the_same_each_time():
    sample, row = rows(1, 30, 5), rows(2, 1, 5)[0]
    first, second = (held(ByWalks(sample, none(5), 200).explain(row), model("curves", 3))[0] for _ in range(2))
    assert (first.contributions == second.contributions).all()


def test_a_row_of_the_reference_and_one_column_cost_next_to_nothing():
    sample = rows(1, 20, 4)
    assert [len(walk) for walk in walks(sample[3], sample[3:4], 5)] == [0] * 5
    row = sample[3].copy()
    row[2] += 1
    (walk,) = walks(row, sample[3:4], 1)
    assert (len(walk), walk.order.tolist()) == (0, [2])
    assert walk.shares(1.0, np.empty(0), 3.5).tolist() == [0, 0, 2.5, 0]
    found, asked = held(
        ByWalks(np.array([[5.0], [7.0], [5.0], [6.0]]), none(1), 20).explain(np.array([9.0])), lambda x: x[:, 0] + 0.5
    )
    assert (found.contributions.tolist(), found.base, asked) == ([3.25], 6.25, 5)


def test_a_dropped_column_is_the_rows_own_everywhere_and_has_no_part():
    sample, row = rows(1, 30, 3), rows(2, 1, 3)[0]
    seen = []

    def watching(asked: np.ndarray) -> np.ndarray:
        seen.append(asked[:, 1])
        return asked.sum(axis=1)

    found, _ = held(ByWalks(sample, np.array([False, True, False]), 200).explain(row), watching)
    assert set(np.concatenate(seen)) == {row[1]}
    assert found.contributions[1] == 0


@pytest.mark.parametrize(
    ("budget", "width", "sample", "count"),
    [
        (2048, 30, 455, 34),
        (33, 4, 100, 4),
        (28, 4, 100, 0),
        (1000, 4, 20, 140),
        (10_000, 2, 100, 200),
        (10_000, 2, 512, 256),
    ],
)
def test_the_budget_buys_walks_alike_for_each_reference_row(budget, width, sample, count):
    assert affordable(budget, width, sample) == count
    assert count % min(count, sample or 1) == 0 if count else True


@given(budget=st.integers(1, 40_000), width=st.integers(1, 256), references=st.integers(MIN_WALKS, 512))
def test_what_is_no_trouble_can_be_afforded(budget, width, references):
    assert bool(affordable(budget, width, references)) == (not trouble(budget, width))


def test_a_budget_that_is_too_small_names_the_one_that_is_not():
    with pytest.raises(
        MethodError, match="with 30 columns the model must be asked about 237 rows to explain one, and 236"
    ):
        ByWalks(rows(0, 30, 30), none(30), 236)
    ByWalks(rows(0, 30, 30), none(30), 237)
    with pytest.raises(MethodError, match="at most 256 columns, and there are 257"):
        ByWalks(np.zeros((2, 257)), none(257), 32_768)
    with pytest.raises(MethodError, match="the baseline has 3 rows to compare with"):
        ByWalks(rows(0, 3, 30), none(30), 250)
    with pytest.raises(MethodError, match="every column is dropped"):
        ByWalks(rows(0, 30, 2), ~none(2), 100)


@given(width=st.integers(1, 100), count=st.integers(1, 80))
@settings(deadline=None, max_examples=30)
def test_walks_come_in_order_a_few_at_a_time(width, count):
    row, references = rows(5, 1, width)[0], rows(6, 9, width)
    groups = list(grouped(walks(row, references, count)))
    assert [walk.order.tolist() for group in groups for walk in group] == [
        walk.order.tolist() for walk in walks(row, references, count)
    ]
    assert all(len(group) == 1 or (sum(map(len, group)) <= 64 and len(group) <= 32) for group in groups)


def test_a_walk_gives_one_column_after_the_other_there_and_in_reverse():
    row, reference = np.array([1.0, 2, 3, 4]), np.array([0.0, 0, 3, 0])
    (walk,) = walks(row, reference[np.newaxis], 1)
    first, second, third = walk.order.tolist()
    changed = [{column for column in range(4) if each[column] != reference[column]} for each in walk.between()]
    assert changed == [{first}, {first, second}, {third}, {third, second}]


def test_classes_are_explained_by_the_score_of_the_one_that_was_chosen():
    sample, row = rows(1, 30, 3), np.array([3.0, 0.0, 0.0])

    def shares(asked: np.ndarray) -> np.ndarray:
        high = 1 / (1 + np.exp(-asked[:, 0]))
        return np.stack([1 - high, high], axis=1)

    found, _ = held(ByWalks(sample, none(3), 300).explain(row), shares)
    assert (found.of_class, found.value) == (True, pytest.approx(1 / (1 + np.exp(-3.0))))
    assert found.towards[0] > 0
    found, _ = held(ByWalks(sample, none(3), 300).explain(-row), shares)
    assert found.value == pytest.approx(1 / (1 + np.exp(-3.0))), "of the first class"
    assert found.towards[0] > 0


def test_a_model_that_changes_its_form_is_refused():
    conversation = ByWalks(rows(1, 30, 3), none(3), 300).explain(rows(2, 1, 3)[0])
    answers = iter([lambda asked: asked[:, 0] + 0.5, lambda asked: asked[:, :2]])
    with pytest.raises(AnswerError):
        held(conversation, lambda asked: next(answers)(asked))  # noqa: PLW0108 - another one each time


def test_frozen_values():
    """Of x0 * x1 + x2: what the package shap (0.51, its Exact explainer) gives for the same reference rows."""
    sample, row = rows(11, 16, 3), np.array([1.5, -2.0, 0.5])
    answer = lambda asked: asked[:, 0] * asked[:, 1] + asked[:, 2]  # noqa: E731
    assert exactly(answer, row, sample) == pytest.approx(FROZEN, abs=1e-12)
    found, _ = held(ByWalks(sample, none(3), 16 * 5 * 20 + 1).explain(row), answer)
    assert np.abs(found.contributions - FROZEN).max() < 0.1


FROZEN = [-1.7329031249999998, -1.302278125, 0.67125]


@pytest.mark.parametrize(("walks", "point"), [(4, 3.182446), (8, 2.364624), (34, 2.034515), (256, 1.969311)])
def test_of_few_walks_more_may_be_chance(walks, point):
    """Student's t, as printed in Abramowitz and Stegun, table 26.10, and computed with more digits."""
    shares = np.random.default_rng(walks).normal(size=(walks, 20_000))
    found = estimate(shares, shares[:, 0])
    assert found.beyond == pytest.approx(point, rel=0.01)
    mistaken = np.mean(np.abs(found.contributions) > found.beyond * found.errors)
    assert 0.044 < mistaken < 0.056, "of columns that contribute nothing, one in twenty is taken to"
