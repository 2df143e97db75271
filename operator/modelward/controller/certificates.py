"""X.509 certificates of modelward's own authority: made, judged and rotated, with time and validity passed in.

The authority lives a year. Before a new one signs anything it is published beside the old one for as long as the
longest-lived leaf, so that whoever reads the bundle trusts both before it has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_VALIDITY = timedelta(days=365)
LEAF_VALIDITY = timedelta(days=7)
OVERLAP = LEAF_VALIDITY
_SKEW = timedelta(minutes=5)  # clocks of callers may be behind ours
_CURVE = ec.SECP256R1()


class CertificateError(Exception):
    """A certificate or key that cannot be used: what is wrong with it."""


@dataclass(frozen=True, repr=False)
class Pair:
    """A certificate (or chain, leaf first) and its private key, both PEM. No representation: it holds a key."""

    chain: bytes
    key: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return x509.load_pem_x509_certificate(self.chain)

    @property
    def expires(self) -> datetime:
        """When the leaf ends."""
        return self.certificate.not_valid_after_utc


@dataclass(frozen=True, repr=False)
class Authority:
    """The pair that signs now, the one that is to sign next, and every certificate that is to be trusted (PEM)."""

    current: Pair
    following: Pair | None
    bundle: bytes


def due(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether two thirds of a certificate's life are over: time to renew, and time left to fail in."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begins + (ends - begins) * 2 / 3


def new_authority(now: datetime, validity: timedelta = AUTHORITY_VALIDITY) -> Authority:
    """Return an authority that signs from now on."""
    pair = _self_signed(now, validity)
    return Authority(pair, None, pair.chain)


def rotated(authority: Authority, now: datetime, validity: timedelta = AUTHORITY_VALIDITY) -> Authority:
    """Return the authority as it should be now; the very same where nothing is due.

    Two thirds through its life a follower is made and published; one leaf's life later it takes over. The old
    certificate stays in the bundle until it ends.
    """
    trusted = [one for one in x509.load_pem_x509_certificates(authority.bundle) if one.not_valid_after_utc > now]
    following = authority.following
    if following is None and due(authority.current.certificate, now):
        following = _self_signed(now, validity)
    elif following and now >= following.certificate.not_valid_before_utc + OVERLAP + _SKEW:
        authority = replace(authority, current=following, following=None)
        following = None
    if authority.current.expires <= now:  # the controller was away for long: better a sudden change than none
        fresh = following or _self_signed(now, validity)
        authority, following = replace(authority, current=fresh, following=None), None
    wanted = [pair.certificate for pair in (authority.current, following) if pair]
    kept = [one for one in trusted if one not in wanted]
    bundle = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (*wanted, *kept))
    if (following, bundle) == (authority.following, authority.bundle):
        return authority
    return replace(authority, following=following, bundle=bundle)


def issue(authority: Authority, host_names: Sequence[str], now: datetime, validity: timedelta = LEAF_VALIDITY) -> Pair:
    """Return a serving certificate for these host names, signed by the current authority."""
    return _leaf(authority, host_names, now, validity, ExtendedKeyUsageOID.SERVER_AUTH)


def issue_client(authority: Authority, name: str, now: datetime, validity: timedelta) -> Pair:
    """Return a certificate as a client, of the controller's own or of its security test: nobody else is given one."""
    return _leaf(authority, [name], now, validity, ExtendedKeyUsageOID.CLIENT_AUTH)


def _leaf(
    authority: Authority,
    host_names: Sequence[str],
    now: datetime,
    validity: timedelta,
    usage: x509.ObjectIdentifier,
) -> Pair:
    signer = authority.current.certificate
    key = ec.generate_private_key(_CURVE)
    certificate = (
        _builder(x509.Name([]), signer.subject, key.public_key(), now, min(now + validity, signer.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in host_names]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                signer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(_signing_key(authority.current), hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def serves(pair: Pair, authority: Authority, host_names: Sequence[str], now: datetime) -> bool:
    """Tell whether a pair of ours can stay: signed by the current authority, for these names, and not yet due."""
    try:
        check_pair(pair, now)
        certificate = pair.certificate
        certificate.verify_directly_issued_by(authority.current.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (CertificateError, InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return names.get_values_for_type(x509.DNSName) == list(host_names) and not due(certificate, now)


def check_pair(pair: Pair, now: datetime) -> None:
    """Check that a chain and its key can serve at all.

    Raises:
        CertificateError: unreadable, expired, or of two different keys.
    """
    try:
        certificate, key = pair.certificate, serialization.load_pem_private_key(pair.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError("not a PEM certificate with an unencrypted PEM private key") from error
    if certificate.public_key() != key.public_key():
        raise CertificateError("the private key does not belong to the certificate")
    if certificate.not_valid_after_utc <= now:
        raise CertificateError(f"expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")


def _self_signed(now: datetime, validity: timedelta) -> Pair:
    key = ec.generate_private_key(_CURVE)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"modelward {now:%Y-%m-%d}")])
    certificate = (
        _builder(name, name, key.public_key(), now, now + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _signing_key(pair: Pair) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pair.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not one that modelward made")
    return key


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
