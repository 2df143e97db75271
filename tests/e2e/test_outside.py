"""A model and what stands outside of it: keys fetched from their issuer, pods that call, a collector that listens."""

from __future__ import annotations

import base64
import json
import ssl
import struct
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from demo.kubectl import Cluster, wait_for
from demo.serving import EXAMPLE, authority, wait_ready
from tests.corpus import Manifest
from tests.e2e.conftest import OUTSIDE, OUTSIDE_URL, SIDECAR_IMAGE, Installed
from tests.e2e.test_life import MODEL, in_namespace, infer, row
from tests.e2e.test_targets import SAFE

PLACE = "tests-outside-models"
CANARY = "c4n4ry-of-a-patient"
CALLER = "worklist"


@dataclass
class Served:
    """A model that is Ready, and how often it was asked."""

    modelward: Installed
    asked: int = 0

    @property
    def cluster(self) -> Cluster:
        return self.modelward.cluster


def named(kind: str, name: str, namespace: str, **rest: Any) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, **rest}


def pod(name: str, image: str, command: list[str], volumes: list[Manifest], **spec: Any) -> Manifest:
    """A pod outside of the models that runs a script of this folder."""
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    container = {"name": name, "image": image, "command": command, "volumeMounts": mounts, "securityContext": SAFE}
    wanted = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0, **spec}
    made = named("Pod", name, OUTSIDE, spec=wanted)
    made["metadata"]["labels"] = {"app": name}
    return made


def scripts(name: str) -> Manifest:
    path = Path(__file__).with_name(f"{name}.py")
    return named("ConfigMap", name, OUTSIDE, data={path.name: path.read_text()})


def model(modelward: Installed) -> Manifest:
    """The example's model with both kinds of issuers; records go to the collector, lineage to the receiver."""
    manifest = in_namespace(modelward.example("model.yaml"), PLACE)
    cluster_issuer = json.loads(modelward.cluster.kubectl("get", "--raw", "/.well-known/openid-configuration").stdout)
    spec = manifest["spec"]
    spec["replicas"] = 1
    clinic, *_ = spec["access"]["issuers"]
    del clinic["jwksConfigMapName"]
    spec["access"] = {
        "issuers": [
            clinic | {"jwksURI": f"{OUTSIDE_URL}/jwks.json"},
            {"name": "cluster", "issuer": cluster_issuer["issuer"], "audiences": [MODEL], "serviceAccounts": True},
        ],
        "rules": [{"subjects": ["user:dr-lee", f"serviceaccount:{OUTSIDE}/{CALLER}"], "operations": ["Infer"]}],
    }
    spec["monitoring"]["telemetry"] = {"otlpEndpoint": OUTSIDE_URL, "accessLog": "OTLP", "lineageEndpoint": OUTSIDE_URL}
    return manifest


