"""What a sidecar tells the controller of its serving: who got answers, minute by minute. No values, ever.

A section of `incidents.Report`. Windows are numbered from 1 within one process of a sidecar; the controller, which asks
from time to time, sees by the numbers which are new to it and which it missed.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

SECONDS = 60
MAX_WINDOWS = 60
MAX_CONSUMERS = 100
"""Of a window; requests of further ones are counted together."""
MAX_KEPT = 2000
"""Consumers in all windows that are kept; of more than this, the oldest windows go first."""

ASKING = ("Infer", "Explain")
"""Operations that give answers: who reads metadata alone consumes nothing."""
_GONE = 499  # in the record alone: the caller left; what was sent before that, they may have read

Text = Annotated[str, Meta(max_length=1024)]
Count = Annotated[int, Meta(ge=0, le=10**12)]


class Consumer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who got answers, for a purpose: in how many requests, of how many rows, the first and the last (RFC 3339)."""

    client: Text
    issuer: Text
    purpose: Text
    requests: Count
    rows: Count
    first: Text
    last: Text


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A minute of serving in which somebody asked for a prediction or an explanation; times are RFC 3339 in UTC.

    Attributes:
        sequence: number of the window, from 1.
        start: when it began.
        end: when it ended, itself not part of it.
        requests: that were made.
        answered: that were answered with the model's answer.
        rows: in those.
        consumers: who got the answers.
        others: answered requests of consumers that there was no room for.
    """

    sequence: Annotated[int, Meta(ge=1, le=10**12)]
    start: Text
    end: Text
    requests: Count
    answered: Count
    rows: Count
    consumers: Annotated[tuple[Consumer, ...], Meta(max_length=MAX_CONSUMERS)] = ()
    others: Count = 0


class Served(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last windows that are complete, the oldest first. `process` tells one start of a sidecar from another."""

    process: Annotated[str, Meta(max_length=64)] = ""
    windows: Annotated[tuple[Window, ...], Meta(max_length=MAX_WINDOWS)] = ()


def answered(status: int, sent: int, *, refused: bool) -> bool:
    """Whether a caller got an answer, or a part of one: by the status in the record and the bytes that were sent.

    A stream that was broken off has the status with which it began, and a reason for its end.
    """
    if 200 <= status < 300:
        return sent > 0 or not refused
    return status == _GONE and sent > 0
