"""The sidecar's configuration: what a ModelDeployment and its policies ask of it.

The document is read by `modelward.sidecar.config`, which refuses a field it does not know. What this version does not
honour is listed by `modelward.planner.unsupported`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from modelward import allowlist
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY, CLIENT_CA_KEY, baseline_reference
from modelward.planner.access import AccessSettings, Collectors, collector_of, lineage_receiver_of
from modelward.planner.access_config import access_config
from modelward.planner.anonymity import reidentification_config
from modelward.planner.audit import AuditError, audit_config
from modelward.planner.explanations import ExplanationsError, explanations_config
from modelward.planner.fairness import fairness_config
from modelward.planner.in_use import BODY_BYTES, InUseError, in_use_config
from modelward.planner.names import KubeObject, namespace_of
from modelward.planner.references import References
from modelward.planner.sidecar import KEYS_FILE
from modelward.planner.sidecar_config_error import AddressNotAllowedError, SidecarConfigError
from modelward.planner.tensors import tensor_config
from modelward.planner.treatment import fields, needs_keys
from modelward.planner.upstream import grpc_port_of, model_name_of, port_of, protocol_of, ready_path_of
from modelward.privacy.hierarchy import HierarchyError
from modelward.privacy.spec import Treatment


def sidecar_config(
    md: ModelDeployment,
    policies: Sequence[KubeObject],
    references: References,
    port: int | None = None,
    *,
    replicas: int | None = None,
    access: AccessSettings | None = None,
    keys: bytes = b"",
) -> dict[str, Any]:
    """Return the configuration of a model's sidecar, as JSON has it.

    Args:
        md: the ModelDeployment.
        policies: those that govern it.
        references: what it names; all of `references_of(md)` must be there.
        port: of the model server, where the manifest does not say.
        replicas: how many pods the model has, where the manifest does not say.
        access: what the installation decides about access; None: nothing is allowed, nothing known of the cluster.
        keys: the file with the keys of pseudonyms, where one is given to the sidecar.

    Raises:
        SidecarConfigError: a JWKS document is not JSON, keys may not be fetched from there, a hierarchy cannot be used,
            an auditor's key is not there, a reference is missing, or the port is not known.
    """
    config: dict[str, Any] = {
        "binding": {
            "namespace": namespace_of(md),
            "name": md.metadata.name,
            "generation": md.metadata.generation,
        },
        "upstream": _upstream(md, port),
        "tls": _tls(md, references),
        "access": access_config(md, policies, references, access or AccessSettings(), replicas),
        "undeclaredFields": "Drop" if policies and all(_undeclared(one) == "Drop" for one in policies) else "Reject",
        "screening": _screening(md, policies, references),
    }
    if _records_values(policies):
        config["recordValues"] = True
    try:
        treated = fields(md, policies, references)
    except HierarchyError as error:
        raise SidecarConfigError(str(error)) from error
    if treated:
        config["fields"] = treated
    if (needs_keys(treated) or reidentification_config(md, policies)) and keys:
        config["keys"] = {"file": KEYS_FILE, "sha256": hashlib.sha256(keys).hexdigest()}
    _check_lineage_receiver(md, access or AccessSettings())
    if collector_of(md):
        config["telemetry"] = _telemetry(md, (access or AccessSettings()).telemetry)
    try:
        encrypted = in_use_config(md, policies, references)
        explained = explanations_config(md, policies, references)
    except (InUseError, ExplanationsError) as error:
        raise SidecarConfigError(str(error)) from error
    if encrypted:
        config["inUse"] = encrypted
        config["limits"] = {"bodyBytes": BODY_BYTES}
    if explained:
        config["explanations"] = explained
    config |= _audit(md, policies, treated, references)
    combined = reidentification_config(md, policies)
    if combined:
        config["reidentification"] = combined
    groups = fairness_config(md)
    if groups:
        config["fairness"] = groups
    schema = md.spec.schema_
    if schema and schema.inputs:
        config["inputs"] = [tensor_config(tensor) for tensor in schema.inputs]
    if schema and schema.outputs:
        config["outputs"] = [tensor_config(tensor) for tensor in schema.outputs]
    return config


def _records_values(policies: Sequence[KubeObject]) -> bool:
    """Whether a policy asks for values in the access log, and none forbids them."""
    said = [one["spec"]["recordValues"] for one in policies if one["spec"].get("recordValues") is not None]
    return bool(said) and all(said)


def _audit(
    md: ModelDeployment, policies: Sequence[KubeObject], treated: dict[str, Any], references: References
) -> dict[str, Any]:
    try:
        counted = audit_config(md, policies, msgspec.convert(treated, dict[str, Treatment]), references)
    except AuditError as error:
        raise SidecarConfigError(str(error)) from error
    return {"audit": counted} if counted else {}


def _undeclared(policy: KubeObject) -> str:
    return str(policy["spec"].get("undeclaredFields", "Reject"))


def _upstream(md: ModelDeployment, port: int | None) -> dict[str, Any]:
    port = port or port_of(md)
    if port is None:
        raise SidecarConfigError("spec.targetRef.port is not given, and the workload was not looked at: give it")
    upstream = {
        "port": port,
        "protocol": protocol_of(md),
        "model": model_name_of(md),
        "readyPath": ready_path_of(md),
    }
    grpc = grpc_port_of(md)
    return upstream | ({"grpcPort": grpc} if grpc else {})


def _tls(md: ModelDeployment, references: References) -> dict[str, Any]:
    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    if in_transit is None:  # a rule's business; the sidecar speaks nothing less all the same
        return {"mode": "TLS", "minVersion": "1.3"}
    tls: dict[str, Any] = {"mode": in_transit.mode, "minVersion": in_transit.min_version}
    if in_transit.mode == "MutualTLS":
        name = in_transit.client_ca_secret_name
        authorities = (
            references.content("Secret", name, CLIENT_CA_KEY) if name else references.client_authorities.encode()
        )
        if not authorities:
            raise SidecarConfigError(
                f"spec.encryption.inTransit: no client authorities in {name or 'the CA of modelward'}"
            )
        tls["clientCA"] = authorities.decode("utf-8", "replace")
        if name and references.client_authorities.startswith("-----BEGIN"):  # in a cluster
            # The controller asks what there is to tell, and has a certificate by modelward's own authority, which
            # gives nobody else one that a client could use.
            tls["clientCA"] = f"{tls['clientCA'].rstrip()}\n{references.client_authorities}"
    return tls


def _telemetry(md: ModelDeployment, collectors: Collectors) -> dict[str, Any]:
    endpoint = collector_of(md)
    why = allowlist.problem(endpoint, collectors.allow, "the chart's value telemetry.allow", plain=True)
    if why:
        raise AddressNotAllowedError(f"spec.monitoring.telemetry.otlpEndpoint: {why}")
    telemetry = md.spec.monitoring.telemetry if md.spec.monitoring else None
    return {
        "endpoint": endpoint,
        "allow": list(collectors.allow),  # the sidecar holds the list itself
        "authorities": collectors.authorities,
        "accessLog": telemetry.access_log if telemetry else "Stdout",
    }


def _check_lineage_receiver(md: ModelDeployment, settings: AccessSettings) -> None:
    """The controller sends there, and not the sidecar; the address is the model owner's all the same."""
    receiver = lineage_receiver_of(md)
    if receiver:
        why = allowlist.problem(receiver, settings.lineage.allow, "the chart's value lineage.allow", plain=True)
        if why:
            raise AddressNotAllowedError(f"spec.monitoring.telemetry.lineageEndpoint: {why}")


