"""What an installation decides for all its models about access and about the places that sidecars may connect to.

The chart's values `access`, `telemetry`, `datasets` and `lineage`, and the cluster's keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelward import allowlist
from modelward.api.access import Issuer
from modelward.api.modeldeployment import ModelDeployment

_REDIS = re.compile(r"rediss?://([!-.0-9;-?A-~]+@)?[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[0-9]{0,3})?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
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


class Kafka(_Part, frozen=True):
    """A topic that lineage events are written to.

    Attributes:
        bootstrap_servers: host:port, separated by commas; empty: no topic.
        topic: its name.
        secret_name: Secret of the system namespace with more options of librdkafka's, such as `sasl.password`; empty:
            none.
    """

    bootstrap_servers: str = ""
    topic: str = ""
    secret_name: str = ""


class Lineage(_Part, frozen=True):
    """Where the controller sends lineage events (OpenLineage); at most one of `url`, `file` and `kafka`.

    Attributes:
        allow: receivers that models may name, see `modelward.allowlist`; http:// is possible.
        authorities: PEM bundle that is trusted there; empty: public authorities.
        namespace: of jobs and data sets, so that clusters can be told apart at one receiver.
        url: the receiver of models that name none; empty: none.
        api_key_secret_name: Secret of the system namespace with the key for `url` under `apiKey`; empty: none.
        file: path of a file in the controller's pod instead.
        kafka: a topic instead.
    """

    allow: tuple[str, ...] = ()
    authorities: str = ""
    namespace: Annotated[str, Meta(min_length=1, max_length=253)] = "modelward"
    url: str = ""
    api_key_secret_name: str = ""
    file: str = ""
    kafka: Kafka = Kafka()


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
    lineage: Lineage = Lineage()
    cluster: ClusterIssuer | None = None


class AccessSettingsError(Exception):
    """The chart's values cannot be used; the message names the value."""


def read_settings(text: str) -> AccessSettings:
    """Read the chart's values `access`, the others among them, from JSON; an empty text: the defaults.

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
    _check_lineage(settings.lineage)
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


def _check_lineage(lineage: Lineage) -> None:
    for index, address in enumerate(lineage.allow):
        if why := allowlist.problem(address, [address], plain=True):
            raise AccessSettingsError(f"lineage.allow[{index}]: {why}")
    if lineage.url and (why := allowlist.problem(lineage.url, [f"{lineage.url}/"], plain=True)):
        raise AccessSettingsError(f"lineage.url: {why}")
    if sum(map(bool, (lineage.url, lineage.file, lineage.kafka.bootstrap_servers))) > 1:
        raise AccessSettingsError("lineage: give at most one of url, file and kafka.bootstrapServers")
    if lineage.file and (not lineage.file.startswith("/") or "://" in lineage.file):
        raise AccessSettingsError("lineage.file: give the whole path of a file, such as /var/lib/lineage/events.jsonl")
    if lineage.kafka.bootstrap_servers and not _TOPIC.fullmatch(lineage.kafka.topic):
        raise AccessSettingsError("lineage.kafka.topic: give a topic's name: letters, digits, `.`, `_` and `-`")


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


def lineage_receiver_of(md: ModelDeployment) -> str:
    """Return the receiver of lineage events that a model names; nothing where it names none."""
    telemetry = md.spec.monitoring.telemetry if md.spec.monitoring else None
    return telemetry.lineage_endpoint or "" if telemetry else ""


def trusting(md: ModelDeployment) -> AccessSettings:
    """Return the settings of an installation that lets a model's sidecar connect wherever the manifest says."""
    collector, receiver = collector_of(md), lineage_receiver_of(md)
    return AccessSettings(
        keys=KeyFetching(allow=tuple(str(issuer.jwks_uri) for _, issuer in fetched(md))),
        telemetry=Collectors(allow=(collector,) if collector else ()),
        lineage=Lineage(allow=(receiver,) if receiver else ()),
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
