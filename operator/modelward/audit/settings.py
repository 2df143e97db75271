"""What the signed configuration says of encrypted counters, to the sidecar that counts and the controller that adds."""

from typing import Annotated

import msgspec
from msgspec import Meta

from modelward.audit.layout import MAX_CELLS, MAX_COUNTED, Counted
from modelward.audit.told import MAX_AUDITORS, Digest

Text = Annotated[str, Meta(max_length=1024)]


class Auditor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Who alone may read the counters, for a policy.

    Attributes:
        policy: kind and name of the policy that asks.
        keys: names the keys, as `modelward audit keygen` prints it.
        file: where they are, beside the configuration.
        sha256: of that file.
        period_seconds: an aggregate is given out when it covers as much.
        minimum_windows: and no sooner than it sums so many windows.
        minimum: counts below it are not to be shown.
    """

    policy: Text
    keys: Digest
    file: Annotated[str, Meta(pattern=r"^audit-[0-9]\.keys$")]
    sha256: Digest
    period_seconds: Annotated[int, Meta(ge=60, le=2_678_400)]
    minimum_windows: Annotated[int, Meta(ge=2, le=10_000)]
    minimum: Annotated[int, Meta(ge=1, le=1_000_000)]


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is counted, in windows of how many seconds, for whom. `uncounted`: fields whose values are not known.

    `only`: counts by group leave the sidecar in no other way. `max_difference`: by how much the rates of two groups may
    differ, where groups are compared; `minimum_group_size`: of how many rows at the least.
    """

    auditors: Annotated[list[Auditor], Meta(min_length=1, max_length=MAX_AUDITORS)]
    counted: Annotated[list[Counted], Meta(min_length=1, max_length=MAX_COUNTED)]
    seconds: Annotated[int, Meta(ge=10, le=86_400)]
    uncounted: Annotated[list[Text], Meta(max_length=MAX_CELLS)] = []
    only: bool = True
    max_difference: Annotated[float, Meta(ge=0, le=1)] | None = None
    minimum_group_size: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
