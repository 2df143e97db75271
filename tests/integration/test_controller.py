"""The controller against a real API server, with the very rights that the chart gives it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelward.controller.certificates import AUTHORITY_VALIDITY
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.election import Election, Periods
from modelward.controller.events import Recorder
from modelward.controller.installation import Installation, Installed
from modelward.controller.models import Models
from modelward.controller.policies import Policies
from modelward.controller.queue import GoneError
from modelward.planner.access import AccessSettings, Egress, KeyFetching, RateLimits
from modelward.planner.names import KubeObject
from modelward.privacy.keys import from_bytes
from modelward.sidecar import config
from modelward.sidecar.access import Access
from modelward.sidecar.problems import Refusal
from tests.integration.apiserver import ApiServer
from tests.ports import free_port

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
CONTROLLER = "controller-token"
SYSTEM = "modelward-system"
PLACE = "made"
IMAGE = "modelward-sidecar@sha256:" + "a" * 64
MADE = ("deployment", "service", "serviceaccount", "networkpolicy", "configmap", "secret", "poddisruptionbudget")


def namespace(name: str, **labels: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def model(name: str, **spec: Any) -> KubeObject:
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": PLACE, "annotations": {}},
        "spec": {
            "replicas": 2,
            "model": {
                "image": "wdbc@sha256:" + "b" * 64,
                "command": ["serve"],
                "env": [{"name": "EMPTY", "value": ""}, {"name": "HOST", "value": "127.0.0.1"}],
                "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {"memory": "1.5Gi"}},
                "volumeClaims": [{"claimName": "weights", "mountPath": "/models"}],
            },
            "encryption": {"inTransit": {"mode": "TLS"}},
            "access": {
                "issuers": [{"name": "i", "issuer": "https://i", "audiences": ["a"], "jwksConfigMapName": "keys"}],
                "rules": [{"subjects": ["user:lee"]}],
            },
            **spec,
        },
    }


def policy(name: str, **spec: Any) -> KubeObject:
    metadata = {"name": name, "namespace": PLACE}
    return {"apiVersion": "modelward.io/v1alpha1", "kind": "DataPolicy", "metadata": metadata, "spec": spec}


KEYS: KubeObject = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "keys", "namespace": PLACE},
    "data": {"jwks.json": '{"keys": []}'},
}


def rights(bin_dir: Path) -> list[KubeObject]:
    """What the chart lets the controller do."""
    command = [bin_dir / "helm", "template", "modelward", ROOT / "charts/modelward", "--namespace", SYSTEM]
    command += ["--show-only", "templates/controller-rbac.yaml"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [item for item in yaml.safe_load_all(rendered) if item]


@pytest.fixture(scope="module")
def place(apiserver: ApiServer, bin_dir: Path) -> Iterator[ApiServer]:
    """The API server with the chart's rights for the controller, and a namespace to work in."""
    objects = [namespace(SYSTEM), namespace(PLACE), KEYS, *rights(bin_dir)]
    result = apiserver.apply(*objects)
    assert result.ok, result.stderr
    yield apiserver
    apiserver.delete(*objects)


