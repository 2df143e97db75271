from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

from modelward.cli.main import cli
from modelward.lineage.trust import read_trust
from modelward.lineage.verify import File, read, verify
from tests.unit.lineage.signers import KEY, KEYS, NOW, public

SOURCE = "s3://clinic/wdbc.csv@sha256:" + "b" * 64
PLAIN = serialization.NoEncryption()


def private(key: Any, protection: Any = PLAIN) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    written: bytes = key.private_bytes(serialization.Encoding.PEM, form, protection)
    return written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "key.pem").write_bytes(private(KEY))
    (tmp_path / "wdbc.skops").write_bytes(b"model")
    return tmp_path


def sign(folder: Path, data: str = "wdbc.skops", *more: str | Path, key: str = "key.pem", typed: str = "") -> Result:
    fixed = ["sign", str(folder / data), "--key", str(folder / key), "--out", str(folder / "out.sigstore.json")]
    return CliRunner().invoke(cli, [*fixed, *map(str, more)], input=typed)


def judged(folder: Path, digests: dict[str, str], steps: Any = None) -> str:
    file = File("out.sigstore.json", "out", (folder / "out.sigstore.json").read_bytes())
    found = verify(digests, steps, read([file]), read_trust({"k.pub": public(KEY)}), ["key:k"], NOW)
    return found.failed.reason if found.failed else "Signed"


def test_a_file_is_signed_under_its_own_digest(folder: Path) -> None:
    result = sign(folder)
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(b"model").hexdigest()
    assert result.stdout == f"wdbc.skops@sha256:{digest}\n"
    assert judged(folder, {"model": digest}) == "Signed"


def test_the_folder_one_is_in_has_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"w")
    monkeypatch.chdir(folder / "model")
    fixed = ["sign", ".", "--key", "../key.pem", "--out", "../out.sigstore.json"]
    assert CliRunner().invoke(cli, fixed).stdout.startswith("model@sha256:")


def test_where_it_comes_from_and_what_was_done(folder: Path) -> None:
    steps = [{"what": "age", "how": "bands", "why": "k-anonymity"}]
    (folder / "steps.json").write_text(json.dumps(steps))
    result = sign(folder, "wdbc.skops", "--from", SOURCE, "--transformations", folder / "steps.json")
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(b"model").hexdigest()
    assert judged(folder, {"model": digest, "dataset": "b" * 64}, steps) == "Signed"
    assert judged(folder, {"model": digest, "dataset": "c" * 64}, steps) != "Signed"
    assert judged(folder, {"model": digest, "dataset": "b" * 64}, []) == "TransformationsDiffer"


def test_a_protected_key(folder: Path) -> None:
    (folder / "locked.pem").write_bytes(private(KEY, serialization.BestAvailableEncryption(b"secret")))
    assert sign(folder, key="locked.pem", typed="secret\n").exit_code == 0
    assert sign(folder, key="locked.pem", typed="wrong\n").exit_code == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--from", "s3://x"], "--from s3://x does not end in @sha256: and 64 lower-case hex digits"),
        (["--transformations", "FOLDER/bad.json"], "bad.json is not JSON"),
        (["--key", "FOLDER/wdbc.skops"], "wdbc.skops: not a private key in PEM"),
        (["--key", "FOLDER/x25519.pem"], "x25519.pem: not a private key in PEM that signs statements"),
        (["--out", "FOLDER/gone/x.json"], "gone/x.json: No such file or directory"),
    ],
)
def test_what_cannot_be_signed_is_said(folder: Path, more: list[str], words: str) -> None:
    (folder / "bad.json").write_text("[")
    (folder / "x25519.pem").write_bytes(private(x25519.X25519PrivateKey.generate()))
    result = sign(folder, "wdbc.skops", *(part.replace("FOLDER", str(folder)) for part in more))
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_is_signed_whole_or_not_at_all(folder: Path) -> None:
    tree = folder / "tree"
    (tree / "deep").mkdir(parents=True)
    assert "holds no file" in sign(folder, "tree").stderr
    (tree / "deep" / "a").write_bytes(b"a")
    result = sign(folder, "tree")
    assert judged(folder, {"model": result.stdout.strip().rpartition(":")[2]}) == "Signed"
    assert "which is signed whole" in sign(folder, "tree", "--out", tree / "deep" / "s.json").stderr
    (tree / "link").symlink_to(folder / "wdbc.skops")
    assert "link is not a plain file" in sign(folder, "tree").stderr


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key(folder: Path, kind: str) -> None:
    (folder / "key.pem").write_bytes(private(KEYS[kind]))
    assert sign(folder).exit_code == 0
