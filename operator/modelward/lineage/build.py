"""Makes the lineage graph of what is known: the models' annotations, their policies, statements, and who was answered.

Objects are taken as the API server stores them (camelCase, defaults applied), and their annotations as anybody may have
written them: what cannot be read is left out of the graph, and `api.lineage.problems` says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from modelward.api.lineage import readable
from modelward.lineage.graph import Builder, Graph, Step, Use
from modelward.privacy.effective import choices
from modelward.privacy.spec import Treatment
from modelward.rules.judge import policy_name

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DECLARED = Use("declared by the model's owner")
"""The use on an edge to the consumer that the annotation names."""


class Consumed(NamedTuple):
    """Answers that a client got of a model (`namespace/name`), by the status or by the access log."""

    model: str
    client: str
    issuer: str
    use: Use


def build(
    models: Iterable[Mapping[str, Any]],
    policies: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    governing: Mapping[str, Sequence[str]] | None = None,
    dependencies: Mapping[str, Iterable[str]] | None = None,
    consumed: Iterable[Consumed] = (),
) -> Graph:
    """Return the graph of all that is given.

    Args:
        models: ModelDeployments.
        policies: by name, such as `DataPolicy/clinic/clinic`.
        governing: the names of the policies that govern a model, by `namespace/name`; where it is not in here, those in
            its `status.policies`.
        dependencies: the digests that something was made from, by its own digest, as signed statements tell.
            Digests are `sha256:<hex>` or the 64 hex digits alone.
        consumed: answers that clients got, besides those in `status.lineage.consumers`.
    """
    builder = Builder()
    for model in models:
        name = model_name(model)
        _add_model(builder, model, name)
        names = (governing or {}).get(name)
        if names is None:
            names = model.get("status", {}).get("policies", ())
        _add_treatments(builder, model, [policies[one] for one in names if one in policies] if policies else [])
    for made, sources in (dependencies or {}).items():
        target = _digest(made)
        for source in sources:
            if target and _digest(source):
                builder.link(builder.add(None, "", _digest(source)), builder.add(None, "", target))
    for one in consumed:
        client = builder.add("consumer", one.client, issuer=one.issuer)
        builder.link(builder.add("model", one.model), client, uses=(one.use,))
    return builder.graph()


def model_name(model: Mapping[str, Any]) -> str:
    """Return `namespace/name`."""
    metadata = model["metadata"]
    return f"{metadata.get('namespace') or 'default'}/{metadata['name']}"


def treatment_text(treatment: Treatment) -> str:
    """Return what a treatment does, in a few words."""
    match treatment.treatment:
        case "Generalise" if treatment.step is not None:
            return f"generalised to intervals of {treatment.step:g}"
        case "Generalise":
            return "generalised by a hierarchy"
        case "Mask" if treatment.identifiers:
            return "recognised identifiers masked"
        case "Mask":
            return f"masked but for the last {treatment.keep_last}" if treatment.keep_last else "masked"
        case "Bucket":
            return f"put into buckets by {', '.join(f'{edge:g}' for edge in treatment.edges)}"
        case "Round":
            return f"rounded to {treatment.digits} digits"
        case "DateShift":
            return f"dates shifted by at most {treatment.max_days} days"
    return _DONE[treatment.treatment]


_DONE = {
    "Keep": "kept",
    "Drop": "dropped",
    "Pseudonymise": "replaced by a pseudonym",
    "Tokenise": "replaced by a token that its recipient can undo",
}


def _add_model(builder: Builder, model: Mapping[str, Any], name: str) -> None:
    said = readable(model["metadata"].get("annotations") or {})
    here = made = builder.add("model", name)
    if "model" in said:
        artefact = builder.add("artefact", *_parts(said["model"]))
        builder.link(artefact, made, by=name)
        made = artefact
    if "training-run" in said:
        run = builder.add("run", said["training-run"])
        builder.link(run, made, by=name)
        made = run
    if "dataset" in said:
        builder.link(builder.add("dataset", *_parts(said["dataset"])), made, _steps(said), by=name)
    if "consumer" in said:
        builder.link(here, builder.add("consumer", said["consumer"]), uses=(DECLARED,))
    for one in model.get("status", {}).get("lineage", {}).get("consumers", ()):
        use = Use(one.get("purpose") or "", one.get("first") or "", one.get("last") or "", one.get("requests") or 0)
        builder.link(here, builder.add("consumer", one["client"], issuer=one.get("issuer") or ""), uses=(use,))


def _parts(address: str) -> tuple[str, str]:
    """An address and its digest, which may be empty."""
    name, _, digest = address.rpartition("@")
    return (name, digest) if _DIGEST.fullmatch(digest) else (address, "")


def _digest(text: str) -> str:
    text = text if text.startswith("sha256:") else f"sha256:{text}"
    return text if _DIGEST.fullmatch(text) else ""


def _steps(said: Mapping[str, str]) -> list[Step]:
    return [Step(**step) for step in json.loads(said.get("transformations", "[]"))]


def _add_treatments(builder: Builder, model: Mapping[str, Any], policies: list[Mapping[str, Any]]) -> None:
    """An edge from each policy that treats any of the model's fields, with the treatments that count: the strictest."""
    inputs = (model["spec"].get("schema") or {}).get("inputs") or []
    known = {name for tensor in inputs for name in (tensor["name"], *tensor.get("columns", ()))}
    for name, choice in choices([dict(policy) for policy in policies], inputs, lambda _: None).items():
        if name not in known:
            continue
        field = next(one for one in choice.policy["spec"]["fields"] if one["name"] == name)
        classification = choice.policy["spec"].get("classification")
        why = f"{field.get('role', 'Feature')}{f' of {classification} data' if classification else ''}"
        step = Step(name, treatment_text(choice.treatment), why)
        policy = builder.add("policy", policy_name(choice.policy))
        builder.link(policy, builder.add("model", model_name(model)), (step,))
