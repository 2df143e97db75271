"""Workloads that run already, protected: the controller against a real API server, with the chart's own rights.

No kubelet and no workload controllers here: what they would do (pods, counts) the tests do.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
import yaml
from cryptography import x509

from modelward.controller.installation import Installation
from modelward.planner.access import AccessSettings, RateLimits
from modelward.planner.injection import inject
from modelward.planner.names import KubeObject
from tests.integration.apiserver import ApiServer, Result
from tests.integration.frameworks import CRDS
from tests.integration.test_controller import (
    IMAGE,
    KEYS,
    ROOT,
    SYSTEM,
    Controller,
    Counting,
    apply,
    as_controller,
    controller_process,
    model,
    namespace,
    reason,
    running,
    wait_for,
)

__all__ = ["running"]

pytestmark = pytest.mark.timeout(300)

PLACE = "made"
MODEL_PORT = 8080
CONTAINERS = [
    {
        "name": "server",
        "image": "server@sha256:" + "c" * 64,
        "ports": [{"name": "http", "containerPort": MODEL_PORT}],
        "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}},
    }
]
APP = {"app": "wdbc"}
TEMPLATE: KubeObject = {"metadata": {"labels": APP}, "spec": {"containers": CONTAINERS}}
SELECTED = {"selector": {"matchLabels": APP}, "template": TEMPLATE}
RUN_ONCE: KubeObject = {"metadata": {"labels": APP}, "spec": {"containers": CONTAINERS, "restartPolicy": "Never"}}
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "Deployment": ("apps/v1", {"replicas": 1, **SELECTED}),
    "StatefulSet": ("apps/v1", {"replicas": 1, "serviceName": "wdbc", **SELECTED}),
    "DaemonSet": ("apps/v1", SELECTED),
    "ReplicaSet": ("apps/v1", {"replicas": 1, **SELECTED}),
    "Job": ("batch/v1", {"suspend": True, "template": RUN_ONCE}),
    "CronJob": ("batch/v1", {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": RUN_ONCE}}}),
    "InferenceService": (
        "serving.kserve.io/v1beta1",
        {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "protocolVersion": "v2"}}},
    ),
    "SeldonDeployment": (
        "machinelearning.seldon.io/v1",
        {
            "protocol": "v2",
            "predictors": [
                {
                    "name": "default",
                    "graph": {"name": "server"},
                    "componentSpecs": [{"spec": {"containers": [{**CONTAINERS[0], "ports": []}]}}],
                    "labels": {"version": "1"},
                }
            ],
        },
    ),
}
LABELS = {
    "InferenceService": "{.spec.predictor.labels}",
    "SeldonDeployment": "{.spec.predictors[0].labels}",
    "CronJob": "{.spec.jobTemplate.spec.template.metadata.labels}",
}


def workload(kind: str, name: str, **changes: Any) -> KubeObject:
    version, spec = SPECS[kind]
    metadata: KubeObject = {"name": name, "namespace": PLACE}
    if kind == "InferenceService":
        metadata["annotations"] = {"serving.kserve.io/deploymentMode": "RawDeployment"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {**spec, **changes}}


def protecting(name: str, kind: str = "Deployment", target: str = "wdbc", **ref: Any) -> KubeObject:
    version, _ = SPECS[kind]
    item = model(name, targetRef={"apiVersion": version, "kind": kind, "name": target, **ref})
    del item["spec"]["model"]
    return item


@pytest.fixture(scope="module")
def place(apiserver: ApiServer, bin_dir: Path) -> Iterator[ApiServer]:
    """The API server with the chart's rights for the controller, KServe's and Seldon's kinds, and a namespace."""
    command = [bin_dir / "helm", "template", "modelward", ROOT / "charts/modelward", "--namespace", SYSTEM]
    command += ["--show-only", "templates/controller-rbac.yaml"]
    rights = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = [
        namespace(SYSTEM),
        namespace(PLACE),
        KEYS,
        *CRDS,
        *(item for item in yaml.safe_load_all(rights) if item),
    ]
    result = apiserver.apply(*objects)
    assert result.ok, result.stderr
    waited = apiserver.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    assert waited.ok, waited.stderr
    wait_for(lambda: apiserver.kubectl("get", "inferenceservices,seldondeployments", "-n", PLACE).ok)
    yield apiserver
    apiserver.delete(*objects)


