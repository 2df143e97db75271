"""What is put on a count before anybody sees it: two-sided geometric noise, then a rounded number.

The noise is drawn exactly, in whole numbers (Canonne, Kamath, Steinke: The Discrete Gaussian for Differential Privacy,
2020, algorithms 1 and 2; the distribution is that of Ghosh, Roughgarden, Sundararajan: Universally utility-maximizing
privacy mechanisms, 2009). Its randomness is a stream under a secret key and the name of what is released: the same
release has the same noise each time it is opened, and nobody without the key can tell it apart from chance.
"""

import hmac
import math
from fractions import Fraction
from typing import Final

KEY_BYTES: Final = 32


class Stream:
    """Uniform whole numbers from HMAC-SHA-256 in counter mode (a pseudorandom function) under a `key` of KEY_BYTES."""

    def __init__(self, key: bytes, context: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of noise has {KEY_BYTES} bytes")
        self._key = key
        self._context = context
        self._counter = 0
        self._left = b""

    def below(self, most: int) -> int:
        """A number from 0 to `most` - 1, each as likely as any other."""
        bits = (most - 1).bit_length()
        size = (bits + 7) // 8
        while True:  # those beyond are drawn again: a remainder would favour small numbers
            drawn = int.from_bytes(self._bytes(size)) & ((1 << bits) - 1)
            if drawn < most:
                return drawn

    def _bytes(self, size: int) -> bytes:
        while len(self._left) < size:
            self._left += hmac.digest(self._key, self._counter.to_bytes(8) + self._context, "sha256")
            self._counter += 1
        taken, self._left = self._left[:size], self._left[size:]
        return taken


def two_sided_geometric(stream: Stream, epsilon: Fraction) -> int:
    """A whole number z with probability proportional to exp(-epsilon |z|).

    For `epsilon` > 0; of a count that one row changes by one, the sum with z is epsilon-differentially private.
    """
    top, bottom = epsilon.numerator, epsilon.denominator
    while True:
        # exp(-x / bottom) for a uniform x below `bottom`, then whole steps of exp(-1): geometric with exp(-1/bottom).
        rest = stream.below(bottom)
        if not _happens(stream, rest, bottom):
            continue
        whole = 0
        while _happens(stream, 1, 1):
            whole += 1
        magnitude = (rest + bottom * whole) // top
        negative = stream.below(2)
        if not (negative and magnitude == 0):  # zero once, and not twice
            return -magnitude if negative else magnitude


def bound(epsilon: Fraction, doubt: float, base: int) -> int:
    """How far from its count what is told may be, but with a probability of `doubt`: by its noise and by rounding.

    Of the noise z of `two_sided_geometric`, P(|z| > t) is 2 a^(t + 1) / (1 + a), with a = exp(-epsilon).
    """
    ratio = math.exp(-float(epsilon))
    steps = math.log(2 / (doubt * (1 + ratio))) / float(epsilon) - 1
    return max(math.ceil(steps), 0) + base // 2


def _happens(stream: Stream, top: int, bottom: int) -> bool:
    """True with probability exp(-top/bottom), for 0 <= top <= bottom."""
    count = 1
    while stream.below(bottom * count) < top:
        count += 1
    return count % 2 == 1


def rounded(count: int, base: int) -> int:
    """The multiple of `base` nearest to `count` (halves up), and never less than zero."""
    return max((2 * count + base) // (2 * base) * base, 0)
