"""Pods that should be watched and are not: found, told of, repaired; a real API server, and the chart's rights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.controller.certificates import new_authority
from modelward.controller.cluster import Cluster
from modelward.controller.events import Recorder
from modelward.controller.installation import Installed
from modelward.controller.unwatched import UnwatchedPods
from modelward.planner.injection import inject
from modelward.planner.names import KubeObject
from modelward.planner.plan import Settings
from tests.integration.apiserver import ApiServer
from tests.ports import free_port

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
SYSTEM = "modelward-system"
CONTROLLER = "controller-token"
SETTINGS = Settings("modelward-sidecar@sha256:" + "a" * 64, "a2V5")
NAMED = {"modelward.io/inject": "enabled", "modelward.io/model": "wdbc"}
OPEN, LATER = "unwatched-open", "unwatched-later"
OURS = (OPEN, LATER)
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "wdbc-7f", "uid": "7f", "controller": True}


def namespace(name: str, **labels: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(name: str, space: str = OPEN, labels: dict[str, str] | None = None, *owners: KubeObject) -> KubeObject:
    metadata = {"name": name, "namespace": space, "labels": dict(NAMED if labels is None else labels)}
    spec = {"containers": [{"name": "model", "image": "m:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "ownerReferences": [*owners]}, "spec": spec}


def watched(name: str, space: str = OPEN, *owners: KubeObject) -> KubeObject:
    return inject(pod(name, space, None, *owners), image=SETTINGS.sidecar_image, config_key=SETTINGS.config_key)


def decoy(name: str) -> KubeObject:
    return inject(pod(name), image="evil:1", config_key=SETTINGS.config_key)


MODEL: KubeObject = {
    "apiVersion": "modelward.io/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "wdbc", "namespace": OPEN},
    "spec": {"model": {"image": "m:1"}},
}
REPAIRING: KubeObject = {
    "apiVersion": "modelward.io/v1alpha1",
    "kind": "DataPolicy",
    "metadata": {"name": "mends", "namespace": OPEN},
    "spec": {"repair": True},
}
CONFIG: KubeObject = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wdbc-sidecar", "namespace": OPEN}}
WEBHOOK: KubeObject = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingWebhookConfiguration",
    "metadata": {"name": "modelward"},
}
ADMISSION: KubeObject = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "modelward-admission", "namespace": SYSTEM},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
    },
}


@pytest.fixture(scope="module")
def place(apiserver: ApiServer, bin_dir: Path) -> Iterator[ApiServer]:
    command = [bin_dir / "helm", "template", "modelward", ROOT / "charts/modelward", "--namespace", SYSTEM]
    command += ["--show-only", "templates/controller-rbac.yaml"]
    rights = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = [item for item in yaml.safe_load_all(rights) if item]
    spaces = [namespace(name) for name in (SYSTEM, OPEN, LATER)]
    result = apiserver.apply(*spaces, *objects)
    assert result.ok, result.stderr
    yield apiserver
    apiserver.delete(*objects)


class Watch:
    """The looking, with what it told and whom it woke."""

    def __init__(self, cluster: Cluster, server: ApiServer) -> None:
        self.server = server
        self.woken: list[tuple[str, str]] = []
        installed = Installed(new_authority(datetime.now(UTC)), None, SETTINGS, {})  # type: ignore[arg-type]
        self.pods = UnwatchedPods(
            cluster, Recorder(cluster), lambda: installed, lambda *which: self.woken.append(which)
        )

    async def look(self, *protected: str) -> dict[str, list[str]]:
        await self.pods.look(protected)
        return {space: sorted(one.name for one in found) for space, found in self.pods.found.items() if space in OURS}

    def events(self, reason: str, space: str = OPEN) -> list[tuple[str, str]]:
        items = self.server.get("events", "-n", space)["items"]
        return sorted((one["involvedObject"]["kind"], one["message"]) for one in items if one["reason"] == reason)

    def there(self, name: str) -> bool:
        return self.server.kubectl("get", "pod", name, "-n", OPEN).ok


@pytest.fixture
async def watch(place: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watch]:
    monkeypatch.setenv("KUBECONFIG", str(place.kubeconfig_for(CONTROLLER)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with Cluster.connected() as cluster:
        yield Watch(cluster, place)
    place.delete(WEBHOOK, ADMISSION)
    for space in (OPEN, LATER):
        kinds = "pods,poddisruptionbudgets,replicasets,modeldeployments,datapolicies,configmaps,events"
        flags = ("--all", "--force", "--grace-period=0", "--wait=false")
        assert place.kubectl("delete", kinds, "-n", space, *flags).ok


def make(server: ApiServer, *manifests: KubeObject) -> None:
    result = server.kubectl("create", "-f", "-", input=yaml.safe_dump_all(manifests))
    assert result.ok, result.stderr


def state(server: ApiServer, what: str, space: str, **status: Any) -> None:
    change = yaml.safe_dump({"status": status})
    result = server.kubectl("patch", what, "-n", space, "--subresource=status", "--type=merge", "-p", change)
    assert result.ok, result.stderr


async def test_pods_in_scope_by_their_labels(watch: Watch) -> None:
    plain = pod("plain", labels={})
    inject_only = pod("unnamed", labels={"modelward.io/inject": "enabled"})
    make(watch.server, MODEL, pod("bare"), decoy("decoy"), watched("fine"), inject_only, plain)
    assert await watch.look() == {OPEN: ["bare", "decoy", "unnamed"]}
    assert watch.pods.counts[OPEN] == 3
    told = watch.events("SidecarMissing")
    assert [kind for kind, _ in told] == ["ModelDeployment", "Pod", "Pod", "Pod"]
    assert any("its image differs" in message for _, message in told)
    assert "bare, decoy" in told[0][1]
    assert watch.woken == [(OPEN, "wdbc")]
    assert watch.pods.of(OPEN, "wdbc") == ("bare", "decoy")

    await watch.look()
    assert watch.events("SidecarMissing") == told, "told once"
    assert watch.server.kubectl("delete", "pod", "bare", "decoy", "unnamed", "-n", OPEN, "--force").ok
    assert await watch.look() == {}
    assert watch.pods.counts[OPEN] == 0
    assert watch.woken == [(OPEN, "wdbc")] * 2, "and when it is over"


async def test_a_namespace_protected_later(watch: Watch) -> None:
    make(watch.server, pod("before", LATER, {}), watched("fine", LATER))
    assert await watch.look() == {}
    assert await watch.look(LATER) == {LATER: ["before"]}
    ((kind, message),) = watch.events("SidecarMissing", LATER)
    assert kind == "Pod"
    assert "names no model" in message


async def test_pods_of_a_workload_that_a_model_protects(watch: Watch) -> None:
    """Its pods made before have no label of ours; the selector says whose they are."""
    target = {**MODEL, "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"}}}
    make(watch.server, target, pod("theirs-1", labels={"app": "theirs"}), pod("another", labels={"app": "x"}))
    state(watch.server, "modeldeployment/wdbc", OPEN, selector="app=theirs")
    assert await watch.look() == {OPEN: ["theirs-1"]}
    assert watch.pods.of(OPEN, "wdbc") == ("theirs-1",)
    assert await watch.look(OPEN) == {OPEN: ["another", "theirs-1"]}, "each once, whichever way it was found"
    assert watch.pods.of(OPEN, "wdbc") == ("theirs-1",)


async def test_pods_that_have_ended_or_are_the_systems_are_left_alone(watch: Watch) -> None:
    make(watch.server, pod("done"), pod("ours", SYSTEM))
    state(watch.server, "pod/done", OPEN, phase="Succeeded")
    try:
        assert await watch.look(SYSTEM) == {}
    finally:
        assert watch.server.kubectl("delete", "pod", "ours", "-n", SYSTEM, "--force").ok


async def test_many_pods_are_counted_and_some_are_named(watch: Watch) -> None:
    make(watch.server, *(pod(f"p{number}") for number in range(120)))
    await watch.look()
    assert watch.pods.counts[OPEN] == 120
    assert len(watch.pods.found[OPEN]) == 100
    assert len(watch.events("SidecarMissing")) == 50
    await watch.look()
    assert len(watch.events("SidecarMissing")) == 100


def ready_to_repair(server: ApiServer, *policies: KubeObject) -> None:
    make(server, MODEL, CONFIG, WEBHOOK, ADMISSION, *policies)
    state(server, "modeldeployment/wdbc", OPEN, policies=[f"DataPolicy/{OPEN}/mends"])
    state(server, "deployment/modelward-admission", SYSTEM, replicas=1, readyReplicas=1, availableReplicas=1)


async def test_repair_evicts_what_is_made_anew_one_at_a_time(watch: Watch) -> None:
    ready_to_repair(watch.server, REPAIRING)
    make(watch.server, pod("a", OPEN, None, OWNER), pod("b", OPEN, None, OWNER), pod("byhand"))
    await watch.look()
    assert [watch.there(name) for name in ("a", "b", "byhand")] == [False, True, True]
    assert [kind for kind, _ in watch.events("PodRepaired")] == ["ModelDeployment", "Pod"]

    make(watch.server, watched("a2", OPEN, OWNER))  # as its controller would, and it is not ready yet
    await watch.look()
    assert watch.there("b"), "the next one waits"
    state(watch.server, "pod/a2", OPEN, conditions=[{"type": "Ready", "status": "True"}])
    await watch.look()
    assert [watch.there(name) for name in ("a2", "b", "byhand")] == [True, False, True]
    assert await watch.look() == {OPEN: ["byhand"]}, "a pod that nothing would make anew is only told of"


async def test_without_a_policy_that_says_so_nothing_is_evicted(watch: Watch) -> None:
    ready_to_repair(watch.server, {**REPAIRING, "spec": {"repair": False}})
    make(watch.server, pod("a", OPEN, None, OWNER))
    assert await watch.look() == {OPEN: ["a"]}
    assert watch.there("a")


async def test_disruption_budgets_hold(watch: Watch) -> None:
    ready_to_repair(watch.server, REPAIRING)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "all", "namespace": OPEN},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"modelward.io/model": "wdbc"}}},
    }
    make(watch.server, pod("a", OPEN, None, OWNER), budget)
    state(watch.server, "pod/a", OPEN, phase="Running", conditions=[{"type": "Ready", "status": "True"}])
    for _ in range(2):
        await watch.look()
    assert watch.there("a")
    ((_, message),) = watch.events("RepairHeld")
    assert "disruption budget" in message
    assert watch.server.kubectl("delete", "pdb", "all", "-n", OPEN).ok
    await watch.look()
    assert not watch.there("a")


async def test_nothing_is_evicted_that_would_not_come_back_watched(watch: Watch) -> None:
    ready_to_repair(watch.server, REPAIRING)
    shared = pod("shared", OPEN, None, OWNER)
    shared["spec"]["hostNetwork"] = True
    unlabelled = pod("unlabelled", OPEN, {"modelward.io/model": "wdbc"}, {**OWNER, "uid": "u"})
    plain = pod("plain", OPEN, None, {**OWNER, "uid": "p"})
    state(watch.server, "deployment/modelward-admission", SYSTEM, availableReplicas=0)
    make(watch.server, shared, unlabelled, plain)
    await watch.look()
    assert all(watch.there(name) for name in ("shared", "unlabelled", "plain"))
    told = " ".join(message for _, message in watch.events("RepairHeld"))
    for reason in ("would be refused: spec.hostNetwork", "lacks the label modelward.io/inject", "webhook"):
        assert reason in told


def replica_set(name: str, labels: dict[str, str], message: str) -> tuple[KubeObject, KubeObject]:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "m", "image": "m:1"}]}}
    item = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": OPEN, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    return item, {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}


async def test_replica_sets_that_backed_off_are_touched_when_the_webhook_is_back(watch: Watch) -> None:
    refused = (
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'modelward-new-pods' with binding "
        "'modelward-new-pods-labelled' denied request: the pod has no modelward-sidecar among its initContainers."
    )
    for name, message in (("waits", refused), ("quota", "exceeded quota: small")):
        item, condition = replica_set(name, {**NAMED, "app": name}, message)
        make(watch.server, item)
        state(watch.server, f"replicaset/{name}", OPEN, replicas=0, conditions=[condition])

    def touched(name: str) -> bool:
        found: KubeObject = watch.server.get("replicaset", name, "-n", OPEN)["metadata"]
        return "modelward.io/touched" in found.get("annotations", {})

    await watch.look()
    assert not touched("waits"), "nobody is there yet to inject"
    make(watch.server, WEBHOOK, ADMISSION)
    state(watch.server, "deployment/modelward-admission", SYSTEM, replicas=1, readyReplicas=1, availableReplicas=1)
    await watch.look()
    assert touched("waits")
    assert not touched("quota")


def test_the_process_finds_a_pod_within_a_minute(place: ApiServer, tmp_path: Path) -> None:
    """From the pod's creation, and from the namespace's label, to Event and metric."""
    port = free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(place.kubeconfig_for(CONTROLLER)),
        "MODELWARD_SIDECAR_IMAGE": SETTINGS.sidecar_image,
        "POD_NAME": "controller-u",
    }
    make(place, pod("earlier", LATER, {}))
    command = [sys.executable, "-c", "from modelward.controller.main import main; main()", f"--port={port}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:

        def found(space: str, count: int) -> bool:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except OSError:
                return False
            events = place.get("events", "-n", space)["items"]
            told = sum(one["reason"] == "SidecarMissing" for one in events)
            return told == count and f'modelward_unwatched_pods{{namespace="{space}"}} {count}\n' in text

        def seconds_until(space: str, count: int) -> float:
            began = time.monotonic()
            while not found(space, count):
                assert process.poll() is None
                assert time.monotonic() - began < 60, (tmp_path / "log").read_text()
                time.sleep(0.5)
            return time.monotonic() - began

        make(place, pod("first"))
        seconds_until(OPEN, 1)  # it has started, and looks in turn from now on
        make(place, pod("second"))
        by_label = seconds_until(OPEN, 2)
        assert place.kubectl("label", "namespace", LATER, "modelward.io/protected=true").ok
        by_namespace = seconds_until(LATER, 1)
        print(f"\nfound after {by_label:.0f} s, and {by_namespace:.0f} s after the namespace was protected")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        assert place.kubectl("label", "namespace", LATER, "modelward.io/protected-").ok
        assert place.kubectl("delete", "pods,events", "--all", "-n", OPEN, "--force").ok
        assert place.kubectl("delete", "pods,events", "--all", "-n", LATER, "--force").ok