@asynccontextmanager
async def as_controller(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    """A connection with the controller's own rights, which counts what is written."""
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig_for(CONTROLLER)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with Counting.connected() as connected:
        assert isinstance(connected, Counting)
        yield connected


@pytest.fixture
async def cluster(place: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    async with as_controller(place, monkeypatch) as connected:
        yield connected


class Counting(Cluster):
    """Counts what is written."""

    writes: list[str]

    async def _request(self, method: str, path: str, *rest: Any, **more: Any) -> KubeObject:
        if method != "GET":
            self.__dict__.setdefault("writes", []).append(f"{method} {path}")
        return await super()._request(method, path, *rest, **more)

    def forget(self) -> None:
        self.__dict__["writes"] = []


class Controller:
    """The reconcilers as the operator has them, with a clock that can be moved."""

    def __init__(self, cluster: Counting, server: ApiServer) -> None:
        self.cluster, self.server = cluster, server
        self.ahead = timedelta()
        self.installation = Installation(cluster, SYSTEM, IMAGE, self.clock)
        self.recorder = Recorder(cluster, self.clock)
        self.installed: Installed | None = None

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def have(self) -> Installed:
        assert self.installed is not None
        return self.installed

    async def reconcile(self, name: str) -> dict[str, tuple[str, str]]:
        """Reconcile a model; return its conditions as status and reason."""
        self.installed = await self.installation.reconcile()
        await Models(self.cluster, self.recorder, self.have, self.clock).reconcile(PLACE, name)
        status = self.server.get("modeldeployment", name, "-n", PLACE)["status"]
        return {item["type"]: (item["status"], item["reason"]) for item in status["conditions"]}

    async def gone(self, name: str) -> None:
        """Reconcile a model that is deleted."""
        with pytest.raises(GoneError):
            await Models(self.cluster, self.recorder, self.have, self.clock).reconcile(PLACE, name)

    def made(self, name: str) -> dict[str, KubeObject]:
        """What there is for a model, by kind."""
        listed = self.server.get(",".join(MADE), "-n", PLACE, "-l", f"modelward.io/model={name}")
        return {item["kind"]: item for item in listed["items"]}

    def events(self, reason: str) -> list[KubeObject]:
        items = self.server.get("events", "-n", PLACE)["items"]
        return [item for item in items if item["reason"] == reason]


@pytest.fixture
async def controller(cluster: Counting, place: ApiServer) -> AsyncIterator[Controller]:
    yield Controller(cluster, place)
    for kinds, which in (("modeldeployment,datapolicy,events", "--all"), (",".join(MADE), "-l=modelward.io/model")):
        result = place.kubectl("delete", kinds, "-n", PLACE, "--wait=false", which)
        assert result.ok, result.stderr


def apply(server: ApiServer, *manifests: KubeObject) -> None:
    result = server.apply(*manifests)
    assert result.ok, result.stderr


async def test_a_model_is_made_and_a_second_look_writes_nothing(controller: Controller) -> None:
    apply(controller.server, model("wdbc"))
    conditions = await controller.reconcile("wdbc")
    assert conditions["Encrypted"] == ("True", "TLS")
    assert conditions["AccessControlled"] == ("True", "RulesEnforced")
    assert conditions["Ready"] == ("False", "PodsNotReady")  # nobody starts pods here
    assert conditions["Reconciling"] == ("True", "Progressing")
    made = controller.made("wdbc")
    assert {kind.lower() for kind in made} == set(MADE)

    controller.cluster.forget()
    await controller.reconcile("wdbc")
    assert controller.cluster.writes == []


async def test_everything_belongs_to_its_model_so_that_deleting_it_removes_all(controller: Controller) -> None:
    apply(controller.server, model("owned"))
    await controller.reconcile("owned")
    uid = controller.server.get("modeldeployment", "owned", "-n", PLACE)["metadata"]["uid"]
    for item in controller.made("owned").values():
        (owner,) = item["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("ModelDeployment", uid, True)
        assert item["metadata"].get("finalizers") is None
    assert controller.server.get("modeldeployment", "owned", "-n", PLACE)["metadata"].get("finalizers") is None


async def test_the_sidecar_gets_what_the_published_key_has_signed(controller: Controller) -> None:
    apply(controller.server, model("signed"))
    await controller.reconcile("signed")
    published = controller.server.get("configmap", "modelward-sidecar", "-n", SYSTEM)["data"]
    assert published["image"] == IMAGE
    data = controller.made("signed")["ConfigMap"]["data"]
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(published["configKey"]))
    key.verify(base64.b64decode(data["config.sig"]), data["config.json"].encode())
    assert json.loads(data["config.json"])["binding"] == {"namespace": PLACE, "name": "signed", "generation": 1}


def issued_here(name: str, issuer: str, **spec: Any) -> KubeObject:
    trusted = {"name": "cluster", "issuer": issuer, "audiences": ["wdbc"], "serviceAccounts": True}
    return model(name, access={"issuers": [trusted], "rules": [{"subjects": ["serviceaccount:made/app"]}]}, **spec)


async def test_a_service_accounts_token_of_this_very_cluster_is_known_to_the_sidecar(controller: Controller) -> None:
    server = controller.server
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "namespace": PLACE}}
    apply(server, account, issued_here("accounts", "https://kubernetes.default.svc"))
    await controller.reconcile("accounts")
    document = controller.made("accounts")["ConfigMap"]["data"]["config.json"]
    access = Access(msgspec.json.decode(document.encode(), type=config.Config).access)

    def token(*options: str) -> str:
        made = server.kubectl("create", "token", "app", "-n", PLACE, *options)
        assert made.ok, made.stderr
        return f"Bearer {made.stdout.strip()}"

    caller = access.authenticate(token("--audience=wdbc").encode(), None)
    assert caller.subjects == {"user:system:serviceaccount:made:app", "serviceaccount:made/app"}
    access.authorise(caller, "Infer", None)
    with pytest.raises(Refusal) as refused:  # one for the API server itself, as every pod has
        access.authenticate(token().encode(), None)
    assert refused.value.reason == "token-audience"


