"""What was found of the ConfigMaps and Secrets that a ModelDeployment names."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from modelward.api.references import HIERARCHY_KEY, Kind, Reference
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
    """

    config_maps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    client_authorities: str = ""
    hierarchies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fitted: bytes | None = field(default=None, repr=False)

    @classmethod
    def among(cls, objects: Iterable[Mapping[str, Any]], namespace: str) -> References:
        """Return the ConfigMaps and Secrets of a namespace, and the system's hierarchies, among these objects."""
        objects = list(objects)
        found: dict[str, dict[str, Mapping[str, Any]]] = {"ConfigMap": {}, "Secret": {}}
        for item in objects:
            metadata = item.get("metadata")
            if item.get("kind") not in found or not isinstance(metadata, Mapping):
                continue
            if (metadata.get("namespace") or "default") == namespace:
                found[item["kind"]][str(metadata.get("name"))] = item
        return cls(found["ConfigMap"], found["Secret"], hierarchies=hierarchies_among(objects))

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

    def hierarchy(self, name: str) -> str | None:
        """Return the hierarchy in a ConfigMap of the system namespace; None where there is none."""
        found = (self.hierarchies.get(name) or {}).get("data") or {}
        return str(found[HIERARCHY_KEY]) if HIERARCHY_KEY in found else None

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
