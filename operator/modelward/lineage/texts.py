"""Texts as receivers of lineage events can keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def storable(value: _T) -> _T:
    """Return the same with U+FFFD in place of U+0000 in all texts.

    PostgreSQL keeps no text that has it, whoever wrote it there, and Marquez answers 500 to the whole event.

    Args:
        value: a text, number, mapping, list, tuple, named tuple or msgspec.Struct, and what is in it.
    """
    found: object = value
    if isinstance(value, str):
        found = value.replace("\0", "\ufffd")
    elif isinstance(value, msgspec.Struct):
        found = type(value)(*map(storable, msgspec.structs.astuple(value)))
    elif isinstance(value, tuple):
        parts = [*map(storable, value)]
        found = type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    elif isinstance(value, list):
        found = [*map(storable, value)]
    elif isinstance(value, Mapping):
        found = {storable(key): storable(item) for key, item in value.items()}
    return found  # type: ignore[return-value]
