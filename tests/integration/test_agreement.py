"""One verdict: `modelward check`, the webhook, the API server and the controller say the same of every case.

Each is asked the way it is asked in life: the command line as a process on files, the admission server as a process
with AdmissionReviews over HTTPS, the API server with creates (dry runs), the controller with what it reads of the
policies through its own client. The table at the end is the count.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import canonical, parse
from modelward.controller.cases import Cases
from modelward.controller.cluster import Cluster
from modelward.controller.events import Recorder
from modelward.controller.incidents import Incidents
from modelward.controller.ledger import Ledger
from modelward.controller.security_tests import SecurityTests
from modelward.controller.targets import Targets
from modelward.rules.admission_policy import catalogue_policies, custom_policies
from modelward.rules.judge import Review, judge
from tests.corpus import BASELINE, CASES, POLICIES, Case, Manifest, good, policy
from tests.integration import admission
from tests.integration.apiserver import ApiServer

RULE_ID = re.compile(r"\b([A-Z]+-\d{3})\b")
LINE = re.compile(r"^  ([A-Z]+-\d{3}) ", re.MULTILINE)
PATH = "/apis/modelward.io/v1alpha1/namespaces/{}/modeldeployments"
LAX: Manifest = {**policy({"enforcement": "Enforce"}), "kind": "ClusterDataPolicy", "metadata": {"name": "baseline"}}
Found = dict[str, frozenset[str]]
"""The rules that an evaluator found broken, by the name of the case."""


def space(name: str) -> str:
    return f"agree-{name}"


def named(name: str) -> Manifest:
    return policy(POLICIES[name], name=name, namespace=space(name))


def placed(case: Case) -> Manifest:
    manifest = json.loads(json.dumps(case.manifest))
    manifest["metadata"]["namespace"] = space(case.policy)
    return manifest


@pytest.fixture(scope="module")
def authority() -> admission.Authority:
    return admission.Authority()


@pytest.fixture(scope="module")
def client(apiserver: ApiServer, bin_dir: Path, authority: admission.Authority) -> Iterator[httpx.Client]:
    """A client of an API server in which the backstop is in force, with a policy a namespace."""
    admission.prepare(apiserver, bin_dir, authority)
    objects: list[Manifest] = []
    for name in POLICIES:
        objects.append(admission.namespace(space(name)))
        objects.append(named(name))
        objects.extend(custom_policies(canonical(parse(named(name)))))
    result = apiserver.apply(LAX, *catalogue_policies(), *objects)
    assert result.ok, result.stderr
    headers = {"Authorization": f"Bearer {apiserver.token}"}
    context = ssl.create_default_context(cafile=str(apiserver.ca))
    with httpx.Client(base_url=apiserver.url, headers=headers, verify=context, timeout=30) as opened:
        _wait_until_in_force(opened)
        yield opened


def create(client: httpx.Client, namespace: str, manifest: Manifest) -> httpx.Response:
    return client.post(PATH.format(namespace), params={"dryRun": "All"}, json=manifest)


def _wait_until_in_force(client: httpx.Client) -> None:
    """Policies take up to a second or two to be compiled; wait for the last of each kind to bite."""
    unsafe = {**good(), "metadata": {"name": "other"}}
    unsafe["spec"] = {
        "model": {"image": "x"},
        "schema": {"inputs": [{"name": "remarks", "datatype": "BYTES", "shape": [-1]}]},
    }
    deadline = time.monotonic() + 30
    waiting = {name for name in POLICIES if name not in ("nothing", "selective")}
    while waiting and time.monotonic() < deadline:
        waiting = {name for name in waiting if create(client, space(name), unsafe).status_code == 201}
        time.sleep(0.2)
    assert not waiting, f"these policies never came into force: {waiting}"


@pytest.fixture(scope="module")
def backstop(client: httpx.Client) -> dict[str, httpx.Response]:
    """What the API server answers to each case."""
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda case: create(client, space(case.policy), case.manifest), CASES)
        return {case.name: answer for case, answer in zip(CASES, answers, strict=True)}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What `modelward check` finds in all cases at once, a file a case."""
    folder = tmp_path_factory.mktemp("check")
    files = {folder / f"{index:04}.yaml": case for index, case in enumerate(CASES)}
    for path, case in files.items():
        path.write_text(yaml.safe_dump(placed(case), allow_unicode=True))
    policies = folder / "policies.yaml"
    policies.write_text(yaml.safe_dump_all([LAX, *(named(name) for name in POLICIES)]))
    command = [Path(sys.executable).parent / "modelward", "check", "-o", "json", f"--policy={policies}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found: dict[str, set[str]] = {case.name: set() for case in CASES}
    for finding in json.loads(done.stdout)["findings"]:
        assert finding["level"] != "error", finding
        if finding["level"] == "violation":
            found[files[Path(finding["source"])].name].add(finding["rule"])
    return {name: frozenset(rules) for name, rules in found.items()}


@pytest.fixture(scope="module")
def asked(
    client: httpx.Client,
    apiserver: ApiServer,
    authority: admission.Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Found:
    """What the admission server says to a review of each case, over HTTPS."""
    server = admission.start(apiserver, tmp_path_factory.mktemp("admission"))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    url = f"https://127.0.0.1:{server.port}"
    try:
        with httpx.Client(base_url=url, verify=context, timeout=30, trust_env=False) as webhook:
            return {case.name: _reviewed(webhook, case) for case in CASES}
    finally:
        server.kill()


def _reviewed(webhook: httpx.Client, case: Case) -> frozenset[str]:
    kind = {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"}
    request = {"uid": "1", "kind": kind, "operation": "CREATE", "dryRun": True, "object": placed(case)}
    request |= {"name": case.manifest["metadata"]["name"], "namespace": space(case.policy)}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    answer = webhook.post("/admit", json=review)
    assert answer.status_code == 200, answer.text
    response = answer.json()["response"]
    rules = frozenset() if response["allowed"] else frozenset(LINE.findall(response["status"]["message"]))
    assert response["allowed"] is not bool(rules)
    return rules


@pytest.fixture(scope="module")
def controlled(client: httpx.Client, apiserver: ApiServer) -> Found:
    """What the controller finds of each case, by the policies that it reads from the API server."""
    kubeconfig = str(apiserver.kubeconfig_for(apiserver.token))

    async def judge_all() -> Found:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", kubeconfig)
            async with Cluster.connected() as cluster:
                installed = partial(pytest.fail, "the installation is not asked")
                clock = partial(datetime.now, UTC)
                incidents = Incidents(cluster, Recorder(cluster), installed, clock)
                tests = SecurityTests(cluster, installed, incidents, clock)
                cases = Cases(cluster, installed, clock, Ledger(), Targets(cluster), tests)
                return {case.name: await _background(cases, case) for case in CASES}

    return asyncio.run(judge_all())


async def _background(cases: Cases, case: Case) -> frozenset[str]:
    raw = placed(case)
    md = parse(raw)
    assert isinstance(md, ModelDeployment)
    verdict = (await cases.judgement(md)).verdict
    return frozenset(violation.rule for violation in verdict.violations)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_api_server_agrees_and_tells_the_same(backstop: Mapping[str, httpx.Response], case: Case) -> None:
    """It names one rule, the first it comes to; the text is that of the webhook."""
    answer = backstop[case.name]
    if not case.breaks:
        assert answer.status_code == 201, answer.json()["message"]
        return
    assert answer.status_code == 403, f"let in, though it breaks {sorted(case.breaks)}"
    message = answer.json()["message"]
    first = RULE_ID.search(message)
    assert first is not None, message
    assert first[1] in case.breaks, message
    policies = [canonical(parse(named(case.policy)))]
    ours = judge(Review(canonical(parse(case.manifest)), namespace=space(case.policy)), policies)
    (same,) = [violation for violation in ours.violations if violation.rule == first[1]]
    assert same.found in message, "the backstop tells something else than the webhook"


def test_all_four_agree_on_every_case(
    backstop: Mapping[str, httpx.Response],
    checked: Found,
    asked: Found,
    controlled: Found,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluators = {"check": checked, "webhook": asked, "backstop": _named(backstop), "controller": controlled}
    families = Counter(case.family for case in CASES)
    rows, odd = [], []
    for family, cases in sorted(families.items()):
        agreeing = []
        for evaluator, found in evaluators.items():
            wrong = [case for case in CASES if case.family == family and not _agrees(evaluator, found, case)]
            odd += [f"{evaluator}, {case.name}: {sorted(found[case.name])}" for case in wrong]
            agreeing.append(cases - len(wrong))
        rows.append((family, cases, *agreeing))
    rows.append(("all", *(sum(row[column] for row in rows) for column in range(1, 6))))
    with capsys.disabled():
        print("\n\n  family  cases " + "".join(f"{name:>12}" for name in evaluators))
        for family, cases, *agreeing in rows:
            print(f"  {family:<8}{cases:>5} " + "".join(f"{count:>12}" for count in agreeing))
        print(f"  agreement: {100 * (1 - len(odd) / (4 * len(CASES))):.1f} %")
    assert odd == []


def _named(answers: Mapping[str, httpx.Response]) -> Found:
    named: Found = {}
    for name, answer in answers.items():
        told = RULE_ID.search(answer.json()["message"]) if answer.status_code == 403 else None
        named[name] = frozenset({told[1]} if told else ())
    return named


def _agrees(evaluator: str, found: Found, case: Case) -> bool:
    """The API server stops at the first violation; the others list them all."""
    rules = found[case.name]
    return (
        rules == case.breaks if evaluator != "backstop" else bool(rules) == bool(case.breaks) and rules <= case.breaks
    )


def test_every_rule_is_compiled_without_a_warning_from_the_type_checker(
    client: httpx.Client, apiserver: ApiServer
) -> None:
    names = {item["metadata"]["name"] for item in catalogue_policies() if item["kind"] == "ValidatingAdmissionPolicy"}
    checked: dict[str, Any] = {}
    with apiserver.controllers("validatingadmissionpolicy-status-controller"):
        deadline = time.monotonic() + 60
        while not names <= checked.keys():
            assert time.monotonic() < deadline, f"never checked: {names - checked.keys()}"
            time.sleep(0.5)
            for item in apiserver.get("validatingadmissionpolicies")["items"]:
                status = item.get("status", {})
                if status.get("observedGeneration") == item["metadata"]["generation"]:
                    checked[item["metadata"]["name"]] = status["typeChecking"]
    assert not {name: checked[name] for name in names if checked[name]}


def test_warn_and_audit_let_in(client: httpx.Client, apiserver: ApiServer) -> None:
    namespace = space("warns")
    manifest = good()
    del manifest["spec"]["encryption"]
    objects = [
        admission.namespace(namespace),
        policy({"enforcement": "Warn", "require": BASELINE}, name="warns", namespace=namespace),
        policy({"enforcement": "Audit", "require": BASELINE}, name="audits", namespace=namespace),
    ]
    assert apiserver.apply(*objects).ok
    deadline = time.monotonic() + 10
    while not (answer := create(client, namespace, manifest)).headers.get_list("warning"):
        assert answer.status_code == 201, answer.text
        assert time.monotonic() < deadline, "no warning within 10 s"
        time.sleep(0.1)
    assert answer.status_code == 201
    assert any("ENC-001" in warning for warning in answer.headers.get_list("warning"))


def test_without_any_cluster_policy_nothing_is_let_in(client: httpx.Client, apiserver: ApiServer) -> None:
    assert apiserver.kubectl("delete", "clusterdatapolicy", "baseline").ok
    try:
        deadline = time.monotonic() + 10
        while (answer := create(client, space("nothing"), good())).status_code == 201:
            assert time.monotonic() < deadline, "let in for 10 s without a rulebook"
            time.sleep(0.1)
        assert "no params found" in answer.json()["message"]
    finally:
        assert apiserver.apply(LAX).ok
        deadline = time.monotonic() + 10
        while create(client, space("nothing"), good()).status_code != 201:
            assert time.monotonic() < deadline, "the restored policy never came into force"
            time.sleep(0.1)
