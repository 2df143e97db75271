"""What was found of the ConfigMaps and Secrets that a ModelDeployment names."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelward.api.references import AUDIT_KEY, HIERARCHY_KEY, Kind, Reference
from modelward.planner.sidecar import SYSTEM_NAMESPACE


@dataclass(frozen=True)
class References:
    """What was found, by name, as the API server or a manifest gives it.

    Attributes:
        config_maps: ConfigMaps of the model's namespace.
        secrets: Secrets of the model's namespace.
        client_authorities: PEM bundle of modelward's own CA, which MutualTLS trusts where no other is named.
        hierarchies: ConfigMaps of the system namespace that policies name.
        fitted: the baseline that a Job fitted for the model; None where none did.
        trust: ConfigMaps of the system namespace that policies name, with the keys of signers.
        audit: ConfigMaps that policies name, by namespace and name, with the keys of auditors.
    """

    config_maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    client_authorities: str = ""
    hierarchies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fitted: bytes | None = field(default=None, repr=False)
    trust: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    audit: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def among(cls, objects: Iterable[Mapping[str, Any]], namespace: str) -> References:
        """Return the ConfigMaps and Secrets of a namespace, and the ConfigMaps of the system's, among these objects."""
        objects = list(objects)
        found: dict[str, dict[str, Mapping[str, Any]]] = {"ConfigMap": {}, "Secret": {}}
        for item in objects:
            metadata = item.get("metadata")
            if item.get("kind") not in found or not isinstance(metadata, Mapping):
                continue
            if (metadata.get("namespace") or "default") == namespace:
                found[item["kind"]][str(metadata.get("name"))] = item
        system = hierarchies_among(objects)
        audit = {(namespace, name): item for name, item in found["ConfigMap"].items()}
        audit |= {(SYSTEM_NAMESPACE, name): item for name, item in system.items()}
        return cls(found["ConfigMap"], found["Secret"], hierarchies=system, trust=system, audit=audit)

    def content(self, kind: Kind, name: str, key: str) -> bytes | None:
        """Return what is under a key; None where the object or the key is not there, or is not base64."""
        found = self._objects(kind).get(name)
        return None if found is None else _entry(kind, found, key)

    def contents(self, kind: Kind, name: str) -> dict[str, bytes] | None:
        """Return all that is in an object, by key, without what is not base64; None where it is not there."""
        found = self._objects(kind).get(name)
        return None if found is None else _entries(kind, found)

    def trusted(self, name: str) -> dict[str, bytes] | None:
        """Return all that is in a ConfigMap with the keys of signers; None where it is not there."""
        found = self.trust.get(name)
        return None if found is None else _entries("ConfigMap", found)

    def audit_key(self, namespace: str, name: str) -> bytes | None:
        """Return an auditor's public key; None where there is none."""
        found = self.audit.get((namespace, name))
        return None if found is None else _entry("ConfigMap", found, AUDIT_KEY)

    def hierarchy(self, name: str) -> str | None:
        """Return the hierarchy in a ConfigMap of the system namespace; None where there is none."""
        found = (self.hierarchies.get(name) or {}).get("data") or {}
        return str(found[HIERARCHY_KEY]) if HIERARCHY_KEY in found else None

    def missing(self, wanted: tuple[Reference, ...]) -> tuple[Reference, ...]:
        """Return the references whose object, or whose key in it, was not found."""
        return tuple(reference for reference in wanted if not self._has(reference))

    def lack(self, reference: Reference) -> str:
        """Say what a missing reference lacks."""
        found = self._objects(reference.kind)
        what = f"{reference.field} names {reference.kind} {reference.name}"
        if reference.name in found:
            return f"{what}, which has no key {reference.key}"
        return f"{what}, which is not there"

    def _has(self, reference: Reference) -> bool:
        if reference.key:
            return self.content(reference.kind, reference.name, reference.key) is not None
        return reference.name in self._objects(reference.kind)

    def _objects(self, kind: Kind) -> Mapping[str, Mapping[str, Any]]:
        return self.config_maps if kind == "ConfigMap" else self.secrets


_PARTS: dict[Kind, tuple[str, str]] = {"ConfigMap": ("data", "binaryData"), "Secret": ("stringData", "data")}
"""Where an object of a kind holds what is written plainly, and what is written in base64."""


def _entry(kind: Kind, found: Mapping[str, Any], key: str) -> bytes | None:
    plain, encoded = (found.get(part) or {} for part in _PARTS[kind])
    if key in plain:
        return str(plain[key]).encode()
    try:
        return base64.b64decode(encoded[key], validate=True) if key in encoded else None
    except (binascii.Error, TypeError, ValueError):
        return None


def _entries(kind: Kind, found: Mapping[str, Any]) -> dict[str, bytes]:
    keys = sorted({str(key) for part in _PARTS[kind] for key in found.get(part) or {}})
    return {key: content for key in keys if (content := _entry(kind, found, key)) is not None}


def hierarchies_among(objects: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the ConfigMaps of the system namespace among these objects, by name.

    Hierarchies are there and nowhere else: whoever may edit ConfigMaps in a model's namespace could otherwise write one
    in which every value is its own group.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for item in objects:
        metadata = item.get("metadata")
        if item.get("kind") != "ConfigMap" or not isinstance(metadata, Mapping):
            continue
        if metadata.get("namespace") == SYSTEM_NAMESPACE:
            found[str(metadata.get("name"))] = item
    return found
