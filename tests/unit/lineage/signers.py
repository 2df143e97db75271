"""Signers of statements for tests: keys, and certificates of an authority."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelward.lineage.signing import PrivateKey, bundle, files_statement, lineage_statement
from modelward.lineage.statement import Resource

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
MODEL, DATASET, RAW = (letter * 64 for letter in "abc")
CODE = (ExtendedKeyUsageOID.CODE_SIGNING,)
RELEASE = x509.UniformResourceIdentifier("spiffe://clinic.example/release")

MAKERS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
}
KEYS: dict[str, PrivateKey] = {name: make() for name, make in MAKERS.items()}
KEY = KEYS["P-256"]
OTHER = ec.generate_private_key(ec.SECP256R1())


def public(key: PrivateKey) -> bytes:
    """The public key in PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def about(sha256: str, name: str = "thing", sources: list[str] | None = None, steps: Any = None) -> dict[str, Any]:
    """A statement of modelward's kind about a digest."""
    listed = None if sources is None else [Resource(f"s3://{one[:4]}", one) for one in sources]
    return lineage_statement(Resource(name, sha256), listed, steps)


def one_file(sha256: str, name: str = "wdbc.skops") -> dict[str, Any]:
    """A statement of model-signing's kind about a single file."""
    return files_statement(name, [Resource(".", sha256)])


def signed(statement: dict[str, Any], key: PrivateKey = KEY) -> bytes:
    """The bundle, as bytes."""
    return bundle(statement, key).encode()


def usage(*, sign: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        key_cert_sign=authority, crl_sign=authority, digital_signature=sign, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, *extensions: x509.ExtensionType, authority: bool = False, **options: Any) -> Issued:
        """A certificate that this one vouches for."""
        return _issued(name, self, authority, extensions, **options)

    def signer(self, *names: x509.GeneralName, purposes: Any = CODE, sign: bool = True, **options: Any) -> Issued:
        """A certificate of one who signs statements."""
        extensions: list[x509.ExtensionType] = [usage(sign=sign, authority=False)]
        if names:
            extensions.append(x509.SubjectAlternativeName(names))
        if purposes:
            extensions.append(x509.ExtendedKeyUsage(purposes))
        return self.issue("signer", *extensions, **options)


def authority(name: str = "root", **options: Any) -> Issued:
    """A root."""
    return _issued(name, None, True, (usage(sign=False, authority=True),), **options)


def _issued(
    name: str,
    issuer: Issued | None,
    ca: bool,
    extensions: tuple[x509.ExtensionType, ...],
    *,
    begins: datetime = NOW - timedelta(days=1),
    ends: datetime = NOW + timedelta(days=30),
    key: Any = None,
) -> Issued:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def certified(statement: dict[str, Any], *chain: Issued) -> bytes:
    """A bundle of the first of these, with the certificates of all."""
    found = json.loads(bundle(statement, chain[0].key))
    raw = [one.certificate.public_bytes(serialization.Encoding.DER) for one in chain]
    certificates = [{"rawBytes": base64.b64encode(one).decode()} for one in raw]
    found["verificationMaterial"] = {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []}
    return json.dumps(found).encode()


def changed(content: bytes, change: Any) -> bytes:
    """A bundle whose statement was changed behind its signature."""
    found = json.loads(content)
    statement = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    change(statement)
    found["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(found).encode()
