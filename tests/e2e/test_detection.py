"""Detection on the kind cluster: a baseline fitted by a Job on a volume, an attack that shows up, and who is let go."""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from demo.kubectl import Cluster, NotAsToldError, wait_for
from demo.serving import BUILD, EXAMPLE, authority, condition, wait_ready
from tests.cluster import kind
from tests.corpus import Manifest
from tests.e2e.conftest import Installed
from tests.e2e.test_life import MODEL, in_namespace

SYSTEM = "modelward-system"
STRANGER, COPIER, DOCTOR = "stranger", "copier", "dr-lee"
COUNTED = 5  # anomalies, until a client is held


def volume(cluster: Cluster, namespace: str, content: str) -> list[Manifest]:
    """A claim with the training data on it, where a data team would have put them."""
    folder = f"/var/local/modelward-e2e/{namespace}"
    put = f"mkdir -p {folder} && cat > {folder}/train.csv && chmod 644 {folder}/train.csv"
    cluster.run("docker", "exec", "-i", kind.NODE, "sh", "-c", put, stdin=content).expect_ok()
    size = {"storage": "10Mi"}
    shared = {"storageClassName": "", "accessModes": ["ReadOnlyMany"]}
    place = {"name": "reference", "namespace": namespace}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{namespace}-reference"},
            "spec": {**shared, "capacity": size, "hostPath": {"path": folder}, "claimRef": place},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": place,
            "spec": {**shared, "resources": {"requests": size}, "volumeName": f"{namespace}-reference"},
        },
    ]


def watched(modelward: Installed, namespace: str, digest: str) -> list[Manifest]:
    """The example's model, its baseline yet to be fitted, and a policy that holds clients."""
    model = in_namespace(modelward.example("model.yaml"), namespace)
    model["spec"]["monitoring"] = {
        "baseline": {"dataset": f"pvc://reference/train.csv@sha256:{digest}"},
        "detectors": [{"type": "Ensemble", "falsePositiveRate": 0.01}, {"type": "Extraction"}],
        "onAnomaly": "Block",
    }
    holds = {"anomalies": COUNTED, "seconds": 600, "durationSeconds": 3600}
    policy = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "DataPolicy",
        "metadata": {"name": "holds", "namespace": namespace},
        "spec": {"quarantine": holds, "require": {"monitoring": {"baselineMaxAgeDays": 30}}},
    }
    return [policy, in_namespace(modelward.example("jwks.yaml"), namespace), model]


