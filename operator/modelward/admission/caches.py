"""What the admission server knows of the cluster: copies of policies, namespaces, settings and its own certificate."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from modelward.admission.client import Client
from modelward.admission.decide import NotReadyError, Settings, Surroundings
from modelward.admission.reflector import Reflector
from modelward.api.base import GROUP, VERSION
from modelward.planner.sidecar import CONFIG_KEY_KEY, IMAGE_KEY, SETTINGS_NAME
from modelward.rules.prepared import PreparedPolicy, prepare

CERTIFICATE_NAME = "modelward-admission-tls"

_METADATA = (
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
)
_NAMESPACES = "/api/v1/namespaces"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Namespace:
    """What is kept of a namespace."""

    labels: dict[str, str]
    uid: str


class Caches:
    """The copies, kept while `run` runs."""

    def __init__(self, client: Client, system_namespace: str, use_certificate: Callable[[bytes, bytes], None]) -> None:
        """Prepare.

        Args:
            client: of the API server.
            system_namespace: where the settings and the certificate are.
            use_certificate: called with certificate chain and key (PEM) whenever they are new.
        """
        own = f"/api/v1/namespaces/{system_namespace}"
        self._client = client
        self._system_namespace = system_namespace
        self._use_certificate = use_certificate
        group = f"/apis/{GROUP}/{VERSION}"
        self.cluster_policies = Reflector(client, f"{group}/clusterdatapolicies", _policy)
        self.policies = Reflector(client, f"{group}/datapolicies", _policy)
        self.namespaces = Reflector(client, _NAMESPACES, _namespace, accept=_METADATA)
        self.settings = Reflector(client, f"{own}/configmaps", _settings, query=_named(SETTINGS_NAME))
        self.certificates = Reflector(
            client, f"{own}/secrets", _pair, query=_named(CERTIFICATE_NAME), changed=self._load_certificate
        )

    @property
    def _all(self) -> Iterable[Reflector[Any]]:
        return self.cluster_policies, self.policies, self.namespaces, self.settings, self.certificates

    @property
    def synced(self) -> bool:
        """Whether every copy is what the API server has."""
        return all(reflector.synced for reflector in self._all)

    async def run(self) -> None:
        """Keep all copies until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._all:
                group.create_task(reflector.run())

    async def surroundings(self, namespace: str) -> Surroundings:
        """Return what a decision about an object in this namespace (empty: in none) depends on.

        Raises:
            NotReadyError: a copy is not there yet, or too old to be trusted, or the namespace is not known.
            ApiError: the API server refused to tell of the namespace.
            OSError: it did not answer.
        """
        if not self.synced:
            raise NotReadyError("the copies of policies and namespaces are not there yet, or out of date")
        governing = (
            *self.cluster_policies.items.get("", {}).values(),
            *self.policies.items.get(namespace, {}).values(),
        )
        settings = self.settings.items.get(self._system_namespace, {}).get(SETTINGS_NAME)
        labels = (await self._namespace(namespace)).labels if namespace else {}
        return Surroundings(governing, labels, settings)

    async def _namespace(self, name: str) -> Namespace:
        known = self.namespaces.items.get("", {}).get(name)
        if known is not None:
            return known
        # Made a moment ago, by the same `kubectl apply`: the watch has not told of it yet.
        found, _ = await self._client.list(_NAMESPACES, _named(name), _METADATA[0])
        if not found:
            raise NotReadyError(f"the namespace {name} is not known")
        return _namespace(found[0])

    def _load_certificate(self) -> None:
        pair = self.certificates.items.get(self._system_namespace, {}).get(CERTIFICATE_NAME)
        if pair is None:
            return  # deleted, or not issued yet; what is served stays until its successor is there
        try:
            self._use_certificate(*pair)
        except ValueError as error:  # ssl.SSLError is one
            log.error("Secret %s cannot be served, the old one stays: %s", CERTIFICATE_NAME, error)  # noqa: TRY400


def _named(name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"}


def _policy(item: dict[str, Any]) -> PreparedPolicy:
    item["metadata"].pop("managedFields", None)
    return prepare(item)


def _namespace(item: dict[str, Any]) -> Namespace:
    return Namespace(item["metadata"].get("labels") or {}, str(item["metadata"].get("uid", "")))


def _settings(item: dict[str, Any]) -> Settings | None:
    data = item.get("data") or {}
    image, config_key = data.get(IMAGE_KEY), data.get(CONFIG_KEY_KEY)
    return Settings(image, config_key) if image and config_key else None


def _pair(item: dict[str, Any]) -> tuple[bytes, bytes]:
    data = item.get("data") or {}
    try:
        return base64.b64decode(data.get("tls.crt", "")), base64.b64decode(data.get("tls.key", ""))
    except binascii.Error:
        return b"", b""