@pytest.fixture
async def cluster(place: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    async with as_controller(place, monkeypatch) as connected:
        yield connected


@pytest.fixture
async def controller(cluster: Counting, place: ApiServer) -> AsyncIterator[Controller]:
    yield Controller(cluster, place)
    made = "deployment,service,networkpolicy,configmap,secret"
    kinds = ",".join(("modeldeployment", "datapolicy", "events", "service", "pod", *SPECS))
    for what, which in ((kinds, "--all"), (made, "-l=modelward.io/model")):
        result = place.kubectl("delete", what, "-n", PLACE, "--wait=false", "--grace-period=0", "--force", which)
        assert result.ok, result.stderr


def labels_of(server: ApiServer, kind: str, name: str) -> dict[str, str]:
    path = LABELS.get(kind, "{.spec.template.metadata.labels}")
    found = server.kubectl("get", kind, name, "-n", PLACE, "-o", f"jsonpath={path}")
    assert found.ok, found.stderr
    return dict(json.loads(found.stdout or "{}"))


def ours(labels: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in labels.items() if key.startswith("modelward.io/")}


@pytest.mark.parametrize("kind", SPECS)
async def test_a_workload_is_marked_and_given_back_as_it_was(controller: Controller, kind: str) -> None:
    apply(controller.server, workload(kind, "wdbc"), protecting("guard", kind))
    before = controller.server.get(kind, "wdbc", "-n", PLACE)
    assert "Stalled" not in await controller.reconcile("guard")
    marked = ours(labels_of(controller.server, kind, "wdbc"))
    assert marked.pop("modelward.io/runtime")
    port = {"SeldonDeployment": "8000"}.get(kind, str(MODEL_PORT))
    assert marked == {
        "modelward.io/inject": "enabled",
        "modelward.io/model": "guard",
        "modelward.io/model-port": port,
    }
    assert set(controller.made("guard")) - {kind} == {"Service", "NetworkPolicy", "ConfigMap", "Secret"}
    upstream = json.loads(controller.made("guard")["ConfigMap"]["data"]["config.json"])["upstream"]
    assert upstream == {"port": int(port), "protocol": "v2", "model": "wdbc", "readyPath": "/v2/models/wdbc/ready"}
    assert controller.server.get("modeldeployment", "guard", "-n", PLACE)["status"]["target"]["kind"] == kind

    controller.cluster.forget()
    await controller.reconcile("guard")
    assert controller.cluster.writes == []

    controller.server.delete(protecting("guard", kind))
    await controller.gone("guard")
    after = controller.server.get(kind, "wdbc", "-n", PLACE)
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("labels") == before["metadata"].get("labels")


async def test_what_is_protected_is_chosen_by_its_own_label_and_closed(controller: Controller) -> None:
    apply(controller.server, workload("Deployment", "wdbc"), protecting("guard"))
    await controller.reconcile("guard")
    made = controller.made("guard")
    assert made["Service"]["spec"]["selector"] == {"modelward.io/model": "guard"}
    assert [port["targetPort"] for port in made["Service"]["spec"]["ports"]] == [8443]
    policy = made["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"modelward.io/model": "guard"}}
    assert policy["policyTypes"] == ["Ingress"], "what it may call is left as it was"
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {8443, 9090}

    apply(controller.server, protecting("guard", egress="Closed"))
    await controller.reconcile("guard")
    assert set(controller.made("guard")["NetworkPolicy"]["spec"]["policyTypes"]) == {"Ingress", "Egress"}


async def test_a_target_that_is_missing_is_awaited_and_nothing_is_half_made(controller: Controller) -> None:
    apply(controller.server, protecting("guard"))
    assert (await controller.reconcile("guard"))["Stalled"] == ("True", "TargetMissing")
    assert controller.made("guard") == {}
    (event,) = controller.events("TargetMissing")
    assert "spec.targetRef names Deployment wdbc" in event["message"]
    apply(controller.server, workload("Deployment", "wdbc"))
    assert "Stalled" not in await controller.reconcile("guard")


async def test_two_cannot_protect_the_same_and_the_second_follows_when_the_first_is_gone(
    controller: Controller,
) -> None:
    apply(controller.server, workload("Deployment", "wdbc"), protecting("first"), protecting("second"))
    await controller.reconcile("first")
    assert (await controller.reconcile("second"))["Stalled"] == ("True", "TargetTaken")
    assert controller.made("second") == {}
    controller.server.delete(protecting("first"))
    await controller.gone("first")
    assert "Stalled" not in await controller.reconcile("second")
    assert ours(labels_of(controller.server, "Deployment", "wdbc"))["modelward.io/model"] == "second"


async def test_a_workload_that_belongs_to_another_is_protected_by_its_owner(controller: Controller) -> None:
    apply(controller.server, workload("Deployment", "wdbc"))
    uid = controller.server.get("deployment", "wdbc", "-n", PLACE)["metadata"]["uid"]
    owned = workload("ReplicaSet", "wdbc-5f7")
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "wdbc", "uid": uid, "controller": True}
    owned["metadata"]["ownerReferences"] = [owner]
    apply(controller.server, owned, protecting("guard", "ReplicaSet", "wdbc-5f7"))
    assert (await controller.reconcile("guard"))["Stalled"] == ("True", "TargetTaken")
    (event,) = controller.events("TargetTaken")
    assert "belongs to Deployment wdbc: name that one instead" in event["message"]


async def test_another_target_named_gives_the_first_back(controller: Controller) -> None:
    apply(controller.server, workload("Deployment", "wdbc"), workload("StatefulSet", "other"), protecting("guard"))
    await controller.reconcile("guard")
    apply(controller.server, protecting("guard", "StatefulSet", "other"))
    await controller.reconcile("guard")
    assert ours(labels_of(controller.server, "Deployment", "wdbc")) == {}
    assert ours(labels_of(controller.server, "StatefulSet", "other"))["modelward.io/model"] == "guard"


async def test_a_job_that_runs_already_is_told_what_to_do(controller: Controller) -> None:
    apply(controller.server, workload("Job", "wdbc", suspend=False), protecting("guard", "Job"))
    assert (await controller.reconcile("guard"))["Stalled"] == ("True", "TargetImmutable")
    assert controller.made("guard") == {}
    (event,) = controller.events("TargetImmutable")
    assert "modelward.io/inject: enabled" in event["message"]

    labels = {"modelward.io/inject": "enabled", "modelward.io/model": "guard"}
    marked = {**RUN_ONCE, "metadata": {"labels": labels}}
    apply(
        controller.server,
        workload("Job", "labelled", suspend=False, template=marked),
        protecting("guard", "Job", "labelled"),
    )
    assert "Stalled" not in await controller.reconcile("guard")


@pytest.mark.parametrize(
    ("changes", "ref", "said"),
    [
        ({"hostNetwork": True}, {}, "hostNetwork"),
        ({"containers": [{"name": "a", "image": "a"}]}, {}, "no container declares one"),
        (
            {"containers": [{"name": "a", "image": "a", "ports": [{"containerPort": p} for p in (8080, 8081)]}]},
            {},
            "declare 8080, 8081",
        ),
        ({}, {"containerName": "other"}, "no container other"),
        ({}, {"port": 8443}, "the sidecar itself listens on 8443"),
    ],
)
async def test_a_workload_that_cannot_be_protected_is_left_as_it_is(
    controller: Controller, changes: dict[str, Any], ref: dict[str, Any], said: str
) -> None:
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], **changes}}
    apply(controller.server, workload("Deployment", "wdbc", template=template), protecting("guard", **ref))
    assert (await controller.reconcile("guard"))["Stalled"] == ("True", "TargetUnsuitable")
    (event,) = controller.events("TargetUnsuitable")
    assert said in event["message"]
    assert ours(labels_of(controller.server, "Deployment", "wdbc")) == {}
    assert controller.made("guard") == {}