@pytest.fixture(scope="module")
def served(modelward: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    cluster, image = modelward.cluster, modelward.images[SIDECAR_IMAGE]
    names = x509.DNSName(f"outside.{OUTSIDE}.svc"), x509.IPAddress(ip_address("127.0.0.1"))
    certificate, key = modelward.outside.issue(tmp_path_factory.mktemp("outside"), *names)
    jwks = modelward.example("jwks.yaml")["data"]["jwks.json"]
    content = {"tls.crt": certificate.read_text(), "tls.key": key.read_text(), "jwks.json": jwks}
    volumes = [
        {"name": "served", "secret": {"secretName": "outside"}},
        {"name": "scripts", "configMap": {"name": "outside"}},
    ]
    port = {"port": 8443, "targetPort": 8443}
    try:
        for name in (OUTSIDE, PLACE):
            modelward.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        modelward.apply(
            named("Secret", "outside", OUTSIDE, stringData=content),
            scripts("outside"),
            pod("outside", image, ["python3", "/scripts/outside.py"], volumes),
            named("Service", "outside", OUTSIDE, spec={"selector": {"app": "outside"}, "ports": [port]}),
            in_namespace(modelward.example("baseline.yaml"), PLACE),
            model(modelward),
        )
        wait_ready(cluster, PLACE, MODEL)
        yield Served(modelward)
    finally:
        cluster.kubectl("delete", "namespace", OUTSIDE, PLACE, "--timeout=120s", timeout=130).expect_ok()


def ask(served: Served, token: str, values: list[float], header: dict[str, str] | None = None, **more: Any) -> int:
    """Ask the model from this machine, and count it."""
    cluster = served.cluster
    context = ssl.create_default_context(cadata=authority(cluster, PLACE, MODEL).decode())
    headers = {"authorization": f"Bearer {token}", **(header or {})}
    with cluster.port_forward(PLACE, f"service/{MODEL}", 443) as port:
        served.asked += 1
        return infer(port, f"{MODEL}.{PLACE}.svc", context, values, headers, **more)


def token_of(cluster: Cluster) -> str:
    """A token of the example's issuer, for dr-lee."""
    return cluster.run(sys.executable, f"{EXAMPLE}/client.py", "token").expect_ok().stdout.strip()


def test_keys_are_fetched_from_where_the_installation_allows(served: Served) -> None:
    values = row(served.cluster.folder)
    token = token_of(served.cluster)
    assert ask(served, token, values) == 200
    assert ask(served, f"{token[:-8]}AAAAAAAA", values) == 401
    elsewhere = model(served.modelward)
    elsewhere["metadata"]["name"] = "elsewhere"
    elsewhere["spec"]["access"]["issuers"][0]["jwksURI"] = f"{OUTSIDE_URL}.attacker.example/jwks.json"
    refused = served.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(elsewhere))
    assert not refused.ok
    assert "jwksURI" in refused.text


def test_a_pod_is_known_by_the_token_of_its_service_account(served: Served) -> None:
    """With the audience of the model; the token that every pod has, for the API server, is none for it."""
    cluster = served.cluster
    body = {"inputs": [{"name": "features", "datatype": "FP64", "shape": [1, 30], "data": row(cluster.folder)}]}
    given = {"ca.crt": authority(cluster, PLACE, MODEL).decode(), "body.json": json.dumps(body)}
    own = {"serviceAccountToken": {"audience": MODEL, "path": "token", "expirationSeconds": 600}}
    volumes = [
        {"name": "scripts", "configMap": {"name": "caller"}},
        {"name": "given", "configMap": {"name": "given"}},
        {"name": "own", "projected": {"sources": [own]}},
    ]
    tokens = ["/own/token", "/var/run/secrets/kubernetes.io/serviceaccount/token"]
    url = f"https://{MODEL}.{PLACE}.svc/v2/models/{MODEL}/infer"
    command = ["python3", "/scripts/caller.py", url, "/given/body.json", "/given/ca.crt", *tokens]
    as_caller = {"serviceAccountName": CALLER, "restartPolicy": "Never"}
    served.modelward.apply(
        named("ServiceAccount", CALLER, OUTSIDE),
        scripts("caller"),
        named("ConfigMap", "given", OUTSIDE, data=given),
        pod("caller", served.modelward.images[SIDECAR_IMAGE], command, volumes, **as_caller),
    )

    def ended() -> list[str] | None:
        phase = cluster.get("pod", "caller", "-n", OUTSIDE)["status"]["phase"]
        said = cluster.kubectl("logs", "caller", "-n", OUTSIDE).text if phase in ("Succeeded", "Failed") else ""
        return said.splitlines() or None

    said = wait_for("the end of the pod that calls", ended, timeout=180)
    served.asked += len(tokens)
    assert said == ["200", "401"]


