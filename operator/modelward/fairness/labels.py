"""What was true of answers that another replica gave: kept by who was told, fetched by the controller, passed on.

A truth is a character: `1`, the answer should have been the favourable one; `0`, it should not; `-`, nobody knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

MAX_KEPT = 10_000
"""Requests whose labels one sidecar keeps for others, or is sent at once."""

RequestId = Annotated[str, Meta(max_length=40)]
_ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{8,16}")


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The truths of a request's rows, in order."""

    request: RequestId
    truths: Annotated[str, Meta(min_length=1, max_length=4096, pattern="^[01-]+$")]


class Labels(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the controller brings: truths of answers that this sidecar gave; and of those it keeps, which may go.

    `delivered` have reached the replica that gave the answer, `lost` are of none that there is.
    """

    told: Annotated[tuple[Told, ...], Meta(max_length=MAX_KEPT)] = ()
    delivered: Annotated[tuple[RequestId, ...], Meta(max_length=MAX_KEPT)] = ()
    lost: Annotated[tuple[RequestId, ...], Meta(max_length=MAX_KEPT)] = ()


def run_of(request: str) -> str:
    """Return which process gave an id; empty where it is no request's id."""
    return request.partition("-")[0] if _ID.fullmatch(request) else ""


def written(truths: Iterable[bool | None]) -> str:
    """Return truths as they are passed on."""
    return "".join("-" if truth is None else str(int(truth)) for truth in truths)


def read(truths: str) -> Sequence[bool | None]:
    """Return what `written` wrote."""
    return [None if one == "-" else one == "1" for one in truths]
