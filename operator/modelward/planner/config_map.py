"""The ConfigMap `<name>-sidecar`: the sidecar's configuration and signature, baseline, weights and auditors' keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, metadata
from modelward.planner.sidecar import config_map_name

Sign = Callable[[bytes], bytes]
"""Gives the raw Ed25519 signature over a document."""


def config_map(
    md: ModelDeployment, config: dict[str, Any], sign: Sign, files: Mapping[str, bytes | None]
) -> KubeObject:
    """Return the ConfigMap that the sidecar reads. `files`: what the configuration names, by key, if it is there.

    The document is written in one way only (sorted keys, no spaces), so that the same configuration has the same
    signature and nothing is written anew.
    """
    document = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    signature = base64.b64encode(sign(document.encode())).decode()
    out: KubeObject = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(md, config_map_name(md.metadata.name)),
        "data": {"config.json": document, "config.sig": signature},
    }
    binary = {name: base64.b64encode(content).decode() for name, content in files.items() if content is not None}
    if binary:
        out["binaryData"] = binary
    return out
