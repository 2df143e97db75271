"""What a model's sidecar counts for auditors, and under whose keys: what policies ask, and what can be known of it.

Counted are protected groups, by how their rows are answered, and quasi-identifiers as the model gets them, by the
values that a policy or the schema makes known.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import AUDIT_KEY
from modelward.api.schema import Tensor
from modelward.audit.layout import OTHER, Counted, LayoutError, interval_names, layout_of
from modelward.audit.settings import Audit, Auditor
from modelward.audit.told import MAX_AUDITORS
from modelward.fairness.groups import group_names
from modelward.planner.references import References
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.privacy.coarsen import Bucket
from modelward.privacy.effective import targets
from modelward.privacy.spec import Treatment

MAX_BUCKETS = 256
"""Intervals of one field."""
_PARTS = 16  # of a range of numbers that nobody divides
_LEAST = 10

Policy = dict[str, Any]


class AuditError(Exception):
    """What is asked cannot be counted, or not under this key; the message names the policy and the fix."""


def audit_config(
    md: ModelDeployment, policies: Sequence[Policy], treated: Mapping[str, Treatment], references: References
) -> dict[str, Any] | None:
    """Return the part `audit` of the sidecar's configuration; None: nobody asks.

    Args:
        md: the ModelDeployment.
        policies: those that govern it.
        treated: the treatment of each field that is not kept as it is.
        references: what policies name.

    Raises:
        AuditError: a key is not there or not the one that is meant, or there is nothing to count.
    """
    asking = _asking(policies)
    if not asking:
        return None
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    if in_use is not None and in_use.only:
        raise AuditError(f"{_who(asking[0])} spec.audit: nothing can be counted of spec.encryption.inUse.only requests")
    auditors = [auditor for auditor, _ in _auditors(asking, references)]
    counted, uncounted = _counted(md, policies, treated)
    seconds = min(policy["spec"]["audit"]["everySeconds"] for policy in asking)
    try:
        layout_of(counted, uncounted)
    except LayoutError as error:
        raise AuditError(
            f"{_who(asking[0])} spec.audit: {error}: give columns the role QuasiIdentifier and a treatment that tells"
            " their values (Bucket, Generalise), or their input a minimum and a maximum"
        ) from error
    audit = Audit(auditors, counted, seconds, uncounted, only=bool(kept_for(policies)), **_limits(md))
    document: dict[str, Any] = msgspec.to_builtins(audit)
    return document


def kept_for(policies: Sequence[Policy]) -> tuple[str, ...]:
    """Return the policies whose auditors alone are told counts by group; none: the cluster is told them too.

    One that asks for it asks of all: the auditor of a policy with `only: false` reads the aggregate as well.
    """
    asking = _asking(policies)
    return tuple(map(_who, asking)) if any(one["spec"]["audit"].get("only", True) for one in asking) else ()


def asks_of(policies: Sequence[Policy]) -> list[tuple[str, int, tuple[str, str]]]:
    """Return the digest of each auditor's keys that policies name, the length of its periods, and where they lie."""
    return [
        (
            one["spec"]["audit"]["keysDigest"].removeprefix("sha256:"),
            int(one["spec"]["audit"]["periodSeconds"]),
            (key_namespace(one), one["spec"]["audit"]["publicKeyConfigMapName"]),
        )
        for one in _asking(policies)
    ]


def _limits(md: ModelDeployment) -> dict[str, Any]:
    """By how much groups may differ, for whoever opens an aggregate of them."""
    fairness = md.spec.fairness
    if fairness is None or not fairness.protected:
        return {}
    return {"max_difference": fairness.max_difference, "minimum_group_size": fairness.minimum_group_size}


def audit_files(policies: Sequence[Policy], references: References) -> dict[str, bytes]:
    """Return the files of auditors' keys that the configuration names. Raises AuditError as `audit_config` does."""
    return {auditor.file: content for auditor, content in _auditors(_asking(policies), references)}


def _asking(policies: Sequence[Policy]) -> list[Policy]:
    return [policy for policy in policies if policy["spec"].get("audit")]


