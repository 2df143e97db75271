"""What a model's sidecar needs to explain decisions: the method, its weights, and whom a person may turn to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from modelward.api.decisions import Explanations
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import WEIGHTS_KEY
from modelward.explain.limits import USUAL_ROWS, trouble
from modelward.planner.references import References
from modelward.planner.upstream import protocol_of

EXPLAINED_WEIGHTS = "explained-weights.json"  # in the sidecar's ConfigMap, beside those of encrypted requests


class ExplanationsError(Exception):
    """The weights explain nothing here; the message says why."""


def explained_weights_of(md: ModelDeployment, references: References) -> bytes | None:
    """Return the linear model's exported weights; None where no method needs them, or they are not there."""
    asked = md.spec.explanations
    if asked is None or not asked.weights_config_map_name:
        return None
    return references.content("ConfigMap", asked.weights_config_map_name, WEIGHTS_KEY)


def explanations_config(
    md: ModelDeployment, policies: Sequence[dict[str, Any]], references: References
) -> dict[str, Any] | None:
    """Return the part `explanations` of the sidecar's configuration; None where nothing is explained.

    Raises:
        ExplanationsError: the weights cannot be read, are of no linear model, or name other columns than the schema.
    """
    asked = md.spec.explanations
    if asked is None:
        return None
    config: dict[str, Any] = {"method": asked.method, "hidden": _identifying(md, policies)}
    if asked.extra_calls is not None:
        config["extraCalls"] = asked.extra_calls
    told = {"output": asked.output, "contact": asked.contact, "contestURL": asked.contest_url}
    config |= {name: text for name, text in told.items() if text}
    weights = explained_weights_of(md, references)
    if weights is not None:
        _check(md, weights)
        config["weights"] = {"file": EXPLAINED_WEIGHTS, "sha256": hashlib.sha256(weights).hexdigest()}
    return config


def _check(md: ModelDeployment, content: bytes) -> None:
    from modelward.explain.weights import WeightsError, linear_model  # noqa: PLC0415 - numpy, `check` does without

    path = "spec.explanations.weightsConfigMapName"
    try:
        model = linear_model(content)
    except WeightsError as error:
        raise ExplanationsError(f"{path}: {error}") from error
    inputs = md.spec.schema_.inputs if md.spec.schema_ else ()
    known = {name for tensor in inputs for name in (tensor.name, *tensor.columns)}
    unknown = [name for name in model.columns if name not in known]
    if unknown:
        raise ExplanationsError(
            f"{path}: the weights are of {', '.join(unknown[:5])}, which spec.schema.inputs does not name"
        )


def _identifying(md: ModelDeployment, policies: Sequence[dict[str, Any]]) -> list[str]:
    """Return the columns that say who somebody is, by the manifest or by a policy: their values are not told."""
    named = {
        field["name"]
        for one in policies
        for field in one["spec"].get("fields", ())
        if field.get("role") == "Identifier"
    }
    found = set()
    for tensor in md.spec.schema_.inputs if md.spec.schema_ else ():
        columns = tensor.columns or [tensor.name]
        whole = tensor.role == "Identifier" or tensor.name in named
        found |= {column for column in columns if whole or column in named}
    return sorted(found)


def explanations_unsupported(md: ModelDeployment, policies: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give what is declared of explanations and cannot be honoured, with the fix."""
    asked = md.spec.explanations
    if asked is None:
        return
    monitoring = md.spec.monitoring
    if monitoring is None or monitoring.baseline is None:
        yield (
            "spec.explanations without spec.monitoring.baseline (the ordinary rows that a decision is compared with:"
            " fit one with `modelward fit`)"
        )
    if md.spec.schema_ is None or not md.spec.schema_.inputs:
        yield "spec.explanations without spec.schema.inputs (the columns that reasons are given by)"
    if asked.method == "LinearSHAP" and not asked.weights_config_map_name:
        yield "spec.explanations.method LinearSHAP without weightsConfigMapName (the linear model's exported weights)"
    if md.spec.encryption and md.spec.encryption.in_use and md.spec.encryption.in_use.only:
        yield "spec.explanations with spec.encryption.inUse.only (what nobody can read nobody can explain)"
    yield from _of_outputs(md, asked, policies)
    yield from _of_budget(md, asked, policies)


def _of_budget(md: ModelDeployment, asked: Explanations, policies: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is known before the baseline is: the numbers of each row, but for those that are dropped."""
    if asked.method != "PermutationSHAP":
        return
    dropped = {
        field["name"] for one in policies for field in one["spec"].get("fields", ()) if field.get("treatment") == "Drop"
    }
    width = 0
    for tensor in md.spec.schema_.inputs if md.spec.schema_ else ():
        columns = tensor.columns or [tensor.name]
        inner = math.prod(tensor.shape[1:] if tensor.shape[0] == -1 else tensor.shape)
        known = len(tensor.columns) or inner
        if tensor.datatype != "BYTES" and tensor.name not in dropped and known > 0:
            width += known - sum(column in dropped for column in columns)
    why = trouble(asked.extra_calls or USUAL_ROWS, width) if width else ""
    if why:
        yield f"spec.explanations ({why})"


def _of_outputs(md: ModelDeployment, asked: Explanations, policies: Sequence[dict[str, Any]]) -> Iterator[str]:
    outputs = md.spec.schema_.outputs if md.spec.schema_ else []
    declared = [tensor.name for tensor in outputs]
    if asked.output and protocol_of(md) != "v2":
        yield "spec.explanations.output with the protocol v1 (its outputs have no names)"
    if asked.output and declared and asked.output not in declared:
        yield f"spec.explanations.output {asked.output} (no such output; declared are {', '.join(declared)})"
    treated = {
        field["name"]
        for one in policies
        for field in one["spec"].get("fields", ())
        if field.get("treatment", "Keep") != "Keep"
    }
    if asked.output in treated:
        yield f"spec.explanations.output {asked.output} (a policy treats it, and contributions would tell it)"
    hidden = [name for tensor in outputs for name in (tensor.name, *tensor.columns) if name in treated]
    if asked.method == "LinearSHAP" and hidden:
        yield (
            f"spec.explanations.method LinearSHAP with the treated output {hidden[0]} (contributions add up to the very"
            " score: use PermutationSHAP, which explains the outputs that are not treated)"
        )
