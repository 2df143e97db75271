"""What is wrong with a manifest is told at `kubectl apply` as at `modelward check`: by field, in words that help.

What is told in status is shown elsewhere: a rule that is not CEL in test_policies.py, what a model names and is not
there in test_controller.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from modelward.cli.main import cli
from tests.corpus import good, policy
from tests.integration.apiserver import ApiServer

HEAD = "apiVersion: modelward.io/v1alpha1\nkind: ModelDeployment\nmetadata: {name: odd}\n"
IMAGE = {"image": "x"}

# name: (spec, the field as kubectl names it, words of kubectl's, words of check's)
SPECS: dict[str, tuple[Any, str, str, str]] = {
    "unknown field": ({"model": {**IMAGE, "prot": 1}}, "spec.model.prot", "unknown field", "did you mean port?"),
    "both": (
        {"model": IMAGE, "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "c"}},
        "spec",
        "exactly one of spec.model",
        "exactly one of spec.model",
    ),
    "neither": ({}, "spec", "exactly one of spec.model", "exactly one of spec.model"),
    "type": ({"model": IMAGE, "replicas": "two"}, "spec.replicas", "must be of type integer", "not a whole number"),
    "list": ({"model": {**IMAGE, "args": "-v"}}, "spec.model.args", "must be of type array", "not a list"),
    "object": ({"model": []}, "spec.model", "must be of type object", "not an object"),
    "enum": (
        {"model": IMAGE, "monitoring": {"onAnomaly": "Explode"}},
        "spec.monitoring.onAnomaly",
        '"Block", "Sanitise", "Flag"',
        "'Block', 'Sanitise' or 'Flag'",
    ),
    "bound": (
        {"model": {**IMAGE, "port": 80}},
        "spec.model.port",
        "greater than or equal to 1024",
        "greater than or equal to 1024",
    ),
    "pattern": (
        {"model": {**IMAGE, "readyPath": "ready"}},
        "spec.model.readyPath",
        "should match",
        "does not match",
    ),
    "required": (
        {"model": IMAGE, "access": {"issuers": [{"issuer": "https://id.example", "jwksConfigMapName": "keys"}]}},
        "spec.access.issuers[0].name",
        "Required value",
        "required, and not there",
    ),
    "between fields": (
        {"model": IMAGE, "access": {"issuers": [{"name": "a", "issuer": "https://id.example"}]}},
        "spec.access.issuers[0]",
        "exactly one of jwksURI, jwksConfigMapName",
        "exactly one of jwksURI, jwksConfigMapName",
    ),
    "too long": (
        {"model": IMAGE, "explanations": {"contact": "x" * 300}},
        "spec.explanations.contact",
        "253",
        "253",
    ),
    "quantity": (
        {"model": {**IMAGE, "resources": {"requests": {"cpu": "lots"}}}},
        "spec.model.resources.requests.cpu",
        "should match",
        "not a quantity",
    ),
}


def check(tmp_path: Path, text: str) -> list[dict[str, Any]]:
    """The errors that `modelward check` tells of a text."""
    (tmp_path / "given.yaml").write_text(text)
    result = CliRunner().invoke(cli, ["check", str(tmp_path / "given.yaml"), "-o", "json"])
    return [item for item in json.loads(result.stdout)["findings"] if item["level"] == "error"]


@pytest.mark.parametrize("name", SPECS)
def test_field_and_fix_are_named_here_and_there(apiserver: ApiServer, tmp_path: Path, name: str) -> None:
    spec, field, theirs, ours = SPECS[name]
    text = HEAD + yaml.safe_dump({"spec": spec})
    applied = apiserver.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
    assert applied.returncode == 1
    assert field in applied.stderr
    assert theirs in applied.stderr
    (finding,) = check(tmp_path, text)
    assert (finding["field"], ours in finding["message"]) == (field, True), finding


# name: (text, words of kubectl's, words of check's)
TEXTS: dict[str, tuple[str, str, str]] = {
    "yaml": (f"{HEAD}spec: [\n", "line 4", "did not find expected node content"),
    "helm": (f"{HEAD}spec: {{{{ .Values.spec }}}}\n", "error parsing", "a key that is not a plain word"),
    "empty": ("", "no objects passed to apply", "holds no object"),
    "no kind": ("apiVersion: modelward.io/v1alpha1\nmetadata: {name: odd}\n", "kind", "without kind"),
    "another version": (HEAD.replace("v1alpha1", "v9") + "spec: {}\n", "v9", "write modelward.io/v1alpha1"),
    "another kind": (HEAD.replace("Deployment", "Deploymant") + "spec: {}\n", "ModelDeploymant", "give one of"),
    "no name": (HEAD.replace("name: odd", "labels: {a: b}") + "spec: {}\n", "name", "required, and not there"),
    "a bad name": (HEAD.replace("odd", "Not_A_Name") + "spec: {}\n", "metadata.name", "lower-case letters"),
    "a name that is no Service's": (
        HEAD.replace("odd", "3d") + "spec: {model: {image: x}}\n",
        "begins with a letter",
        "begins with a letter",
    ),
    "a long name": (HEAD.replace("odd", "x" * 51) + "spec: {model: {image: x}}\n", "50 characters", "50 characters"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_resource_is_told_here_and_there(apiserver: ApiServer, tmp_path: Path, name: str) -> None:
    text, theirs, ours = TEXTS[name]
    applied = apiserver.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
    assert applied.returncode == 1
    assert theirs in applied.stderr
    finding = check(tmp_path, text)[0]
    assert ours in finding["message"]


def test_check_tells_what_kubectl_does_not_see(apiserver: ApiServer, tmp_path: Path) -> None:
    """kubectl keeps the last of two equal keys, so that what stands first in the file is silently lost."""
    text = f"{HEAD}spec: {{model: {{image: lost}}}}\nspec: {{model: {{image: kept}}}}\n"
    applied = apiserver.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", input=text)
    assert json.loads(applied.stdout)["spec"]["model"]["image"] == "kept"
    (finding,) = check(tmp_path, text)
    assert (finding["message"], finding["line"]) == ("the key spec is given twice", 5)


def test_merge_keys_and_anchors_are_read_as_kubectl_reads_them(apiserver: ApiServer, tmp_path: Path) -> None:
    text = (
        f"{HEAD}spec:\n  model:\n    image: x\n    env:\n    - &first {{name: A, value: a}}\n"
        "    - {<<: *first, name: B}\n"
    )
    applied = apiserver.kubectl("apply", "--dry-run=server", "-o", "json", "-f", "-", input=text)
    assert applied.ok, applied.stderr
    assert json.loads(applied.stdout)["spec"]["model"]["env"] == [
        {"name": "A", "value": "a"},
        {"name": "B", "value": "a"},
    ]
    assert check(tmp_path, text) == []


@pytest.mark.parametrize(
    ("change", "field", "theirs"),
    [
        ({"enforcement": "Block"}, "spec.enforcement", '"Enforce", "Warn", "Audit"'),
        ({"rules": [{"id": "lower-1", "expression": "true", "message": "'m'"}]}, "spec.rules[0].id", "should match"),
        ({"fields": [{"name": "a"}, {"name": "a"}]}, "spec.fields[1]", "Duplicate value"),
        ({"exceptions": [{"rules": ["ENC-001"]}]}, "spec.exceptions[0].reason", "Required value"),
        (
            {"exceptions": [{"reason": "r", "approvedBy": "a", "expires": "soon"}]},
            "spec.exceptions[0].expires",
            "date-time",
        ),
        (
            {"exceptions": [{"reason": "r", "approvedBy": "a", "expires": "2030-02-30T00:00:00Z"}]},
            "spec.exceptions[0].expires",
            "date-time",
        ),
        *(  # of the format by the API server's lights, and not by CEL's, which would fail on it at each admission
            (
                {"exceptions": [{"reason": "r", "approvedBy": "a", "expires": expires}]},
                "spec.exceptions[0].expires",
                "should match",
            )
            for expires in ("2030-01-01t00:00:00z", "2030-01-01T00:00:00+25:00")
        ),
        (
            {
                "exceptions": [
                    {"namespaces": ["x"], "reason": "r", "approvedBy": "a", "expires": "2030-01-01T00:00:00Z"}
                ]
            },
            "spec",
            "belongs to a ClusterDataPolicy",
        ),
    ],
)
def test_a_policy_is_told_its_field(
    apiserver: ApiServer, tmp_path: Path, change: dict[str, Any], field: str, theirs: str
) -> None:
    text = yaml.safe_dump(policy(change, namespace="default"))
    applied = apiserver.kubectl("apply", "--dry-run=server", "-f", "-", input=text)
    assert applied.returncode == 1
    assert field in applied.stderr
    assert theirs in applied.stderr
    assert field in [finding["field"] for finding in check(tmp_path, text)]


def test_good_manifests_are_let_in_so_that_the_refusals_mean_something(apiserver: ApiServer, tmp_path: Path) -> None:
    for manifest in (good(), policy({}, namespace="default")):
        text = yaml.safe_dump(manifest)
        assert apiserver.kubectl("apply", "--dry-run=server", "-f", "-", input=text).ok
        assert check(tmp_path, text) == []
