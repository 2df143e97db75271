"""Baselines fitted in the cluster: the controller and the Job's own program against a real API server.

Nobody starts pods here, so the test is the kubelet: it makes the Job's pod as the Job controller would, and runs what
the pod would run, with the files that it would mount.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from modelward import incidents
from modelward.cli.fit_job import FitJobError, obtain
from modelward.controller.fits import Fits
from modelward.controller.installation import Installation
from modelward.controller.models import Models
from modelward.detect.baseline import from_bytes
from modelward.errand import BASELINE, USER_ERROR, Errand, FitRequest, Source
from modelward.planner.names import KubeObject
from modelward.planner.sidecar import JOB_FOR_LABEL, JOB_LABEL
from tests.integration.apiserver import ApiServer
from tests.integration.backstop import ALICE, bare_pod, create, in_force, refused
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    IMAGE,
    PLACE,
    SYSTEM,
    Controller,
    apply,
    cluster,
    controller,
    model,
    place,
    policy,
)
from tests.ports import free_port
from tests.unit.sidecar.identity import IdentityProvider, ok
from tests.unit.sidecar.pki import Authority

pytestmark = pytest.mark.timeout(300)

JOBS_IMAGE = "modelward-jobs@sha256:" + "c" * 64
INPUTS = [{"name": "features", "datatype": "FP64", "shape": [-1, 3], "columns": ["a", "b", "c"]}]
JOB_CONTROLLER = ("--as=system:serviceaccount:kube-system:job-controller", "--as-group=system:masters")


def watched(name: str, address: str = "pvc://reference/train.csv", **monitoring: Any) -> KubeObject:
    detectors = [{"type": "Mahalanobis", "falsePositiveRate": 0.05}]
    monitoring = {"baseline": {"dataset": address}, "detectors": detectors, **monitoring}
    return model(name, schema={"inputs": INPUTS}, monitoring=monitoring)


class Fitting:
    """The controller, and the node that would run its Jobs."""

    def __init__(self, made: Controller, folder: Path) -> None:
        self.controller, self.server, self.folder = made, made.server, folder
        self.port = free_port()
        self.volume = folder / "volume"
        self.volume.mkdir()
        made.installation = Installation(made.cluster, SYSTEM, IMAGE, made.clock, jobs_image=JOBS_IMAGE)
        self.processes: list[subprocess.Popen[bytes]] = []

    def data(self, rows: int = 200) -> None:
        values = np.random.default_rng(0).normal(size=(rows, 3)) * [1, 10, 100]
        lines = ["a,b,c", *(",".join(map(str, row)) for row in values.tolist())]
        (self.volume / "train.csv").write_text("\n".join(lines))

    async def reconcile(self, name: str) -> dict[str, tuple[str, str]]:
        made = self.controller
        made.installed = await made.installation.reconcile()
        fits = Fits(made.cluster, made.have, made.clock, self.port)
        await Models(made.cluster, made.recorder, made.have, made.clock, fits=fits).reconcile(PLACE, name)
        return {kind: (one["status"], one["reason"]) for kind, one in self.conditions(name).items()}

    def conditions(self, name: str) -> dict[str, Any]:
        status = self.server.get("modeldeployment", name, "-n", PLACE)["status"]
        return {item["type"]: item for item in status["conditions"]}

    def jobs(self, name: str) -> list[KubeObject]:
        found: list[KubeObject] = self.server.get("job", "-n", PLACE, "-l", f"modelward.io/model={name}")["items"]
        return found

    def secret(self, name: str) -> dict[str, bytes]:
        data = self.server.get("secret", name, "-n", PLACE)["data"]
        return {key: base64.b64decode(value) for key, value in data.items()}

    def start(self, name: str, **status: Any) -> subprocess.Popen[bytes]:
        """Be the Job controller and the kubelet."""
        (job,) = self.jobs(name)
        template = job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
        owner |= {key: job["metadata"][key] for key in ("name", "uid")}
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": owner["name"]}
        metadata = {"name": f"{owner['name']}-x", "namespace": PLACE, "labels": labels, "ownerReferences": [owner]}
        spec = json.loads(json.dumps(template["spec"]))
        apply(self.server, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.tell(name, phase="Running", podIP="127.0.0.1", **status)
        mounted = self.folder / f"{name}-errand"
        mounted.mkdir()
        for file, content in self.secret(f"{name}.fit").items():
            (mounted / file).write_bytes(content)
        (container,) = spec["containers"]
        given = [one for one in container["args"] if not one.startswith(("--errand", "--tls", "--port"))]
        mine = [f"--errand={mounted}/errand.json", f"--tls={mounted}", f"--port={self.port}"]
        mine += [f"--data={self.volume}", f"--message={mounted}/message"]
        command = [sys.executable, *container["command"][1:], *given, *mine]
        process = subprocess.Popen(
            command,
        )
        self.processes.append(process)
        return process

    def tell(self, name: str, **status: Any) -> None:
        (job,) = self.jobs(name)
        what = ("pod", f"{job['metadata']['name']}-x", "-n", PLACE, "--subresource=status", "--type=merge")
        result = self.server.kubectl("patch", *what, "-p", json.dumps({"status": status}))
        assert result.ok, result.stderr

    def failed(self, name: str) -> None:
        """Be the kubelet and the Job controller once the container has ended with an error of the user's."""
        message = (self.folder / f"{name}-errand" / "message").read_text()
        ended = {"exitCode": USER_ERROR, "message": message}
        (job,) = self.jobs(name)
        state = {
            "name": "fit",
            "image": "i",
            "imageID": "i",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": ended},
        }
        self.tell(name, phase="Failed", containerStatuses=[state])
        now = "2026-01-01T00:00:00Z"
        told = [
            {
                "type": kind,
                "status": "True",
                "reason": "PodFailurePolicy",
                "message": "exit code 2",
                "lastTransitionTime": now,
            }
            for kind in ("FailureTarget", "Failed")
        ]
        what = ("job", job["metadata"]["name"], "-n", PLACE, "--subresource=status", "--type=merge")
        status = {"status": {"conditions": told, "failed": 1, "startTime": now}}
        result = self.server.kubectl("patch", *what, "-p", json.dumps(status))
        assert result.ok, result.stderr

    async def until(self, name: str, holds: Callable[[dict[str, tuple[str, str]]], bool]) -> dict[str, tuple[str, str]]:
        deadline = time.monotonic() + 60
        while not holds(conditions := await self.reconcile(name)):
            assert time.monotonic() < deadline, (self.conditions(name)["Ready"], [one.poll() for one in self.processes])
            await asyncio.sleep(0.3)
        return conditions

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def fitting(controller: Controller, tmp_path: Path) -> Iterator[Fitting]:  # noqa: F811
    made = Fitting(controller, tmp_path)
    yield made
    made.stop()
    for kinds in ("job,pod", "networkpolicy,secret"):
        which = ("-l=modelward.io/model",) if "secret" in kinds else ("--all",)
        controller.server.kubectl("delete", kinds, "-n", PLACE, "--wait=false", "--force", *which)


