"""The listener's TLS: contexts made from files, and when their certificate expires."""

import ssl
from pathlib import Path

from cryptography import x509

from modelward.sidecar.config import ConfigError, Tls
from modelward.sidecar.signed import read_bounded

_MAX_PEM = 256 << 10
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_context(tls: Tls, certificate: Path, key: Path, protocol: str = "http/1.1") -> ssl.SSLContext:
    """A context for a listener of `protocol`, by its name in ALPN.

    Raises:
        ConfigError: the files do not fit, or mutual TLS lacks its authorities.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols([protocol])
    # TLS 1.2 with forward secrecy and authenticated encryption alone; 1.3 knows nothing else.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the serving certificate {certificate} and its key do not load: {error.strerror or error}"
        ) from error
    if tls.mode == "MutualTLS":
        if not tls.client_ca:
            raise ConfigError("mutual TLS needs the client authorities' certificates (tls.clientCA)")
        try:
            context.load_verify_locations(cadata=tls.client_ca)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError("tls.clientCA is not a bundle of PEM certificates") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def expires(certificate: Path) -> float:
    """When the first certificate in the file expires, seconds since the epoch.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(read_bounded(certificate, _MAX_PEM)).not_valid_after_utc.timestamp()
    except ValueError as error:
        raise ConfigError(f"{certificate} is not a PEM certificate") from error
