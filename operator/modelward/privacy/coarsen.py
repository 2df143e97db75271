"""Generalisation and rounding (ISO/IEC 20889, 8.4): a value becomes the interval or the group that it lies in.

A number becomes the lower edge of its interval, so it still fits the column it came from. Text that writes a number
becomes the interval's label, `[35, 40)`; text that is a date becomes the first day of its interval. All are idempotent:
treating a treated value changes nothing. NaN, infinities and everything else raise TreatmentError.
"""

import bisect
import math
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any

import numpy as np

from modelward.privacy.values import TreatmentError, date_in, number, number_in, shifted

_EXACT = 1 << 53  # whole numbers that a float holds
_MAX_OVER = 10**6
_MAX_DIGITS = 64
_EPOCH = date(1970, 1, 1)


class Step:
    """Intervals `step` wide, counted from 0 (dates: `step` days, counted from 1970-01-01).

    The step is taken as the decimal fraction that it is written as, so that the edges of 0.1 are 0.1, 0.2, 0.3: the
    numbers nearest to those, and not three times the number nearest to 0.1.
    """

    def __init__(self, step: float) -> None:
        self._exact = Fraction(repr(step))
        self.whole = self._exact.denominator == 1
        fits = self._exact.numerator < _EXACT and self._exact.denominator <= _MAX_OVER
        self._times: float = self._exact.numerator if fits else step
        self._over = self._exact.denominator if fits else 1
        self._limit = _EXACT / self._times if fits else float(_EXACT)  # of counts whose edges are exact

    def number(self, value: Any) -> float:
        """The lower edge of the interval of `value`; whole numbers stay whole where the step is whole.

        Raises:
            TreatmentError: `value` is no finite number, or too large for steps to be told apart.
        """
        if self.whole and type(value) is int:
            return value // int(self._times) * int(self._times)
        times, over = self._times, self._over
        value = float(number(value))
        ratio = value * over / times
        if not abs(ratio) < self._limit:
            raise TreatmentError(f"needs a number that steps of {float(self._exact):g} can tell apart")
        count = math.floor(ratio)
        # Division rounds: the edges themselves, as they are written, decide where a value lies.
        if (count + 1) * times / over <= value:
            count += 1
        elif count * times / over > value:
            count -= 1
        return float(count * times / over)

    def array(self, values: np.ndarray) -> np.ndarray:
        """`number` of each of `values`, float64 of any shape; the same shape. Raises TreatmentError as it does."""
        times, over = float(self._times), float(self._over)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = values * over / times
            fits = np.abs(ratio) < self._limit
        if not fits.all():
            raise TreatmentError(f"needs finite numbers that steps of {float(self._exact):g} can tell apart")
        count = np.floor(ratio)
        above, below = (count + 1) * times / over <= values, count * times / over > values
        return np.asarray((count + above - below) * times / over + 0.0)

    def text(self, value: Any) -> str:
        """The label of the interval that the number or the date in `value` lies in: `[40, 45)`, 2026-03-29.

        A label of an interval is in that interval, so that what is treated twice stays as it is.

        Raises:
            TreatmentError: `value` is no text that writes a number or, where the step is whole, a date (ISO 8601).
        """
        written = _without_label(value)
        if number_in(written) is not None:
            low = Fraction(written.strip()) // self._exact * self._exact
            return _label(_decimal(low), _decimal(low + self._exact))
        dated = date_in(value)
        if dated is None or not self.whole:
            raise TreatmentError("needs text that writes a number (or, with a whole step, a date as in 2026-03-31)")
        step = int(self._times)
        return shifted(_EPOCH, (dated[0] - _EPOCH).days // step * step).isoformat()


class Bucket:
    """Intervals between rising `edges`; the first one also takes what is below it, the last one has no end."""

    def __init__(self, edges: Sequence[float]) -> None:
        self._edges = [int(edge) if float(edge).is_integer() else edge for edge in edges]
        self._floats = np.asarray(edges, dtype=np.float64)
        written = [_decimal(Fraction(repr(edge))) for edge in self._edges]
        self._labels = [_label(low, high) for low, high in zip(written, [*written[1:], "inf"], strict=True)]
        self._own = set(self._labels)

    def number(self, value: Any) -> float:
        """The lower edge of the bucket of `value`. Raises TreatmentError where it is no finite number."""
        edge = self._edges[self._index(number(value))]
        return edge if type(value) is int else float(edge)

    def array(self, values: np.ndarray) -> np.ndarray:
        """`number` of each of `values`, float64 of any shape; the same shape. Raises TreatmentError as it does."""
        if not np.isfinite(values).all():
            raise TreatmentError("needs finite numbers")
        found = np.searchsorted(self._floats, values, side="right") - 1
        return np.asarray(self._floats[np.maximum(found, 0)])

    def text(self, value: Any) -> str:
        """The label of the bucket that the number in `value` lies in: `[40, 65)`; a label is its own.

        Raises:
            TreatmentError: `value` is no text that writes a number.
        """
        if isinstance(value, str) and value in self._own:
            return value
        found = number_in(value) if isinstance(value, str) else None
        if found is None:
            raise TreatmentError("needs text that writes a number")
        return self._labels[self._index(found)]

    def _index(self, value: float) -> int:
        return max(bisect.bisect_right(self._edges, value) - 1, 0)


class Round:
    """`digits` after the point, half to even; negative: before it."""

    def __init__(self, digits: int) -> None:
        self._digits = digits
        self._quantum = Fraction(10) ** -digits

    def number(self, value: Any) -> float:
        """The rounded number, a whole one if `value` is. Raises TreatmentError where it is no finite number."""
        return round(number(value), self._digits) + 0  # and no negative zero, which would tell a sign

    def array(self, values: np.ndarray) -> np.ndarray:
        """`number` of each of `values` (n,), float64; (n,). numpy's rounding differs from Python's in the last place.

        Raises:
            TreatmentError: one is not finite.
        """
        return np.array([self.number(value) for value in values.tolist()], dtype=np.float64)

    def text(self, value: Any) -> str:
        """The number in `value`, rounded, in decimal. Raises TreatmentError where it is no text that writes one."""
        found = number_in(value) if isinstance(value, str) else None
        if found is None:
            raise TreatmentError("needs text that writes a number")
        return _decimal(round(Fraction(value.strip()) / self._quantum) * self._quantum)  # half to even


def _without_label(value: Any) -> str:
    """The number that an interval's label begins with; other text as it is."""
    if not isinstance(value, str):
        raise TreatmentError("needs text")
    return value[1:-1].partition(", ")[0] if value[:1] == "[" and value[-1:] == ")" else value


def _label(low: str, high: str) -> str:
    return f"[{low}, {high})"


def _decimal(exact: Fraction) -> str:
    """A decimal fraction as it is written, without an exponent."""
    sign, exact = ("-", -exact) if exact < 0 else ("", exact)
    whole, rest = divmod(exact.numerator, exact.denominator)
    digits = ""
    while rest and len(digits) < _MAX_DIGITS:
        digit, rest = divmod(rest * 10, exact.denominator)
        digits += str(digit)
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"