def is_made(conditions: dict[str, tuple[str, str]]) -> bool:
    return conditions["Ready"][1] == "PodsNotReady"  # nobody starts the model's pods here


async def test_a_baseline_is_fitted_fetched_kept_and_used(fitting: Fitting) -> None:
    fitting.data()
    apply(fitting.server, watched("fits"))
    conditions = await fitting.reconcile("fits")
    assert conditions["Ready"] == ("False", "BaselineFitting")
    assert conditions["Reconciling"] == ("True", "BaselineFitting")
    assert "Stalled" not in conditions
    assert "Deployment" not in fitting.controller.made("fits")  # nothing is served unwatched meanwhile

    process = fitting.start("fits")
    await fitting.until("fits", is_made)
    assert process.wait(timeout=30) == 0
    kept = fitting.secret("fits.baseline")["baseline.npz"]
    assert from_bytes(kept).columns == ("a", "b", "c")
    assert fitting.secret("fits-serving")["baseline.npz"] == kept
    config = json.loads(fitting.controller.made("fits")["ConfigMap"]["data"]["config.json"])
    assert config["screening"]["baseline"]["secret"] is True
    (job,) = fitting.jobs("fits")

    fitting.controller.cluster.forget()
    await fitting.reconcile("fits")
    assert fitting.controller.cluster.writes == []

    # Once it is gone by its time to live it is not run again, for nothing changed; another policy makes another.
    fitting.server.kubectl("delete", "job", job["metadata"]["name"], "-n", PLACE, "--wait=false")
    await fitting.reconcile("fits")
    assert fitting.jobs("fits") == []
    apply(fitting.server, policy("rounds", fields=[{"name": "c", "treatment": "Round", "digits": -1}]))
    assert (await fitting.reconcile("fits"))["Ready"] == ("False", "BaselineFitting")
    (other,) = fitting.jobs("fits")
    assert other["metadata"]["name"] != job["metadata"]["name"]
    assert fitting.secret("fits-serving")["baseline.npz"] == kept  # what runs is kept as it is

    # But it does not round yet, and the policy asks for it: callers are kept away until it does.
    assert "modelward.io/withheld" in fitting.controller.made("fits")["Service"]["spec"]["selector"]
    assert "callers are kept away" in fitting.conditions("fits")["Ready"]["message"]
    fitting.server.kubectl("delete", "datapolicy", "rounds", "-n", PLACE)
    await fitting.reconcile("fits")
    assert "modelward.io/withheld" not in fitting.controller.made("fits")["Service"]["spec"]["selector"]


