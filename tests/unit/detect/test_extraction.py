from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelward.detect.clients import Caller
from modelward.detect.encoding import Column
from modelward.detect.extraction import PERIOD, Extraction
from modelward.detect.membership import Membership
from modelward.detect.space import Space
from modelward.detect.summary import Summary
from modelward.detect.summary import summarise as summarised

WIDTH = 40
_MIX = np.random.default_rng(99).normal(size=(8, WIDTH))


def summarise(rows: np.ndarray) -> Summary:
    return summarised(tuple(Column(f"x{at}") for at in range(rows.shape[1])), rows, np.random.default_rng(0))


def ordinary(count: int, seed: int) -> np.ndarray:
    """Rows near a surface of few dimensions, as real ones are."""
    rng = np.random.default_rng(seed)
    return np.tanh(rng.normal(size=(count, 8)) @ _MIX) * 3 + 0.2 * rng.normal(size=(count, WIDTH))


@pytest.fixture(scope="module")
def space():
    return Space.of(summarise(ordinary(2000, 0)))


def caller(client: int = 0, network: int = 0, issuer: int = 0) -> Caller:
    return Caller(f"user:{client}", f"issuer {issuer}", f"10.0.{network}.0/24")


def first_found(extraction: Extraction, rows: np.ndarray, callers: list[Caller]) -> tuple[int, set]:
    """After how many rows something is found, and what."""
    for index, (row, who) in enumerate(zip(rows, itertools.cycle(callers)), 1):
        if found := extraction.add(who, row[np.newaxis], float(index)):
            return index, {finding[:2] for finding in found}
    return len(rows) + 1, set()


def test_ordinary_sessions_with_repeats_and_corrections_raise_nothing(space):
    """120 clients of 12 networks and 2 issuers: one row in ten is sent again, one in twenty with one value changed."""
    extraction, membership = Extraction(space), Membership(space)
    rng, rows = np.random.default_rng(1), iter(ordinary(4000, 2))
    for client in range(120):
        who, last = caller(client, client % 12, client % 2), next(rows)
        for _ in range(min(200, int(rng.lognormal(2.7, 1)) + 1)):
            kind = rng.random()
            if kind >= 0.15:
                last = next(rows)
            elif kind < 0.05:
                last = last.copy()
                last[rng.integers(WIDTH)] += rng.normal()
            assert extraction.add(who, last[np.newaxis], 0.0) == ()
            assert membership.add(who, last[np.newaxis], 0.0) is None


def test_rows_unlike_the_data_are_found_after_a_dozen(space):
    noise = np.random.default_rng(3).uniform(-5, 5, size=(100, WIDTH))
    rows, found = first_found(Extraction(space), noise, [caller()])
    assert rows <= 15
    assert found == {("strange", "client"), ("strange", "network"), ("strange", "issuer")}


@pytest.mark.parametrize(
    ("callers", "scope"),
    [
        ([caller(client) for client in range(10)], "network"),
        ([caller(client, network=client) for client in range(10)], "issuer"),
    ],
)
def test_split_identities_are_joined(space, callers, scope):
    noise = np.random.default_rng(4).uniform(-5, 5, size=(100, WIDTH))
    rows, found = first_found(Extraction(space), noise, callers)
    assert rows <= 15
    assert ("strange", scope) in found
    assert ("strange", "client") not in found


def test_variants_of_earlier_rows_are_found(space):
    rng = np.random.default_rng(5)
    seeds = ordinary(40, 6)
    variants = np.repeat(seeds, 3, axis=0) + 0.1 * np.sign(rng.normal(size=(120, WIDTH)))
    rows, found = first_found(Extraction(space), np.vstack([seeds, variants]), [caller()])
    assert 40 < rows < 60
    assert ("close", "client") in found