def test_every_request_is_told_to_the_collector_and_no_value_of_any(served: Served) -> None:
    cluster = served.cluster
    number = row(cluster.folder)[0] + 1.23456789e-7  # no other number has these digits
    values = [number, *row(cluster.folder)[1:]]
    token = token_of(cluster)
    for _ in range(3):
        noted = {"id": CANARY, "parameters": {"note": CANARY}}
        assert ask(served, token, values, {"x-note": CANARY}, **noted) == 200
    assert ask(served, CANARY, values) == 401

    with kept_outside(served) as kept:
        for what, count in (("spans", spans), ("lines of the access log", lines), ("requests in metrics", requests)):

            def all_of_them(count: Callable[[list[tuple[str, bytes]]], int] = count) -> bool | None:
                return True if count(kept()) == served.asked else None

            wait_for(f"{served.asked} {what} at the collector", all_of_them, timeout=180)
        everything = b"".join(body for _, body in kept())
    log = cluster.kubectl("logs", "-n", PLACE, "-l", f"modelward.io/model={MODEL}", "--all-containers", "--tail=-1")
    assert b"dr-lee" in everything, "who asked is told, and the test reads what came"
    for canary in (CANARY.encode(), repr(number).encode(), struct.pack("<d", number), token.encode()):
        assert canary not in everything
        assert canary not in log.expect_ok().stdout.encode()


@contextmanager
def kept_outside(served: Served) -> Iterator[Callable[[], list[tuple[str, bytes]]]]:
    """Gives what was posted to what stands outside, by path, whenever it is asked."""
    with served.cluster.port_forward(OUTSIDE, "pod/outside", 8443) as port:
        context = ssl.create_default_context(cadata=served.modelward.outside.pem)

        def kept() -> list[tuple[str, bytes]]:
            with urllib.request.urlopen(f"https://127.0.0.1:{port}/kept", context=context, timeout=10) as answer:
                return [(path, base64.b64decode(body)) for path, body in json.load(answer)]

        yield kept


def test_who_got_answers_is_told_to_the_receiver_of_lineage_and_in_the_status(served: Served) -> None:
    assert ask(served, token_of(served.cluster), row(served.cluster.folder)) == 200
    with kept_outside(served) as kept:

        def consumers() -> dict[str, int] | None:
            found: dict[str, int] = {}
            for path, body in kept():
                event = json.loads(body) if path == "/api/v1/lineage" else {}
                window = event.get("run", {}).get("facets", {}).get("modelward_serving", {})
                for one in window.get("consumers", ()):
                    found[one["client"]] = found.get(one["client"], 0) + one["requests"]
            return found or None

        # A window is a minute, and a model is asked every fifteen seconds, or every minute.
        told = wait_for("the first window of serving at the receiver of lineage", consumers, timeout=300)
        events = b"".join(body for path, body in kept() if path == "/api/v1/lineage")
    assert "user:dr-lee" in told
    assert CANARY.encode() not in events

    def shown() -> set[str]:
        status = served.cluster.get("modeldeployment", MODEL, "-n", PLACE)["status"]
        return {one["client"] for one in status.get("lineage", {}).get("consumers", ())}

    wait_for("the consumer in the model's status", lambda: "user:dr-lee" in shown() or None, timeout=180)


def spans(kept: list[tuple[str, bytes]]) -> int:
    told = [ExportTraceServiceRequest.FromString(body) for path, body in kept if path == "/v1/traces"]
    return sum(len(scope.spans) for one in told for resource in one.resource_spans for scope in resource.scope_spans)


def lines(kept: list[tuple[str, bytes]]) -> int:
    """Lines of the access log that tell of a request; others tell where a chain begins."""
    told = [ExportLogsServiceRequest.FromString(body) for path, body in kept if path == "/v1/logs"]
    scopes = [scope for one in told for resource in one.resource_logs for scope in resource.scope_logs]
    return sum("status" in json.loads(record.body.string_value) for scope in scopes for record in scope.log_records)


def requests(kept: list[tuple[str, bytes]]) -> int:
    """The counter of requests, of all outcomes, as it was told last."""
    told = [ExportMetricsServiceRequest.FromString(body) for path, body in kept if path == "/v1/metrics"]
    scopes = [scope for resource in told[-1].resource_metrics for scope in resource.scope_metrics] if told else []
    metrics = [one for scope in scopes for one in scope.metrics if one.name == "modelward_requests_total"]
    return int(sum(point.as_double or point.as_int for one in metrics for point in one.sum.data_points))