async def test_other_data_than_the_lineage_names_fail_the_fit_and_why_is_told(fitting: Fitting) -> None:
    fitting.data()
    manifest = watched("strays")
    manifest["metadata"]["annotations"] = {"lineage.modelward.io/dataset": "s3://clinic/x.csv@sha256:" + "0" * 64}
    apply(fitting.server, manifest)
    await fitting.reconcile("strays")
    assert fitting.start("strays").wait(timeout=60) == USER_ERROR
    fitting.failed("strays")
    conditions = await fitting.reconcile("strays")
    assert conditions["Monitored"] == ("False", "BaselineFitFailed")
    assert conditions["Stalled"] == ("True", "BaselineFitFailed")
    assert "these are other data" in fitting.conditions("strays")["Monitored"]["message"]
    (event,) = fitting.controller.events("BaselineFitFailed")
    assert "these are other data" in event["message"]
    assert "Deployment" not in fitting.controller.made("strays")


async def test_data_that_break_the_policys_k_fail_the_fit_and_what_would_mend_it_is_told(fitting: Fitting) -> None:
    fitting.data()
    fields = [{"name": "c", "role": "QuasiIdentifier", "treatment": "Round", "digits": -1}]
    apply(fitting.server, policy("anonymous", fields=fields, kAnonymity={"k": 5}), watched("singles"))
    await fitting.reconcile("singles")
    assert fitting.start("singles").wait(timeout=60) == USER_ERROR
    fitting.failed("singles")
    conditions = await fitting.reconcile("singles")
    assert conditions["Monitored"] == ("False", "BaselineFitFailed")
    told = fitting.conditions("singles")["Monitored"]["message"]
    assert "of 200 rows share c, treated as the policy says, with too few others for the policy's k of 5" in told
    assert "Fix: the least generalisation that gives a k of " in told
    assert "c to intervals of " in told
    (event,) = fitting.controller.events("BaselineFitFailed")
    assert event["message"] in told or told in event["message"]
    assert "Deployment" not in fitting.controller.made("singles")


async def test_what_cannot_be_read_from_is_told_and_makes_nothing(fitting: Fitting) -> None:
    apply(fitting.server, watched("objects", "s3://clinic/train.csv"))
    assert (await fitting.reconcile("objects"))["Stalled"] == ("True", "NotSupported")
    assert "s3: data is read from" in fitting.conditions("objects")["Stalled"]["message"]
    apply(fitting.server, watched("fetches", f"https://data.example/train.csv@sha256:{'0' * 64}"))
    assert (await fitting.reconcile("fetches"))["Stalled"] == ("True", "AddressNotAllowed")
    assert fitting.jobs("objects") == fitting.jobs("fetches") == []