async def test_another_issuer_cannot_be_declared_the_clusters_own(controller: Controller) -> None:
    apply(controller.server, issued_here("imitates", "https://evil.example"))
    conditions = await controller.reconcile("imitates")
    assert conditions["Ready"] == ("False", "ReferenceUnusable")
    (event,) = controller.events("ReferenceUnusable")
    assert (
        "spec.access.issuers[0].issuer: this cluster's own issuer is https://kubernetes.default.svc" in event["message"]
    )


async def test_keys_are_fetched_from_where_the_installation_allows_alone(controller: Controller) -> None:
    trusted = {"name": "i", "issuer": "https://i.example", "audiences": ["a"], "jwksURI": "https://i.example/keys"}
    apply(controller.server, model("fetches", access={"issuers": [trusted], "rules": [{"subjects": ["user:lee"]}]}))
    conditions = await controller.reconcile("fetches")
    assert conditions["Ready"] == ("False", "AddressNotAllowed")
    (event,) = controller.events("AddressNotAllowed")
    assert "spec.access.issuers[0].jwksURI: it is not among the addresses" in event["message"]
    assert controller.made("fetches") == {}

    way = Egress(port=8443, namespace="keycloak")
    settings = AccessSettings(keys=KeyFetching(allow=("https://i.example/",), egress=(way,)))
    controller.installation = Installation(controller.cluster, SYSTEM, IMAGE, controller.clock, access=settings)
    assert (await controller.reconcile("fetches"))["Ready"] == ("False", "PodsNotReady")
    made = controller.made("fetches")
    assert way.rule() in made["NetworkPolicy"]["spec"]["egress"]
    access = json.loads(made["ConfigMap"]["data"]["config.json"])["access"]
    assert access["keyFetching"] == {"allow": ["https://i.example/"], "authorities": ""}


