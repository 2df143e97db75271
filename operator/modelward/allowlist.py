"""Which addresses may be asked for an issuer's keys: decided once an installation, held in the plan and in the sidecar.

An address on the list is either whole or, where it ends in a slash, everything below it. The slash matters: without it
`https://login.example` would let `https://login.example.attacker.example` pass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Lower case, no user information, no escapes in the host: what is compared is what is connected to.
_HTTPS = re.compile(r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[!-~]*)?")
_STEPS_OUT = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)|[\\#]", re.IGNORECASE)


def problem(address: str, allowed: Sequence[str]) -> str:
    """Say why keys may not be fetched from `address`; nothing where they may."""
    if not address.startswith("https://"):
        return "keys are fetched over https:// alone"
    path = address.removeprefix("https://").partition("/")[2].partition("?")[0]
    if not _HTTPS.fullmatch(address) or _STEPS_OUT.search(path) or "#" in address:
        return "write it plainly: a host in lower case, no user, no fragment, no `..` in the path"
    if any(address == one or (one.endswith("/") and address.startswith(one)) for one in allowed):
        return ""
    return "it is not among the addresses that this installation allows (the chart's value access.keys.allow)"