def test_rows_mixed_of_real_ones_are_found(space):
    rng, rows = np.random.default_rng(22), ordinary(60, 23)
    pairs = rng.permuted(np.tile(np.arange(60), (100, 1)), axis=1)[:, :2]
    _, found = first_found(Extraction(space), (rows[pairs[:, 0]] + rows[pairs[:, 1]]) / 2, [caller()])
    assert ("blended", "client") in found


def test_a_strange_row_sent_again_and_again_is_one_strange_row(space):
    row = np.random.default_rng(24).uniform(-5, 5, size=(1, WIDTH))
    again = np.repeat(row, 50, axis=0) + np.random.default_rng(25).choice([0, 1e-9], size=(50, 1))
    assert first_found(Extraction(space), again, [caller()])[1] == set()


def test_exact_repetitions_are_no_variants(space):
    rows = np.repeat(ordinary(3, 7), 200, axis=0)
    assert first_found(Extraction(space), rows, [caller()])[1] == set()
    membership = Membership(space)
    assert all(membership.add(caller(), row[np.newaxis], 0.0) is None for row in rows)


def test_distances_of_two_kinds_are_unlike_those_of_data(space):
    """Each row is followed by three a step away from it, towards others and not near enough to be variants."""
    extraction, rows, found = Extraction(space, budget=1.0), ordinary(400, 20), set()
    for index in range(60):
        row, others = rows[index], rows[200 + 3 * index % 190 :][:3]
        apart = np.linalg.norm(space.place(others) - space.place(row[np.newaxis]), axis=1, keepdims=True)
        for asked in (row, *(row + (others - row) * 1.1 * space.near / apart)):
            found |= {finding[:2] for finding in extraction.add(caller(), asked[np.newaxis], 0.0)}
    assert ("distances", "client") in found
    assert not any(test in ("strange", "close") for test, _ in found)


def test_the_innocent_of_a_network_go_on(space):
    extraction = Extraction(space)
    noise = np.random.default_rng(8).uniform(-5, 5, size=(60, WIDTH))
    for row in noise:
        extraction.add(caller(1), row[np.newaxis], 0.0)
    usual = ordinary(300, 21)
    usual = usual[
        [float(np.linalg.norm(space.landmarks - at, axis=1).min()) < space.strange for at in space.place(usual)]
    ]
    assert all(extraction.add(caller(2), row[np.newaxis], 0.0) == () for row in usual[:20])


def test_what_a_network_does_does_not_raise_a_clients_own_standing(space):
    extraction = Extraction(space)
    noise = np.random.default_rng(26).uniform(-5, 5, size=(40, WIDTH))
    for at, row in enumerate(noise):
        extraction.add(caller(at), row[np.newaxis], 0.0)
    assert 0 < extraction.standing(caller(0)) < 0.2
    extraction.add(caller(0), noise[:20] + 1, 0.0)
    assert extraction.standing(caller(0)) > 1


def test_coverage_is_a_budget_for_a_period(space):
    extraction = Extraction(space, budget=0.3)
    rows = ordinary(3000, 9)
    index = next(
        index
        for index, row in enumerate(rows)
        if ("coverage", "client") in {f[:2] for f in extraction.add(caller(), row[np.newaxis], 5.0)}
    )
    assert extraction.coverage(caller()) > 0.3
    assert extraction.coverage(caller(), "network") == 0  # no budget is given
    assert [f.test for f in extraction.add(caller(), rows[index + 1 : index + 2], 5.0 + PERIOD)] == []
    assert extraction.coverage(caller()) < 0.1


def test_a_budget_for_groups_is_kept_together(space):
    extraction = Extraction(space, budget=1.0, group_budget=0.3)
    _, found = first_found(extraction, ordinary(3000, 10), [caller(client) for client in range(50)])
    assert {("coverage", "network"), ("coverage", "issuer")} == found


def test_a_released_client_begins_anew(space):
    extraction = Extraction(space)
    noise = np.random.default_rng(11).uniform(-5, 5, size=(30, WIDTH))
    assert extraction.add(caller(), noise, 0.0)
    extraction.release(caller())
    assert {finding.scope for finding in extraction.add(caller(), noise[:1] + 1, 0.0)} == {"network", "issuer"}