async def test_fields_are_treated_by_keys_that_are_rotated_and_given_to_those_who_need_them(
    controller: Controller,
) -> None:
    inputs = [{"name": "patient", "datatype": "BYTES", "shape": [-1]}]
    apply(
        controller.server,
        policy("treats", fields=[{"name": "patient", "role": "Identifier", "treatment": "Pseudonymise"}]),
        model("treated", schema={"inputs": inputs}),
    )
    await controller.reconcile("treated")
    made = controller.made("treated")
    config = json.loads(made["ConfigMap"]["data"]["config.json"])
    assert config["fields"] == {"patient": {"treatment": "Pseudonymise"}}
    content = base64.b64decode(made["Secret"]["data"][config["keys"]["file"]])
    assert hashlib.sha256(content).hexdigest() == config["keys"]["sha256"]
    before = from_bytes(content)
    assert (before.namespace, before.versions) == (PLACE, (1,))

    following = base64.b64encode(bytes(range(32))).decode()
    secret = ("secret", "modelward-pseudonym-keys", "-n", SYSTEM)
    assert controller.server.kubectl("patch", *secret, "-p", json.dumps({"data": {"v2": following}})).ok
    await controller.reconcile("treated")
    after = from_bytes(base64.b64decode(controller.made("treated")["Secret"]["data"]["pseudonym.keys"]))
    assert after.versions == (2, 1)
    assert after.domain("pseudonym", "patient", 1) == before.domain("pseudonym", "patient")

    # What stalls keeps the keys that its running pods were told of.
    keep = {"name": "patient", "treatment": "Round", "digits": 1}
    assert not controller.server.apply(policy("treats", fields=[{**keep, "digits": None}])).ok  # the schema's business
    apply(controller.server, policy("treats", fields=[{"name": "patient", "treatment": "Tokenise"}]))
    assert (await controller.reconcile("treated"))["Stalled"] == ("True", "NotSupported")
    told = controller.server.get("modeldeployment", "treated", "-n", PLACE)["status"]["conditions"]
    assert any("input patient: Tokenise lacks a key holder" in item["message"] for item in told)
    controller.ahead += timedelta(days=6)
    await controller.reconcile("treated")
    assert "pseudonym.keys" in controller.made("treated")["Secret"]["data"]

    apply(controller.server, policy("treats", fields=[{"name": "patient", "treatment": "Mask"}]))
    await controller.reconcile("treated")
    assert "pseudonym.keys" not in controller.made("treated")["Secret"]["data"]
    assert controller.server.kubectl("delete", *secret).ok


async def test_the_password_of_the_common_count_goes_to_those_who_need_it_and_into_no_config(
    controller: Controller,
) -> None:
    password = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "valkey", "namespace": SYSTEM},
        "stringData": {"password": "canary-of-valkey"},
    }
    limits = RateLimits(address="redis://valkey.modelward-system.svc:6379", password_secret_name="valkey")
    settings = AccessSettings(rate_limits=limits)
    controller.installation = Installation(controller.cluster, SYSTEM, IMAGE, controller.clock, access=settings)
    access = model("x")["spec"]["access"]
    limited = [{"subjects": ["user:lee"], "rateLimit": {"requests": 10, "seconds": 60}}]
    apply(controller.server, password, model("counts", access=access | {"rules": limited}), model("free"))
    for name in ("counts", "free"):
        await controller.reconcile(name)
    counts, free = controller.made("counts"), controller.made("free")
    assert base64.b64decode(counts["Secret"]["data"]["limits-password"]) == b"canary-of-valkey"
    shared = json.loads(counts["ConfigMap"]["data"]["config.json"])["access"]["sharedLimits"]
    assert (shared["address"], shared["model"], shared["replicas"]) == (limits.address, f"{PLACE}/counts", 2)
    assert "limits-password" not in free["Secret"]["data"]
    assert "sharedLimits" not in json.loads(free["ConfigMap"]["data"]["config.json"])["access"]
    assert "canary-of-valkey" not in json.dumps([*counts.values(), *free.values()])
    assert "canary-of-valkey" not in repr(controller.have())

    assert controller.server.kubectl("delete", "secret", "valkey", "-n", SYSTEM).ok
    await controller.reconcile("counts")
    assert "limits-password" not in controller.made("counts")["Secret"]["data"]


async def test_what_is_missing_is_named_and_nothing_is_half_made(controller: Controller) -> None:
    controller.server.delete(KEYS)
    apply(controller.server, model("waits"))
    conditions = await controller.reconcile("waits")
    assert conditions["Ready"] == ("False", "ReferenceMissing")
    assert conditions["Stalled"] == ("True", "ReferenceMissing")
    assert controller.made("waits") == {}
    (event,) = controller.events("ReferenceMissing")
    assert "spec.access.issuers[0].jwksConfigMapName names ConfigMap keys" in event["message"]

    controller.cluster.forget()
    await controller.reconcile("waits")
    assert controller.cluster.writes == [], "an event is told once, a status written once"

    apply(controller.server, KEYS)
    conditions = await controller.reconcile("waits")
    assert "Stalled" not in conditions
    assert {kind.lower() for kind in controller.made("waits")} == set(MADE)


