"""The admission server as a process, behind a real API server, with the chart's rights and webhooks."""

from __future__ import annotations

import copy
import json
import re
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509

from tests.corpus import policy
from tests.integration import admission
from tests.integration.admission import IMAGE, SETTINGS, Authority, Server, eventually, start
from tests.integration.apiserver import ApiServer, Result

pytestmark = pytest.mark.timeout(300)

SPACE = "admitted"
model = partial(admission.model, space=SPACE)
pod = partial(admission.pod, space=SPACE)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def server(
    apiserver: ApiServer, bin_dir: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    admission.prepare(apiserver, bin_dir, authority)
    assert apiserver.apply(admission.namespace(SPACE)).ok
    running = start(apiserver, tmp_path_factory.mktemp("admission"))
    # Here a silent webhook must show, and a slow machine must not.
    configuration = admission.webhooks(bin_dir, authority, running.port, failurePolicy="Fail", timeoutSeconds=10)
    assert apiserver.apply(configuration).ok
    eventually(lambda: not create(apiserver, model("probe", spec={"model": {"image": "x"}}), dry_run=True).ok)
    yield running
    running.kill()


def create(apiserver: ApiServer, manifest: dict[str, Any], *, dry_run: bool = False) -> Result:
    flags = ["--dry-run=server"] if dry_run else []
    return apiserver.kubectl("create", *flags, "-f", "-", input=yaml.safe_dump(manifest))


OWNED = {
    "id": "CUSTOM-001",
    "expression": "has(object.metadata.labels) && 'owner' in object.metadata.labels",
    "message": "'nobody owns it'",
}


def events(apiserver: ApiServer, reason: str = "PolicyViolation", **about: str) -> list[dict[str, Any]]:
    found = apiserver.get("events", "-A", f"--field-selector=reason={reason}")["items"]
    return [event for event in found if all(event["involvedObject"].get(key) == value for key, value in about.items())]


def test_a_good_model_is_let_in_and_says_nothing(apiserver: ApiServer, server: Server):
    result = create(apiserver, model("good"))
    assert result.ok, result.stderr
    assert "Warning" not in result.stderr


def test_the_denial_lists_every_violation_a_line_each(apiserver: ApiServer, server: Server):
    result = create(apiserver, model("bare", spec={"model": {"image": "x:1"}}))
    assert not result.ok
    assert 'admission webhook "resources.modelward.io" denied the request' in result.stderr
    lines = result.stderr.strip().splitlines()
    assert f"ModelDeployment {SPACE}/bare breaks" in lines[0]
    assert lines[0].endswith("of ClusterDataPolicy/baseline:")
    rules = {re.match(r"\s+([A-Z]+-\d+) ", line)[1] for line in lines[1:]}  # type: ignore[index]
    assert {"ENC-001", "RUN-001"} <= rules
    assert len(rules) >= 4
    assert all("Fix: " in line for line in lines[1:])


def test_a_refusal_is_told_of_model_policy_and_namespace(apiserver: ApiServer, server: Server):
    assert not create(apiserver, model("told", spec={"model": {"image": "x:1"}})).ok
    (event,) = eventually(lambda: events(apiserver, kind="ModelDeployment", name="told"))
    assert event["metadata"]["namespace"] == SPACE
    assert event["type"] == "Warning"
    assert event["reportingComponent"] == "modelward-admission"
    assert event["source"] == {"component": "modelward-admission"}
    assert "ENC-001" in event["message"]
    assert len(event["message"].encode()) <= 1024
    assert "uid" not in event["involvedObject"]
    for about in ({"kind": "ClusterDataPolicy", "name": "baseline"}, {"kind": "Namespace", "name": SPACE}):
        (other,) = eventually(lambda about=about: events(apiserver, **about))
        assert other["metadata"]["namespace"] == "default"
    listed = apiserver.kubectl("get", "events", "-A", "--field-selector", "reason=PolicyViolation")
    assert "modeldeployment/told" in listed.stdout


def test_the_same_refusal_again_raises_the_count(apiserver: ApiServer, server: Server):
    for _ in range(3):
        assert not create(apiserver, model("again", spec={"model": {"image": "x:1"}})).ok
        time.sleep(0.3)
    eventually(lambda: [event["count"] for event in events(apiserver, name="again")] == [3])


def test_a_dry_run_leaves_no_event(apiserver: ApiServer, server: Server):
    assert not create(apiserver, model("rehearsed", spec={"model": {"image": "x:1"}}), dry_run=True).ok
    assert not create(apiserver, model("performed", spec={"model": {"image": "x:1"}})).ok
    eventually(lambda: events(apiserver, name="performed"))
    assert not events(apiserver, name="rehearsed")


def test_a_warning_is_shown_and_told(apiserver: ApiServer, server: Server):
    space = "warned"
    warn = {**policy({"rules": [OWNED]}, name="gentle", namespace=space)}
    warn["spec"]["enforcement"] = "Warn"
    assert apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}, warn).ok

    def warned() -> str:
        return create(apiserver, model("m", space=space), dry_run=True).stderr

    assert "DataPolicy/warned/gentle" in eventually(warned)
    result = create(apiserver, model("m", space=space))
    assert result.ok, result.stderr
    assert "Warning: CUSTOM-001" in result.stderr
    eventually(lambda: events(apiserver, "PolicyWarning", kind="ModelDeployment", name="m"))


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("transformations", '[{"what": "x"', "transformations is not JSON"),
        ("model", "oci://x@sha256:abc", "model does not end in @sha256: and 64 lower-case hex digits"),
        ("statements", "deployment/x", "statements is not configmap/<name> or secret/<name>"),
    ],
)
def test_lineage_that_cannot_be_read_is_let_in_with_a_warning(
    apiserver: ApiServer, server: Server, annotation: str, value: str, words: str
):
    manifest = model("unread")
    manifest["metadata"].setdefault("annotations", {})[f"lineage.modelward.io/{annotation}"] = value
    result = create(apiserver, manifest, dry_run=True)
    assert result.ok, result.stderr
    assert f"Warning: lineage.modelward.io/{words}" in result.stderr


