"""Which addresses a sidecar may connect to: decided once an installation, held in the plan and in the sidecar.

An address on the list is either whole or, where it ends in a slash, everything below it. The slash matters: without it
`https://login.example` would let `https://login.example.attacker.example` pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Lower case, no user information, no escapes in the host: what is compared is what is connected to.
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[!-~]*)?")
# What is appended to a query is no path; and servers differ in what `..;` and `%2f` are.
_NO_BASE = re.compile(r"[?;%]")
_STEPS_OUT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)|[\\#]", re.IGNORECASE)


def problem(
    address: str, allowed: Sequence[str], place: str = "the chart's value access.keys.allow", *, plain: bool = False
) -> str:
    """Say why a sidecar may not connect to `address`; nothing where it may.

    Args:
        address: whole.
        allowed: addresses, and beginnings that end in a slash.
        place: where the list is kept.
        plain: it is the base that paths are appended to after a slash, and http:// will do where the list says so.
    """
    if not address.startswith(("https://", "http://") if plain else "https://"):
        return "only https:// is connected to"
    rest = address.partition("://")[2]
    path = rest.partition("/")[2].partition("?")[0]
    if not _PLAIN.fullmatch(rest) or _STEPS_OUT.search(path) or "#" in address:
        return "write it plainly: a host in lower case, no user, no fragment, no `..` in the path"
    if plain and _NO_BASE.search(rest):
        return "write it plainly: it is appended to, and has no query, `;` or escapes"
    whole = f"{address}/" if plain else address
    if any(address == one or (one.endswith("/") and whole.startswith(one)) for one in allowed):
        return ""
    return f"it is not among the addresses that this installation allows ({place})"
