"""`top`: models with readiness and rates, as kubectl's answers tell them."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from modelward.cli import top
from modelward.cli.kubectl import KubectlError
from modelward.cli.top import Model, as_document, as_table, look, with_rates


def model(name: str, *conditions: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"namespace": "clinic", "name": name}, "status": {"conditions": list(conditions)}}


def pod(name: str, of: str, phase: str = "Running") -> dict[str, Any]:
    labels = {"modelward.io/model": of}
    return {"metadata": {"namespace": "clinic", "name": name, "labels": labels}, "status": {"phase": phase}}


MODELS = [
    model("wdbc", {"type": "Ready", "status": "True"}),
    model("idle", {"type": "Ready", "status": "False", "reason": "Bypassable"}),
    model("new"),
]
PODS = [pod("wdbc-1", "wdbc"), pod("wdbc-2", "wdbc"), pod("wdbc-3", "wdbc", "Pending"), pod("idle-1", "idle")]


class Cluster:
    """Answers as kubectl would; `counts` by pod, None: the proxy is forbidden."""

    def __init__(self, counts: dict[str, int | None]) -> None:
        self.counts = counts

    def __call__(self, *arguments: str) -> str:
        if arguments[1] == "modeldeployments.modelward.io":
            return json.dumps({"items": MODELS})
        if arguments[1] == "pods":
            return json.dumps({"items": PODS})
        name = arguments[2].split("/pods/")[1].removesuffix(":9090/proxy/metrics")
        count = self.counts[name]
        if count is None:
            raise KubectlError("kubectl get: Forbidden")
        return (
            "# TYPE modelward_requests_total counter\n"
            f'modelward_requests_total{{outcome="answered"}} {count}\n'
            'modelward_requests_total{outcome="forbidden"} 2\nmodelward_requests_total{outcome="rate-limited"} 0\n'
        )


def test_readiness_and_what_pods_have_counted() -> None:
    idle, new, wdbc = look(Cluster({"wdbc-1": 10, "wdbc-2": 5, "idle-1": None}), None)
    assert (wdbc.ready, wdbc.pods, wdbc.asked) == ("True", 2, 2)
    assert wdbc.requests == {"answered": 15, "forbidden": 4, "rate-limited": 0}
    assert (idle.ready, idle.pods, idle.asked) == ("Bypassable", 1, 0)
    assert (new.ready, new.pods) == ("Unknown", 0)


def test_rates_are_between_two_looks() -> None:
    before = look(Cluster({"wdbc-1": 10, "wdbc-2": 5, "idle-1": None}), None)
    models = with_rates(look(Cluster({"wdbc-1": 30, "wdbc-2": 15, "idle-1": None}), None), before, 2.0)
    assert [one.rate for one in models] == [None, None, 15.0]
    restarted = with_rates(look(Cluster({"wdbc-1": 0, "wdbc-2": 0, "idle-1": 1}), None), models, 2.0)
    assert [one.rate for one in restarted] == [None, None, 0.0]


def test_the_table_and_the_document() -> None:
    models = [
        Model("clinic", "wdbc", "True", 2, 2, {"answered": 15.0, "forbidden": 4.0}, 12.34),
        Model("clinic", "[red]x", "Bypassable", 1),
    ]
    out = io.StringIO()
    Console(file=out, width=140).print(as_table(models))
    header, first, second = (line.split() for line in out.getvalue().splitlines())
    assert header[:4] == ["namespace", "model", "ready", "pods"]
    assert first == ["clinic", "wdbc", "True", "2", "12.3", "15", "4", "forbidden"]
    assert second == ["clinic", "[red]x", "Bypassable", "1", "-", "-", "-"]
    document = as_document(models)
    assert document[0]["requests"] == {"answered": 15, "forbidden": 4}
    assert document[1]["requestsPerSecond"] is None


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "install it"),
        ("echo 'error: You must be logged in' >&2; exit 1", "You must be logged in"),
    ],
)
def test_what_keeps_it_from_looking_is_told(monkeypatch, tmp_path, script, said) -> None:
    if script is not None:
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin" if script else str(tmp_path))
    result = CliRunner().invoke(top.command, [])
    assert result.exit_code == 2
    assert said in result.output


def test_json_through_a_real_process(monkeypatch, tmp_path) -> None:
    program = tmp_path / "kubectl"
    program.write_text(
        '#!/bin/sh\ncase "$2" in\n'
        f"modeldeployments*) echo '{json.dumps({'items': MODELS[:1]})}';;\n"
        f"pods) echo '{json.dumps({'items': PODS[:1]})}';;\n"
        "--raw) echo 'modelward_requests_total{outcome=\"answered\"} 7';;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    result = CliRunner().invoke(top.command, ["-o", "json", "--interval", "0.5"])
    assert result.exit_code == 0, result.output
    (one,) = json.loads(result.output)
    assert (one["name"], one["ready"], one["requestsPerSecond"], one["requests"]) == (
        "wdbc",
        "True",
        0.0,
        {"answered": 7},
    )
