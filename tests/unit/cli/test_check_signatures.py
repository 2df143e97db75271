"""`modelward check` on signed lineage: what the files hold is judged, what they do not is a note."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from modelward.cli.main import cli
from tests.corpus import good, policy
from tests.unit.lineage.signers import KEY, OTHER, about, public, signed

MODEL, DATASET = "a" * 64, "d" * 64
BUNDLES = {"m.json": signed(about(MODEL)), "d.json": signed(about(DATASET))}
ASKS = policy({"require": {"lineage": {"signedBy": ["key:ml"], "trustConfigMapName": "signers"}}})


def config_map(name: str, namespace: str, contents: Mapping[str, bytes]) -> dict[str, Any]:
    data = {key: content.decode() for key, content in contents.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


SIGNERS = config_map("signers", "modelward-system", {"ml.pub": public(KEY)})


def findings(folder: Path, *objects: dict[str, Any], **annotations: str) -> list[tuple[str, str, str]]:
    model = good()
    model["metadata"]["namespace"] = "clinic"
    changes = {"statements": "configmap/statements", **annotations}
    model["metadata"]["annotations"] |= {f"lineage.modelward.io/{key}": value for key, value in changes.items()}
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all([model, ASKS, *objects]))
    result = CliRunner().invoke(cli, ["check", str(file), "-o", "json"])
    assert result.exit_code == 0, result.output
    listed = json.loads(result.stdout)["findings"]
    return [
        (item["level"], item["rule"], item["message"])
        for item in listed
        if item["rule"].startswith("LIN") or "statements" in item["field"] or "trustConfigMapName" in item["message"]
    ]


def test_a_signed_lineage_has_nothing_to_mend(tmp_path: Path) -> None:
    assert findings(tmp_path, SIGNERS, config_map("statements", "clinic", BUNDLES)) == []


def secret(namespace: str, contents: Mapping[str, bytes], plain: Mapping[str, str]) -> dict[str, Any]:
    data = {key: base64.b64encode(content).decode() for key, content in contents.items()}
    metadata = {"name": "kept", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data, "stringData": dict(plain)}


def test_statements_may_be_in_a_secret(tmp_path: Path) -> None:
    both = secret("clinic", {"m.json": BUNDLES["m.json"]}, {"d.json": BUNDLES["d.json"].decode()})
    assert findings(tmp_path, SIGNERS, both, statements="secret/kept") == []
    forged = secret("clinic", {**BUNDLES, "m.json": signed(about(MODEL), OTHER)}, {"password": "s3cret"})
    (found,) = findings(tmp_path, SIGNERS, forged, statements="secret/kept")
    assert found[:2] == ("warning", "LIN-009")
    assert "m.json of Secret kept verifies with no key" in found[2]
    assert "s3cret" not in found[2]
    elsewhere = findings(tmp_path, SIGNERS, secret("other", BUNDLES, {}), statements="secret/kept")
    assert [one[2] for one in elsewhere] == ["Secret kept is not among these files: its statements are not judged"]


@pytest.mark.parametrize(
    ("bundles", "words"),
    [
        (
            {**BUNDLES, "m.json": signed(about(MODEL), OTHER)},
            "m.json of ConfigMap statements verifies with no key that",
        ),
        ({"m.json": signed(about(MODEL, sources=[MODEL]))}, "the lineage leads back to where it began"),
        ({"m.json": b"{"}, "m.json of ConfigMap statements is not JSON"),
    ],
)
def test_what_is_wrong_is_a_warning_of_the_policy(tmp_path: Path, bundles: Mapping[str, bytes], words: str) -> None:
    (found,) = findings(tmp_path, SIGNERS, config_map("statements", "clinic", bundles))
    assert found[:2] == ("warning", "LIN-009")
    assert words in found[2]


def test_what_is_not_among_the_files_is_a_note(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert [(level, rule) for level, rule, _ in found] == [("note", "REFERENCE"), ("note", "REFERENCE")]
    assert found[0][2].startswith("ConfigMap statements is not among these files")
    assert "names ConfigMap signers of modelward-system, which is not among these files" in found[1][2]


def test_statements_that_are_named_nowhere_are_missing_wherever_it_is_applied(tmp_path: Path) -> None:
    (unreadable, missing) = findings(tmp_path, SIGNERS, statements="pod/x")
    assert unreadable[:2] == ("warning", "LIN-008")
    assert missing[:2] == ("warning", "LIN-009")
    assert "names no ConfigMap or Secret" in missing[2]


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("transformations", "[", "transformations is not JSON"),
        ("model", f"oci://registry/wdbc@sha256:{DATASET}", "nothing is made of itself"),
    ],
)
def test_what_annotations_alone_show(tmp_path: Path, annotation: str, value: str, words: str) -> None:
    statements = config_map("statements", "clinic", BUNDLES)
    assert words in findings(tmp_path, SIGNERS, statements, **{annotation: value})[0][2]


def test_without_cryptography_signatures_are_a_note_and_the_rest_is_judged(tmp_path: Path) -> None:
    findings(tmp_path, SIGNERS, config_map("statements", "clinic", {"m.json": b"{"}))  # writes the files
    program = "import sys; sys.modules['cryptography'] = None; from modelward.cli.main import main; main()"
    command = [sys.executable, "-c", program, "check", str(tmp_path / "all.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "signatures are not judged without the package cryptography" in done.stdout
    assert "LIN-009" not in done.stdout
