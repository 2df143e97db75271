"""What an installation has once: its authority, the key that signs configurations, and the webhook's certificate.

All of it lives in the system namespace; nothing but leaves and public keys ever leaves it.
"""

from __future__ import annotations

import base64
import binascii
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.controller.apply import ensure
from modelward.controller.certificates import Authority, Pair, issue, new_authority, rotated, serves
from modelward.controller.cluster import ApiError, Cluster
from modelward.planner.access import AccessSettings
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.plan import Settings
from modelward.planner.pod_policy import identity_policies
from modelward.planner.sidecar import CONFIG_KEY_KEY, FORMER_IMAGES_KEY, IMAGE_KEY, SETTINGS_NAME
from modelward.privacy.keys import KEY_BYTES, KeyFileError, derive

log = logging.getLogger("modelward.controller")

AUTHORITY_SECRET = "modelward-ca"  # noqa: S105 - a name
CONFIG_KEY_SECRET = "modelward-config-key"  # noqa: S105 - a name
PSEUDONYM_SECRET = "modelward-pseudonym-keys"  # noqa: S105 - a name
WEBHOOK_SECRET = "modelward-admission-tls"  # noqa: S105 - a name
WEBHOOK_SERVICE = "modelward-admission"
WEBHOOK_CONFIGURATION = "modelward"
_MAX_FORMER_IMAGES = 4
_LABELS = {"app.kubernetes.io/part-of": "modelward", MANAGED_BY_LABEL: MANAGER}


@dataclass(frozen=True)
class Installed:
    """What reconciling models needs of the installation."""

    authority: Authority
    signing_key: Ed25519PrivateKey
    settings: Settings
    pseudonym_masters: Mapping[int, bytes] = field(repr=False)
    limits_password: bytes = field(default=b"", repr=False)
    lineage_secret: Mapping[str, str] = field(default_factory=dict, repr=False)


