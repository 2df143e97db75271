"""The ConfigMap `<name>.aggregate`: what the controller gives out of encrypted counters, and what it adds to.

What it adds to is sealed to the controller itself: with two of its states an auditor would have the difference, which
is what few pods counted in a few minutes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from modelward.audit.told import MAX_CIPHERTEXT
from modelward.planner.names import KubeObject, owned

PUBLISHED_KEY: Final = "aggregate-{}.bin"
"""Under which an aggregate lies, by the first 16 digits of the digest of the auditor's keys."""
RUNNING_KEY: Final = "running.sealed"
ABOUT_KEY: Final = "aggregates.json"
_MAX_ENTRY = 4 * MAX_CIPHERTEXT


@dataclass(frozen=True)
class Kept:
    """What is kept of a model's encrypted counters.

    Attributes:
        published: the last aggregate that was given out, by the digest of the auditor's keys.
        running: the sums that are added to, sealed; empty: there is none yet.
        about: what may be known of both, by the digest of the keys, for people.
    """

    published: Mapping[str, bytes] = field(default_factory=dict)
    running: bytes = b""
    about: Mapping[str, Any] = field(default_factory=dict)


def aggregate_name(model: str) -> str:
    """Return the name of the ConfigMap with a model's encrypted counters."""
    return f"{model}.aggregate"


def aggregate_map(raw: KubeObject, kept: Kept) -> KubeObject:
    """Return that ConfigMap, for a ModelDeployment as the API server has it."""
    metadata = raw["metadata"]
    binary = {PUBLISHED_KEY.format(keys[:16]): content for keys, content in kept.published.items()}
    if kept.running:
        binary[RUNNING_KEY] = kept.running
    name = aggregate_name(metadata["name"])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owned(metadata["namespace"], metadata["name"], metadata["uid"], name),
        "data": {ABOUT_KEY: json.dumps(kept.about, indent=2, sort_keys=True)},
        "binaryData": {key: base64.b64encode(content).decode() for key, content in sorted(binary.items())},
    }


def read_kept(item: KubeObject | None, keys: tuple[str, ...]) -> Kept:
    """Return what a ConfigMap keeps for these auditors; nothing where there is none, or it cannot be read.

    Of keys that are asked for no more the aggregate that was given out last is kept: who had it may not have opened it.
    For that of one more key there is room (a ConfigMap holds 1 MiB, a sealed sum or an aggregate takes 175 kB of it).
    """
    binary = (item or {}).get("binaryData") or {}
    try:
        about = json.loads(((item or {}).get("data") or {}).get(ABOUT_KEY) or "{}")
    except (ValueError, RecursionError):
        about = {}
    known = {one: told for one, told in about.items() if isinstance(told, dict)} if isinstance(about, dict) else {}
    entries = {one: _entry(binary, PUBLISHED_KEY.format(one[:16])) for one in {*keys, *known}}
    published = {one: content for one, content in entries.items() if content}
    others = sorted(published.keys() - set(keys), key=lambda one: (until(known[one]), one))
    kept = (*keys, *others[-1:])
    return Kept(
        {one: published[one] for one in kept if one in published},
        _entry(binary, RUNNING_KEY),
        {one: known[one] for one in kept if one in known},
    )


def until(about: Mapping[str, Any]) -> int:
    """Return the end of the aggregate that was given out last, by what is known of it; 0: there was none."""
    told = about.get("givenOut")
    try:
        return int(datetime.fromisoformat(told["to"]).timestamp()) if isinstance(told, dict) else 0
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0


def _entry(binary: Mapping[str, str], key: str) -> bytes:
    try:
        content = base64.b64decode(binary.get(key, ""), validate=True)
    except (ValueError, TypeError):
        return b""
    return content if len(content) <= _MAX_ENTRY else b""
