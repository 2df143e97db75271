"""What an installation decides for all its models about access and about the places that sidecars may connect to.

The chart's values `access`, `telemetry` and `datasets`, and the cluster's keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelward import allowlist
from modelward.api.modeldeployment import Issuer, ModelDeployment

_REDIS = re.compile(r"rediss?://([!-.0-9;-?A-~]+@)?[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[0-9]{0,3})?")
_NAMESPACE_NAME = "kubernetes.io/metadata.name"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """Base of every part: immutable, camelCase outside, no unknown fields."""


class Egress(_Part, frozen=True):
    """A way out of model pods: to a port of an address range, or of the pods of a namespace."""

    port: Annotated[int, Meta(ge=1, le=65535)]
    cidr: str = ""
    namespace: str = ""

    def rule(self) -> dict[str, Any]:
        """Return it as a NetworkPolicy has it."""
        peer = (
            {"ipBlock": {"cidr": self.cidr}}
            if self.cidr
            else {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: self.namespace}}}
        )
        return {"to": [peer], "ports": [{"protocol": "TCP", "port": self.port}]}


class Destinations(_Part, frozen=True):
    """Where sidecars may connect to for one purpose.

    Attributes:
        allow: addresses, see `modelward.allowlist`.
        authorities: PEM bundle that is trusted there; empty: public authorities.
        egress: where the pods of models that ask for it may connect to for it.
    """

    allow: tuple[str, ...] = ()
    authorities: str = ""
    egress: tuple[Egress, ...] = ()


class RateLimits(_Part, frozen=True):
    """Where all replicas of a model count its rate limits together.

    Attributes:
        address: of Valkey or Redis, as redis:// or rediss:// (TLS); empty: each replica counts by itself.
        authorities: PEM bundle that is trusted there; empty: public authorities.
        password_secret_name: Secret of the system namespace with the password under the key `password`; empty: none.
        egress: where the pods of models with a rate limit may connect to for it.
    """

    address: str = ""
    authorities: str = ""
    password_secret_name: str = ""
    egress: tuple[Egress, ...] = ()


class KeyFetching(Destinations, frozen=True):
    """How issuers' keys are fetched by URL."""


class Collectors(Destinations, frozen=True):
    """Which OpenTelemetry collectors may be sent to. http:// is possible: the records are then in the clear."""


class Datasets(Destinations, frozen=True):
    """Which addresses the Jobs that fit baselines may fetch their data from."""


class ClusterIssuer(_Part, frozen=True):
    """Who issues service accounts' tokens in this cluster: the claim `iss`, and the keys (RFC 7517)."""

    issuer: str
    jwks: dict[str, Any]


class AccessSettings(_Part, frozen=True):
    """All of it. `cluster` None: not known."""

    keys: KeyFetching = KeyFetching()
    rate_limits: RateLimits = RateLimits()
    telemetry: Collectors = Collectors()
    datasets: Datasets = Datasets()
    cluster: ClusterIssuer | None = None


class AccessSettingsError(Exception):
    """The chart's values cannot be used; the message names the value."""


def read_settings(text: str) -> AccessSettings:
    """Read the chart's values `access`, `telemetry` and `datasets` among them, from JSON; an empty text: the defaults.

    Raises:
        AccessSettingsError: they cannot be used.
    """
    try:
        settings = msgspec.json.decode(text or "{}", type=AccessSettings)
    except (msgspec.MsgspecError, ValueError) as error:
        raise AccessSettingsError(f"access: {error}") from error
    for index, address in enumerate(settings.keys.allow):
        if why := allowlist.problem(address, [address]):
            raise AccessSettingsError(f"access.keys.allow[{index}]: {why}")
    for index, address in enumerate(settings.telemetry.allow):
        if why := allowlist.problem(address, [address], plain=True):
            raise AccessSettingsError(f"telemetry.allow[{index}]: {why}")
    for index, address in enumerate(settings.datasets.allow):
        if why := allowlist.problem(address, [address]):
            raise AccessSettingsError(f"datasets.allow[{index}]: {why}")
    if settings.rate_limits.address and not _REDIS.fullmatch(settings.rate_limits.address):
        raise AccessSettingsError(
            "access.rateLimits.address: give redis://host:port or rediss://host:port (TLS); a password belongs into the"
            " Secret that passwordSecretName names"
        )
    for what, ways in (
        ("access.keys", settings.keys.egress),
        ("access.rateLimits", settings.rate_limits.egress),
        ("telemetry", settings.telemetry.egress),
        ("datasets", settings.datasets.egress),
    ):
        for index, egress in enumerate(ways):
            if bool(egress.cidr) == bool(egress.namespace):
                raise AccessSettingsError(f"{what}.egress[{index}]: give exactly one of cidr and namespace")
    return settings


def fetched(md: ModelDeployment) -> Iterator[tuple[str, Issuer]]:
    """Give the issuers whose keys are fetched by URL, each with the path of that field."""
    for index, issuer in enumerate(md.spec.access.issuers if md.spec.access else ()):
        if issuer.jwks_uri:
            yield f"spec.access.issuers[{index}].jwksURI", issuer


def counts_together(md: ModelDeployment, settings: AccessSettings) -> bool:
    """Tell whether a model's replicas count its rate limits together."""
    rules = md.spec.access.rules if md.spec.access else ()
    return bool(settings.rate_limits.address) and any(rule.rate_limit for rule in rules)


def collector_of(md: ModelDeployment) -> str:
    """Return the OpenTelemetry collector that a model's sidecar sends to; nothing where there is none."""
    telemetry = md.spec.monitoring.telemetry if md.spec.monitoring else None
    return telemetry.otlp_endpoint or "" if telemetry else ""


def trusting(md: ModelDeployment) -> AccessSettings:
    """Return the settings of an installation that lets a model's sidecar connect wherever the manifest says."""
    collector = collector_of(md)
    return AccessSettings(
        keys=KeyFetching(allow=tuple(str(issuer.jwks_uri) for _, issuer in fetched(md))),
        telemetry=Collectors(allow=(collector,) if collector else ()),
    )


def egress_rules(md: ModelDeployment, settings: AccessSettings) -> list[dict[str, Any]]:
    """Return what a model's pods need to reach for access control and telemetry, as a NetworkPolicy has it.

    The sidecar shares its pod's network with the model: what is opened for the one is open to the other. So nothing is
    opened for a model that does not need it.
    """
    keys = settings.keys.egress if any(fetched(md)) else ()
    counting = settings.rate_limits.egress if counts_together(md, settings) else ()
    collector = settings.telemetry.egress if collector_of(md) else ()
    return [egress.rule() for egress in dict.fromkeys((*keys, *counting, *collector))]
