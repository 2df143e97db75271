"""What a sidecar tells of the combinations in requests: a section of `modelward.incidents.Report`.

It goes to the controller alone, which adds up replicas. Hashes are keyed by what the namespace's keys give: who has not
those cannot try values out. Nothing but figures goes on from there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from modelward.reidentification.left_out import MAX_FIELDS as MAX_LEFT_OUT
from modelward.reidentification.sample import Packed

MAX_FIELDS = 4096
Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]


class Suppressed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows in which a field had a value that its hierarchy has no line for."""

    field: Name
    rows: Count


class Judged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether one sidecar's own rows keep to `k`, by `fields`: all that it tells where counts are kept."""

    k: Annotated[int, Meta(ge=2, le=1_000_000)]
    fields: Annotated[tuple[Name, ...], Meta(max_length=MAX_FIELDS)]
    verdict: Literal["Within", "Risk", "Unknown"]


class Combinations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows by their combination of `fields`, as the model got them, since `since` (RFC 3339), at most 30 days.

    `k` is what is asked. Samples with the same `key` can be merged: it names the key of the hashes and what is hashed.
    `people`: combinations tell people apart, by a declared identifier. `uncounted`: rows of requests that were too
    large. `without`: for each field, the share of this replica's rows that would be below k without it; none: it is
    not known.
    """

    since: Annotated[str, Meta(max_length=64)]
    k: Annotated[int, Meta(ge=2, le=1_000_000)]
    key: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    fields: Annotated[tuple[Name, ...], Meta(max_length=MAX_FIELDS)]
    people: bool
    sample: Packed
    suppressed: Annotated[tuple[Suppressed, ...], Meta(max_length=MAX_FIELDS)] = ()
    uncounted: Count = 0
    without: Annotated[tuple[Share, ...], Meta(max_length=MAX_LEFT_OUT)] = ()
