"""`modelward run --lineage`: the events that the controller would send, from here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.cli import lineage_events
from modelward.cli.lineage_events import Teller
from modelward.controller.receivers import receiver_at
from modelward.lineage.subject import subject_of
from tests.ports import free_port
from tests.unit.controller.lineage_receiver import LineageServer
from tests.unit.lineage import manifests
from tests.unit.sidecar.harness import until
from tests.unit.sidecar.test_run import answers, ask, files, manifest, model  # noqa: F401 - fixtures
from tests.unit.sidecar.test_windows import record


def test_what_is_served_here_is_told_as_in_a_cluster(files: Path, model: str, tmp_path: Path) -> None:  # noqa: F811
    port, monitor, out = free_port(), free_port(), tmp_path / "events.jsonl"
    policy = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "DataPolicy",
        "metadata": {"name": "coarse", "namespace": manifest()["metadata"].get("namespace", "default")},
        "spec": {
            "fields": [{"name": "a", "role": "QuasiIdentifier", "treatment": "Round", "digits": 1}],
            "legalBasis": {"article6": "Consent"},
        },
    }
    (files / "policy.yaml").write_text(yaml.safe_dump(policy))
    command = [sys.executable, "-m", "modelward.cli.main", "run", "-f", str(files), "--upstream", model, "--plaintext"]
    command += ["--listen", f"127.0.0.1:{port}", "--monitor", f"127.0.0.1:{monitor}", "--lineage", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or answers(monitor))
            name = manifest()["spec"]["model"].get("name") or manifest()["metadata"]["name"]
            for _ in range(2):
                assert ask(f"http://127.0.0.1:{port}", name)[0] == 200
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    events = [json.loads(line) for line in out.read_text().splitlines()]
    runs = [one for one in events if "run" in one]
    served = [one for one in runs if one["job"]["name"].endswith(".serving") and one["eventType"] == "COMPLETE"]
    assert f"{len(served)} windows sent, 0 failed, 0 dropped" in err
    consumers = [each for one in served for each in one["run"]["facets"]["modelward_serving"]["consumers"]]
    assert {(one["client"], one["purpose"]) for one in consumers} == {("user:alice", "diagnosis")}
    assert sum(one["requests"] for one in consumers) == 2
    lineage = served[0]["outputs"][0]["facets"]["columnLineage"]["fields"]["a"]["inputFields"][0]
    assert lineage["transformations"][0]["description"].startswith("rounded to 1 digits (QuasiIdentifier, DataPolicy/")
    (basis,) = served[0]["job"]["facets"]["modelward_purpose"]["legalBases"]
    assert basis["article6"] == "Consent"
    changes = [one["outputs"][0]["facets"].get("lifecycleStateChange") for one in runs]
    assert [one["lifecycleStateChange"] for one in changes if one] == ["CREATE"] * 2 + ["DROP"] * 2


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageServer]:
    monkeypatch.setattr(lineage_events, "_EVERY_SECONDS", 0.01)
    made = LineageServer()
    yield made
    made.stop()


def test_a_receiver_that_comes_late_gets_all_and_trouble_is_told_once(server: LineageServer) -> None:
    said: list[str] = []
    server.answers = [503] * 3
    teller = Teller(subject_of(manifests.model(), []), receiver_at(server.url), said.append)
    for minute in range(3):
        teller.add(record(minute * 60))
    until(lambda: teller.sent >= 2)
    teller.close()
    kinds: list[Any] = [one.get("eventType") for one in server.events]
    assert kinds == [None, *["START", "COMPLETE"] * 5]
    assert (teller.sent, teller.dropped, said) == (3, 0, ["lineage: it answered 503"])
