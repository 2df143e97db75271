"""Quantities in the one form that the API server keeps, so that what is wanted can be compared with what is there."""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|[MGTPE]i?)?")
_DECIMAL = ("m", "", "k", "M", "G", "T", "P", "E")
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


def canonical_quantity(value: int | str) -> str:
    """Return a resource quantity as the API server writes it: `0.5` is `500m`, `1024Mi` is `1Gi`.

    The whole number that is left has no fraction, and the suffix is the largest that leaves one.

    Raises:
        ValueError: it is not a quantity of the pattern that the schema allows.
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a quantity such as 500m, 2 or 1Gi")
    suffix = match[2] or ""
    if suffix in _BINARY[1:]:
        exact = Fraction(match[1]) * 1024 ** _BINARY.index(suffix)
        if exact >= 1024 and exact.denominator == 1:  # below, and with a fraction, decimal suffixes lose nothing
            return _largest(exact.numerator, 1024, _BINARY)
    else:
        exact = Fraction(match[1]) * Fraction(1000) ** (_DECIMAL.index(suffix) - 1)
    return _largest(ceil(exact * 1000), 1000, _DECIMAL)


def _largest(number: int, base: int, suffixes: tuple[str, ...]) -> str:
    step = 0
    while number and number % base == 0 and step < len(suffixes) - 1:
        number //= base
        step += 1
    return f"{number}{suffixes[step]}" if number else "0"