def test_a_namespace_made_a_moment_ago_is_known(apiserver: ApiServer, server: Server):
    for index in range(5):
        space = f"fresh-{index}"
        manifests = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}, model("m", space=space)]
        result = apiserver.kubectl("create", "-f", "-", input=yaml.safe_dump_all(manifests))
        assert result.ok, result.stderr


def test_updates_are_judged_only_where_they_change_what_is_judged(apiserver: ApiServer, server: Server):
    """A tightened policy must not make what runs undeletable."""
    assert create(apiserver, model("running")).ok
    tight = {**policy({"rules": [OWNED]}, name="tight"), "kind": "ClusterDataPolicy"}
    tight["metadata"] = {"name": "tight"}
    assert apiserver.apply(tight).ok
    eventually(lambda: not create(apiserver, model("probe"), dry_run=True).ok)

    def patch(change: Any) -> Result:
        return apiserver.kubectl("-n", SPACE, "patch", "md/running", "--type=merge", "-p", json.dumps(change))

    try:
        assert patch({"metadata": {"finalizers": ["example.org/wait"], "annotations": {"note": "x"}}}).ok
        assert "CUSTOM-001" in patch({"spec": {"replicas": 3}}).stderr
        assert apiserver.kubectl("-n", SPACE, "delete", "md/running", "--wait=false").ok
        assert patch({"metadata": {"finalizers": None}}).ok
        eventually(lambda: not apiserver.kubectl("-n", SPACE, "get", "md/running").ok)
    finally:
        assert apiserver.kubectl("delete", "cdp", "tight").ok
    eventually(lambda: create(apiserver, model("probe"), dry_run=True).ok)


def asked(server: Server) -> float:
    """How many reviews reached the webhook, of whatever kind and outcome."""
    counts = re.findall(r"^modelward_admission_reviews_total{.*} (\S+)$", server.health("/metrics").text, re.MULTILINE)
    return sum(map(float, counts))


