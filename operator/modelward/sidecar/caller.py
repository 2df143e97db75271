"""Who is asking: the subjects that access rules can name."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SAN_KINDS = {"DNS", "URI", "email"}
_MODELWARDS = ".modelward.internal"
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")


@dataclass(slots=True, eq=False)
class Caller:
    """An authenticated caller.

    `name` is what the record calls them, `subjects` everything a rule may match them by, `purpose` the token's claim,
    `begins` and `expires` are seconds since the epoch. `matches` remembers which rule fitted, see `access.Access`.
    `tests`: it is the security test, see `sidecar.tester`.
    """

    name: str
    issuer: str
    subjects: frozenset[str]
    purpose: str | None = None
    begins: float = 0.0
    expires: float = float("inf")
    matches: dict[tuple[str, str | None], int] = field(default_factory=dict)
    tests: bool = False
    key: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = f"{self.issuer}\0{self.name}"  # what is counted is counted under this


def from_certificate(certificate: Mapping[str, Any]) -> Caller | None:
    """The caller that a client certificate names (`ssl.SSLSocket.getpeercert` form), by its subject alternative names.

    The TLS layer has verified the certificate against the configured authorities. The common name counts for nothing.
    So do modelward's own names: its controller and its security test get a connection by such a certificate, and are
    known by their tokens. Else a rule for `*` would let in whoever has it, anywhere, for as long as it lasts.
    """
    names = [
        value
        for kind, value in certificate.get("subjectAltName", ())
        if kind in _SAN_KINDS and not value.lower().endswith(_MODELWARDS)
    ]
    if not names:
        return None
    subjects = [f"san:{name}" for name in names]
    return Caller(
        name=subjects[0], issuer="client-certificate", subjects=frozenset(subjects), expires=_expiry(certificate)
    )


def _expiry(certificate: Mapping[str, Any]) -> float:
    import ssl  # noqa: PLC0415 - only mutual TLS needs it, and then it is loaded already

    return float(ssl.cert_time_to_seconds(certificate["notAfter"])) if "notAfter" in certificate else time.time()


def merge(certificate: Caller, token: Caller) -> Caller:
    """A caller who showed both: the subjects of both; the token's name, purpose and expiry."""
    return Caller(
        name=token.name,
        issuer=token.issuer,
        subjects=certificate.subjects | token.subjects,
        purpose=token.purpose,
        begins=token.begins,
        expires=min(certificate.expires, token.expires),
    )


def purpose_from_header(value: bytes | None) -> str | None:
    """The purpose that `x-modelward-purpose` states, None when absent or not a plain word."""
    if value is None:
        return None
    text = value.decode("latin-1")
    return text if _PURPOSE.fullmatch(text) else None