class Installation:
    """Keeps the installation's keys and certificates, in order and in time."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        sidecar_image: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        issues_for_webhook: bool = True,
        access: AccessSettings | None = None,
        jobs_image: str = "",
    ) -> None:
        """Prepare.

        Args:
            cluster: the API server.
            namespace: the system namespace.
            sidecar_image: by digest.
            clock: the time.
            issues_for_webhook: whether the webhook's certificate and caBundle are ours to write; cert-manager's if not.
            access: what the chart's values decide about access.
            jobs_image: of the Jobs that fit baselines, by digest; empty: there are none.
        """
        self._jobs_image = jobs_image
        self._access = access or AccessSettings()
        self._issues_for_webhook = issues_for_webhook
        self._cluster = cluster
        self.namespace = namespace
        self._sidecar_image = sidecar_image
        self._clock = clock

    async def reconcile(self) -> Installed:
        """Bring everything about; a second call writes nothing.

        Raises:
            ApiError: the API server refused.
        """
        authority = await self._authority()
        if self._issues_for_webhook:
            # The bundle is published before anything that it vouches for.
            await self._publish_bundle(authority.bundle)
            await self._webhook_certificate(authority)
        signing_key = await self._signing_key()
        public = signing_key.public_key().public_bytes_raw()
        former = await self._former_images()
        access = msgspec.structs.replace(self._access, cluster=await self._cluster.issuer())
        settings = Settings(
            self._sidecar_image,
            base64.b64encode(public).decode(),
            former,
            access=access,
            jobs_image=self._jobs_image,
        )
        await self._enforce_identity(settings)
        await ensure(self._cluster, self._object("ConfigMap", SETTINGS_NAME, data=_published(settings)))
        masters, password = await self._pseudonym_masters(), await self._limits_password()
        return Installed(authority, signing_key, settings, masters, password, await self._lineage_secret())

    async def _authority(self) -> Authority:
        secret = await self._cluster.get("Secret", self.namespace, AUTHORITY_SECRET)
        if secret is None:
            authority = new_authority(self._clock())
            # Created and not applied: two controllers must never both have an authority.
            await self._cluster.create(
                self._object("Secret", AUTHORITY_SECRET, type="Opaque", data=_authority_data(authority))
            )
            return authority
        there = _read_authority(secret)
        authority = rotated(there, self._clock())
        if authority is not there:
            await self._update_secret(secret, {"next.crt": None, "next.key": None, **_authority_data(authority)})
        return authority

    async def _limits_password(self) -> bytes:
        """The password for the server that counts rate limits; without it every replica counts by itself."""
        name = self._access.rate_limits.password_secret_name
        if not name:
            return b""
        secret = await self._cluster.get("Secret", self.namespace, name)
        try:
            return base64.b64decode(((secret or {}).get("data") or {})["password"])
        except (KeyError, binascii.Error):
            log.warning("access.rateLimits.passwordSecretName: no `password` in Secret %s: limits are not shared", name)
            return b""

    async def _lineage_secret(self) -> dict[str, str]:
        """What the receiver of lineage events wants to be shown: `apiKey`, or options of Kafka's."""
        lineage = self._access.lineage
        name = lineage.api_key_secret_name or lineage.kafka.secret_name
        if not name:
            return {}
        secret = await self._cluster.get("Secret", self.namespace, name)
        try:
            return {key: base64.b64decode(value).decode() for key, value in ((secret or {})["data"]).items()}
        except (KeyError, ValueError):
            effect = "nothing is sent to Kafka" if lineage.kafka.secret_name else "events are sent without it"
            log.warning("lineage: no Secret %s with texts in %s: %s", name, self.namespace, effect)
            return {}

    async def _signing_key(self) -> Ed25519PrivateKey:
        secret = await self._cluster.get("Secret", self.namespace, CONFIG_KEY_SECRET)
        if secret is not None:
            pem = base64.b64decode(secret["data"]["private.pem"])
            key = serialization.load_pem_private_key(pem, password=None)
            if not isinstance(key, Ed25519PrivateKey):
                raise ApiError(0, f"Secret {CONFIG_KEY_SECRET}", "private.pem is not an Ed25519 key; delete the Secret")
            return key
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        data = {"private.pem": _base64(pem)}
        await self._cluster.create(self._object("Secret", CONFIG_KEY_SECRET, type="Opaque", data=data))
        return key

    async def _enforce_identity(self, settings: Settings) -> None:
        """Have the API server hold new pods to this sidecar; a policy that was taken away comes back."""
        for item in identity_policies(settings.sidecar_image, settings.config_key):
            await ensure(self._cluster, await with_installation(self._cluster, item))

    async def _former_images(self) -> tuple[str, ...]:
        """Images that the sidecar had before this one, the latest first: pods with one are still watched."""
        published = await self._cluster.get("ConfigMap", self.namespace, SETTINGS_NAME)
        data = (published or {}).get("data") or {}
        images = [data.get(IMAGE_KEY, ""), *data.get(FORMER_IMAGES_KEY, "").split()]
        return tuple(dict.fromkeys(one for one in images if one and one != self._sidecar_image))[:_MAX_FORMER_IMAGES]

    async def _pseudonym_masters(self) -> dict[int, bytes]:
        """The keys that every namespace's are derived from, by version; the highest is in use.

        To rotate, add the next `v<number>` (32 random bytes) to the Secret: the versions before it are still read,
        until they are taken out.
        """
        secret = await self._cluster.get("Secret", self.namespace, PSEUDONYM_SECRET)
        if secret is None:
            masters = {1: secrets.token_bytes(KEY_BYTES)}
            data = {"v1": _base64(masters[1])}
            # Created and not applied: two controllers must never both have one.
            await self._cluster.create(self._object("Secret", PSEUDONYM_SECRET, type="Opaque", data=data))
            return masters
        try:
            masters = {int(name.removeprefix("v")): base64.b64decode(value) for name, value in secret["data"].items()}
            derive(masters, self.namespace)
        except (KeyError, ValueError, KeyFileError) as error:
            message = "has keys other than v1, v2, ... of 32 bytes each; restore it: without it pseudonyms change"
            raise ApiError(0, f"Secret {PSEUDONYM_SECRET}", message) from error
        return masters

    async def _webhook_certificate(self, authority: Authority) -> None:
        name = f"{WEBHOOK_SERVICE}.{self.namespace}.svc"
        secret = await self._cluster.get("Secret", self.namespace, WEBHOOK_SECRET)
        data = secret.get("data", {}) if secret else {}
        pair = Pair(base64.b64decode(data.get("tls.crt", "")), base64.b64decode(data.get("tls.key", "")))
        if not serves(pair, authority, [name], self._clock()):
            pair = issue(authority, [name], self._clock())
        wanted = {"tls.crt": pair.chain, "tls.key": pair.key, "ca.crt": authority.bundle}
        data = {key: _base64(value) for key, value in wanted.items()}
        await ensure(self._cluster, self._object("Secret", WEBHOOK_SECRET, type="kubernetes.io/tls", data=data))

    async def _publish_bundle(self, bundle: bytes) -> None:
        configuration = await self._cluster.get("MutatingWebhookConfiguration", "", WEBHOOK_CONFIGURATION)
        if configuration is None:
            return  # installed without the webhook
        wanted = _base64(bundle)
        operations: list[KubeObject] = []
        for index, webhook in enumerate(configuration.get("webhooks", ())):
            if webhook["clientConfig"].get("caBundle") != wanted:
                path = f"/webhooks/{index}"
                operations.append({"op": "test", "path": f"{path}/name", "value": webhook["name"]})
                operations.append({"op": "add", "path": f"{path}/clientConfig/caBundle", "value": wanted})
        if operations:
            await self._cluster.json_patch(configuration, operations)

    async def _update_secret(self, secret: KubeObject, data: dict[str, Any]) -> None:
        version = secret["metadata"]["resourceVersion"]  # refused when somebody else wrote in between
        await self._cluster.merge(secret, {"metadata": {"resourceVersion": version}, "data": data})

    def _object(self, kind: str, name: str, **content: Any) -> KubeObject:
        metadata = {"name": name, "namespace": self.namespace, "labels": _LABELS}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


