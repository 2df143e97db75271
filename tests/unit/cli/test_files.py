from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from modelward.api.manifest import MAX_BYTES, ManifestError
from modelward.cli.files import read_all, read_paths

CONFIG_MAP = yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"name: caf\xe9\n", "1: not UTF-8 at byte 9"),
        ("kind: ConfigMap\n".encode("utf-16"), "UTF-16, not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "larger than 4 MiB"),
        (b"#" * (MAX_BYTES - 1) + "é".encode(), "larger than 4 MiB"),
        (b"", "holds no object"),
        (b"# nothing\n---\n---\n", "holds no object"),
        (b"kind: ConfigMap\n", "without apiVersion"),
        (b"apiVersion: v1\nkind: [Pod]\n", "2: an object without kind"),
        (b"- a\n", "a list where an object is wanted"),
    ],
)
def test_a_named_file_that_is_no_manifest_is_told(tmp_path: Path, raw: bytes, words: str) -> None:
    (tmp_path / "x.yaml").write_bytes(raw)
    (error,) = read_all([tmp_path / "x.yaml"]).errors
    assert words in str(error)
    assert error.fix
    with pytest.raises(ManifestError):
        read_paths([tmp_path / "x.yaml"])


def test_a_file_that_is_not_there_and_a_folder_without_manifests_are_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        read_paths([tmp_path / "none.yaml"])
    with pytest.raises(ManifestError, match="no manifest in this folder"):
        read_paths([tmp_path])


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbf" + CONFIG_MAP.encode())
    (document,) = read_paths([tmp_path / "x.yaml"])
    assert document.api_version == "v1"


def test_a_folder_is_read_without_what_belongs_to_other_tools(tmp_path: Path) -> None:
    for name, text in {
        "deep/a.yaml": CONFIG_MAP,
        "settings.json": "[1, 2]",
        "compose.yml": "services: {}\n",
        "chart/templates/deployment.yaml": "image: {{ .Values.image }}\n",
        ".git/config.yaml": "kind: [broken",
        ".hidden.yaml": "kind: [broken",
        "readme.md": "a: [",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "pipe.yaml")  # opening it would wait for ever
    reading = read_all([tmp_path])
    assert [document.kind for document in reading.documents] == ["ConfigMap"]
    assert not reading.errors
    assert sorted(Path(error.source).name for error in reading.skipped) == ["deployment.yaml", "settings.json"]


def test_what_speaks_of_modelward_is_never_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG_MAP)
    (tmp_path / "model.yaml").write_text("apiVersion: modelward.io/v1alpha1\nkind: {{ .Values.kind }}\n")
    (error,) = read_all([tmp_path]).errors
    assert (Path(error.source).name, error.line) == ("model.yaml", 2)
    assert "helm template" in error.fix


def test_hooks_may_name_files_of_other_tools(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "playbook.yaml").write_text("- hosts: all\n")
    assert len(read_all([tmp_path / "compose.yaml", tmp_path / "playbook.yaml"]).errors) == 2
    reading = read_all([tmp_path / "compose.yaml", tmp_path / "playbook.yaml"], only_manifests=True)
    assert (reading.documents, reading.errors) == ([], [])
    assert len(read_all([tmp_path / "none.yaml"], only_manifests=True).errors) == 1


def test_what_is_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG_MAP)
    assert len(read_paths([tmp_path, tmp_path / "a.yaml", tmp_path])) == 1


def test_all_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    assert len(read_all([tmp_path / "a.yaml", tmp_path / "b.yaml"]).errors) == 2
