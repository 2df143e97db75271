"""The serving certificate of a model: the user's own, or one of modelward's authority, kept as long as it holds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY, CLIENT_CA_KEY
from modelward.controller.apply import ensure
from modelward.controller.certificates import CertificateError, Pair, check_pair, issue, serves
from modelward.controller.cluster import Cluster
from modelward.controller.installation import Installed
from modelward.planner.access import counts_together
from modelward.planner.names import host_names, namespace_of
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate, secret
from modelward.planner.sidecar import KEYS_FILE, serving_secret_name
from modelward.wording import rfc3339


@dataclass(frozen=True)
class Serving:
    """A serving certificate, and how it compares with the one in place.

    Attributes:
        certificate: what is to serve.
        there: whether one is in place already.
        renews: whether it takes the place of another.
        source: who issued it, for people.
        ends: until when it holds (RFC 3339).
        keys: the keys of pseudonyms that are in place.
        baseline: the one that is in place, where it came from a Secret.
    """

    certificate: ServingCertificate
    there: bool
    renews: bool
    source: str
    ends: str
    keys: bytes = field(repr=False)
    baseline: bytes | None = field(repr=False)

    async def write(self, cluster: Cluster, md: ModelDeployment) -> None:
        """Put it in place, alone; the keys and the baseline that what runs was given stay."""
        await ensure(cluster, secret(md, self.certificate, self.keys, self.baseline))


async def serving_certificate(
    cluster: Cluster,
    md: ModelDeployment,
    references: References,
    installed: Installed,
    now: datetime,
    services: Sequence[str] = (),
) -> Serving:
    """Return the certificate that a model is to serve with; it is not written here.

    Args:
        cluster: the API server.
        md: the ModelDeployment.
        references: what it names.
        installed: the installation's authority.
        now: the time.
        services: names of Services of others by which the sidecar is called as well.

    Raises:
        CertificateError: the user's own cannot serve.
        ApiError: the API server refused.
    """
    namespace, name = namespace_of(md), md.metadata.name
    there = await cluster.get("Secret", namespace, serving_secret_name(name))
    data = (there or {}).get("data") or {}
    in_place = _pair(data)
    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    if in_transit and in_transit.secret_name:
        pair, authorities = _given(in_transit.secret_name, references, now)
        source = f"from Secret {in_transit.secret_name}"
    else:
        names = [host for service in (name, *services) for host in host_names(namespace, service)]
        keeps = serves(in_place, installed.authority, names, now)
        pair = in_place if keeps else issue(installed.authority, names, now)
        authorities, source = installed.authority.bundle, "issued by modelward's own authority"
    password = installed.limits_password if counts_together(md, installed.settings.access) else b""
    return Serving(
        certificate=ServingCertificate(pair.chain, pair.key, authorities, password),
        there=there is not None,
        renews=there is not None and pair.chain != in_place.chain,
        source=source,
        ends=rfc3339(pair.expires),
        keys=_decoded(data.get(KEYS_FILE, "")),
        baseline=_decoded(data[BASELINE_KEY]) if BASELINE_KEY in data else None,
    )


def _given(name: str, references: References, now: datetime) -> tuple[Pair, bytes]:
    chain, key = (references.content("Secret", name, part) for part in ("tls.crt", "tls.key"))
    if chain is None or key is None:
        raise CertificateError(f"Secret {name} has no tls.crt and tls.key")
    pair = Pair(chain, key)
    try:
        check_pair(pair, now)
    except CertificateError as error:
        raise CertificateError(f"spec.encryption.inTransit.secretName names Secret {name}: {error}") from error
    return pair, references.content("Secret", name, CLIENT_CA_KEY) or chain


def _pair(data: dict[str, str]) -> Pair:
    return Pair(_decoded(data.get("tls.crt", "")), _decoded(data.get("tls.key", "")))


def _decoded(text: str) -> bytes:
    """What is in a Secret; nothing, where it is no base64."""
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""