class Pod:
    """A way to one pod's sidecar."""

    def __init__(self, cluster: Cluster, namespace: str, port: int, trusted: str) -> None:
        self.folder, self.host, self.port = cluster.folder, f"{MODEL}.{namespace}.svc", port
        self.context = ssl.create_default_context(cadata=trusted)

    def ask(self, client: str, row: np.ndarray) -> int:
        values = row.tolist()
        body = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, len(values)], "data": values}]}
        return self.send(client, json.dumps(body).encode())[0]

    def send(self, client: str, body: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/json", "authorization": f"Bearer {token(self.folder, client)}"}
        context, host = self.context, self.host

        class Named(http.client.HTTPSConnection):
            def connect(self) -> None:
                http.client.HTTPConnection.connect(self)
                self.sock = context.wrap_socket(self.sock, server_hostname=host)

        connection = Named("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


_tokens: dict[str, str] = {}


def token(folder: Path, client: str) -> str:
    if client not in _tokens:
        command = [sys.executable, f"{EXAMPLE}/client.py", "token", "--sub", client, "--group", "oncology"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        _tokens[client] = done.stdout.strip()
    return _tokens[client]


@contextmanager
def replicas(cluster: Cluster, namespace: str) -> Iterator[tuple[Pod, Pod]]:
    found = cluster.get("pods", "-n", namespace, "-l", f"modelward.io/model={MODEL}")["items"]
    one, other = (pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])
    trusted = authority(cluster, namespace, MODEL).decode()
    with (
        cluster.port_forward(namespace, f"pod/{one}", 8443) as first,
        cluster.port_forward(namespace, f"pod/{other}", 8443) as second,
    ):
        yield Pod(cluster, namespace, first, trusted), Pod(cluster, namespace, second, trusted)


def events(cluster: Cluster, namespace: str, reason: str) -> dict[str, str]:
    """The messages of events with this reason, by the client that they begin with."""
    items = cluster.get("events", "-n", namespace, f"--field-selector=reason={reason}")["items"]
    return {item["message"].split()[0]: item["message"] for item in items}


def metric(cluster: Cluster, name: str, namespace: str) -> float:
    """What the controllers say together: the one that leads says something."""
    pods = cluster.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=controller")["items"]
    total = 0.0
    for pod in pods:
        path = f"/api/v1/namespaces/{SYSTEM}/pods/{pod['metadata']['name']}:8080/proxy/metrics"
        text = cluster.kubectl("get", "--raw", path).expect_ok().stdout
        lines = [line for line in text.splitlines() if line.startswith(name) and f'namespace="{namespace}"' in line]
        total += sum(float(line.rsplit(" ", 1)[1]) for line in lines)
    return total


def monitored(cluster: Cluster, namespace: str, reason: str) -> str:
    def look() -> str | None:
        told = condition(cluster.get("modeldeployment", MODEL, "-n", namespace), "Monitored")
        if told.get("reason") == reason:
            return str(told["message"])
        raise NotAsToldError(f"Monitored: {told}")

    return wait_for(f"the condition Monitored with the reason {reason}", look, timeout=180)


def test_an_attack_is_seen_held_in_all_replicas_and_let_go(modelward: Installed, namespace: str) -> None:
    cluster = modelward.cluster
    content = (cluster.folder / BUILD / "train.csv").read_text()
    digest = hashlib.sha256(content.encode()).hexdigest()
    holdout = np.loadtxt(cluster.folder / BUILD / "holdout.csv", delimiter=",", skiprows=1, usecols=range(30))
    # In a protected namespace every pod needs a sidecar, but for the Job's.
    protected = {"metadata": {"labels": {"modelward.io/protected": "true"}}}
    cluster.kubectl("patch", "namespace", namespace, "-p", json.dumps(protected)).expect_ok()
    made = volume(cluster, namespace, content)
    try:
        modelward.apply(*made, *watched(modelward, namespace, digest))
        wait_ready(cluster, namespace, MODEL)
        with replicas(cluster, namespace) as (one, other):
            attacked(cluster, namespace, (one, other), holdout)
    finally:
        cluster.kubectl("delete", "modeldeployment", MODEL, "-n", namespace, "--ignore-not-found").expect_ok()
        cluster.kubectl("delete", "pv", f"{namespace}-reference", "--wait=false").expect_ok()
        cluster.run("docker", "exec", kind.NODE, "rm", "-rf", f"/var/local/modelward-e2e/{namespace}").expect_ok()


def attacked(cluster: Cluster, namespace: str, pods: tuple[Pod, Pod], rows: np.ndarray) -> None:
    one, other = pods
    ordinary = rows[0]
    strange = np.where(np.arange(30) % 2, rows.min(axis=0), 1.5 * rows.max(axis=0))  # each value near one that occurs
    assert [one.ask(STRANGER, strange) for _ in range(COUNTED)] == [403] * COUNTED
    noise = np.random.default_rng(0).normal(1.0, 0.001, size=(200, 30))  # row after row a little beside one row
    statuses = [one.ask(COPIER, row) for row in ordinary * noise]
    assert 200 in statuses, "a copier is not known by its first rows"
    assert statuses[-1] == 403, "a copier is not held"
    assert one.ask(DOCTOR, rows[1]) == 200

    message = monitored(cluster, namespace, "Quarantined")
    assert f"user:{STRANGER} until" in message
    told = events(cluster, namespace, "AnomalyDetected")
    assert f"{COUNTED} anomalies found by Ensemble, blocked" in told[f"user:{STRANGER}"]
    assert "found by Extraction" in told[f"user:{COPIER}"]
    assert set(events(cluster, namespace, "ClientQuarantined")) == {f"user:{STRANGER}", f"user:{COPIER}"}
    assert metric(cluster, "modelward_model_quarantined_clients", namespace) == 2
    assert metric(cluster, "modelward_model_anomalies", namespace) >= COUNTED

    # What one replica found holds in the other; nobody else is held.
    assert other.ask(STRANGER, ordinary) == other.ask(COPIER, ordinary) == 403
    assert other.ask(DOCTOR, ordinary) == 200

    release = ("release", f"md/{MODEL}", f"user:{STRANGER}", "-n", namespace)
    cluster.run(sys.executable, "-m", "modelward.cli.main", *release).expect_ok()

    def let_go() -> bool | None:
        statuses = [pod.ask(STRANGER, ordinary) for pod in pods]
        if statuses == [200, 200]:
            return True
        raise NotAsToldError(f"answers to the one that was let go: {statuses}")

    wait_for("the client that was let go to be answered", let_go, timeout=45)
    assert [pod.ask(COPIER, ordinary) for pod in pods] == [403, 403]
    assert f"user:{STRANGER}" in events(cluster, namespace, "ClientReleased")