async def test_what_others_change_is_put_right_and_what_is_taken_out_goes(controller: Controller) -> None:
    apply(controller.server, model("drifts"))
    await controller.reconcile("drifts")
    patch = json.dumps({"spec": {"selector": {"modelward.io/model": "another"}}})
    assert controller.server.kubectl("patch", "service", "drifts", "-n", PLACE, "-p", patch).ok
    assert controller.server.kubectl("delete", "networkpolicy", "drifts", "-n", PLACE).ok
    await controller.reconcile("drifts")
    assert controller.made("drifts")["Service"]["spec"]["selector"]["modelward.io/model"] == "drifts"
    assert "NetworkPolicy" in controller.made("drifts")

    changed = model("drifts", replicas=1)
    del changed["spec"]["model"]["command"]
    apply(controller.server, changed)
    await controller.reconcile("drifts")
    made = controller.made("drifts")
    assert "command" not in made["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert "PodDisruptionBudget" not in made
    controller.cluster.forget()
    await controller.reconcile("drifts")
    assert controller.cluster.writes == []


async def test_what_belongs_to_somebody_else_is_left_alone(controller: Controller) -> None:
    metadata = {"name": "taken-serving", "namespace": PLACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": "mine"}}
    apply(controller.server, secret, model("taken"))
    conditions = await controller.reconcile("taken")
    assert conditions["Stalled"] == ("True", "NameTaken")
    assert controller.server.get("secret", "taken-serving", "-n", PLACE)["data"].keys() == {"password"}
    assert "Deployment" not in controller.made("taken")
    controller.server.delete(secret)
    assert "Stalled" not in await controller.reconcile("taken")


async def test_what_the_api_server_refuses_is_told(controller: Controller) -> None:
    quota = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "no-deployments"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": ["apps"],
                        "apiVersions": ["v1"],
                        "operations": [
                            "CREATE",
                            "UPDATE",
                        ],  # or the one made before it is in force could not be deleted
                        "resources": ["deployments"],
                    }
                ]
            },
            "validations": [{"expression": "object.metadata.name != 'refused'", "message": "not here"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "no-deployments"},
        "spec": {"policyName": "no-deployments", "validationActions": ["Deny"]},
    }
    apply(controller.server, quota, binding, model("refused"))
    try:
        deadline = time.monotonic() + 60  # the API server compiles policies in the background
        while (await controller.reconcile("refused")).get("Stalled") != ("True", "ApplyFailed"):
            assert time.monotonic() < deadline
            controller.server.kubectl("delete", "deployment", "refused", "-n", PLACE)
            await asyncio.sleep(0.5)
        told = controller.server.get("modeldeployment", "refused", "-n", PLACE)["status"]["conditions"]
        assert any("not here" in item["message"] for item in told)
    finally:
        controller.server.delete(quota, binding)


async def test_what_is_not_supported_is_said_and_not_half_served(controller: Controller) -> None:
    apply(controller.server, model("fair", fairness={"protected": [{"field": "sex"}]}))
    assert (await controller.reconcile("fair"))["Stalled"] == ("True", "NotSupported")
    assert controller.made("fair") == {}
    told = controller.server.get("modeldeployment", "fair", "-n", PLACE)["status"]["conditions"]
    assert any("spec.fairness" in item["message"] for item in told)


async def test_a_violation_is_judged_again_before_anything_is_made(controller: Controller) -> None:
    apply(controller.server, policy("strict", require={"encryption": {"inTransit": "MutualTLS"}}), model("late"))
    conditions = await controller.reconcile("late")
    assert conditions["PolicyCompliant"] == ("False", "PolicyViolation")
    assert conditions["Ready"] == ("False", "PolicyViolation")
    assert controller.made("late") == {}
    status = controller.server.get("modeldeployment", "late", "-n", PLACE)["status"]
    assert status["violations"][0]["policy"] == f"DataPolicy/{PLACE}/strict"
    (event,) = controller.events("PolicyViolation")
    assert event["involvedObject"]["name"] == "late"


