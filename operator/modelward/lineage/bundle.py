"""Files with signed statements: sigstore bundles v0.3 and bare DSSE envelopes, one a file, one a line (`.jsonl`), or in
an OCI image layout (`.oci.tar`).

A bundle (https://docs.sigstore.dev/about/bundle/) holds an envelope and a hint of who signed it: the fingerprint of a
public key, or a chain of certificates. Entries of transparency logs and timestamps are passed over: they can be checked
only by asking somebody, and nothing here asks anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from modelward.lineage import layout
from modelward.lineage.dsse import Envelope, base64_bytes, read_envelope
from modelward.lineage.reading import MAX_BYTES, StatementError, member, optional, read_object

SUFFIXES = (".json", ".jsonl", ".sig", layout.SUFFIX)
"""Of the keys of a ConfigMap or Secret that are read: `model.sig` is what `model_signing` writes unless told."""
MAX_CHAIN = 4
MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_LINES = 32
_MEDIA_TYPE = re.compile(r"application/vnd\.dev\.sigstore\.bundle\.v0\.3\+json")
_MAX_HINT = 512


@dataclass(frozen=True)
class Bundle:
    """A signed statement, and what its maker says of who signed it.

    Attributes:
        envelope: the statement and its signatures.
        hint: of the public key; empty where none is given.
        chain: certificates in DER, the signer's first; empty where it was signed with a bare key.
    """

    envelope: Envelope
    hint: str = ""
    chain: tuple[bytes, ...] = ()


def read_bundles(name: str, content: bytes) -> list[Bundle]:
    """Read a file with signed statements.

    Args:
        name: of the file; `.jsonl` has one a line, `.oci.tar` one a layer.
        content: its bytes.

    Raises:
        StatementError: it cannot be read.
    """
    if len(content) > MAX_BYTES:
        raise StatementError(f"has more than {MAX_BYTES:,} bytes")
    if name.endswith(layout.SUFFIX):
        return [_bundle(read_object(layer)) for layer in layout.read_layout(content)]
    if not name.endswith(".jsonl"):
        return [_bundle(read_object(content))]
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    if not 1 <= len(lines) <= MAX_LINES:
        raise StatementError(f"has {len(lines):,} lines, and must have 1 to {MAX_LINES}")
    found = []
    for number, line in lines:
        try:
            found.append(_bundle(read_object(line)))
        except StatementError as error:
            raise StatementError(f"line {number}: {error}") from None
    return found


def _bundle(found: dict[str, Any]) -> Bundle:
    if "mediaType" not in found:
        return Bundle(read_envelope(found))
    if not _MEDIA_TYPE.fullmatch(member(found, "mediaType", str)):
        raise StatementError("mediaType is not that of a sigstore bundle v0.3")
    if "messageSignature" in found:
        raise StatementError("holds the signature of a file, not of a statement (dsseEnvelope)")
    material = member(found, "verificationMaterial", dict)
    envelope = read_envelope(member(found, "dsseEnvelope", dict))
    kinds = [kind for kind in ("publicKey", "x509CertificateChain", "certificate") if material.get(kind) is not None]
    if len(kinds) != 1:
        raise StatementError("verificationMaterial has not exactly one of publicKey, x509CertificateChain, certificate")
    path = f"verificationMaterial.{kinds[0]}."
    told = member(material, kinds[0], dict, "verificationMaterial.")
    if kinds[0] == "publicKey":
        return Bundle(envelope, hint=optional(told, "hint", str, path)[:_MAX_HINT])
    listed = [told] if kinds[0] == "certificate" else member(told, "certificates", list, path)
    if not 1 <= len(listed) <= MAX_CHAIN:
        raise StatementError(f"{path}certificates holds {len(listed):,}, and must hold 1 to {MAX_CHAIN}")
    return Bundle(envelope, chain=tuple(_certificate(one, path) for one in listed))


def _certificate(found: Any, path: str) -> bytes:
    if not isinstance(found, dict):
        raise StatementError(f"{path}certificates holds something that is not an object")
    return base64_bytes(member(found, "rawBytes", str, path), f"{path}rawBytes", MAX_CERTIFICATE_BYTES)
