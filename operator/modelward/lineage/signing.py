"""Makes signed statements: what `modelward sign` writes, and `model_signing verify` reads where files are told of."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from modelward.lineage.dsse import IN_TOTO, pae
from modelward.lineage.statement import LINEAGE, MODEL_SIGNING, STATEMENT_TYPE, Resource
from modelward.lineage.trust import CURVES, fingerprint, usable

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def files_statement(name: str, files: Sequence[Resource], ignored: Sequence[str] = ()) -> dict[str, Any]:
    """Return a statement of model-signing's kind.

    Args:
        name: of the model or data set.
        files: path (`.` where it is a single file) and digest of each; model-signing lists them by path.
        ignored: paths that were left out.
    """
    listed = sorted(files, key=lambda file: PurePosixPath(file.name))
    whole = hashlib.sha256(b"".join(bytes.fromhex(file.sha256) for file in listed)).hexdigest()
    predicate = {
        "serialization": {
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": False,
            **({"ignore_paths": list(ignored)} if ignored else {}),
        },
        "resources": [{"name": file.name, "algorithm": "sha256", "digest": file.sha256} for file in listed],
    }
    return _statement(Resource(name, whole), MODEL_SIGNING, predicate)


def lineage_statement(
    subject: Resource, sources: Sequence[Resource] | None, transformations: Sequence[Mapping[str, str]] | None
) -> dict[str, Any]:
    """Return a statement of modelward's own kind: what something was made of, and how; None: that is not told."""
    predicate: dict[str, Any] = {}
    if sources is not None:
        predicate["sources"] = [{"uri": one.name, "digest": {"sha256": one.sha256}} for one in sources]
    if transformations is not None:
        predicate["transformations"] = [dict(step) for step in transformations]
    return _statement(subject, LINEAGE, predicate)


def bundle(statement: Mapping[str, Any], key: PrivateKey) -> str:
    """Sign a statement; return a sigstore bundle with the fingerprint of the public key as its hint.

    Raises:
        TrustError: the key is of a kind that is not verified.
    """
    public = usable(key.public_key())
    payload = json.dumps(statement, indent=2, ensure_ascii=False).encode()
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": IN_TOTO,
        "signatures": [{"sig": base64.b64encode(_signature(key, pae(IN_TOTO, payload))).decode(), "keyid": ""}],
    }
    material = {"publicKey": {"hint": fingerprint(public)}, "tlogEntries": []}
    return json.dumps({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def read_private_key(content: bytes, password: bytes | None = None) -> PrivateKey:
    """Read a private key in PEM.

    Raises:
        ValueError: it is none, of no kind that signs here, or the password does not fit.
        TypeError: a password is needed and not given, or the other way round.
    """
    key = serialization.load_pem_private_key(content, password)
    if isinstance(key, PrivateKey):
        return key
    raise ValueError("a private key that signs no statements")


def _statement(subject: Resource, kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject.name, "digest": {"sha256": subject.sha256}}],
        "predicateType": kind,
        "predicate": predicate,
    }


def _signature(key: PrivateKey, signed: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(signed, ec.ECDSA(CURVES[key.curve.name]))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return key.sign(signed, pss, hashes.SHA256())
