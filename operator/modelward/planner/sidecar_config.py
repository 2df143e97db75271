"""The sidecar's configuration: what a ModelDeployment and its policies ask of it, and what it cannot do yet.

The document is read by `modelward.sidecar.config`, which refuses a field it does not know. What this version does not
honour is listed by `unsupported`, and a model that declares any of it is not served: a protection that is declared
and not there is worse than none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from modelward import allowlist
from modelward.api.access import Issuer
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY, CLIENT_CA_KEY, JWKS_KEY, baseline_reference
from modelward.api.schema import Tensor
from modelward.planner.access import (
    AccessSettings,
    ClusterIssuer,
    Collectors,
    collector_of,
    counts_together,
    fetched,
    lineage_receiver_of,
)
from modelward.planner.anonymity import anonymity_unsupported, reidentification_config
from modelward.planner.audit import AuditError, audit_config
from modelward.planner.dataset import DatasetError, read_dataset
from modelward.planner.explanations import ExplanationsError, explanations_config, explanations_unsupported
from modelward.planner.fairness import fairness_config, fairness_unsupported
from modelward.planner.in_use import BODY_BYTES, InUseError, in_use_config, in_use_unsupported
from modelward.planner.names import namespace_of
from modelward.planner.references import References
from modelward.planner.sidecar import KEYS_FILE
from modelward.planner.treatment import fields, impossible, needs_keys
from modelward.planner.upstream import grpc_port_of, model_name_of, port_of, protocol_of, ready_path_of
from modelward.privacy.hierarchy import HierarchyError
from modelward.privacy.spec import Treatment

Policy = dict[str, Any]
"""A policy as the API server stores it: camelCase, defaults applied."""


class SidecarConfigError(Exception):
    """Something that the configuration is made of cannot be used; the message names the field and the object."""

    reason: Literal["ReferenceUnusable", "AddressNotAllowed"] = "ReferenceUnusable"


class AddressNotAllowedError(SidecarConfigError):
    """An address that the installation does not allow a sidecar to connect to."""

    reason = "AddressNotAllowed"


def sidecar_config(
    md: ModelDeployment,
    policies: Sequence[Policy],
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
        "access": _access(md, policies, references, access or AccessSettings(), replicas),
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
        config["inputs"] = [_tensor(tensor) for tensor in schema.inputs]
    if schema and schema.outputs:
        config["outputs"] = [_tensor(tensor) for tensor in schema.outputs]
    return config


def _records_values(policies: Sequence[Policy]) -> bool:
    """Whether a policy asks for values in the access log, and none forbids them."""
    said = [one["spec"]["recordValues"] for one in policies if one["spec"].get("recordValues") is not None]
    return bool(said) and all(said)


def _audit(
    md: ModelDeployment, policies: Sequence[Policy], treated: dict[str, Any], references: References
) -> dict[str, Any]:
    try:
        counted = audit_config(md, policies, msgspec.convert(treated, dict[str, Treatment]), references)
    except AuditError as error:
        raise SidecarConfigError(str(error)) from error
    return {"audit": counted} if counted else {}


def _undeclared(policy: Policy) -> str:
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


def _access(
    md: ModelDeployment,
    policies: Sequence[Policy],
    references: References,
    settings: AccessSettings,
    replicas: int | None,
) -> dict[str, Any]:
    access = md.spec.access
    asked = [(one["spec"].get("require") or {}).get("access") or {} for one in policies]
    config = {
        "issuers": [
            _issuer(issuer, f"spec.access.issuers[{index}]", references, settings)
            for index, issuer in enumerate(access.issuers if access else ())
        ],
        "rules": [
            rule.model_dump(mode="json", by_alias=True, exclude_none=True)
            for rule in (access.rules if access else ())
            if rule.subjects and rule.operations  # a rule that names nobody, or nothing, allows nothing
        ],
        "purposeHeader": any(one.get("purposeHeader", False) for one in asked),
    }
    if any(fetched(md)):  # the sidecar holds the list itself, whatever else changes about its configuration
        config["keyFetching"] = {"allow": list(settings.keys.allow), "authorities": settings.keys.authorities}
    if counts_together(md, settings):
        config["sharedLimits"] = {
            "address": settings.rate_limits.address,
            "authorities": settings.rate_limits.authorities,
            "model": f"{namespace_of(md)}/{md.metadata.name}",
            "replicas": replicas or max(md.spec.replicas, 1),
        }
    return config


def _issuer(issuer: Issuer, path: str, references: References, settings: AccessSettings) -> dict[str, Any]:
    config: dict[str, Any] = {"name": issuer.name, "issuer": issuer.issuer, "audiences": issuer.audiences}
    if issuer.jwks_uri:
        why = allowlist.problem(issuer.jwks_uri, settings.keys.allow)
        if why:
            raise AddressNotAllowedError(f"{path}.jwksURI: {why}")
        return {**config, "jwksURI": issuer.jwks_uri}
    if issuer.service_accounts:
        return {**config, "jwks": _cluster_keys(issuer, path, settings.cluster), "cluster": True}
    name = issuer.jwks_config_map_name or ""
    document = references.content("ConfigMap", name, JWKS_KEY)
    try:
        jwks = json.loads(document or b"")
    except (ValueError, RecursionError) as error:
        raise SidecarConfigError(f"{path}.jwksConfigMapName: {JWKS_KEY} in ConfigMap {name} is not JSON") from error
    if not isinstance(jwks, dict):
        raise SidecarConfigError(f"{path}.jwksConfigMapName: {JWKS_KEY} in ConfigMap {name} is not a JSON Web Key Set")
    return {**config, "jwks": jwks}


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


def _cluster_keys(issuer: Issuer, path: str, cluster: ClusterIssuer | None) -> dict[str, Any]:
    if cluster is None:
        raise SidecarConfigError(
            f"{path}.serviceAccounts: the cluster does not tell who issues its service accounts' tokens"
            " (/.well-known/openid-configuration, /openid/v1/jwks)"
        )
    if issuer.issuer != cluster.issuer:
        raise SidecarConfigError(f"{path}.issuer: this cluster's own issuer is {cluster.issuer}: write that")
    if cluster.issuer in issuer.audiences:
        raise SidecarConfigError(
            f"{path}.audiences: {cluster.issuer} is the API server's own: whoever saw such a token at the model could"
            " use it there; name an audience of the model's"
        )
    return cluster.jwks


def _tensor(tensor: Tensor) -> dict[str, Any]:
    shape = list(tensor.shape)
    if tensor.columns and shape[-1] == -1:  # the columns say how many there are
        shape[-1] = len(tensor.columns)
    out = tensor.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"role"})
    return {**out, "shape": shape}


def _screening(md: ModelDeployment, policies: Sequence[Policy], references: References) -> dict[str, Any]:
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


def unsupported(md: ModelDeployment, policies: Sequence[Policy]) -> list[str]:
    """Return every declared field that cannot be honoured, with the reason (and the fix) where it is not plain."""
    wrong = (f"{_who(one.policy)} {one.field} ({one.message})" for one in impossible(md, policies))
    return [
        *_of_model(md),
        *anonymity_unsupported(md, policies),
        *explanations_unsupported(md, policies),
        *wrong,
        *(f"{_who(policy)} {field}" for policy in policies for field in _of_policy(md, policy)),
    ]


def _of_model(md: ModelDeployment) -> Iterator[str]:
    spec = md.spec
    yield from in_use_unsupported(md)
    for index, issuer in enumerate(spec.access.issuers if spec.access else ()):
        if not issuer.audiences:
            yield f"spec.access.issuers[{index}].audiences (none: a token for anything would do; name one)"
    yield from _of_schema(md)
    yield from _of_monitoring(md)
    yield from fairness_unsupported(md)


def _of_schema(md: ModelDeployment) -> Iterator[str]:
    schema = md.spec.schema_
    if schema is None or protocol_of(md) == "v2":
        return
    if schema.outputs:
        yield "spec.schema.outputs with the protocol v1"
    for index, tensor in enumerate(schema.inputs):
        shape = _tensor(tensor)["shape"]
        if shape[0] != -1 or -1 in shape[1:]:
            yield f"spec.schema.inputs[{index}].shape with the protocol v1 (the first axis, and no other, must be -1)"


def _of_monitoring(md: ModelDeployment) -> Iterator[str]:
    monitoring = md.spec.monitoring
    if monitoring is None:
        return
    if monitoring.baseline and monitoring.baseline.dataset:
        try:
            read_dataset(monitoring.baseline.dataset, md.metadata.annotations)
        except DatasetError as error:
            yield f"spec.monitoring.baseline.dataset ({error})"
    for index, detector in enumerate(monitoring.detectors):
        if detector.type == "Output":  # it looks at answers alone
            continue
        if not monitoring.baseline:
            yield f"spec.monitoring.detectors[{index}] without spec.monitoring.baseline"
        if not md.spec.schema_ or not md.spec.schema_.inputs:
            yield f"spec.monitoring.detectors[{index}] without spec.schema.inputs"
    telemetry = monitoring.telemetry
    if telemetry and telemetry.access_log == "OTLP" and not telemetry.otlp_endpoint:
        yield "spec.monitoring.telemetry.accessLog OTLP without otlpEndpoint"


def _of_policy(md: ModelDeployment, policy: Policy) -> Iterator[str]:
    if md.spec.target_ref and policy["spec"].get("onViolation") == "Stop":
        yield "spec.onViolation Stop with spec.targetRef (a workload of somebody else's is not scaled)"


def _who(policy: Policy) -> str:
    return f"{policy.get('kind', 'DataPolicy')} {policy['metadata']['name']}"
