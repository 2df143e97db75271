from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.manifest import MAX_BYTES, ManifestError, dotted, read_documents, read_file, read_paths

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


@given(st.dictionaries(KEYS, VALUES, max_size=5).filter(lambda value: value.get("kind") != "List"))
def test_json_is_read_as_json(value: dict[str, Any]) -> None:
    (document,) = read_documents(json.dumps(value), "x")
    assert document.data == value


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    with contextlib.suppress(ManifestError):
        read_documents(text, "file.yaml")


@given(st.text("{}[]&*!|>'\"%@`:-? \n\tab1", max_size=120))
def test_hostile_yaml_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ManifestError):
        read_documents(text, "file.yaml")


def test_lines_are_those_of_the_file() -> None:
    (first, second) = read_documents("a: 1\n---\nspec:\n  list:\n  - x\n  - name: y\n    deep: 3\n", "x")
    assert first.line(("a",)) == 1
    assert second.line(("spec", "list", 1, "deep")) == 7
    assert second.line(("spec", "list", 1, "not", "there")) == 6
    assert dotted(("spec", "list", 1, "deep")) == "spec.list[1].deep"


def test_scalars_are_what_kubectl_makes_of_them() -> None:
    text = (
        "date: 2026-01-01T00:00:00Z\nversion: '1.3'\nnumber: 1.3\n"
        "yes: on\nnull: ~\nint: 8080\nbig: 12345678901234567890123\n"
    )
    (document,) = read_documents(text, "x")
    assert document.data == {
        "date": "2026-01-01T00:00:00Z",
        "version": "1.3",
        "number": 1.3,
        "yes": True,
        "null": None,
        "int": 8080,
        "big": 1.2345678901234568e22,
    }


def test_a_list_object_is_taken_apart_with_its_lines() -> None:
    text = "kind: List\nitems:\n- kind: A\n- kind: B\n  metadata: {name: b}\n"
    first, second = read_documents(text, "x")
    assert (first.kind, second.kind, second.name) == ("A", "B", "b")
    assert second.line(("metadata", "name")) == 5


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\na: 2\n", 2, "given twice"),
        ("a: [1, 2\n", 2, "not readable as YAML"),
        ("a: *nowhere\n", 1, "no anchor"),
        ("a: !!python/object/apply:os.system [id]\n", 1, "not Kubernetes YAML"),
        ("a: !custom x\n", 1, "not Kubernetes YAML"),
        ("? [a]\n: b\n", 1, "not a plain word"),
        ("- a\n", 1, "an object is wanted"),
        ("just text\n", 1, "an object is wanted"),
        ("a: " + "[" * 100 + "]" * 100, 1, "nested deeper"),
        ("a: \x00\n", 0, "not readable as YAML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, word: str) -> None:
    with pytest.raises(ManifestError) as error:
        read_documents(text, "x.yaml")
    assert word in str(error.value)
    assert error.value.line == line
    assert error.value.fix


def test_aliases_cannot_explode() -> None:
    levels = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        levels += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n"
    with pytest.raises(ManifestError, match="expand to more than"):
        read_documents(levels, "bomb.yaml")


def test_an_honest_alias_is_read() -> None:
    (document,) = read_documents("a: &x {k: 1}\nb: *x\n", "x")
    assert document.data == {"a": {"k": 1}, "b": {"k": 1}}


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        read_file(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ManifestError, match="not UTF-8 at byte 9"):
        read_file(tmp_path / "latin.yaml")
    (tmp_path / "huge.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ManifestError, match="larger than 4 MiB"):
        read_file(tmp_path / "huge.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="no manifest in this folder"):
        read_paths([tmp_path / "empty"])


def test_a_folder_is_read_without_the_settings_of_other_tools(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.yaml").write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap"}))
    (tmp_path / "settings.json").write_text("[1, 2]")
    (document,) = read_paths([tmp_path])
    assert document.kind == "ConfigMap"
