"""What a sidecar tells the controller of counters that it has encrypted, and how they are collected.

A section of `incidents.Report` says that there are some; they are then collected by

    POST /.modelward/aggregates   Collect -> Collected

where the controller says of each key up to which window it has written them down: those are not kept any longer.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

MAX_AUDITORS: Final = 2
MAX_KEPT: Final = 8
"""Windows that a sidecar keeps for each auditor until they are collected; of more, the oldest are dropped."""
MAX_CIPHERTEXT: Final = 1 << 18

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Time = Annotated[int, Meta(ge=0, le=1 << 40)]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class Encrypted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many windows wait to be collected; `dropped`: how many never will be, since the sidecar began."""

    waiting: Count = 0
    dropped: Count = 0


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one pod counted in one window, from `start` (seconds since the epoch) on, under an auditor's key.

    `keys` names the key, `layout` what the cells mean.
    """

    keys: Digest
    layout: Digest
    start: Time
    ciphertext: Annotated[bytes, Meta(max_length=MAX_CIPHERTEXT)]


class Collect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For each key, by its digest, the start of the last window of this pod that the controller has written down."""

    through: Annotated[dict[Digest, Time], Meta(max_length=MAX_AUDITORS)] = {}


class Collected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The windows that wait, the oldest first."""

    windows: Annotated[tuple[Window, ...], Meta(max_length=MAX_KEPT * MAX_AUDITORS)] = ()