async def test_nobody_but_the_controller_gets_a_baseline(fitting: Fitting) -> None:
    fitting.data()
    apply(fitting.server, watched("guards"))
    await fitting.reconcile("guards")
    fitting.start("guards")
    context = ssl.create_default_context(cadata=fitting.controller.have().authority.bundle.decode())

    def status(token: str) -> int:
        deadline = time.monotonic() + 60
        while True:
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", fitting.port)) as plain,
            ):
                break
            assert time.monotonic() < deadline
            time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", fitting.port), timeout=10) as plain:  # noqa: SIM117
            with context.wrap_socket(plain, server_hostname=f"guards.{PLACE}.fit.modelward.internal") as stream:
                stream.sendall(f"GET {BASELINE} HTTP/1.0\r\nauthorization: Bearer {token}\r\n\r\n".encode())
                return int(stream.recv(4096).split()[1])

    sign = fitting.controller.have().signing_key.sign
    assert status("") == 401
    assert status(incidents.token(sign, f"{PLACE}/other", "GET", BASELINE, time.time())) == 401
    assert status(incidents.token(sign, f"{PLACE}/guards", "DELETE", BASELINE, time.time())) == 401
    assert status(incidents.token(sign, f"{PLACE}/guards", "GET", BASELINE, time.time())) == 200


async def test_a_baseline_that_somebody_put_in_its_place_is_not_taken(fitting: Fitting) -> None:
    """Neither a Secret of that name, nor a pod that says it is the Job's."""
    fitting.data()
    apply(fitting.server, watched("forged"))
    await fitting.reconcile("forged")
    (job,) = fitting.jobs("forged")
    uid = fitting.server.get("modeldeployment", "forged", "-n", PLACE)["metadata"]["uid"]
    owner = {"apiVersion": "modelward.io/v1alpha1", "kind": "ModelDeployment", "name": "forged", "uid": uid}
    digest = fitting.server.get("secret", "forged.fit", "-n", PLACE)["metadata"]["annotations"]
    metadata = {"name": "forged.baseline", "namespace": PLACE, "annotations": digest}
    metadata["ownerReferences"] = [{**owner, "controller": True}]
    apply(
        fitting.server, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"baseline.npz": "eA=="}}
    )
    assert (await fitting.reconcile("forged"))["Ready"] == ("False", "BaselineFitting")

    job_owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
    job_owner |= {key: job["metadata"][key] for key in ("name", "uid")}
    labels = {"batch.kubernetes.io/job-name": job_owner["name"], JOB_FOR_LABEL: "forged"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "decoy", "namespace": PLACE, "labels": labels}}
    pod["metadata"]["ownerReferences"] = [job_owner]
    apply(fitting.server, {**pod, "spec": job["spec"]["template"]["spec"]})
    asked: list[str] = []
    made = fitting.controller
    fits = Fits(made.cluster, made.have, made.clock, fitting.port)
    original = fits._asker.ask
    fits._asker.ask = lambda whom, *rest, **more: (asked.append(whom.address), original(whom, *rest, **more))[1]
    what = ("pod", "decoy", "-n", PLACE, "--subresource=status", "--type=merge")
    running = json.dumps({"status": {"phase": "Running", "podIP": "127.0.0.1"}})
    assert fitting.server.kubectl("patch", *what, "-p", running).ok
    await Models(made.cluster, made.recorder, made.have, made.clock, fits=fits).reconcile(PLACE, "forged")
    assert asked == []


# --- data that is fetched


CONTENT = b"a,b,c\n1,2,3\n"


def fetched(server: IdentityProvider, folder: Path, **changes: Any) -> Path:
    url = server.url.replace("/keys", "/train.csv")
    request = FitRequest("clinic/wdbc", Source(url=url), hashlib.sha256(CONTENT).hexdigest(), "", (), (), 0.01)
    errand = Errand(request, (url,), server.authority.pem)
    obtain(msgspec.structs.replace(errand, **changes), folder / "data.csv")
    return folder / "data.csv"


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[IdentityProvider]:
    made = IdentityProvider(tmp_path, ok(CONTENT))
    yield made
    made.close()


