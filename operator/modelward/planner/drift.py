"""Whether an object has to be written: it must not be, when it is as wanted already."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from modelward.planner.names import KubeObject

DIGEST_ANNOTATION = "modelward.io/applied"


def stamped(wanted: KubeObject) -> KubeObject:
    """Return an object with the digest of itself as an annotation.

    What was taken out of an object cannot be seen by comparing what is wanted with what is there, for the API server
    adds fields of its own; the digest of what was last applied tells.
    """
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    metadata = wanted["metadata"]
    annotations = {**metadata.get("annotations", {}), DIGEST_ANNOTATION: digest}
    return {**wanted, "metadata": {**metadata, "annotations": annotations}}


def covers(there: Any, wanted: Any) -> bool:
    """Tell whether everything wanted is there: every field of an object, and lists item by item."""
    if isinstance(wanted, dict):
        if not isinstance(there, dict):
            return not wanted and there is None
        return all(covers(there.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(covers, there, wanted))
    return bool(there == wanted)
