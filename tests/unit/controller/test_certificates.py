"""Certificates over their whole life, and a TLS handshake that takes them, as strictly as OpenSSL can."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modelward.controller.certificates import (
    OVERLAP,
    Authority,
    CertificateError,
    Pair,
    check_pair,
    due,
    issue,
    new_authority,
    rotated,
    serves,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = ["wdbc.clinic.svc", "wdbc.clinic"]
DAY = timedelta(days=1)


def trusts(bundle: bytes, leaf: x509.Certificate) -> bool:
    """Whether some certificate of the bundle issued the leaf."""
    for one in x509.load_pem_x509_certificates(bundle):
        try:
            leaf.verify_directly_issued_by(one)
        except Exception:  # noqa: BLE001 - any failure means no
            continue
        return True
    return False


def handshake(authority: Authority, pair: Pair, host: str, folder: Path, client: Pair | None = None) -> None:
    """A handshake in memory; raises ssl.SSLError when either side does not take the other."""
    (folder / "bundle").write_bytes(authority.bundle)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "server.pem").write_bytes(pair.chain + pair.key)
    server_context.load_cert_chain(folder / "server.pem")
    client_context = ssl.create_default_context(cafile=str(folder / "bundle"))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    if client:
        server_context.load_verify_locations(folder / "bundle")
        server_context.verify_mode = ssl.CERT_REQUIRED
        (folder / "client.pem").write_bytes(client.chain + client.key)
        client_context.load_cert_chain(folder / "client.pem")
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    caller = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for side in (caller, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    server.read(0)
    caller.write(b"x")
    assert server.read(1) == b"x"


@pytest.fixture
def today() -> datetime:
    return datetime.now(UTC)  # OpenSSL takes no other


def test_a_leaf_is_taken_for_its_names_alone(tmp_path: Path, today: datetime) -> None:
    authority = new_authority(today)
    pair = issue(authority, NAMES, today)
    for name in NAMES:
        handshake(authority, pair, name, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(authority, pair, "other.clinic.svc", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(new_authority(today), pair, NAMES[0], tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(authority, issue(authority, NAMES, today - 8 * DAY), NAMES[0], tmp_path)


def test_a_serving_certificate_is_no_clients(tmp_path: Path, today: datetime) -> None:
    """Who can read a model's Secret must not become a caller of every model that trusts modelward's authority."""
    authority = new_authority(today)
    pair = issue(authority, NAMES, today)
    with pytest.raises(ssl.SSLError):
        handshake(authority, pair, NAMES[0], tmp_path, client=pair)


def test_a_leaf_is_renewed_after_two_thirds_of_its_life_and_never_outlives_its_authority() -> None:
    authority = new_authority(NOW)
    pair = issue(authority, NAMES, NOW)
    assert pair.expires == NOW + 7 * DAY
    assert serves(pair, authority, NAMES, NOW + 4 * DAY)
    assert not serves(pair, authority, NAMES, NOW + 5 * DAY)
    assert not serves(pair, authority, [*NAMES, "more"], NOW)
    assert not serves(pair, new_authority(NOW), NAMES, NOW)
    assert not serves(Pair(pair.chain, issue(authority, NAMES, NOW).key), authority, NAMES, NOW)
    assert not serves(Pair(b"", b""), authority, NAMES, NOW)
    assert issue(authority, NAMES, NOW + 364 * DAY).expires == authority.current.expires


def test_a_follower_is_trusted_before_it_signs_and_the_old_one_until_it_ends() -> None:
    authority = new_authority(NOW)
    assert rotated(authority, NOW + 200 * DAY) is authority
    announced = rotated(authority, NOW + 250 * DAY)
    assert announced.current == authority.current
    assert announced.following is not None
    assert len(x509.load_pem_x509_certificates(announced.bundle)) == 2
    assert rotated(announced, NOW + 250 * DAY + OVERLAP / 2) is announced

    taken_over = rotated(announced, NOW + 250 * DAY + OVERLAP)
    assert taken_over.current == announced.following
    assert taken_over.following is None
    old_leaf = issue(announced, NAMES, NOW + 250 * DAY).certificate
    new_leaf = issue(taken_over, NAMES, NOW + 258 * DAY).certificate
    assert trusts(taken_over.bundle, old_leaf)
    assert trusts(announced.bundle, new_leaf), "who read the bundle before the change trusts what comes after it"

    later = rotated(taken_over, NOW + 366 * DAY)
    assert len(x509.load_pem_x509_certificates(later.bundle)) == 1
    assert rotated(later, NOW + 367 * DAY) is later


def test_a_controller_that_slept_through_it_all_makes_a_new_authority() -> None:
    late = rotated(new_authority(NOW), NOW + 400 * DAY)
    assert not due(late.current.certificate, NOW + 400 * DAY)
    assert len(x509.load_pem_x509_certificates(late.bundle)) == 1
    assert late.following is None


def test_pairs_of_the_users_own() -> None:
    authority = new_authority(NOW)
    pair = issue(authority, NAMES, NOW)
    check_pair(pair, NOW)
    with pytest.raises(CertificateError, match="expired at 2026-03-08T12:00:00Z"):
        check_pair(pair, NOW + 8 * DAY)
    key = rsa.generate_private_key(65537, 2048)
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    with pytest.raises(CertificateError, match="does not belong"):
        check_pair(Pair(pair.chain, key.private_bytes(*encoding, serialization.NoEncryption())), NOW)
    with pytest.raises(CertificateError, match="unencrypted"):
        check_pair(Pair(pair.chain, key.private_bytes(*encoding, serialization.BestAvailableEncryption(b"x"))), NOW)
    for rubbish in (b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff"):
        with pytest.raises(CertificateError):
            check_pair(Pair(rubbish, pair.key), NOW)


def test_keys_have_no_representation() -> None:
    authority = new_authority(NOW)
    for item in (authority, authority.current):
        assert "PRIVATE" not in repr(item)
        assert "PRIVATE" not in str(item)