def _published(settings: Settings) -> dict[str, str]:
    return {
        IMAGE_KEY: settings.sidecar_image,
        CONFIG_KEY_KEY: settings.config_key,
        FORMER_IMAGES_KEY: " ".join(settings.former_images),
    }


def _read_authority(secret: KubeObject) -> Authority:
    data = {key: base64.b64decode(value) for key, value in secret.get("data", {}).items()}
    try:
        following = Pair(data["next.crt"], data["next.key"]) if "next.crt" in data else None
        authority = Authority(Pair(data["tls.crt"], data["tls.key"]), following, data["ca.crt"])
        authority.current.certificate  # noqa: B018 - readable?
    except (KeyError, ValueError) as error:
        message = "is not an authority that modelward wrote; restore it, or delete it to have a new one made"
        raise ApiError(0, f"Secret {AUTHORITY_SECRET}", message) from error
    return authority


def _authority_data(authority: Authority) -> dict[str, str]:
    data = {"tls.crt": authority.current.chain, "tls.key": authority.current.key, "ca.crt": authority.bundle}
    if authority.following:
        data |= {"next.crt": authority.following.chain, "next.key": authority.following.key}
    return {name: _base64(value) for name, value in data.items()}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def with_installation(cluster: Cluster, item: KubeObject) -> KubeObject:
    """Return an object of ours that goes with the installation, not to outlive who would explain it."""
    metadata = {**item["metadata"], "labels": {**item["metadata"].get("labels", {}), MANAGED_BY_LABEL: MANAGER}}
    owner = await cluster.get("MutatingWebhookConfiguration", "", WEBHOOK_CONFIGURATION)
    if owner is not None:
        reference = {key: owner["metadata"][key] for key in ("name", "uid")}
        metadata["ownerReferences"] = [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], **reference}]
    return {**item, "metadata": metadata}
