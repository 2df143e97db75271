"""A model's life on the kind cluster: what it waits for, how it is called with a client certificate, how it goes."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from demo.kubectl import Cluster, NotAsToldError, wait_for
from demo.serving import authority, condition, wait_ready
from tests.corpus import Manifest
from tests.e2e.conftest import Installed
from tests.unit.sidecar.pki import Authority

MADE = "deployment,service,serviceaccount,networkpolicy,configmap,secret,poddisruptionbudget,pod"
MODEL = "wdbc"


def in_namespace(manifest: Manifest, namespace: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


def made(cluster: Cluster, namespace: str) -> list[str]:
    found = cluster.kubectl("get", MADE, "-n", namespace, "-l", f"modelward.io/model={MODEL}", "-o", "name")
    return found.expect_ok().stdout.split()


def wait_gone(cluster: Cluster, namespace: str) -> None:
    def look() -> bool | None:
        left = made(cluster, namespace)
        if left:
            raise NotAsToldError(f"still there: {', '.join(left)}")
        return True

    wait_for("everything that was made for the model is gone", look, timeout=180)


def test_what_is_missing_is_told_awaited_and_nothing_half_made(modelward: Installed, namespace: str) -> None:
    cluster = modelward.cluster
    modelward.apply(in_namespace(modelward.example("model.yaml"), namespace))

    def stalled() -> dict[str, Any] | None:
        told = condition(cluster.get("modeldeployment", MODEL, "-n", namespace), "Stalled")
        return told if told.get("reason") == "ReferenceMissing" else None

    told = wait_for("the condition Stalled for what is missing", stalled, timeout=180)
    assert "clinic-jwks" in told["message"]
    assert made(cluster, namespace) == [], "something was made although a ConfigMap is missing"
    for name in ("jwks.yaml", "baseline.yaml"):
        modelward.apply(in_namespace(modelward.example(name), namespace))
    wait_ready(cluster, namespace, MODEL)
    assert len([name for name in made(cluster, namespace) if name.startswith("pod/")]) == 2

    cluster.kubectl("delete", "modeldeployment", MODEL, "-n", namespace).expect_ok()
    wait_gone(cluster, namespace)


def test_mutual_tls(modelward: Installed, namespace: str, tmp_path: Path) -> None:
    cluster = modelward.cluster
    callers = Authority("the callers' authority")
    manifest = in_namespace(modelward.example("model.yaml"), namespace)
    spec = manifest["spec"]
    spec["replicas"] = 1
    spec["encryption"]["inTransit"] = {"mode": "MutualTLS", "minVersion": "1.3", "clientCASecretName": "callers"}
    spec["access"] = {"rules": [{"subjects": ["san:triage.clinic.svc"], "operations": ["Infer"]}]}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "callers", "namespace": namespace},
        "data": {"ca.crt": base64.b64encode(callers.pem.encode()).decode()},
    }
    modelward.apply(secret, in_namespace(modelward.example("baseline.yaml"), namespace), manifest)
    wait_ready(cluster, namespace, MODEL)
    trusted = authority(cluster, namespace, MODEL).decode()
    with cluster.port_forward(namespace, f"service/{MODEL}", 443) as port:

        def ask(name: str | None) -> int:
            context = ssl.create_default_context(cadata=trusted)
            if name is not None:
                context.load_cert_chain(*callers.issue(tmp_path, x509.DNSName(name), name=name))
            return infer(port, f"{MODEL}.{namespace}.svc", context, row(cluster.folder))

        assert ask("triage.clinic.svc") == 200
        assert ask("billing.clinic.svc") == 403
        try:
            status = ask(None)
        except (ssl.SSLError, ConnectionError):
            status = 0
        assert status == 0, f"answered {status} without a client certificate"


def row(folder: Path) -> list[float]:
    line = (folder / "build/example/holdout.csv").read_text().splitlines()[1]
    return [float(value) for value in line.split(",")[:30]]


def infer(
    port: int,
    server_name: str,
    context: ssl.SSLContext,
    values: list[float],
    header: dict[str, str] | None = None,
    **more: Any,
) -> int:
    """The status of an answer to one row; `more` are further members of the request."""
    tensor = {"name": "features", "datatype": "FP64", "shape": [1, len(values)], "data": values}

    class Named(http.client.HTTPSConnection):
        def connect(self) -> None:
            http.client.HTTPConnection.connect(self)
            self.sock = context.wrap_socket(self.sock, server_hostname=server_name)

    connection = Named("127.0.0.1", port, timeout=30)
    try:
        headers = {"content-type": "application/json", **(header or {})}
        connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor], **more}), headers)
        return connection.getresponse().status
    finally:
        connection.close()
