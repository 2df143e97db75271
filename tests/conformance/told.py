"""What a comparison with another program asked, what had to come of it, and what did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Told(NamedTuple):
    """A case: what was asked, what had to come of it, and what did."""

    what: str
    expected: str
    found: str


def differences(cases: Iterable[Told]) -> int:
    """Print a line a case, as they come, and return how many came out otherwise."""
    wrong = 0
    for told in cases:
        same = told.found == told.expected
        wrong += not same
        lacking = "" if same else f", where it had to be {told.expected}"
        print(f"{'same' if same else 'DIFFERENT'}  {told.what}: {told.found}{lacking}", flush=True)
    return wrong
