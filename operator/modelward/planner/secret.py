"""The Secret `<name>-serving`: the certificate that the sidecar shows, and the authorities that vouch for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY
from modelward.planner.names import KubeObject, metadata
from modelward.planner.sidecar import KEYS_FILE, LIMITS_PASSWORD_KEY, serving_secret_name


@dataclass(frozen=True, repr=False)
class ServingCertificate:
    """A certificate chain with its key, and the authorities that a caller must trust; all PEM.

    With them goes the password for the server that counts rate limits, where there is one.

    It has no representation: the key must not find its way into a log.
    """

    chain: bytes
    key: bytes
    authorities: bytes
    limits_password: bytes = b""


def secret(
    md: ModelDeployment, certificate: ServingCertificate, keys: bytes = b"", baseline: bytes | None = None
) -> KubeObject:
    """Return the Secret with a model's serving certificate, and whatever else only its sidecar may read.

    Args:
        md: the ModelDeployment.
        certificate: what is served with.
        keys: the keys of its pseudonyms, where it makes any.
        baseline: what its inputs are screened by, where that is kept in a Secret.
    """
    data = {"ca.crt": certificate.authorities, "tls.crt": certificate.chain, "tls.key": certificate.key}
    if keys:
        data[KEYS_FILE] = keys
    if baseline is not None:
        data[BASELINE_KEY] = baseline
    if certificate.limits_password:
        data[LIMITS_PASSWORD_KEY] = certificate.limits_password
    return secret_of(metadata(md, serving_secret_name(md.metadata.name)), data, "kubernetes.io/tls")


def secret_of(head: KubeObject, data: Mapping[str, bytes], kind: str = "Opaque") -> KubeObject:
    """Return a Secret with these contents by key; `head` is its metadata."""
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": head, "type": kind, "data": encoded}