async def test_a_policy_tightened_later_reports_or_stops(controller: Controller) -> None:
    apply(controller.server, model("runs"))
    await controller.reconcile("runs")
    strict = {"require": {"encryption": {"inTransit": "MutualTLS"}}}
    apply(controller.server, policy("tightened", **strict))
    conditions = await controller.reconcile("runs")
    assert conditions["PolicyCompliant"] == ("False", "PolicyViolation")
    assert controller.made("runs")["Deployment"]["spec"]["replicas"] == 2, "kept running, and reported"

    apply(controller.server, policy("tightened", onViolation="Stop", **strict))
    await controller.reconcile("runs")
    assert controller.made("runs")["Deployment"]["spec"]["replicas"] == 0
    controller.cluster.forget()
    await controller.reconcile("runs")
    assert controller.cluster.writes == []

    controller.server.delete(policy("tightened"))
    await controller.reconcile("runs")
    assert controller.made("runs")["Deployment"]["spec"]["replicas"] == 2


async def test_certificates_are_renewed_in_time_even_for_what_is_stalled(controller: Controller) -> None:
    apply(controller.server, model("ages"))
    await controller.reconcile("ages")
    first = controller.made("ages")["Secret"]["data"]
    apply(controller.server, model("ages", fairness={"protected": [{"field": "nowhere"}]}))
    for days, renewed in ((4, False), (5, True)):
        controller.ahead = timedelta(days=days)
        assert (await controller.reconcile("ages"))["Stalled"] == ("True", "NotSupported")
        assert (controller.made("ages")["Secret"]["data"]["tls.crt"] != first["tls.crt"]) is renewed
    assert controller.made("ages")["Secret"]["data"]["ca.crt"] == first["ca.crt"]
    assert len(controller.events("CertificateRotated")) == 1


async def test_a_certificate_of_the_users_own(controller: Controller) -> None:
    apply(controller.server, model("gives"))
    await controller.reconcile("gives")
    data = controller.made("gives")["Secret"]["data"]
    own = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": PLACE}}
    spec = {"encryption": {"inTransit": {"secretName": "own"}}}
    apply(controller.server, {**own, "data": {**data, "ca.crt": base64.b64encode(b"mine").decode()}})
    apply(controller.server, model("given", **spec))
    assert (await controller.reconcile("given"))["Encrypted"] == ("True", "TLS")
    assert controller.made("given")["Secret"]["data"]["tls.crt"] == data["tls.crt"]

    controller.ahead = timedelta(days=8)
    assert (await controller.reconcile("given"))["Stalled"] == ("True", "CertificateInvalid")
    apply(controller.server, {**own, "data": {**data, "tls.key": base64.b64encode(b"rubbish").decode()}})
    controller.ahead = timedelta()
    assert (await controller.reconcile("given"))["Stalled"] == ("True", "CertificateInvalid")
    controller.server.delete(own)
    assert (await controller.reconcile("given"))["Stalled"] == ("True", "ReferenceMissing")


