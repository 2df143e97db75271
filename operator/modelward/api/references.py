"""The ConfigMaps and Secrets that a ModelDeployment names, and what must be in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.monitoring import Baseline

JWKS_KEY = "jwks.json"
BASELINE_KEY = "baseline.npz"
CLIENT_CA_KEY = "ca.crt"
WEIGHTS_KEY = "weights.json"
HIERARCHY_KEY = "hierarchy.csv"
AUDIT_KEY = "keys.bin"

Kind = Literal["ConfigMap", "Secret"]


@dataclass(frozen=True)
class Reference:
    """One ConfigMap or Secret that is named, the key that must be in it, and the field that names it."""

    kind: Kind
    name: str
    field: str
    key: str = ""


def references_of(md: ModelDeployment) -> tuple[Reference, ...]:
    """Return every ConfigMap and Secret that a ModelDeployment needs before anything can be made for it."""
    return (*_encryption(md), *_issuers(md), *_baseline(md), *_explanations(md), *_container(md))


def baseline_reference(baseline: Baseline) -> Reference | None:
    """Return where a fitted baseline is; None when it is yet to be fitted from a data set."""
    if baseline.config_map_name:
        return Reference("ConfigMap", baseline.config_map_name, "spec.monitoring.baseline.configMapName", BASELINE_KEY)
    if baseline.secret_name:
        return Reference("Secret", baseline.secret_name, "spec.monitoring.baseline.secretName", BASELINE_KEY)
    return None


def _encryption(md: ModelDeployment) -> Iterator[Reference]:
    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    if in_transit and in_transit.secret_name:
        for key in ("tls.crt", "tls.key"):
            yield Reference("Secret", in_transit.secret_name, "spec.encryption.inTransit.secretName", key)
    if in_transit and in_transit.client_ca_secret_name:
        path = "spec.encryption.inTransit.clientCASecretName"
        yield Reference("Secret", in_transit.client_ca_secret_name, path, CLIENT_CA_KEY)
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    if in_use and in_use.weights_config_map_name:
        path = "spec.encryption.inUse.weightsConfigMapName"
        yield Reference("ConfigMap", in_use.weights_config_map_name, path, WEIGHTS_KEY)


def _issuers(md: ModelDeployment) -> Iterator[Reference]:
    for index, issuer in enumerate(md.spec.access.issuers if md.spec.access else ()):
        if issuer.jwks_config_map_name:
            path = f"spec.access.issuers[{index}].jwksConfigMapName"
            yield Reference("ConfigMap", issuer.jwks_config_map_name, path, JWKS_KEY)


def _baseline(md: ModelDeployment) -> Iterator[Reference]:
    baseline = md.spec.monitoring.baseline if md.spec.monitoring else None
    reference = baseline_reference(baseline) if baseline else None
    if reference:
        yield reference


def _explanations(md: ModelDeployment) -> Iterator[Reference]:
    name = md.spec.explanations.weights_config_map_name if md.spec.explanations else None
    if name:
        yield Reference("ConfigMap", name, "spec.explanations.weightsConfigMapName", WEIGHTS_KEY)


def _container(md: ModelDeployment) -> Iterator[Reference]:
    if md.spec.model is None:
        return
    for index, variable in enumerate(md.spec.model.env):
        source = variable.value_from
        if source and source.secret_key_ref:
            path = f"spec.model.env[{index}].valueFrom.secretKeyRef"
            yield Reference("Secret", source.secret_key_ref.name, path, source.secret_key_ref.key)
        if source and source.config_map_key_ref:
            path = f"spec.model.env[{index}].valueFrom.configMapKeyRef"
            yield Reference("ConfigMap", source.config_map_key_ref.name, path, source.config_map_key_ref.key)
    for index, name in enumerate(md.spec.model.image_pull_secrets):
        yield Reference("Secret", name, f"spec.model.imagePullSecrets[{index}]")