def test_what_is_never_refused_is_not_asked_about(apiserver: ApiServer, server: Server):
    """matchConditions and selectors, counted where the calls arrive: none is made and then answered with a yes."""
    here = ("-n", SPACE)
    assert create(
        apiserver, model("quiet", metadata={**model("quiet")["metadata"], "finalizers": ["example.org/wait"]})
    ).ok
    before = asked(server)
    for kind, manifest in (
        ("pod", pod("not-in-scope", labels={})),
        (
            "pod",
            {
                **pod("system"),
                "metadata": {"name": "system", "namespace": "kube-system", "labels": {**admission.NAMED}},
            },
        ),
        ("configmap", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": SPACE}}),
    ):
        result = create(apiserver, manifest)
        assert result.ok, (kind, result.stderr)
    for change, *flags in (
        ({"status": {"observedGeneration": 1}}, "--subresource=status"),
        ({"metadata": {"finalizers": ["example.org/wait", "example.org/too"]}},),
        ({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1"}]}},),
    ):
        result = apiserver.kubectl(*here, "patch", "md", "quiet", "--type=merge", *flags, "-p", json.dumps(change))
        assert result.ok, result.stderr
    assert apiserver.kubectl(*here, "patch", "pod", "not-in-scope", "-p", '{"metadata": {"labels": {"a": "b"}}}').ok
    assert apiserver.kubectl(*here, "delete", "md", "quiet", "--wait=false").ok
    label = '{"metadata": {"labels": {"while": "being-deleted"}}}'
    assert apiserver.kubectl(*here, "patch", "md", "quiet", "--type=merge", "-p", label).ok
    assert asked(server) == before
    gone = '{"metadata": {"finalizers": null}}'
    assert apiserver.kubectl(*here, "patch", "md", "quiet", "--type=merge", "-p", gone).ok
    assert asked(server) == before

    assert create(apiserver, model("asked-about")).ok
    assert create(apiserver, pod("asked-about")).ok
    assert apiserver.kubectl(*here, "label", "md", "asked-about", "team=x", "--overwrite").ok
    assert asked(server) == before + 3


def test_malformed_objects_are_refused_in_the_words_of_the_schema(apiserver: ApiServer, server: Server):
    result = create(apiserver, model("odd", spec={"model": {"image": "x"}, "targetRef": {"kind": "x"}}))
    assert not result.ok
    assert "admission webhook" not in result.stderr


def test_a_policy_with_invalid_cel_is_refused_with_the_rule_and_the_error(apiserver: ApiServer, server: Server):
    broken = policy({}, name="broken", namespace=SPACE)
    broken["spec"]["rules"] = [{"id": "CUSTOM-001", "expression": "object.spec.(", "message": "'no'"}]
    result = apiserver.apply(broken)
    assert not result.ok
    assert "CUSTOM-001" in result.stderr
    assert "not valid CEL" in result.stderr


def test_an_eleventh_policy_is_refused(apiserver: ApiServer, server: Server):
    space = "crowded"
    policies = [policy({}, name=f"p{index}", namespace=space) for index in range(10)]
    assert apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}, *policies).ok

    def eleventh() -> Result:
        return create(apiserver, policy({}, name="p10", namespace=space), dry_run=True)

    eventually(lambda: "10 is the most" in eleventh().stderr)


def test_a_pod_in_scope_gets_its_sidecar_and_another_none(apiserver: ApiServer, server: Server):
    labels, by_hand = {"modelward.io/inject": "enabled"}, {"modelward.io/model-deployment": "wdbc"}
    for manifest in (pod("labelled"), pod("by-hand", labels=labels, annotations=by_hand), pod("plain", labels={})):
        result = create(apiserver, manifest)
        assert result.ok, result.stderr
    for name in ("labelled", "by-hand"):
        stored = apiserver.get("-n", SPACE, f"pod/{name}")
        (sidecar,) = stored["spec"]["initContainers"]
        assert (sidecar["name"], sidecar["image"], sidecar["restartPolicy"]) == ("modelward-sidecar", IMAGE, "Always")
        assert stored["metadata"]["labels"]["modelward.io/model"] == "wdbc"
    assert "initContainers" not in apiserver.get("-n", SPACE, "pod/plain")["spec"]


def test_a_pod_that_cannot_be_protected_is_refused_with_the_way_out(apiserver: ApiServer, server: Server):
    manifest = pod("open", labels={"modelward.io/inject": "enabled"})
    manifest["spec"]["hostNetwork"] = True
    result = create(apiserver, manifest)
    assert "names no model" in result.stderr
    assert "spec.hostNetwork" in result.stderr
    eventually(lambda: events(apiserver, kind="Pod", name="open"))


def test_settings_are_followed(apiserver: ApiServer, server: Server):
    changed = copy.deepcopy(SETTINGS)
    changed["data"]["image"] = other = "modelward-sidecar@sha256:" + "b" * 64
    assert apiserver.apply(changed).ok

    def injected() -> str:
        done = apiserver.kubectl("create", "--dry-run=server", "-o", "yaml", "-f", "-", input=yaml.safe_dump(pod("p")))
        return done.stdout

    eventually(lambda: other in injected())
    assert apiserver.apply(SETTINGS).ok
    eventually(lambda: IMAGE in injected())


def served_serial(server: Server, authority: Authority) -> int:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"
        der = secured.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der).serial_number


