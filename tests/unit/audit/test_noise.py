"""The noise is of the distribution that it is said to be of, and the same each time for the same release."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.audit.noise import Stream, bound, rounded, two_sided_geometric

KEY = bytes(range(32))


def test_a_stream_is_the_same_for_the_same_key_and_context_alone() -> None:
    def drawn(key: bytes, context: bytes) -> list[int]:
        stream = Stream(key, context)
        return [stream.below(1 << 40) for _ in range(20)]

    assert drawn(KEY, b"a") == drawn(KEY, b"a")
    assert drawn(KEY, b"a") != drawn(KEY, b"b")
    assert drawn(KEY, b"a") != drawn(bytes(32), b"a")
    with pytest.raises(ValueError, match="32 bytes"):
        Stream(b"short", b"")


@given(st.integers(1, 1 << 70), st.binary(max_size=8))
def test_every_number_is_below(most: int, context: bytes) -> None:
    stream = Stream(KEY, context)
    assert all(0 <= stream.below(most) < most for _ in range(5))


@pytest.mark.parametrize("epsilon", [Fraction(1), Fraction(1, 3), Fraction(7, 5), Fraction(1, 20)])
def test_noise_is_two_sided_geometric(epsilon: Fraction) -> None:
    stream, draws = Stream(KEY, str(epsilon).encode()), 20_000
    found = Counter(two_sided_geometric(stream, epsilon) for _ in range(draws))
    ratio = math.exp(-float(epsilon))
    zero = (1 - ratio) / (1 + ratio)
    for value in range(-3, 4):
        expected = draws * zero * ratio ** abs(value)
        assert abs(found[value] - expected) < 5 * math.sqrt(expected), value  # five standard deviations, key fixed
    mean = sum(value * count for value, count in found.items()) / draws
    deviation = math.sqrt(2 * ratio) / (1 - ratio)
    assert abs(mean) < 5 * deviation / math.sqrt(draws)


@given(st.integers(-1000, 1 << 40), st.integers(1, 1000))
def test_counts_are_rounded_to_the_nearest_multiple_and_never_negative(count: int, base: int) -> None:
    told = rounded(count, base)
    assert told >= 0
    assert told % base == 0
    assert count < 0 or abs(told - count) * 2 <= base


@given(st.fractions(Fraction(1, 50), Fraction(10)), st.floats(1e-9, 0.5), st.integers(1, 100))
def test_noise_is_within_its_bound_but_for_the_doubt(epsilon: Fraction, doubt: float, base: int) -> None:
    ratio = math.exp(-float(epsilon))

    def beyond(most: int) -> float:
        return 2 * ratio ** (most + 1) / (1 + ratio)

    steps = bound(epsilon, doubt, base) - base // 2
    assert beyond(steps) <= doubt * (1 + 1e-9)
    assert steps == 0 or beyond(steps - 1) > doubt * (1 - 1e-9)  # and no farther than it need be


@given(st.integers(0, 10_000), st.integers(-200, 200), st.integers(1, 100))
def test_rounding_and_leaving_out_what_is_below_zero_move_a_count_by_no_more_than_is_said(
    count: int, noise: int, base: int
) -> None:
    assert abs(rounded(count + noise, base) - count) <= abs(noise) + base // 2
