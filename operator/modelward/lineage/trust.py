"""Whom to believe: named public keys, and authorities whose certificates name who signed. Nothing is asked of anybody.

Signatures as the field makes them: ECDSA over P-256, P-384 and P-521 with SHA-256, -384 and -512 (model-signing),
Ed25519, and RSA-PSS with SHA-256 (in-toto, sigstore). Certificates are those of ECDSA and RSA keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from modelward.lineage.bundle import Bundle
from modelward.lineage.outcome import Signers
from modelward.lineage.reading import shown

AUTHORITIES_KEY = "authorities.pem"
KEY_SUFFIX = ".pub"
KEY, CERTIFICATE = "key:", "cert:"
MAX_KEYS = 32
MAX_KEY_BYTES = 16 * 1024
MAX_AUTHORITIES = 32
MAX_AUTHORITIES_BYTES = 256 * 1024
_MAX_NAMES = 16
_MAX_PATH = 3
_RSA_BITS = range(2048, 8193)
CURVES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""The curves that are verified, each with the hash that goes with it."""

_UNREADABLE = (
    *(ValueError, UnsupportedAlgorithm),
    *(x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What comes of certificates that are none: some of it is raised only when a part is looked at."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class TrustError(ValueError):
    """A key or an authority that cannot be used; the message says why."""


@dataclass(frozen=True)
class Trust:
    """Whom a platform team believes.

    Attributes:
        keys: public keys by name.
        fingerprints: by name of a key, SHA-256 of its PEM, which model-signing writes into its bundles as a hint.
        authorities: roots of certificates.
        unusable: by key of the ConfigMap, why what is there cannot be used.
        outlives: whether a signature holds when its certificate has ended: certificates are then judged as of the time
            from which they hold, as model-signing does.
    """

    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    authorities: tuple[x509.Certificate, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    outlives: bool = False

    def lacks(self, accepted: Sequence[str]) -> list[str]:
        """Return, for each accepted signer that can never be recognised, a sentence that says why."""
        found = []
        for signer in accepted:
            key = signer.removeprefix(KEY) + KEY_SUFFIX if signer.startswith(KEY) else AUTHORITIES_KEY
            there = key.removesuffix(KEY_SUFFIX) in self.keys if signer.startswith(KEY) else bool(self.authorities)
            if not there:
                found.append(f"{signer} needs {key}, which {self.unusable.get(key, 'is not there')}")
        return found


def read_trust(contents: Mapping[str, bytes], *, outlives: bool = False) -> Trust:
    """Read `<name>.pub` (PEM public keys) and `authorities.pem` (PEM certificates); other keys are passed over.

    Args:
        contents: of the ConfigMap.
        outlives: see `Trust`.
    """
    keys: dict[str, PublicKey] = {}
    fingerprints: dict[str, str] = {}
    authorities: tuple[x509.Certificate, ...] = ()
    unusable: dict[str, str] = {}
    for file in sorted(contents):
        try:
            if file == AUTHORITIES_KEY:
                authorities = _authorities(contents[file])
            elif file.endswith(KEY_SUFFIX):
                name = file.removesuffix(KEY_SUFFIX)
                keys[name] = _public_key(contents[file], len(keys))
                fingerprints[name] = fingerprint(keys[name])
        except TrustError as error:
            unusable[file] = str(error)
    return Trust(keys, fingerprints, authorities, unusable, outlives)


def signers(bundle: Bundle, trust: Trust, accepted: Iterable[str], at: datetime) -> Signers:
    """Find out who signed a bundle.

    Args:
        bundle: the signed statement.
        trust: whom to believe.
        accepted: whom the policy accepts; of bundles that hint at no key, theirs are tried and no others.
        at: the time at which certificates must be valid.
    """
    if bundle.chain:
        return _by_certificate(bundle, trust, at)
    named = [name for name, known in trust.fingerprints.items() if known == bundle.hint]
    tried = named or [name for name in trust.keys if f"{KEY}{name}" in accepted]
    signed = bundle.envelope.signed
    names = tuple(
        f"{KEY}{name}"
        for name in tried
        if any(_verifies(trust.keys[name], one, signed) for one in bundle.envelope.signatures)
    )
    if names:
        return Signers(names)
    if named:
        return Signers((), "SignatureInvalid", f"names {KEY}{named[0]} as its signer, and does not verify with it")
    return Signers((), "SignerNotTrusted", f"verifies with no key that the policy names ({len(tried)} tried)")


def _by_certificate(bundle: Bundle, trust: Trust, at: datetime) -> Signers:
    if not trust.authorities:
        return Signers((), "SignerNotTrusted", f"is signed with a certificate, and no {AUTHORITIES_KEY} is trusted")
    try:
        leaf, *between = (x509.load_der_x509_certificate(one) for one in bundle.chain)
        key = usable(leaf.public_key())
        # One that is not valid yet is not made valid by that.
        when = min(at, leaf.not_valid_before_utc) if trust.outlives else at
        told = _verifier(trust.authorities, when).verify(leaf, between).subjects or ()
    except verification.VerificationError as error:
        return Signers((), "SignerNotTrusted", f"its certificate is not accepted: {shown(_first_line(error))}")
    except TrustError as error:
        return Signers((), "SignerNotTrusted", f"its certificate's key {error}")
    except _UNREADABLE:
        return Signers((), "SignerNotTrusted", "its certificates cannot be read")
    if not any(_verifies(key, one, bundle.envelope.signed) for one in bundle.envelope.signatures):
        return Signers((), "SignatureInvalid", "does not verify with the key of its certificate")
    names = tuple(name for one in told if (name := _identity(one)))[:_MAX_NAMES]
    if not names:
        return Signers((), "SignerNotTrusted", "its certificate names nobody: no URI, e-mail address or DNS name")
    return Signers(names)


def _verifier(authorities: tuple[x509.Certificate, ...], at: datetime) -> verification.ClientVerifier:
    either = verification.Criticality.AGNOSTIC
    anything = verification.ExtensionPolicy.permit_all()
    ca = (
        anything.require_present(x509.BasicConstraints, either, None)
        .may_be_present(x509.KeyUsage, either, _signs_certificates)
        .may_be_present(x509.ExtendedKeyUsage, either, _for_code)
    )
    leaf = anything.require_present(x509.KeyUsage, either, _signs).may_be_present(
        x509.ExtendedKeyUsage, either, _for_code
    )
    builder = verification.PolicyBuilder().store(verification.Store(list(authorities))).time(at)
    return builder.max_chain_depth(_MAX_PATH).extension_policies(ca_policy=ca, ee_policy=leaf).build_client_verifier()


def _signs_certificates(_policy: Any, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority that may not sign certificates")


def _signs(_policy: Any, _certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature:
        raise ValueError("a certificate that is not for signatures")


def _for_code(_policy: Any, _certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    # A server's certificate of the same authority must not do for a release.
    if usage is not None and not {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(
        usage
    ):
        raise ValueError("a certificate that is not for code signing")


def _identity(name: x509.GeneralName) -> str:
    """The name by which a policy accepts this one; each kind has a look of its own, so none passes for another."""
    if isinstance(name, x509.UniformResourceIdentifier) and ":" in name.value and "@" not in name.value.split(":")[0]:
        return f"{CERTIFICATE}{name.value}"
    if isinstance(name, x509.RFC822Name) and "@" in name.value and ":" not in name.value:
        return f"{CERTIFICATE}{name.value}"
    if isinstance(name, x509.DNSName) and not set(":@*") & set(name.value):
        return f"{CERTIFICATE}{name.value.lower()}"
    return ""


def _verifies(key: PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(CURVES[key.curve.name]))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
            key.verify(signature, signed, pss, hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _public_key(content: bytes, there: int) -> PublicKey:
    if there >= MAX_KEYS:
        raise TrustError(f"is one more than the {MAX_KEYS} keys that are read")
    if len(content) > MAX_KEY_BYTES:
        raise TrustError(f"has more than {MAX_KEY_BYTES:,} bytes")
    try:
        return usable(serialization.load_pem_public_key(content))
    except TrustError:
        raise
    except _UNREADABLE:
        raise TrustError("is not a public key in PEM (-----BEGIN PUBLIC KEY-----)") from None


def usable(key: object) -> PublicKey:
    """Return a public key of a kind that is verified.

    Raises:
        TrustError: it is of another kind, or too short or long.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in CURVES:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        return key
    raise TrustError("is none of P-256, P-384, P-521, Ed25519, and RSA of 2048 to 8192 bits")


def fingerprint(key: PublicKey) -> str:
    """Return SHA-256 over the key in PEM, in hex: how model-signing's bundles hint at a key."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(pem).hexdigest()


def _authorities(content: bytes) -> tuple[x509.Certificate, ...]:
    if len(content) > MAX_AUTHORITIES_BYTES:
        raise TrustError(f"has more than {MAX_AUTHORITIES_BYTES:,} bytes")
    try:
        found = x509.load_pem_x509_certificates(content)
    except _UNREADABLE:
        raise TrustError("holds no certificates in PEM (-----BEGIN CERTIFICATE-----)") from None
    if len(found) > MAX_AUTHORITIES:
        raise TrustError(f"holds {len(found)} certificates, and {MAX_AUTHORITIES} are read")
    return tuple(found)


def _first_line(error: Exception) -> str:
    return str(error).removeprefix("validation failed: ").split(" (encountered", 1)[0]