@pytest.mark.parametrize(
    ("mode", "spec", "said"),
    [
        ("Serverless", {}, "Knative"),
        ("", {}, "does not say its mode"),
        ("Standard", {"transformer": {"containers": []}}, "spec.transformer"),
        ("Standard", {"predictor": {"model": {}, "logger": {"mode": "all"}}}, "spec.predictor.logger"),
    ],
)
async def test_an_inference_service_with_another_way_to_its_model_is_refused(
    controller: Controller, mode: str, spec: dict[str, Any], said: str
) -> None:
    item = workload("InferenceService", "wdbc", **spec)
    item["metadata"]["annotations"] = {"serving.kserve.io/deploymentMode": mode} if mode else {}
    apply(controller.server, item, protecting("guard", "InferenceService"))
    assert (await controller.reconcile("guard"))["Stalled"] == ("True", "TargetUnsuitable")
    (event,) = controller.events("TargetUnsuitable")
    assert said in event["message"]


def pod(name: str, labels: dict[str, str]) -> KubeObject:
    """A pod as a workload's controller makes it of its template."""
    metadata = {"name": name, "namespace": PLACE, "labels": labels}
    out: KubeObject = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": CONTAINERS}}
    return out


def run_on(server: ApiServer, name: str, address: str) -> None:
    """Tell of a pod what its kubelet would."""
    ready = [{"type": "Ready", "status": "True"}]
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
    patch = json.dumps({"status": status})
    result = server.kubectl("patch", "pod", name, "-n", PLACE, "--subresource=status", "-p", patch)
    assert result.ok, result.stderr


