"""The ConfigMaps and Secrets that a ModelDeployment names: which they are, and what was found of them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from modelward.api.modeldeployment import Baseline, ModelDeployment

JWKS_KEY = "jwks.json"
BASELINE_KEY = "baseline.npz"
CLIENT_CA_KEY = "ca.crt"

Kind = Literal["ConfigMap", "Secret"]


@dataclass(frozen=True)
class Reference:
    """One ConfigMap or Secret that is named, the key that must be in it, and the field that names it."""

    kind: Kind
    name: str
    field: str
    key: str = ""


@dataclass(frozen=True)
class References:
    """What was found, by name, as the API server or a manifest gives it.

    Attributes:
        config_maps: ConfigMaps of the model's namespace.
        secrets: Secrets of the model's namespace.
        client_authorities: PEM bundle of modelward's own CA, which MutualTLS trusts where no other is named.
    """

    config_maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    client_authorities: str = ""

    @classmethod
    def among(cls, objects: Iterable[Mapping[str, Any]], namespace: str) -> References:
        """Return the ConfigMaps and Secrets of a namespace that are among these objects."""
        found: dict[str, dict[str, Mapping[str, Any]]] = {"ConfigMap": {}, "Secret": {}}
        for item in objects:
            metadata = item.get("metadata")
            if item.get("kind") not in found or not isinstance(metadata, Mapping):
                continue
            if (metadata.get("namespace") or "default") == namespace:
                found[item["kind"]][str(metadata.get("name"))] = item
        return cls(found["ConfigMap"], found["Secret"])

    def content(self, kind: Kind, name: str, key: str) -> bytes | None:
        """Return what is under a key; None where the object or the key is not there, or is not base64."""
        found = (self.config_maps if kind == "ConfigMap" else self.secrets).get(name)
        if found is None:
            return None
        plain = found.get("data" if kind == "ConfigMap" else "stringData") or {}
        encoded = found.get("binaryData" if kind == "ConfigMap" else "data") or {}
        if key in plain:
            return str(plain[key]).encode()
        try:
            return base64.b64decode(encoded[key], validate=True) if key in encoded else None
        except (binascii.Error, TypeError, ValueError):
            return None

    def missing(self, wanted: tuple[Reference, ...]) -> tuple[Reference, ...]:
        """Return the references whose object, or whose key in it, was not found."""
        return tuple(reference for reference in wanted if not self._has(reference))

    def lack(self, reference: Reference) -> str:
        """Say what a missing reference lacks."""
        found = self.config_maps if reference.kind == "ConfigMap" else self.secrets
        what = f"{reference.field} names {reference.kind} {reference.name}"
        if reference.name in found:
            return f"{what}, which has no key {reference.key}"
        return f"{what}, which is not there"

    def _has(self, reference: Reference) -> bool:
        if reference.key:
            return self.content(reference.kind, reference.name, reference.key) is not None
        return reference.name in (self.config_maps if reference.kind == "ConfigMap" else self.secrets)


def references_of(md: ModelDeployment) -> tuple[Reference, ...]:
    """Return every ConfigMap and Secret that a ModelDeployment needs before anything can be made for it."""
    return (*_encryption(md), *_issuers(md), *_baseline(md), *_container(md))


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