def _screening(md: ModelDeployment, policies: Sequence[KubeObject], references: References) -> dict[str, Any]:
    monitoring = md.spec.monitoring
    blocks = any(one["spec"].get("onDetectorError", "Block") == "Block" for one in policies)
    screening: dict[str, Any] = {"onDetectorError": "Block" if blocks or not policies else "Pass"}
    quarantines = [one["spec"]["quarantine"] for one in policies if one["spec"].get("quarantine")]
    if quarantines:
        screening["quarantine"] = quarantines
    if monitoring is None:
        return screening
    screening["onAnomaly"] = monitoring.on_anomaly
    screening["detectors"] = [
        one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in monitoring.detectors
    ]
    reference = baseline_reference(monitoring.baseline) if monitoring.baseline else None
    if monitoring.baseline and monitoring.baseline.dataset:
        if references.fitted is None:
            raise SidecarConfigError("spec.monitoring.baseline.dataset: no baseline has been fitted on it yet")
        digest = hashlib.sha256(references.fitted).hexdigest()
        screening["baseline"] = {"file": BASELINE_KEY, "sha256": digest, "secret": True}
    if reference is not None:
        content = references.content(reference.kind, reference.name, reference.key)
        if content is None:
            raise SidecarConfigError(f"{reference.field}: no {BASELINE_KEY} in {reference.kind} {reference.name}")
        screening["baseline"] = {"file": BASELINE_KEY, "sha256": hashlib.sha256(content).hexdigest()}
        if reference.kind == "Secret":  # what somebody keeps in a Secret is not copied into a ConfigMap
            screening["baseline"]["secret"] = True
    return screening
