"""`report`: what it reads, from a cluster or from files, and what it says when it cannot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from modelward.api.printable import printable
from modelward.cli import report, report_sources
from modelward.cli.kubectl import KubectlError
from modelward.cli.report_sources import from_cluster
from modelward.logchain import Linker
from modelward.reporting import log as log_module
from tests.unit.reporting.sample import sources

EXAMPLE = Path(__file__).parents[3] / "examples" / "breast-cancer"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Cluster:
    """Answers as kubectl would; what is in `forbidden` it does not give."""

    def __init__(self, *forbidden: str) -> None:
        given = sources()
        self.asked: list[tuple[str, ...]] = []
        self._forbidden = forbidden
        self._answers: dict[str, list[Any]] = {
            "modeldeployments.modelward.io": list(given.models),
            "datapolicies.modelward.io": [one for one in given.policies if one["kind"] == "DataPolicy"],
            "clusterdatapolicies.modelward.io": [one for one in given.policies if one["kind"] != "DataPolicy"],
            "events": list(given.events),
            "namespaces": [{"metadata": {"name": "clinic"}}],
        }

    def __call__(self, *arguments: str) -> str:
        self.asked.append(arguments)
        if arguments[0] == "config":
            return "prod\n"
        if arguments[1] in self._forbidden:
            raise KubectlError(f"kubectl get: {arguments[1]} is forbidden")
        if "--field-selector" in arguments and "source=modelward-admission" in arguments:
            return json.dumps({"items": []})
        return json.dumps({"items": self._answers[arguments[1]]})


def run(*arguments: str) -> Result:
    return CliRunner().invoke(report.command, list(arguments))


def test_a_cluster_is_asked_for_what_an_auditor_may_read_and_never_for_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    monkeypatch.setattr(report, "kubectl", cluster)
    done = run("-o", "json", "-n", "clinic")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["scope"] == {"source": "cluster", "name": "prod", "namespace": "clinic", "logs": []}
    assert [one["name"] for one in told["models"]] == ["circular", "hurried", "wdbc"]
    assert {one["kind"] for one in told["incidents"]} == {"AnomalyDetected", "SidecarMissing"}
    assert not any("secret" in word.lower() for asked in cluster.asked for word in asked)
    assert all("--namespace" in asked for asked in cluster.asked if asked[1] in ("events", "datapolicies.modelward.io"))


def test_what_may_not_be_read_beside_the_models_is_noted() -> None:
    told = from_cluster(Cluster("events", "namespaces", "clusterdatapolicies.modelward.io"), None, NOW)
    assert told.namespaces is None
    assert [note.partition(" could not be read")[0] for note in told.notes] == [
        "policies",
        "Events",
        "Events",
        "namespaces, by whose labels the cluster's policies choose,",
    ]
    with pytest.raises(KubectlError, match="modeldeployments"):
        from_cluster(Cluster("modeldeployments.modelward.io"), None, NOW)


def test_a_cluster_that_does_not_answer_is_exit_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "kubectl", Cluster("modeldeployments.modelward.io"))
    done = run()
    assert done.exit_code == 2
    assert done.stderr == "modelward: kubectl get: modeldeployments.modelward.io is forbidden\n"


def test_manifests_are_judged_as_check_judges_them(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = run("-f", str(EXAMPLE), "--out", str(out), "--controller", "Clinic <1>")
    assert (done.exit_code, done.output) == (0, "")
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "Clinic &lt;1&gt;" in page
    told = json.loads(run("-f", str(EXAMPLE), "-o", "json").stdout)
    levels = {one["name"]: {each["level"] for each in one["verdicts"]["findings"]} for one in told["models"]}
    assert levels == {"wdbc": set(), "wdbc-in-a-hurry": {"violation"}}
    assert told["models"][0]["verdicts"]["policies"] == ["ClusterDataPolicy/baseline", "DataPolicy/clinic/clinic"]


def test_a_manifest_that_cannot_be_read_is_exit_2_and_the_rest_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: modelward.io/v1alpha1\nkind: ModelDeployment\nmetadata: {name: x}\nspec: {modell: {}}\n"
    )
    done = run("-f", str(EXAMPLE), "-f", str(bad), "-f", str(tmp_path / "none.yaml"), "-o", "json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)
    assert len(told["models"]) == 2
    assert len(told["notes"]) == 2
    assert "none.yaml: no such file" in done.stderr
    assert "bad.yaml:4: ModelDeployment default/x: unknown field; did you mean model?" in done.stderr


def test_a_page_that_cannot_be_written_is_exit_2(tmp_path: Path) -> None:
    done = run("-f", str(EXAMPLE), "--out", str(tmp_path / "no" / "such" / "folder.html"))
    assert done.exit_code == 2
    assert "cannot be written: No such file or directory. Give --out another path." in done.stderr


def test_one_namespace_or_all() -> None:
    assert run("-n", "clinic", "-A").exit_code == 2
    told = json.loads(run("-f", str(EXAMPLE), "-n", "elsewhere", "-o", "json").stdout)
    assert told["models"] == []


def log(*records: dict[str, Any], model: str = "wdbc") -> bytes:
    """An access log as a sidecar writes it."""
    linker = Linker()
    start = {"start": {"pod": "p", "namespace": "clinic", "model": model, "random": "r"}}
    return b"\n".join(linker.link(json.dumps(one).encode() for one in (start, *records))) + b"\n"


def record(number: int, **changes: Any) -> dict[str, Any]:
    usual = {"subject": "user:lee", "issuer": "clinic", "purpose": "diagnosis", "operation": "Infer", "status": 200}
    return {"time": f"2026-03-01T10:{number:02}:00.000Z", "request": f"r-{number}", **usual, **changes}


def test_access_logs_tell_of_incidents_and_consumers(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    refused = {"status": 403, "reason": "forbidden", "subject": "user:stranger"}
    found = {"verdict": "anomalous", "detector": "Ensemble", "status": 403, "reason": "anomalous-input"}
    path.write_bytes(
        log(
            record(0),
            record(1),
            record(2, **refused),
            record(3, **refused),
            record(4, **found),
            record(5, operation="Metadata"),
        )
    )
    told = json.loads(run("-f", str(EXAMPLE), "--log", str(path), "-o", "json").stdout)
    assert told["scope"]["logs"] == ["access.log"]
    assert told["notes"] == []
    assert [(one["kind"], one["who"], one["count"], one["model"]) for one in told["incidents"]] == [
        ("AnomalyDetected", "user:lee", 1, "clinic/wdbc"),
        ("AccessDenied", "user:stranger", 2, "clinic/wdbc"),
    ]
    (answered,) = [one for one in told["models"][0]["register"]["recipients"] if one["basis"] == "answered"]
    assert (answered["who"], answered["requests"], answered["purposes"]) == ("user:lee", 2, ["diagnosis"])


def test_a_log_that_was_changed_is_said_to_be(tmp_path: Path) -> None:
    path, other = tmp_path / "access.log", tmp_path / "other.txt"
    path.write_bytes(log(record(0), record(1), record(2)).replace(b"r-1", b"r-9"))
    other.write_text("nothing of ours\n")
    told = json.loads(run("-f", str(EXAMPLE), "--log", str(path), "--log", str(other), "-o", "json").stdout)
    assert "is not as the sidecar wrote it" in told["notes"][0]
    assert "is no access log of modelward" in told["notes"][1]


def test_a_log_of_a_model_that_is_not_in_the_report_adds_no_consumer(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(log(record(0), model="another"))
    told = json.loads(run("-f", str(EXAMPLE), "--log", str(path), "-o", "json").stdout)
    assert not any("another" in node["id"] for node in told["lineage"]["nodes"])


def test_what_a_log_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "MAX_KEPT", 3)
    reader = log_module.Happened()
    hostile = "\x1b[2J" + "x" * 5000
    refused = {"status": 403, "reason": "forbidden"}
    lines = log(*(record(n, subject=f"user:{n}{hostile}", **refused) for n in range(9))).split(b"\n")
    lines += [b"[]", b"{", b'{"request": 1}', b'{"request": "r", "time": 4}', b'{"start": 5}']
    lines.append(b'{"request": "r", "time": "2026-03-01T10:00:00Z", "verdict": [], "reason": {}, "subject": [[]]}')
    assert list(reader.watch(lines)) == lines
    assert len(reader.incidents) == 3
    assert reader.left_out == 7
    assert all(one.who == printable(one.who) and len(one.who) <= 1024 for one in reader.incidents)


def test_the_context_that_kubectl_has_none_of() -> None:
    def ask(*arguments: str) -> str:
        if arguments[0] == "config":
            raise KubectlError("no context")
        return Cluster()(*arguments)

    assert report_sources.from_cluster(ask, None, NOW).scope.name == "in use"