WEBHOOK: KubeObject = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "MutatingWebhookConfiguration",
    "metadata": {"name": "modelward"},
    "webhooks": [
        {
            "name": f"{name}.modelward.io",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": "modelward-admission", "namespace": SYSTEM, "path": "/"}},
            "rules": [
                {"apiGroups": ["none.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}
            ],
        }
        for name in ("judge", "inject")
    ],
}


async def test_the_webhook_is_given_its_certificate_and_the_authority_is_rotated(controller: Controller) -> None:
    apply(controller.server, WEBHOOK)
    try:
        await controller.installation.reconcile()
        bundle = controller.server.get("secret", "modelward-ca", "-n", SYSTEM)["data"]["ca.crt"]
        assert _bundles(controller.server) == [bundle, bundle]
        assert controller.server.get("secret", "modelward-admission-tls", "-n", SYSTEM)["data"]["ca.crt"] == bundle
        controller.cluster.forget()
        await controller.installation.reconcile()
        assert controller.cluster.writes == []
        # Applying the chart again leaves the field alone.
        apply(controller.server, WEBHOOK)
        assert _bundles(controller.server) == [bundle, bundle]

        controller.ahead = AUTHORITY_VALIDITY * 0.7
        announced = await controller.installation.reconcile()
        assert announced.authority.following is not None
        controller.ahead += timedelta(days=8)
        after = await controller.installation.reconcile()
        assert after.authority.current == announced.authority.following
        assert "next.crt" not in controller.server.get("secret", "modelward-ca", "-n", SYSTEM)["data"]
        assert _bundles(controller.server)[0] != bundle
    finally:
        controller.server.delete(WEBHOOK)
        for name in ("modelward-ca", "modelward-admission-tls"):
            controller.server.kubectl("delete", "secret", name, "-n", SYSTEM)


def _bundles(server: ApiServer) -> list[str]:
    hooks = server.get("mutatingwebhookconfiguration", "modelward")["webhooks"]
    return [hook["clientConfig"]["caBundle"] for hook in hooks]


async def test_rules_of_a_policys_own_become_admission_policies_and_go_with_it(controller: Controller) -> None:
    policies = Policies(
        controller.cluster, controller.recorder, lambda: [{f"DataPolicy/{PLACE}/own": 3}], controller.clock
    )
    rule = {"id": "OWN-001", "expression": "object.spec.replicas > 1", "message": "'one pod'"}
    apply(controller.server, policy("own", rules=[rule]))
    await policies.reconcile("DataPolicy", PLACE, "own")
    assert len(_own_rules(controller.server)) == 2
    status = controller.server.get("datapolicy", "own", "-n", PLACE)["status"]
    assert (status["governed"], status["violations"]) == (1, 3)
    assert status["conditions"][0]["reason"] == "InForce"
    controller.cluster.forget()
    await policies.reconcile("DataPolicy", PLACE, "own")
    assert controller.cluster.writes == []

    apply(controller.server, policy("own", rules=[{**rule, "expression": "object.spec.replicas >"}]))
    await policies.reconcile("DataPolicy", PLACE, "own")
    condition = controller.server.get("datapolicy", "own", "-n", PLACE)["status"]["conditions"][0]
    assert (condition["status"], condition["reason"]) == ("False", "InvalidRule")
    assert "spec.rules[0].expression" in condition["message"]

    apply(controller.server, policy("own", enforcement="Warn"))
    await policies.reconcile("DataPolicy", PLACE, "own")
    assert _own_rules(controller.server) == []

    apply(controller.server, policy("own", rules=[rule]), WEBHOOK)
    await policies.reconcile("DataPolicy", PLACE, "own")
    for item in _own_rules(controller.server):  # uninstalling takes them away
        assert item["metadata"]["ownerReferences"][0]["kind"] == "MutatingWebhookConfiguration"
    controller.server.delete(policy("own"), WEBHOOK)
    with pytest.raises(GoneError):
        await policies.reconcile("DataPolicy", PLACE, "own")
    assert _own_rules(controller.server) == []


def _own_rules(server: ApiServer) -> list[KubeObject]:
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    items: list[KubeObject] = server.get(kinds, "-l", "app.kubernetes.io/component=custom-rules")["items"]
    return items


async def test_events_are_counted_and_not_multiplied(controller: Controller) -> None:
    apply(controller.server, model("noisy"))
    about = controller.server.get("modeldeployment", "noisy", "-n", PLACE)
    for recorder in (controller.recorder, controller.recorder, Recorder(controller.cluster)):
        await recorder.record(about, "Warning", "SidecarMissing", "pod x\nruns without")
    (event,) = controller.events("SidecarMissing")
    assert (event["count"], event["message"]) == (2, "pod x runs without")


async def test_one_candidate_leads_and_the_next_one_follows_at_once_or_when_it_dies(cluster: Counting) -> None:
    periods = Periods(lease=1.0, deadline=0.7, retry=0.05)
    first, second, third = (Election(cluster, SYSTEM, "modelward-controller", f"c{i}", periods) for i in range(3))
    await first.won()
    assert not await second._try()
    await first.release()
    assert await second._try()
    began = time.monotonic()
    await third.won()  # the second never renews
    assert 0.9 < time.monotonic() - began < 5
    await second.lost()
    await third.release()


async def test_a_refusal_says_what_was_refused(cluster: Counting) -> None:
    with pytest.raises(ApiError) as refused:
        await cluster.find("Secret")  # the chart gives no right to list Secrets
    assert refused.value.status == 403
    assert "GET api/v1/secrets" in str(refused.value)


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


@contextmanager
def controller_process(place: ApiServer, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The controller as a process of its own, and the port of its metrics."""
    port = free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(place.kubeconfig_for(CONTROLLER)),
        "MODELWARD_SIDECAR_IMAGE": IMAGE,
        "POD_NAME": "controller-1",
    }
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-c", "from modelward.controller.main import main; main()", f"--port={port}"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process, port
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    print((folder / "log").read_text())


@pytest.fixture
def running(place: ApiServer, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with controller_process(place, tmp_path) as (process, _):
        yield process


def reason(server: ApiServer, name: str, kind: str) -> str:
    status = server.get("modeldeployment", name, "-n", PLACE).get("status", {})
    return next((item["reason"] for item in status.get("conditions", ()) if item["type"] == kind), "")


def test_the_process_hears_of_changes_and_leaves_in_order(
    place: ApiServer, running: subprocess.Popen[bytes], controller: Controller
) -> None:
    apply(place, model("live"))
    wait_for(lambda: reason(place, "live", "Ready") == "PodsNotReady")
    assert reason(place, "live", "PolicyCompliant") == "NoPolicy"

    # Pods that become ready: what a kubelet and the Deployment's controller would write.
    counts = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    patch = json.dumps({"status": counts})
    assert place.kubectl("patch", "deployment", "live", "-n", PLACE, "--subresource=status", "-p", patch).ok
    wait_for(lambda: reason(place, "live", "Ready") == "Serving")

    # A policy that comes, one that goes, and one that a label of the namespace brings into force.
    apply(place, policy("strict", require={"encryption": {"inTransit": "MutualTLS"}}))
    wait_for(lambda: reason(place, "live", "PolicyCompliant") == "PolicyViolation", 30)  # and not a minute later
    wait_for(lambda: place.get("datapolicy", "strict", "-n", PLACE)["status"].get("violations") == 1)
    place.delete(policy("strict"))
    wait_for(lambda: reason(place, "live", "PolicyCompliant") == "NoPolicy", 30)
    selecting = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ClusterDataPolicy",
        "metadata": {"name": "selecting"},
        "spec": {"namespaceSelector": {"matchLabels": {"tier": "gold"}}},
    }
    apply(place, selecting)
    assert place.kubectl("label", "namespace", PLACE, "tier=gold").ok
    wait_for(lambda: reason(place, "live", "PolicyCompliant") == "Compliant", 30)
    place.delete(selecting)
    assert place.kubectl("label", "namespace", PLACE, "tier-").ok

    lease = place.get("lease", "modelward-controller", "-n", SYSTEM)
    assert lease["spec"]["holderIdentity"] == "controller-1"
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=10) == 0
    assert place.get("lease", "modelward-controller", "-n", SYSTEM)["spec"].get("holderIdentity", "") == ""


async def test_a_backstop_that_was_taken_away_comes_back(controller: Controller) -> None:
    """The identity of the sidecar is the controller's own policy; the rest is the chart's."""
    await controller.installation.reconcile()
    name = "validatingadmissionpolicybinding/modelward-sidecar-identity-named"
    assert controller.server.kubectl("delete", name).ok
    await controller.installation.reconcile()
    bound = controller.server.get(name)["spec"]
    assert (bound["policyName"], bound["validationActions"]) == ("modelward-sidecar-identity", ["Deny"])
    controller.cluster.forget()
    await controller.installation.reconcile()
    assert controller.cluster.writes == []
