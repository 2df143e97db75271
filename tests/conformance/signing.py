"""Bundles of OpenSSF model-signing read by modelward, and the other way round: `make conformance-signing`.

model-signing (https://github.com/sigstore/model-transparency) runs in an environment of its own. With --keep its
bundles are written to `tests/data/signing`, which a unit test reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from modelward.cli.main import cli
from modelward.lineage.signing import files_statement
from modelward.lineage.statement import Resource
from modelward.lineage.trust import read_trust
from modelward.lineage.verify import File, read, verify
from tests.conformance.told import Told, differences
from tests.unit.lineage.signers import CODE, RELEASE, Issued, authority, certified, changed, public

KEPT = Path(__file__).parents[1] / "data" / "signing"
NOW = datetime.now(UTC)
TREE = {
    "weights/part-1.bin": b"1" * 100_000,
    "weights/part-0.bin": b"0",
    "weights.json": b"{}",
    "weights-more": b"",
    "ünïcode name.txt": b"x",
    "A": b"a",
    ".hidden": b"h",
    ".git/config": b"left out",
    ".gitignore": b"left out",
}
CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
SIGNER = f"cert:{RELEASE.value}"


def judged(content: bytes, sha256: str, trust: dict[str, bytes], accepted: str, at: datetime = NOW) -> str:
    """The reason that modelward gives for a bundle about a model."""
    found = verify({"model": sha256}, None, read([File("m.sig", "m.sig", content)]), read_trust(trust), [accepted], at)
    return found.failed.reason if found.failed else "Signed"


class ModelSigning:
    """Its command line."""

    def __init__(self, python: Path, folder: Path) -> None:
        self._python, self._folder = python, folder

    def sign(self, kind: str, model: Path, **options: Path) -> bytes:
        """A bundle about a model."""
        out = self._folder / "made.sig"
        done = self._run("sign", kind, model, signature=out, **options)
        assert done.returncode == 0, done.stderr
        return out.read_bytes()

    def verify(self, kind: str, model: Path, content: bytes, **options: Path) -> str:
        """What it says of a bundle about a model."""
        signature = self._folder / "given.sig"
        signature.write_bytes(content)
        done = self._run("verify", kind, model, signature=signature, **options)
        return "Signed" if done.returncode == 0 else "refused"

    def _run(self, *words: str | Path, **options: Path) -> subprocess.CompletedProcess[str]:
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        command = [self._python, "-m", "model_signing", *words[:2], *flags, *words[2:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def conformance(python: Path, folder: Path, keep: Callable[[str, bytes], None]) -> Iterator[Told]:
    theirs = ModelSigning(python, folder)
    tree, single = folder / "tree", folder / "wdbc.skops"
    for name, content in TREE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    single.write_bytes(b"model")
    file_digest = hashlib.sha256(b"model").hexdigest()
    for curve, kind in CURVES.items():
        key = ec.generate_private_key(kind())
        private, pub = _written(folder, key)
        trust = {"k.pub": public(key)}
        for model in (tree, single):
            ours, digest = _signed(model, private, folder)
            what = f"{curve} key, {'a folder' if model is tree else 'a file'}"
            bundle = theirs.sign("key", model, private_key=private)
            yield Told(f"{what}: theirs, read by ours", "Signed", judged(bundle, digest, trust, "key:k"))
            yield Told(f"{what}: ours, read by theirs", "Signed", theirs.verify("key", model, ours, public_key=pub))
            forged = changed(bundle, lambda found: found["predicate"].update(more=1))
            yield Told(f"{what}: theirs, changed", "SignatureInvalid", judged(forged, digest, trust, "key:k"))
            forged = changed(ours, lambda found: found["predicate"].update(more=1))
            yield Told(f"{what}: ours, changed", "refused", theirs.verify("key", model, forged, public_key=pub))
            if curve == "P-256":
                keep("file.sig" if model is single else "folder.sig", bundle)
        keep(f"{curve}.pub", public(key))
    yield from _certificates(theirs, folder, single, file_digest, keep)


def _certificates(
    theirs: ModelSigning, folder: Path, model: Path, digest: str, keep: Callable[[str, bytes], None]
) -> Iterator[Told]:
    validity = {"begins": NOW - timedelta(days=1), "ends": NOW + timedelta(days=30)}
    root = authority(**validity)
    between = root.issue("between", *_authority_extensions(), authority=True, **validity)
    roots = folder / "roots.pem"
    roots.write_bytes(root.pem)
    trust = {"authorities.pem": root.pem}
    keep("authorities.pem", root.pem)
    # What theirs lets in and ours does not: a server's certificate of the same authority.
    for what, purposes, expected in (
        ("code signing", CODE, "Signed"),
        ("no stated purpose", None, "Signed"),
        ("a server's", [ExtendedKeyUsageOID.SERVER_AUTH], "SignerNotTrusted"),
    ):
        leaf = between.signer(RELEASE, purposes=purposes, **validity)
        bundle = theirs.sign("certificate", model, **_chain(folder, leaf, between))
        theirs_says = theirs.verify("certificate", model, bundle, certificate_chain=roots)
        yield Told(f"certificate for {what}: theirs, read by theirs", "Signed", theirs_says)
        yield Told(f"certificate for {what}: theirs, read by ours", expected, judged(bundle, digest, trust, SIGNER))
        if purposes is CODE:
            keep("certificate.sig", bundle)
            forged = changed(bundle, lambda found: found["predicate"].update(more=1))
            yield Told("certificate: theirs, changed", "SignatureInvalid", judged(forged, digest, trust, SIGNER))
            other = {"authorities.pem": authority(**validity).pem}
            yield Told("certificate: another authority", "SignerNotTrusted", judged(bundle, digest, other, SIGNER))
            late = NOW + timedelta(days=31)
            yield Told("certificate: over", "SignerNotTrusted", judged(bundle, digest, trust, SIGNER, late))
            ours = certified(files_statement(model.name, [Resource(".", digest)]), leaf, between)
            says = theirs.verify("certificate", model, ours, certificate_chain=roots)
            yield Told("certificate: ours, read by theirs", "Signed", says)


def _authority_extensions() -> list[x509.ExtensionType]:
    root = authority().certificate
    return [root.extensions.get_extension_for_class(x509.KeyUsage).value]


def _signed(model: Path, key: Path, folder: Path) -> tuple[bytes, str]:
    """What `modelward sign` writes, and the digest that it prints."""
    out = folder / "ours.sigstore.json"
    done = CliRunner().invoke(cli, ["sign", str(model), "--key", str(key), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out.read_bytes(), done.stdout.strip().rpartition("@sha256:")[2]


def _written(folder: Path, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    private, pub = folder / "k.pem", folder / "k.pub"
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    pub.write_bytes(public(key))
    return private, pub


def _chain(folder: Path, leaf: Issued, between: Issued) -> dict[str, Path]:
    private, _ = _written(folder, leaf.key)
    certificate, chain = folder / "leaf.pem", folder / "chain.pem"
    certificate.write_bytes(leaf.pem)
    chain.write_bytes(between.pem)
    return {"private_key": private, "signing_certificate": certificate, "certificate_chain": chain}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-signing", type=Path, required=True, help="the Python of an environment that has it")
    parser.add_argument("--keep", action="store_true", help="write its bundles to tests/data/signing")
    given = parser.parse_args()
    kept: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        wrong = differences(conformance(given.model_signing, Path(folder), kept.__setitem__))
    if given.keep:
        KEPT.mkdir(parents=True, exist_ok=True)
        for name, content in kept.items():
            (KEPT / name).write_bytes(content)
        facts = {"at": NOW.isoformat(), "file": hashlib.sha256(b"model").hexdigest(), "signer": SIGNER}
        (KEPT / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
