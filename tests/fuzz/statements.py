"""Any bytes as signed statements: a reason why they count for nothing, or a statement that a trusted key has signed.

An input is a file with statements; or, where it begins with `sign `, a statement (or several, with an empty line
between), which is signed with the key: so the fuzzer gets past the signature and at what statements are judged by.
"""

from __future__ import annotations

import base64
import json
import random
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.lineage.dsse import IN_TOTO, pae
from modelward.lineage.outcome import Outcome
from modelward.lineage.trust import read_trust
from modelward.lineage.verify import File, read, verify
from tests.conformance.signing import KEPT
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated

CANARY = "c4n4ry"  # stands in the seeds that nobody signed, and may stand in no message
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # for this fuzzer alone
_FACTS = json.loads((KEPT / "facts.json").read_text())
_AT = datetime.fromisoformat(_FACTS["at"])
MODEL, DATASET = _FACTS["file"], "b" * 64
_PEM = _KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
_TRUST = read_trust(
    {
        "fuzzer.pub": _PEM,
        "k.pub": (KEPT / "P-256.pub").read_bytes(),
        "authorities.pem": (KEPT / "authorities.pem").read_bytes(),
    }
)
_ACCEPTED = ("key:fuzzer", "key:k", _FACTS["signer"])
_SIGN = b"sign "
_LONGEST = 1500


def _payload(bundle: dict[str, Any]) -> bytes:
    return base64.b64decode(bundle["dsseEnvelope"]["payload"])


GENUINE = {_payload(json.loads((KEPT / name).read_bytes())) for name in ("file.sig", "folder.sig", "certificate.sig")}
"""Statements that come signed: all others that do are forged."""


def envelope(payload: bytes) -> bytes:
    """An envelope around these very bytes."""
    signature = base64.b64encode(_KEY.sign(pae(IN_TOTO, payload))).decode()
    found = {"payload": base64.b64encode(payload).decode(), "payloadType": IN_TOTO, "signatures": [{"sig": signature}]}
    return json.dumps(found).encode()


def one(content: bytes) -> None:
    """Check what comes of a file.

    Raises:
        AssertionError: it is not what it must be.
    """
    signs = content.startswith(_SIGN)
    payloads = content.removeprefix(_SIGN).split(b"\n\n") if signs else []
    if signs:
        files = [File("s.json", f"{index}.json", envelope(payload)) for index, payload in enumerate(payloads)]
    else:
        names = ("s.oci.tar",) if _is_tar(content) else ("s.sigstore.json", "s.intoto.jsonl")
        files = [File(name, name, content) for name in names]
    found = verify({"model": MODEL, "dataset": DATASET}, [], read(files), _TRUST, _ACCEPTED, _AT)
    _check_told(found, secret=not signs)
    for judged in found.statements:
        stated = {subject.sha256 for subject in judged.statement.subjects}
        if signs:
            _check_read(payloads[int(judged.place.removesuffix(".json"))], stated)
        else:
            assert any(all(digest.encode() in payload for digest in stated) for payload in GENUINE), "nobody signed it"
    by_name = {result.annotation: result for result in found.results}
    if signs and by_name.get("model") and by_name["model"].reason == "Signed":
        assert any(MODEL.encode() in payload for payload in payloads), "a statement about something else has passed"
    if by_name.get("dataset") and by_name["dataset"].reason == "Signed":
        assert any(DATASET.encode() in payload for payload in payloads), "a statement about something else has passed"


def _is_tar(content: bytes) -> bool:
    return content[257:262] == b"ustar"


def _check_told(found: Outcome, *, secret: bool) -> None:
    for result in found.results:
        assert len(result.message) < _LONGEST
        assert result.message.isprintable()
        assert (result.reason == "Signed") == bool(result.signers)
        assert not (secret and CANARY in result.message), "a value of what nobody signed is told"


def _check_read(payload: bytes, stated: set[str]) -> None:
    """Hold what was read of a signed statement against another reader of JSON."""
    found = json.loads(payload, object_pairs_hook=_once)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    told = {subject["digest"]["sha256"] for subject in found["subject"] if "sha256" in subject.get("digest", {})}
    assert stated == told


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a name that comes twice has passed"
    return found


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant: of a statement before it is signed, or of any part of a file."""
    if content.startswith(_SIGN):
        parts = content.removeprefix(_SIGN).split(b"\n\n")
        place = chance.randrange(len(parts))
        if chance.random() < 0.1:
            parts.append(parts[place])
        else:
            parts[place] = _swapped(parts[place], chance)
        return _SIGN + b"\n\n".join(parts[:40])
    if _is_tar(content):
        changed = bytearray(content)
        place = chance.choice((chance.randrange(len(changed)), 124 + chance.randrange(33)))
        changed[place] = chance.choice((0, 0x30, 0x31, 0x37, 0x78, chance.randrange(256)))
        changed[148:156] = b"%06o\0 " % (sum(changed[:148]) + 256 + sum(changed[156:512]))
        return bytes(changed[: chance.choice((len(changed), len(changed), chance.randrange(len(changed))))])
    if chance.random() < 0.4:
        try:
            return _inside(json.loads(content), chance)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            pass
    return mutated(content, chance)


def _swapped(payload: bytes, chance: random.Random) -> bytes:
    """A variant of a statement, now and then with one digest in another's place: so lineage comes to go round."""
    if chance.random() < 0.3:
        digests = (MODEL.encode(), DATASET.encode(), b"c" * 64)
        return payload.replace(chance.choice(digests), chance.choice(digests))
    return mutated(payload, chance).replace(b"\n\n", b"\n")


def _inside(bundle: dict[str, Any], chance: random.Random) -> bytes:
    """A variant of what is in base64: the statement, a signature, or a certificate."""
    held = bundle.get("dsseEnvelope", bundle)
    chain = bundle.get("verificationMaterial", {}).get("x509CertificateChain", {}).get("certificates", [])
    places: list[tuple[dict[str, Any], str]] = [(held, "payload"), (held["signatures"][0], "sig")]
    places += [(certificate, "rawBytes") for certificate in chain]
    parent, key = chance.choice(places)
    inner = base64.b64decode(parent[key])
    if key == "payload":
        inner = mutated(inner, chance)
    else:
        changed = bytearray(inner)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        inner = bytes(changed[: chance.choice((len(changed), len(changed), chance.randrange(len(changed))))])
    parent[key] = base64.b64encode(inner).decode()
    return json.dumps(bundle).encode()


TARGET = Target("statements", one, mutate)


if __name__ == "__main__":
    main(TARGET)
