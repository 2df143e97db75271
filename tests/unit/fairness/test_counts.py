from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelward.fairness.counts import CELLS, AttributeCounts, GroupCounts, added, from_vector
from modelward.fairness.window import DAYS, Window

DAY = 86_400
# Each whole before its part.
pairs = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda pair: sorted(pair, reverse=True))
vectors = st.lists(pairs, min_size=len(CELLS), max_size=len(CELLS)).map(
    lambda found: [one for two in found for one in two]
)


@given(st.lists(vectors, max_size=4))
def test_replicas_add_up(told: list[list[int]]) -> None:
    counts = [from_vector("sex", ("f", "m"), vector) for vector in told]
    sums = [sum(column) for column in zip(*told, strict=True)] or [0] * 2 * len(CELLS)
    assert added(counts, "sex", ("f", "m")) == from_vector("sex", ("f", "m"), sums)


def test_what_is_not_declared_is_left_out() -> None:
    other = AttributeCounts("age", (GroupCounts("f", 9),))
    more = AttributeCounts("sex", (GroupCounts("made up", 9), GroupCounts("f", 2, 1), GroupCounts("f", 3)))
    assert added([other, more], "sex", ("f", "m")) == AttributeCounts("sex", (GroupCounts("f", 5, 1), GroupCounts("m")))


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2)), max_size=40))
def test_a_window_holds_the_last_days_and_no_more(added_at: list[tuple[int, int]]) -> None:
    now = 0.0
    window = Window(3, lambda: now)
    added_at.sort()
    for day, cell in added_at:
        now = day * DAY + 1.0
        window.today()[cell] += 1
        assert len(window._days) <= DAYS
    last = added_at[-1][0] if added_at else 0
    recent = [cell for day, cell in added_at if day > last - DAYS]
    assert window.totals() == [recent.count(cell) for cell in range(3)]
    now += DAYS * DAY
    assert window.totals() == [0, 0, 0]
    assert window.since is None


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    now = 10.0 * DAY
    window = Window(1, lambda: now)
    window.today()[0] += 1
    now = 8.0 * DAY
    window.today()[0] += 1
    assert window.totals() == [2]
    assert window.since == 10.0 * DAY
