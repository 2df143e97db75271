"""Names that come twice in a JSON object: readers disagree which of the two counts, so none of them is taken.

The decoder keeps the last of them and says nothing. Each member of an object has one colon outside of its strings, so
a text with no more colons than members were decoded repeats none; only where there are more is it looked through.
"""

import json
from typing import Any

from modelward.sidecar.problems import Refusal


def refuse_repeated(body: bytes, members: int) -> None:
    """Refuse `body`, which is JSON, if an object of it has two members of one name.

    Args:
        body: the text that was decoded.
        members: how many members were decoded, of all its objects; fewer than there are costs time, and nothing else.

    Raises:
        Refusal: 400.
    """
    if body.count(b":") <= members:
        return
    try:
        # Numbers are not looked at; Python would refuse whole ones of more than 4,300 digits.
        json.loads(body.decode(), object_pairs_hook=_once, parse_int=float)
    except _RepeatedError:
        detail = "An object in the body has two members of one name; of each name there may be one."
        raise Refusal("malformed-json", detail) from None
    except (UnicodeDecodeError, RecursionError):  # in parts that were not decoded, and are not to be
        raise Refusal("malformed-json", "The body cannot be read as JSON (UTF-8, RFC 8259).") from None


class _RepeatedError(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _RepeatedError
