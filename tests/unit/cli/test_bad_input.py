"""Whatever a user gives, `modelward check` answers with file, line, field and fix, never with a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.manifest import MAX_BYTES
from modelward.cli.main import cli
from tests.corpus import BASELINE, Manifest, good, policy

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
MODEL = "apiVersion: modelward.io/v1alpha1\nkind: ModelDeployment\nmetadata: {name: a}\n"


def check(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, ["check", *(str(argument) for argument in arguments)], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


# name: (what the file holds, line that is named or 0, words of the message, words of the fix)
UNREADABLE: dict[str, tuple[bytes, int, str, str]] = {
    "yaml error": (b"a: 1\nb: [1, 2\nc: 3\n", 3, "begins on line 2", "brackets"),
    "tab": (b"a:\n\tb: 1\n", 2, "cannot start any token", "spaces, never tabs"),
    "duplicate key": ((MODEL + "spec: {}\nspec: {}\n").encode(), 5, "the key spec is given twice", "Keep one"),
    "billion laughs": (BOMB.encode(), 6, "expand to more than", "Write the values out"),
    "deep": (b"a: " + b"[" * 5000 + b"]" * 5000, 1, "", ""),
    "huge": (b"#" * (MAX_BYTES + 1), 0, "larger than 4 MiB", "Split"),
    "latin-1": (MODEL.encode() + b"# caf\xe9\n", 4, "not UTF-8", "Save it as UTF-8"),
    "utf-16": (MODEL.encode("utf-16"), 0, "UTF-16", "Save it as UTF-8"),
    "binary": (bytes(range(256)), 2, "not UTF-8", "Save it"),
    "empty": (b"", 0, "holds no object", "manifests"),
    "a list": (b"- kind: Pod\n", 1, "a list where an object is wanted", "apiVersion and kind"),
    "helm": (MODEL.encode() + b"spec:\n  model: {{ toYaml .Values.model }}\n", 5, "", "helm template"),
    "no kind": (b"metadata: {name: a}\nspec: {}\n", 1, "without apiVersion", "modelward.io/v1alpha1"),
    "a python tag": (b"a: !!python/object/apply:os.system [id]\n", 1, "not Kubernetes YAML", "Remove the tag"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_exit_2_with_file_line_and_fix(tmp_path: Path, name: str) -> None:
    raw, line, words, fix = UNREADABLE[name]
    (tmp_path / "given.yaml").write_bytes(raw)
    result = check(tmp_path / "given.yaml")
    assert result.exit_code == 2
    assert f"{tmp_path / 'given.yaml'}:{f'{line}: ' if line else ' '}" in result.stderr
    assert words in result.stderr
    assert fix in result.stderr


# name: (what follows `spec:`, the field that is named, words of the message)
WRONG: dict[str, tuple[Any, str, str]] = {
    "unknown field": ({"model": {"image": "x", "prot": 1}}, "spec.model.prot", "did you mean port?"),
    "both": (
        {"model": {"image": "x"}, "targetRef": {"apiVersion": "a", "kind": "b", "name": "c"}},
        "spec",
        "exactly one",
    ),
    "neither": ({}, "spec", "exactly one"),
    "no spec": (None, "spec", ""),
    "spec a string": ("x", "spec", "is not an object"),
    "spec a list": ([], "spec", "is not an object"),
    "model a list": ({"model": []}, "spec.model", "a list is not an object"),
    "args a string": ({"model": {"image": "x", "args": "-v"}}, "spec.model.args", "begin each item with a dash"),
    "port a string": ({"model": {"image": "x", "port": "80"}}, "spec.model.port", "not a whole number"),
    "port too small": ({"model": {"image": "x", "port": 80}}, "spec.model.port", "greater than or equal to 1024"),
    "image a number": ({"model": {"image": 1}}, "spec.model.image", "put it in quotes"),
    "boolean a string": (
        {"model": {"image": "x"}, "securityTest": {"gate": "yes"}},
        "spec.securityTest.gate",
        "true or false",
    ),
    "version a number": (
        {"model": {"image": "x"}, "encryption": {"inTransit": {"minVersion": 1.3}}},
        "spec.encryption.inTransit.minVersion",
        "1.3",
    ),
    "not in the list": (
        {"model": {"image": "x"}, "monitoring": {"onAnomaly": "Explode"}},
        "spec.monitoring.onAnomaly",
        "'Block'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_the_schema_names_field_and_line(tmp_path: Path, name: str) -> None:
    spec, field, words = WRONG[name]
    manifest = {**good(), "spec": spec}
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))
    result = check(tmp_path / "given.yaml", "-o", "json")
    assert result.exit_code == 1
    finding = json.loads(result.stdout)["findings"][0]
    assert (finding["level"], finding["field"]) == ("error", field)
    assert words in finding["message"]
    assert finding["line"] > 1


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"apiVersion": "modelward.io/v1"}, "apiVersion", "write modelward.io/v1alpha1"),
        ({"apiVersion": "apps/v1"}, "apiVersion", "write modelward.io/v1alpha1"),
        ({"kind": "modeldeployment"}, "kind", "give one of ModelDeployment"),
        ({"metadata": {}}, "metadata.name", "required"),
        ({"metadata": {"name": "Not_A_Name"}}, "metadata.name", "lower-case"),
        ({"metadata": {"name": "x" * 51}}, "the object", "50 characters"),
        ({"metadata": None}, "metadata", "not an object"),
        ({"metadata": ["a"]}, "metadata", "not an object"),
        ({"metadata": {"name": 1}}, "metadata.name", "put it in quotes"),
    ],
)
def test_what_is_wrong_around_the_spec_is_told(tmp_path: Path, change: Manifest, field: str, words: str) -> None:
    (tmp_path / "given.yaml").write_text(yaml.safe_dump({**good(), **change}))
    result = check(tmp_path / "given.yaml", "-o", "json")
    assert result.exit_code == 1
    finding = json.loads(result.stdout)["findings"][0]
    assert finding["field"] == field
    assert words in finding["message"]


def test_invalid_cel_is_told_at_its_own_line(tmp_path: Path) -> None:
    rules = [
        {"id": f"CUSTOM-00{n}", "expression": text, "message": "'m'"} for n, text in enumerate(["true", "object."])
    ]
    text = yaml.safe_dump(policy({"rules": rules}), sort_keys=False)
    (tmp_path / "policy.yaml").write_text(text)
    (finding,) = json.loads(check(tmp_path / "policy.yaml", "-o", "json").stdout)["findings"]
    assert finding["field"] == "spec.rules[1].expression"
    assert finding["line"] == text.splitlines().index("    expression: object.") + 1
    assert "CUSTOM-001 is not valid CEL: at column 8" in finding["message"]


@pytest.mark.parametrize("metadata", [None, [], "x", {"labels": []}, {"labels": {"a": None}}])
def test_an_odd_namespace_is_no_traceback(tmp_path: Path, metadata: Any) -> None:
    (tmp_path / "given.yaml").write_text(json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
    assert check(tmp_path / "given.yaml").exit_code == 0


def test_what_is_not_there_and_what_cannot_be_written(tmp_path: Path) -> None:
    result = check(tmp_path / "none.yaml", "--policy", tmp_path / "neither.yaml")
    assert result.exit_code == 2
    assert result.stderr.count("no such file") == 2
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(good()))
    result = check(tmp_path / "a.yaml", "--out", tmp_path / "no" / "folder")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_paths_that_the_system_does_not_take(tmp_path: Path) -> None:
    result = check("x" * 5000)
    assert (result.exit_code, "File name too long" in result.stderr) == (2, True)
    (tmp_path / "round.yaml").symlink_to(tmp_path / "round.yaml")
    result = check(tmp_path / "round.yaml")
    assert (result.exit_code, "round.yaml: not readable: Too many levels" in result.stderr) == (2, True)


def test_a_policy_file_without_a_policy_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(good()))
    result = check(tmp_path / "a.yaml", "--policy", tmp_path / "a.yaml")
    assert result.exit_code == 2
    assert "no DataPolicy or ClusterDataPolicy" in result.stderr


def test_standard_input_is_read() -> None:
    result = check("-", stdin=yaml.safe_dump(good()).encode())
    assert result.exit_code == 0, result.output
    assert "1 model judged, 1 passes" in result.stdout
    assert "(standard input)" in result.stdout
    assert check("-", stdin=b"a: [").exit_code == 2


def test_a_manifest_cannot_steer_the_terminal(tmp_path: Path) -> None:
    manifest = good()
    manifest["metadata"]["namespace"] = "\x1b[2J\x1b]0;owned\x07"
    manifest["spec"]["model"]["image"] = "a\x1b[31m\u202ebad"
    manifest["spec"]["access"]["rules"][0]["subjects"] = ["\x9b31m"]
    manifest["spec"]["\x1b[0m"] = 1
    for text in (json.dumps(manifest), json.dumps({**manifest, "spec": {**manifest["spec"], "\x1b[0m": None}})):
        (tmp_path / "given.json").write_text(text)
        for output in ("table", "json", "sarif", "junit"):
            told = check(tmp_path / "given.json", "-o", output).stdout
            assert all(character.isprintable() or character == "\n" for character in told)


@given(raw=st.binary(max_size=300))
def test_any_bytes_are_judged_or_refused(raw: bytes) -> None:
    assert check("-", stdin=raw).exit_code in (0, 1, 2)


@given(text=st.text("{}[]&*!|>'\"%@`:-?<#, \n\tab1\x1bé", max_size=120))
def test_any_spec_text_is_judged_or_refused(text: str) -> None:
    result = check("-", stdin=f"{MODEL}spec: {text}".encode())
    assert result.exit_code in (1, 2)
    assert all(character.isprintable() or character == "\n" for character in result.stdout + result.stderr)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


STRICT = policy({"require": BASELINE, "rules": [{"id": "CUSTOM-001", "expression": "true", "message": "'m'"}]})
PATHS = [(base, path) for base in (good(), STRICT) for path in _paths(base) if path]
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just([]), st.just({}),
    st.just([None]), st.just({"": ""}), st.just("x" * 5000), st.just([[]] * 200),
)  # fmt: skip


@given(where=st.sampled_from(PATHS), value=ODD, output=st.sampled_from(["table", "json", "sarif", "junit"]))
def test_a_manifest_with_something_odd_anywhere_is_judged_or_refused(
    where: tuple[Manifest, tuple[str | int, ...]], value: Any, output: str
) -> None:
    base, path = where
    mutant: Any = copy.deepcopy(base)
    node = mutant
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    text = yaml.safe_dump_all([good(), STRICT, mutant]).encode()
    assert check("-", "-o", output, stdin=text).exit_code in (0, 1, 2)