def _auditors(asking: Sequence[Policy], references: References) -> list[tuple[Auditor, bytes]]:
    """The auditors whom policies name, with their keys' files; one for each key."""
    auditors: dict[str, Auditor] = {}
    files: dict[str, bytes] = {}
    for policy in asking:
        asked = policy["spec"]["audit"]
        keys = asked["keysDigest"].removeprefix("sha256:")
        if keys in auditors:  # one auditor for two policies gets one aggregate: two of the same rows would tell more
            auditors[keys] = _joined(auditors[keys], policy)
            continue
        if len(auditors) == MAX_AUDITORS:
            raise AuditError(
                f"{_who(policy)} spec.audit: {MAX_AUDITORS} other keys are asked for already, and no more than that are"
                " honoured for one model: agree on a key"
            )
        content = _key(policy, references)
        file = f"audit-{len(auditors)}.keys"
        files[keys] = content
        auditors[keys] = Auditor(
            _who(policy),
            keys,
            file,
            hashlib.sha256(content).hexdigest(),
            asked["periodSeconds"],
            asked["minimumWindows"],
            _minimum(policy),
        )
    return [(auditor, files[keys]) for keys, auditor in auditors.items()]


def _key(policy: Policy, references: References) -> bytes:
    from modelward.audit.aggregate import public_key  # noqa: PLC0415 - numpy, which `check` does without
    from modelward.encrypted.envelope import digest  # noqa: PLC0415
    from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415

    name, namespace = policy["spec"]["audit"]["publicKeyConfigMapName"], key_namespace(policy)
    what = f"{_who(policy)} spec.audit.publicKeyConfigMapName: ConfigMap {name} in {namespace}"
    content = references.audit_key(namespace, name)
    if content is None:
        raise AuditError(
            f"{what} is not there, or has no {AUDIT_KEY}: kubectl create configmap {name} --namespace={namespace}"
            f" --from-file={AUDIT_KEY}=DIR/public/keys.bin, with the folder that `modelward audit keygen` wrote"
        )
    try:
        public_key(content)
    except EncryptedError as error:
        raise AuditError(f"{what}: {error}") from error
    asked = policy["spec"]["audit"]["keysDigest"]
    if asked != f"sha256:{digest(content)}":
        raise AuditError(f"{what} holds the key sha256:{digest(content)}, and keysDigest names {asked}")
    return content


def key_places(policies: Sequence[Policy]) -> list[tuple[str, str]]:
    """Return namespace and name of each ConfigMap that policies name for an auditor's key."""
    asking = _asking(policies)
    return sorted({(key_namespace(one), one["spec"]["audit"]["publicKeyConfigMapName"]) for one in asking})


def key_namespace(policy: Policy) -> str:
    """Return where a policy's auditor's key lies."""
    if policy.get("kind") == "ClusterDataPolicy":
        return SYSTEM_NAMESPACE
    return str(policy["metadata"].get("namespace") or "default")


def _joined(auditor: Auditor, policy: Policy) -> Auditor:
    """One auditor whom two policies name: whatever keeps more from being told counts."""
    asked = policy["spec"]["audit"]
    return msgspec.structs.replace(
        auditor,
        policy=f"{auditor.policy}, {_who(policy)}",
        period_seconds=max(auditor.period_seconds, asked["periodSeconds"]),
        minimum_windows=max(auditor.minimum_windows, asked["minimumWindows"]),
        minimum=max(auditor.minimum, _minimum(policy)),
    )


def _minimum(policy: Policy) -> int:
    spec = policy["spec"]
    return int(spec["audit"].get("minimumCount") or (spec.get("kAnonymity") or {}).get("k") or _LEAST)


