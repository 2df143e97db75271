"""Reads JSON that others wrote, strictly: bounded, no name twice in an object, and every member of the kind it must be.

A reader that takes the last of two equal names and one that takes the first see two documents in the same signed bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from modelward.api.printable import printable

MAX_BYTES = 1 << 20
"""Of one statement with all that is around it: what Kubernetes keeps in one object."""
MAX_DEPTH = 32
MAX_TEXT = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = {dict: "an object", list: "a list", str: "a text"}

T = TypeVar("T", dict[str, Any], list[Any], str)


class StatementError(ValueError):
    """What is no statement, bundle or key that can be used. The message says why, and nothing of what was in it."""


def read_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object that these bytes are.

    Raises:
        StatementError: they are not one, or are too long, nested too deeply, or have a name twice in an object.
    """
    if len(content) > MAX_BYTES:
        raise StatementError(f"has more than {MAX_BYTES:,} bytes")
    try:
        # No number is of use here, and as floats none of them is too long.
        found = json.loads(
            content.decode(), object_pairs_hook=_no_name_twice, parse_constant=_no_constant, parse_int=float
        )
    except RecursionError:
        raise StatementError("is nested too deeply") from None
    except StatementError:
        raise
    except ValueError:  # its message may hold a part of the content, which may be a Secret's
        raise StatementError("is not JSON") from None
    if not isinstance(found, dict):
        raise StatementError("is not a JSON object")
    if not _shallow(found):
        raise StatementError("is nested too deeply")
    return found


def member(found: dict[str, Any], name: str, kind: type[T], path: str = "") -> T:
    """Return a member that must be there and of this kind.

    Raises:
        StatementError: it is not.
    """
    value = found.get(name)
    if not isinstance(value, kind):
        raise StatementError(f"{path}{name} is not {_KINDS[kind]}")
    return value


def optional(found: dict[str, Any], name: str, kind: type[T], path: str = "") -> T:
    """Return a member of this kind, an empty one where it is not there.

    Raises:
        StatementError: it is there, and of another kind.
    """
    return kind() if found.get(name) is None else member(found, name, kind, path)


def shown(text: str) -> str:
    """Return a text of somebody else's as it may stand in a message: short, and printable."""
    return printable(text[:MAX_TEXT])[:120]


def is_sha256(text: object) -> bool:
    """Tell whether this is a SHA-256 digest as in-toto writes it: 64 lower-case hex digits."""
    return isinstance(text, str) and bool(_SHA256.fullmatch(text))


def _shallow(found: Any) -> bool:
    level = [found]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return True
    return False


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise StatementError("has a name twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)