def rolled_out(server: ApiServer, name: str = "wdbc") -> None:
    """Tell of a Deployment what its controller would, once all its pods are of the latest template."""
    generation = server.get("deployment", name, "-n", PLACE)["metadata"]["generation"]
    counts = {"observedGeneration": generation, **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), 1)}
    patch = json.dumps({"status": counts})
    result = server.kubectl("patch", "deployment", name, "-n", PLACE, "--subresource=status", "-p", patch)
    assert result.ok, result.stderr


@contextmanager
def answering(address: str, port: int) -> Iterator[None]:
    """Something that accepts connections."""
    with create_server((address, port)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    listener.accept()[0].close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        ended.set()
        thread.join()


async def test_ready_says_that_every_pod_is_watched_and_that_no_way_leads_past(controller: Controller) -> None:
    server, address = controller.server, "127.0.0.77"
    apply(server, workload("Deployment", "wdbc"), protecting("guard"), pod("old", APP))
    run_on(server, "old", address)
    conditions = await controller.reconcile("guard")
    assert conditions["Ready"] == ("False", "PodsNotReady")
    assert conditions["Reconciling"] == ("True", "Progressing")
    assert server.get("modeldeployment", "guard", "-n", PLACE)["status"]["selector"] == "app=wdbc"

    rolled_out(server)
    assert (await controller.reconcile("guard"))["Ready"] == ("False", "SidecarMissing")
    server.kubectl("delete", "pod", "old", "-n", PLACE, "--grace-period=0", "--force")

    published = server.get("configmap", "modelward-sidecar", "-n", SYSTEM)["data"]
    marked = labels_of(server, "Deployment", "wdbc")
    new = inject(pod("new", marked), image=published["image"], config_key=published["configKey"])
    assert new["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": 8443}]
    apply(server, new)
    run_on(server, "new", address)
    with answering(address, MODEL_PORT):
        conditions = await controller.reconcile("guard")
        assert conditions["Bypassable"] == ("True", "ModelPortReachable")
        assert conditions["Ready"] == ("False", "Bypassable")
    conditions = await controller.reconcile("guard")
    assert conditions["Bypassable"] == ("False", "Probed")
    assert conditions["Ready"] == ("True", "Serving")
    status = server.get("modeldeployment", "guard", "-n", PLACE)["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["endpoint"] == "https://guard.made.svc/v2/models/wdbc/infer"


async def test_a_limit_is_divided_among_the_pods_of_the_target_and_follows_their_number(controller: Controller) -> None:
    """Where the counts are kept together is down: then each sidecar goes by its share."""
    server = controller.server
    settings = AccessSettings(rate_limits=RateLimits(address="redis://valkey.modelward-system.svc:6379"))
    controller.installation = Installation(controller.cluster, SYSTEM, IMAGE, controller.clock, access=settings)
    guard = protecting("guard")
    guard["spec"]["access"]["rules"][0]["rateLimit"] = {"requests": 60, "seconds": 60}

    async def share() -> int:
        await controller.reconcile("guard")
        document = controller.made("guard")["ConfigMap"]["data"]["config.json"]
        return int(json.loads(document)["access"]["sharedLimits"]["replicas"])

    apply(server, workload("Deployment", "wdbc", replicas=3), guard)
    assert await share() == 3
    assert server.kubectl("scale", "deployment", "wdbc", "-n", PLACE, "--replicas=5").ok
    assert await share() == 5


async def test_services_of_others_lead_to_the_sidecar_or_are_told_of(controller: Controller) -> None:
    server = controller.server
    metadata = {"name": "old", "namespace": PLACE}
    service: KubeObject = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": APP, "ports": [{"name": "http", "port": 80, "targetPort": MODEL_PORT}]},
    }
    apply(server, workload("Deployment", "wdbc"), protecting("guard"), service)
    conditions = await controller.reconcile("guard")
    assert conditions["Bypassable"] == ("True", "ServiceLeadsPast")
    assert conditions["Ready"] == ("False", "Bypassable")
    (event,) = controller.events("Bypassable")
    assert "Service old leads to port 8080: give it targetPort 8443" in event["message"]
    before = controller.made("guard")["Secret"]["data"]["tls.crt"]

    for target in ("http", 8443):  # the sidecar takes the place of the one, and is the other
        service["spec"]["ports"][0]["targetPort"] = target
        apply(server, service)
        assert (await controller.reconcile("guard"))["Bypassable"][1] != "ServiceLeadsPast"
        chain = base64.b64decode(controller.made("guard")["Secret"]["data"]["tls.crt"])
        names = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert {"guard.made.svc", "old.made.svc"} < set(names.value.get_values_for_type(x509.DNSName))
    assert controller.made("guard")["Secret"]["data"]["tls.crt"] != before
    controller.cluster.forget()
    await controller.reconcile("guard")
    assert controller.cluster.writes == []


