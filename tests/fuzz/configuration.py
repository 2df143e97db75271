"""Any bytes as the sidecar's configuration: a chain of checks, or a ConfigError that tells no key."""

from __future__ import annotations

import json
from typing import cast

import msgspec

from modelward.sidecar import config
from modelward.sidecar.chain import Chain
from modelward.sidecar.upstream import Upstream
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated
from tests.unit.sidecar.harness import WEIGHTS, fitted

CANARY = "c4n4ry"  # stands in keys of the seeds, and may stand in no message
_NOBODY = cast("Upstream", object())  # a chain that is made asks nobody yet


def one(content: bytes) -> None:
    """Check what becomes of a configuration.

    Raises:
        AssertionError: it is not what it must be.
    """
    try:
        settings = config.parse(content)
        chain = Chain(settings, fitted(), _NOBODY, explained_weights=WEIGHTS)
    except config.ConfigError as error:
        text = str(error)
        assert text
        assert len(text) < 4096, "a message as long as a configuration"
        assert CANARY not in text or CANARY in _names(content), f"a value in a message: {text}"
        return
    again = msgspec.json.encode(settings)
    assert config.parse(again) == settings, "the configuration reads otherwise when written plainly"
    document = json.loads(content)
    assert document["upstream"]["model"] == settings.upstream.model
    for rule, stated in zip(settings.access.rules, document.get("access", {}).get("rules", ()), strict=True):
        assert rule.subjects == stated["subjects"]
    assert chain.access is not None


def _names(content: bytes) -> str:
    """What may be told: names, and words that stand where the configuration has words of its own; nothing of keys."""
    try:
        waiting, found = [json.loads(content)], []
    except (ValueError, RecursionError):  # the decoder had found a misfit before it came to where it is no JSON
        return CANARY
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found += list(node)
            waiting += [item for name, item in node.items() if name not in ("k", "d", "x", "y")]
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, str):
            found.append(node)
    return " ".join(found)


TARGET = Target("configuration", one, mutated)


if __name__ == "__main__":
    main(TARGET)
