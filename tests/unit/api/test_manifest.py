from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.manifest import ManifestError, dotted, read_documents

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
        ("b: 1\na: \x00\n", 2, "not readable as YAML"),
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


def test_merge_keys_are_carried_out_as_kubectl_does() -> None:
    text = (
        "base: &b {x: 1, y: 1}\nmore: &m {y: 2, z: 2}\none: {<<: *b, x: 3}\nmany: {<<: [*m, *b]}\nquoted: {'<<': 1}\n"
    )
    (document,) = read_documents(text, "x")
    assert document.data["one"] == {"x": 3, "y": 1}
    assert document.data["many"] == {"x": 1, "y": 2, "z": 2}
    assert document.data["quoted"] == {"<<": 1}


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("a: b: c\n", "quote the value"),
        ("a:\n\t- b\n", "spaces, never tabs"),
        ("a: [1, 2\nb: 3\n", "brackets"),
        ("a: 'b\n", "Close the quote"),
        ("a: \x00\n", "control character"),
        ('a:\n  {{- include "labels" . }}\n', "helm template"),
        ("image: {{ .Values.image }}\n", "helm template"),
        ("{{- if .Values.on }}\nkind: A\n{{- end }}\n", "helm template"),
        ("a: {<<: 1}\n", "Merge *aliases"),
        ("kind: List\nitems: {}\n", "under items"),
        ("kind: List\nitems: [1]\n", "apiVersion and kind"),
    ],
)
def test_the_fix_fits_the_error(text: str, fix: str) -> None:
    with pytest.raises(ManifestError) as error:
        read_documents(text, "x.yaml")
    assert fix in error.value.fix
    assert error.value.line


def test_messages_are_printable_whatever_the_file_holds() -> None:
    with pytest.raises(ManifestError) as error:
        read_documents('"\\e[2J": 1\n"\\e[2J": 2\n', "a\x1b.yaml")
    assert str(error.value).isprintable()
