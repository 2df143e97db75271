"""Critical values and exact tails of the tests that run without scipy."""

import math
from collections.abc import Callable
from statistics import NormalDist

_NORMAL = NormalDist()


def normal_upper(alpha: float) -> float:
    """What a standard normal number exceeds with the probability `alpha`."""
    return -_NORMAL.inv_cdf(alpha)


def chi_square_upper(degrees: float, alpha: float) -> float:
    """What chi-square exceeds with the probability `alpha` (Wilson and Hilferty, 1931); too high for one degree."""
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + normal_upper(alpha) * math.sqrt(spread)) ** 3)


def kolmogorov_upper(ours: int, theirs: int, alpha: float) -> float:
    """What the distance of two samples' distribution functions exceeds with at most `alpha` (after Massart, 1990)."""
    return math.sqrt(math.log(2 / alpha) / 2 * (1 / ours + 1 / theirs))


def at_least(hits: int, tries: int, chance: float) -> float:
    """The probability of `hits` or more in `tries`, exactly (binomial)."""
    if hits <= 0:
        return 1.0
    return _incomplete_beta(chance, hits, tries - hits + 1) if hits <= tries else 0.0


def share_interval(hits: int, tries: int, confidence: float) -> tuple[float, float]:
    """The interval that covers the true share with at least `confidence` (Clopper and Pearson, 1934)."""
    tail = (1 - confidence) / 2
    if not tries:
        return 0.0, 1.0
    low = _solve(lambda share: at_least(hits, tries, share) - tail) if hits else 0.0
    high = _solve(lambda share: at_least(hits + 1, tries, share) - (1 - tail)) if hits < tries else 1.0
    return low, high


def _solve(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _incomplete_beta(at: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_at(a, b), by its continued fraction (Lentz's method)."""
    if not 0 < at < 1:
        return 0.0 if at <= 0 else 1.0
    if at > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side alone
        return 1.0 - _incomplete_beta(1 - at, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(at) + b * math.log1p(-at))
    tiny, c, d = 1e-300, 1.0, 1 - (a + b) * at / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * at / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * at / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            step = c * d
            value *= step
        if abs(step - 1) < 1e-12:
            break
    return front * value / a