async def test_a_job_that_has_finished_is_no_alarm(controller: Controller) -> None:
    apply(controller.server, workload("Job", "wdbc"), protecting("guard", "Job"))
    assert (await controller.reconcile("guard"))["Ready"] == ("False", "Suspended")
    resume = json.dumps({"spec": {"suspend": False}})
    assert controller.server.kubectl("patch", "job", "wdbc", "-n", PLACE, "-p", resume).ok
    times = {"startTime": "2026-11-01T00:00:00Z", "completionTime": "2026-11-01T00:01:00Z", "succeeded": 1}

    def completed(*conditions: str) -> Result:
        done = [{"type": kind, "status": "True"} for kind in conditions]
        status = json.dumps({"status": {**times, "conditions": done}})
        return controller.server.kubectl("patch", "job", "wdbc", "-n", PLACE, "--subresource=status", "-p", status)

    if not completed("SuccessCriteriaMet", "Complete").ok:  # as 1.31 and later want it: KEP-3998
        patched = completed("Complete")
        assert patched.ok, patched.stderr
    conditions = await controller.reconcile("guard")
    assert conditions["Ready"] == ("False", "Finished")
    assert not {"Stalled", "Reconciling"} & conditions.keys()


def test_the_process_hears_of_workloads(
    place: ApiServer, running: subprocess.Popen[bytes], controller: Controller, tmp_path: Path
) -> None:
    def marks() -> dict[str, str]:
        return ours(labels_of(place, "Deployment", "wdbc"))

    apply(place, protecting("guard"))
    wait_for(lambda: reason(place, "guard", "Stalled") == "TargetMissing")
    apply(place, workload("Deployment", "wdbc"))
    wait_for(lambda: marks().get("modelward.io/model") == "guard", 30)

    # Somebody takes the marks off (where the admission policies are not installed).
    off = json.dumps({"spec": {"template": {"metadata": {"labels": {"modelward.io/inject": None}}}}})
    assert place.kubectl("patch", "deployment", "wdbc", "-n", PLACE, "-p", off).ok
    wait_for(lambda: marks().get("modelward.io/inject") == "enabled", 30)

    place.delete(protecting("guard"))
    wait_for(lambda: marks() == {}, 30)
    made = "service,networkpolicy,configmap,secret"  # the garbage collector's part
    assert place.kubectl("delete", made, "-n", PLACE, "-l=modelward.io/model").ok

    # What is deleted while no controller runs is given back by the next.
    apply(place, protecting("guard"))
    wait_for(lambda: marks().get("modelward.io/model") == "guard", 30)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=10) == 0
    place.delete(protecting("guard"))
    with controller_process(place, tmp_path):
        wait_for(lambda: marks() == {})


SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.mark.parametrize("level", ["privileged", "baseline", "restricted"])
@pytest.mark.parametrize(
    ("context", "passes"),
    [
        (SAFE, {"privileged", "baseline", "restricted"}),
        ({}, {"privileged", "baseline"}),
        ({**SAFE, "runAsNonRoot": False}, {"privileged", "baseline"}),
        ({"capabilities": {"add": ["SETUID"]}}, {"privileged", "baseline"}),
        ({**SAFE, "seccompProfile": {"type": "Unconfined"}}, {"privileged"}),
    ],
)
async def test_injection_changes_no_pod_security_verdict(
    controller: Controller, level: str, context: KubeObject, passes: set[str]
) -> None:
    """Judged by the API server's own admission plugin."""
    enforced = {"pod-security.kubernetes.io/enforce": level}
    apply(controller.server, namespace(level, **enforced))
    await controller.installation.reconcile()
    published = controller.server.get("configmap", "modelward-sidecar", "-n", SYSTEM)["data"]
    before = pod("judged", APP)
    before["metadata"]["namespace"] = level
    before["spec"] = {"containers": [{**CONTAINERS[0], "securityContext": context}]}
    marks = {"modelward.io/model": "guard", "modelward.io/model-port": str(MODEL_PORT)}
    marked = {**before, "metadata": {**before["metadata"], "labels": marks}}
    after = inject(marked, image=published["image"], config_key=published["configKey"])
    for item in (before, after):
        result = controller.server.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(item))
        assert result.ok is (level in passes), result.stderr
        assert result.ok or "violates PodSecurity" in result.stderr
