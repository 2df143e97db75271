"""Which group a value belongs to, and whether an answer is favourable: as a manifest declares both."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

OTHER = "other"
"""The group of all values that are not listed."""


def group_names(groups: Sequence[str], edges: Sequence[float]) -> tuple[str, ...]:
    """The groups of an attribute, in order.

    Args:
        groups: the values that are listed; with edges, names of the intervals, or nothing.
        edges: where intervals of numbers meet, ascending; none: groups are of values.
    """
    if not edges:
        return tuple(groups) if OTHER in groups else (*groups, OTHER)
    if groups:
        return tuple(groups)
    between = (f"{low:g} to {high:g}" for low, high in pairwise(edges))
    return (f"below {edges[0]:g}", *between, f"{edges[-1]:g} and more")


def coder(groups: Sequence[str], edges: Sequence[float]) -> Callable[[Any], int]:
    """What gives the position of a value's group in `group_names`.

    An edge belongs to the interval above it. Numbers are listed as they are written: 1 and 1.0 are one value; true and
    false are those words.
    """
    if edges:
        ascending = list(edges)
        return lambda value: bisect_right(ascending, value)
    names = group_names(groups, edges)
    other = names.index(OTHER)
    codes: dict[Any, int] = {name: position for position, name in enumerate(names)}
    for position, name in enumerate(groups):
        number = _number(name)
        if number is not None:
            codes.setdefault(number, position)  # a dictionary finds 1.0 by 1
    booleans = {word: codes.get(word, other) for word in ("true", "false")}

    def code(value: Any) -> int:
        if isinstance(value, bool):
            return booleans["true" if value else "false"]
        return codes.get(value, other)

    return code


def favourable(equals: str | None, at_least: float | None) -> Callable[[Any], bool]:
    """What tells whether an answer (or what it should have been) is the favourable one.

    Args:
        equals: the favourable answer, as it is written.
        at_least: the least favourable score, instead.

    Raises:
        TypeError: of what is returned, on a value that cannot be compared with a score.
    """
    if at_least is not None:
        least = at_least
        return lambda value: bool(_score(value) >= least)
    wanted = "" if equals is None else equals
    number, truth = _number(wanted), {"true": True, "false": False, "1": True, "0": False}.get(wanted.lower())

    def fits(value: Any) -> bool:
        if isinstance(value, bool):
            return value is truth
        if isinstance(value, str):
            return value == wanted
        return number is not None and bool(value == number)

    return fits


def can_be(text: str, datatype: str) -> bool:
    """Whether a value of this datatype can be what is written so."""
    if datatype == "BYTES":
        return True
    if datatype == "BOOL" and text.lower() in ("true", "false"):
        return True
    return _number(text) is not None


def _score(value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError("a text is no score")
    return value  # and no float of it: a whole number may be too large for one, and is compared all the same


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
