"""Signed lineage among the files of `modelward check`: what of it is there is judged, and what is not is told of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelward.api.lineage import STATEMENTS, places
from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.references import References
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.planner.signatures import asks_for_signatures, signatures, trust_names
from modelward.rules.check import Seen

_TRUST = "spec.require.lineage.trustConfigMapName"


def look_at_signatures(
    objects: Sequence[Mapping[str, Any]],
    md: ModelDeployment,
    namespace: str,
    policies: Sequence[dict[str, Any]],
    now: datetime,
) -> Seen:
    """Hold a model's lineage against its signed statements, where those and the keys are among the files.

    Args:
        objects: all of the files.
        md: the model.
        namespace: where it is.
        policies: those that govern it.
        now: the time at which certificates must be valid.
    """
    if not any(map(asks_for_signatures, policies)):
        return Seen()
    references = References.among(objects, namespace)
    named = places(md.metadata.annotations)
    notes = [
        (
            f"metadata.annotations[{STATEMENTS}]",
            f"{kind} {name} is not among these files: its statements are not judged",
        )
        for kind, name in named
        if references.contents(kind, name) is None
    ]
    notes += [
        (
            "metadata.annotations",
            f"{_TRUST} names ConfigMap {name} of {SYSTEM_NAMESPACE}, which is not among these files",
        )
        for name in sorted(trust_names(policies))
        if references.trusted(name) is None
    ]
    if named and notes:
        return Seen(notes=tuple(notes))
    try:
        image = md.spec.model.image if md.spec.model else ""
        found = signatures(md.metadata.annotations, policies, references, now, image)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "cryptography":
            raise
        why = "signatures are not judged without the package cryptography: pip install 'modelward[sidecar]'"
        return Seen(notes=(("metadata.annotations", why),))
    return Seen({"signature": found.observed()}, tuple(notes))