def test_data_is_fetched_over_tls_and_held_to_its_digest(remote: IdentityProvider, tmp_path: Path) -> None:
    assert fetched(remote, tmp_path).read_bytes() == CONTENT
    assert b"authorization" not in remote.asked[0].lower()
    remote.answer = ok(CONTENT + b"4,5,6\n")
    with pytest.raises(FitJobError, match="these are other data"):
        fetched(remote, tmp_path)


def test_a_redirect_an_error_half_an_answer_and_a_stranger_are_no_data(
    remote: IdentityProvider, tmp_path: Path
) -> None:
    remote.answer = ok(b"", status="302 Found", header="location: https://elsewhere.example/\r\n")
    with pytest.raises(FitJobError, match="answered 302, not 200") as refused_for_good:
        fetched(remote, tmp_path)
    assert refused_for_good.value.code == USER_ERROR
    remote.answer = ok(b"", status="503 Service Unavailable")
    with pytest.raises(FitJobError, match="answered 503") as later:
        fetched(remote, tmp_path)
    assert later.value.code != USER_ERROR
    remote.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + CONTENT
    with pytest.raises(FitJobError, match="cannot be read from localhost"):
        fetched(remote, tmp_path)
    remote.answer = ok(CONTENT)
    with pytest.raises(FitJobError, match="cannot be read from localhost"):
        fetched(remote, tmp_path, authorities=Authority().pem)


# --- what admission says of the pods


@pytest.fixture(scope="module")
def held(apiserver: ApiServer) -> Iterator[ApiServer]:
    with in_force(apiserver):
        decoys = (bare_pod("probe", labels=OURS), own_job("clinic"))
        for decoy in decoys:  # each policy comes into force by itself
            deadline = time.monotonic() + 30
            while apiserver.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(decoy)).ok:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        time.sleep(2.0)  # and that on changes after those on what is new
        yield apiserver


OURS = {JOB_LABEL: "fit", JOB_FOR_LABEL: "wdbc"}


def own_job(space: str, **spec: Any) -> KubeObject:
    containers = [{"name": "x", "image": "x"}]
    template = {"metadata": {"labels": OURS}, "spec": {"restartPolicy": "Never", "containers": containers}}
    metadata = {"name": "mine", "namespace": space}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


@pytest.mark.parametrize("space", ["clinic", "ward"])
def test_a_pod_of_modelwards_own_jobs_is_made_by_its_job_alone(held: ApiServer, space: str) -> None:
    refused(create(held, bare_pod("mine", space, labels=OURS)), "is made by its Job alone")
    both = {**OURS, "modelward.io/model": "wdbc"}
    pod = yaml.safe_dump(bare_pod("of-a-job", space, labels=both))
    assert not held.kubectl("create", "-f", "-", *JOB_CONTROLLER, input=pod).ok
    result = held.kubectl(
        "create", "-f", "-", *JOB_CONTROLLER, input=yaml.safe_dump(bare_pod("of-a-job", space, labels=OURS))
    )
    assert result.ok, result.stderr
    for change in ({JOB_LABEL: None}, {JOB_FOR_LABEL: "other"}, {"modelward.io/model": "wdbc"}):
        said = json.dumps({"metadata": {"labels": change}})
        refused(held.kubectl("patch", "pod", "of-a-job", "-n", space, "-p", said, token=ALICE), "labels")


def test_a_running_pod_does_not_become_one(held: ApiServer) -> None:
    assert create(held, bare_pod("ordinary", labels={})).ok
    said = json.dumps({"metadata": {"labels": OURS}})
    refused(held.kubectl("patch", "pod", "ordinary", "-n", "clinic", "-p", said, token=ALICE), "may be neither given")


def test_no_job_of_ones_own_makes_such_pods(held: ApiServer) -> None:
    refused(create(held, own_job("ward")), "modelward's controller's to write")
    suspended = own_job("ward", suspend=True)
    suspended["spec"]["template"]["metadata"] = {}
    assert create(held, suspended).ok
    said = json.dumps({"spec": {"template": {"metadata": {"labels": OURS}}}})
    result = held.kubectl("patch", "job", "mine", "-n", "ward", "-p", said, token=ALICE)
    refused(result, "modelward's controller's to write")
