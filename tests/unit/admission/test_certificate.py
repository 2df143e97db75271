import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from modelward.admission.certificate import Certificate


def pair(serial: int, key: Any = None) -> tuple[bytes, bytes]:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


async def served(port: int, name: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await reader.read()
    return x509.load_der_x509_certificate(der).serial_number


async def rotate() -> None:
    certificate = Certificate()
    with pytest.raises(ValueError, match="PEM"):
        certificate.use(b"", b"")
    assert not certificate.loaded.is_set()
    certificate.use(*pair(1))
    assert certificate.loaded.is_set()
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=certificate.context)
    port = server.sockets[0].getsockname()[1]
    for name in ("webhook", ""):  # with and without a name in the handshake
        assert await served(port, name) == 1
    certificate.use(*pair(2, rsa.generate_private_key(65537, 2048)))  # another type of key as well
    for name in ("webhook", ""):
        assert await served(port, name) == 2
    with pytest.raises(ValueError, match="mismatch"):
        certificate.use(pair(3)[0], pair(4)[1])
    assert await served(port, "webhook") == 2
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_certificate_is_replaced_while_it_is_served(run):
    run(rotate())