def test_a_request_of_many_rows_counts_as_many(space):
    noise = np.random.default_rng(12).uniform(-5, 5, size=(1000, WIDTH))
    assert {finding.test for finding in Extraction(space).add(caller(), noise, 0.0)} >= {"strange"}
    assert Extraction(space).add(caller(), noise[:0], 0.0) == ()


def test_nobody_can_tell_which_rows_of_a_large_request_are_looked_at(space):
    """Were it every second one of 128, the strange ones would go in between.

    Chance finds them in nine of ten such requests; in fewer than half of 20 once in ten million runs.
    """
    rows = np.empty((128, WIDTH))
    rows[::2], rows[1::2] = ordinary(64, 41), np.random.default_rng(42).uniform(-5, 5, size=(64, WIDTH))
    extraction = Extraction(space)
    requests = [extraction.add(caller(one, one, one), rows, 0.0) for one in range(20)]
    assert sum(any(each.test == "strange" for each in found) for found in requests) >= 10
    row = ordinary(1, 43)
    rows[1::2] = row + 0.05 * np.random.default_rng(44).normal(size=(64, WIDTH))
    assert Membership(space).add(caller(), rows, 0.0), "18 of 64 are enough: fewer are drawn once in ten million runs"


def test_memory_is_bounded_whatever_is_asked(space):
    """8 parties at the most stay of each kind, and nothing of a request but what is remembered."""
    extraction, membership = Extraction(space, clients=8), Membership(space, clients=8)
    rows = [ordinary(256, 13 + part) for part in range(3)]
    _ = extraction.add(caller(), rows[0], 0.0), membership.add(caller(), rows[0], 0.0)
    tracemalloc.start()
    for client in range(9):
        for each in rows:
            extraction.add(caller(client, client, client), each, 0.0)
            membership.add(caller(client), each, 0.0)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(membership._clients) == 8
    assert held / 8 < (17.5 * 2 + 17.5 / 8 + 9 + 3) * 1024


def test_noise_around_one_row_is_membership(space):
    membership, rng = Membership(space), np.random.default_rng(14)
    row, others = ordinary(1, 15), ordinary(200, 16)
    found = []
    for index in range(60):
        found.append(membership.add(caller(), row + 0.05 * rng.normal(size=row.shape), float(index)))
        found.append(membership.add(caller(), others[index : index + 1], float(index)))
    first = next(index for index, each in enumerate(found) if each)
    assert first == 2 * (membership.limit + 1)
    assert membership.add(caller(), row, 1e6) is None  # all of that is long ago
    assert membership.add(caller(1), row, 59.0) is None


@settings(max_examples=25)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 5), st.just(WIDTH))), st.floats(allow_nan=False, allow_infinity=False)
)
def test_no_row_breaks_it(rows, now):
    for finding in EXTRACTION.add(caller(), rows, now):
        assert finding.score > 1
    MEMBERSHIP.add(caller(), rows, now)
    assert np.isfinite(EXTRACTION_SPACE.place(rows)).all()


EXTRACTION_SPACE = Space.of(summarise(ordinary(300, 0)))
EXTRACTION, MEMBERSHIP = Extraction(EXTRACTION_SPACE), Membership(EXTRACTION_SPACE)


def test_few_and_repeated_reference_rows_are_borne():
    rows = np.repeat(ordinary(10, 17), 5, axis=0)
    space = Space.of(summarise(rows))
    assert space.near == 0
    extraction = Extraction(space)
    assert all(extraction.add(caller(), row[np.newaxis], 0.0) == () for row in rows[:20])
    assert Membership(space).add(caller(), rows, 0.0) is None


def test_units_and_features_are_the_callers_business():
    rows = ordinary(500, 18)
    one = Space.of(summarise(rows))
    other = Space.of(summarise(rows * 1000), features=lambda each: each / 1000)
    assert other.near == pytest.approx(one.near, rel=1e-5)