def test_a_new_certificate_is_served_at_once_and_a_bad_one_never(
    apiserver: ApiServer, server: Server, authority: Authority
):
    assert apiserver.apply(authority.secret(serial=2000)).ok
    eventually(lambda: served_serial(server, authority) == 2000)
    bad = authority.secret(serial=3000)
    bad["data"]["tls.key"] = authority.secret(serial=3001)["data"]["tls.key"]
    assert apiserver.apply(bad).ok
    eventually(lambda: "cannot be served" in server.log.read_text())
    assert served_serial(server, authority) == 2000
    assert create(apiserver, model("after-rotation"), dry_run=True).ok
    assert apiserver.apply(authority.secret(serial=4000)).ok
    eventually(lambda: served_serial(server, authority) == 4000)
    assert "PRIVATE KEY" not in server.log.read_text()


def largest(**metadata: Any) -> dict[str, Any]:
    """As large as etcd takes, in as many inputs and columns as the schema allows."""
    big = model("big")
    big["metadata"].update(metadata)
    names = [f"{'c' * 116}{number}" for number in range(100)]
    big["spec"]["schema"] = {
        "inputs": [
            {"name": f"input-{index}", "datatype": "FP64", "shape": [-1, 100], "columns": names} for index in range(122)
        ]
    }
    assert 1_490_000 < len(json.dumps(big)) < 1_570_000
    return big