def _counted(
    md: ModelDeployment, policies: Sequence[Policy], treated: Mapping[str, Treatment]
) -> tuple[list[Counted], list[str]]:
    """What is counted, and the quasi-identifiers whose values are not known."""
    by_policy = {
        field["name"]
        for policy in policies
        for field in policy["spec"].get("fields", ())
        if field.get("role") == "QuasiIdentifier"
    }
    truths = (False, True) if kept_for(policies) and _is_told_truths(md) else (False,)
    counted = [msgspec.structs.replace(one, truth=truth) for one in protected(md) for truth in truths]
    uncounted: list[str] = []
    for tensor in md.spec.schema_.inputs if md.spec.schema_ else ():
        columns = tensor.columns or [tensor.name]
        of_input = tensor.role == "QuasiIdentifier" or tensor.name in by_policy
        found = {one.field: one.treatment for one in targets(treated, tensor.name, tensor.columns)}
        for column in columns:
            if not of_input and column not in by_policy:
                continue
            treatment = found.get(column, found.get(tensor.name, Treatment("Keep")))
            values = _values(column, treatment, tensor.datatype, tensor.minimum, tensor.maximum)
            if values is None or not _in_columns(tensor):
                uncounted.append(column)
            else:
                counted.append(values)
    return counted, uncounted


def protected(md: ModelDeployment) -> list[Counted]:
    """Return protected fields, each row of which is counted by how it was answered."""
    fairness = md.spec.fairness
    if fairness is None:
        return []
    rule = _rule(fairness.favourable.model_dump(mode="json"))
    return [
        Counted(one.field, group_names(one.groups, one.edges), tuple(one.edges), outcome=True, rule=rule)
        for one in fairness.protected
    ]


def _is_told_truths(md: ModelDeployment) -> bool:
    """Whether somebody may tell what was true; else no noise is spent on it."""
    return any("Feedback" in rule.operations for rule in (md.spec.access.rules if md.spec.access else ()))


def _in_columns(tensor: Tensor) -> bool:
    """Whether an element of a row is a column: the sidecar finds no others."""
    inner = tensor.shape[1:] if tensor.shape[0] == -1 else tensor.shape
    return math.prod(inner) in (1, len(tensor.columns), -len(tensor.columns))  # -1: as many as there are columns


def _values(
    field: str, treatment: Treatment, datatype: str, minimum: float | None, maximum: float | None
) -> Counted | None:
    """The cells of a field; None: what values it has after its treatment cannot be known beforehand."""
    if treatment.treatment in ("Keep", "Bucket", "Generalise", "Round") and datatype == "BOOL":
        return Counted(field, ("false", "true"))
    edges = tuple(_edges(treatment, minimum, maximum))
    match treatment.treatment:
        case "Generalise" if treatment.groups is not None:
            names = tuple(sorted({*treatment.groups.values(), "*"} - {OTHER}))
            return Counted(field, names, rule=_rule(treatment.groups)) if len(names) <= MAX_BUCKETS else None
        case "Bucket" if datatype == "BYTES":
            bucket = Bucket(treatment.edges)
            return Counted(field, tuple(bucket.text(_written(edge)) for edge in treatment.edges[:MAX_BUCKETS]))
        case "Keep" | "Bucket" | "Generalise" | "Round" if datatype != "BYTES" and edges:
            return Counted(field, interval_names(edges), edges)
    return None


def _rule(document: Mapping[str, Any]) -> str:
    """Names what decides which cell a row is of, by its contents."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _edges(treatment: Treatment, minimum: float | None, maximum: float | None) -> Iterator[float]:
    """Where the intervals of a field meet that is treated so; none where they cannot be known, or are too many."""
    if treatment.treatment == "Bucket":
        yield from treatment.edges[:MAX_BUCKETS]
        return
    if minimum is None or maximum is None or not minimum < maximum:
        return
    step = treatment.step if treatment.treatment == "Generalise" else None
    if treatment.treatment == "Round" and treatment.digits is not None:
        step = 10.0**-treatment.digits
    width = Fraction(repr(step)) if step else (Fraction(maximum) - Fraction(minimum)) / _PARTS
    offset = Fraction(0) if step else Fraction(minimum)
    first, last = (math.floor((Fraction(bound) - offset) / width) for bound in (minimum, maximum))
    if last - first < MAX_BUCKETS:
        for count in range(first, last + 1):
            # A rounded value lies on a multiple: the interval around it.
            yield float(offset + (count - Fraction(1, 2) if treatment.treatment == "Round" else count) * width)


def _written(edge: float) -> str:
    return f"{edge:f}"


def _who(policy: Policy) -> str:
    return f"{policy.get('kind', 'DataPolicy')} {policy['metadata']['name']}"