def test_an_object_of_the_largest_size_is_judged_within_the_time_out(
    apiserver: ApiServer, server: Server, authority: Authority
):
    bad = largest()
    del bad["spec"]["encryption"], bad["spec"]["access"], bad["metadata"]["annotations"]
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    for manifest, allowed in ((largest(), True), (bad, False)):
        result = create(apiserver, manifest, dry_run=True)
        assert result.ok is allowed, result.stderr
        kind = {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"}
        # An update carries it twice.
        request = {"uid": "1", "kind": kind, "operation": "UPDATE", "name": "big", "namespace": SPACE}
        request |= {"object": manifest, "oldObject": largest(labels={"another": "label"}), "dryRun": True}
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        with httpx.Client(verify=trusting, trust_env=False, timeout=10) as client:
            headers = {"content-type": "application/json"}
            client.post(f"https://127.0.0.1:{server.port}/admit", content=body, headers=headers)
            begun, cpu = time.monotonic(), server.cpu_seconds()
            answer = client.post(f"https://127.0.0.1:{server.port}/admit", content=body, headers=headers)
            wall, cpu = time.monotonic() - begun, server.cpu_seconds() - cpu
        assert answer.json()["response"]["allowed"] is allowed, answer.text[:500]
        print(f"{len(body):,} bytes: {wall:.3f} s, {cpu:.2f} s of CPU")
        assert wall < 2


def test_without_its_certificate_it_is_not_ready_and_leaves_on_sigterm(
    apiserver: ApiServer, server: Server, tmp_path: Path
):
    other = start(apiserver, tmp_path, "--namespace=default", wait=False)
    try:
        eventually(lambda: other.log.exists() and _answers(other))
        assert other.health("/healthz").status_code == 200
        assert other.health("/readyz").status_code == 503
        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(timeout=10) == 0
    finally:
        other.kill()


def _answers(server: Server) -> bool:
    try:
        return server.health("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def test_leaving_drops_no_review(apiserver: ApiServer, server: Server, authority: Authority, tmp_path: Path):
    """Under load, SIGTERM: all is answered, and connections end after an answer and not before one."""
    leaving = start(apiserver, tmp_path, "--drain-seconds=10")
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"},
            "operation": "CREATE",
            "name": "m",
            "namespace": SPACE,
            "dryRun": True,
            "object": model("m"),
        },
    }
    body = json.dumps(review)
    trusting = ssl.create_default_context(cadata=authority.pem.decode())

    def ask(until: Callable[[], bool]) -> list[str]:
        seen = []
        headers = {"content-type": "application/json"}
        with httpx.Client(verify=trusting, trust_env=False, timeout=30) as client:
            while not until():
                try:
                    answer = client.post(f"https://127.0.0.1:{leaving.port}/admit", content=body, headers=headers)
                    seen.append(f"{answer.status_code} {answer.headers.get('connection', '')}".strip())
                except httpx.HTTPError as error:
                    seen.append(type(error).__name__)
        return seen

    stopped: list[float] = []
    try:
        with ThreadPoolExecutor(4) as pool:
            # A second is what it takes until no API server sends anything to a pod that leaves.
            asked = [pool.submit(ask, lambda: bool(stopped) and time.monotonic() > stopped[0] + 1) for _ in range(4)]
            time.sleep(1.0)
            leaving.process.send_signal(signal.SIGTERM)
            stopped.append(time.monotonic())
            eventually(lambda: leaving.health("/readyz").status_code == 503)
            outcomes = [outcome for future in asked for outcome in future.result()]
        assert leaving.process.wait(timeout=60) == 0, leaving.log.read_text()
        assert set(outcomes) == {"200", "200 close"}, {outcome: outcomes.count(outcome) for outcome in set(outcomes)}
    finally:
        leaving.kill()


def test_numbers(
    apiserver: ApiServer, server: Server, authority: Authority, tmp_path: Path, record_property: Callable[..., None]
):
    """Start, memory and CPU, printed; bounded where other work on the machine does not count."""
    fresh = start(apiserver, tmp_path)
    to_ready = fresh.cpu_seconds()
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    count = 500
    request = {
        "uid": "1",
        "kind": {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"},
        "operation": "CREATE",
        "name": "m",
        "namespace": SPACE,
        "object": model("m"),
    }
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    with httpx.Client(verify=trusting, trust_env=False) as client:
        begun, cpu = time.monotonic(), fresh.cpu_seconds()
        for _ in range(count):
            answer = client.post(
                f"https://127.0.0.1:{fresh.port}/admit", content=body, headers={"content-type": "application/json"}
            )
            assert answer.json()["response"]["allowed"], answer.text
        wall, cpu = time.monotonic() - begun, fresh.cpu_seconds() - cpu
    numbers = {
        "start to ready, s": round(fresh.ready_after, 2),
        "CPU until ready, s": round(to_ready, 2),
        "memory, MiB": round(fresh.memory_mib(), 1),
        "CPU per review, ms": round(1000 * cpu / count, 2),
        "wall per review with one client, ms": round(1000 * wall / count, 2),
    }
    fresh.kill()
    print(numbers)
    for name, value in numbers.items():
        record_property(name, value)
    assert numbers["CPU until ready, s"] < 5
    assert numbers["memory, MiB"] < 96
    assert numbers["CPU per review, ms"] < 20
