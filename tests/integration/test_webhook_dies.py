"""With the admission servers killed, frozen and restarted: nothing unsafe gets in, and nobody else is held up."""

from __future__ import annotations

import re
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from modelward.planner.injection import inject
from tests.integration import admission
from tests.integration.admission import IMAGE, KEY, Authority, Server, eventually, model, pod
from tests.integration.apiserver import ApiServer
from tests.integration.service import Service

pytestmark = pytest.mark.timeout(600)

SPACE, WARD = "served", "ward"
CREATES = 1000
A_SECOND = 50
"""So that a thousand creates see several deaths, and are not over before the first."""
THREADS = 16
MODELS = "/apis/modelward.io/v1alpha1/namespaces/{}/modeldeployments"
PODS, CONFIG_MAPS = "/api/v1/namespaces/{}/pods", "/api/v1/namespaces/{}/configmaps"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture(scope="module")
def guarded(
    apiserver: ApiServer, bin_dir: Path, authority: Authority, service: Service
) -> Iterator[tuple[ApiServer, httpx.Client]]:
    """An API server with the chart's admission policies in force, and its webhooks just as the chart has them."""
    admission.prepare(apiserver, bin_dir, authority)
    assert apiserver.apply(admission.namespace(SPACE)).ok
    assert apiserver.apply(admission.namespace(WARD, **{"modelward.io/protected": "true"})).ok
    result = apiserver.apply(*admission.backstop(bin_dir))
    assert result.ok, result.stderr
    with httpx.Client(
        base_url=apiserver.url,
        headers={"Authorization": f"Bearer {apiserver.token}"},
        verify=ssl.create_default_context(cafile=str(apiserver.ca)),
        trust_env=False,
        timeout=20,
        limits=httpx.Limits(max_connections=THREADS),
    ) as client:
        for probe in (unsafe_model("probe"), watched_pod("probe"), decoy_pod("probe")):
            eventually(lambda probe=probe: probe.send(client, dry_run=True).status_code == 403)
        assert apiserver.apply(admission.webhooks(bin_dir, authority, service.port)).ok
        yield apiserver, client


@dataclass(frozen=True)
class Create:
    """One create of the mix."""

    sort: str
    path: str
    manifest: dict[str, Any]

    def send(self, client: httpx.Client, *, dry_run: bool = False) -> httpx.Response:
        query = {"dryRun": "All"} if dry_run else {}
        return client.post(self.path, params=query, json=self.manifest)


def safe_model(name: str) -> Create:
    return Create("safe model", MODELS.format(SPACE), model(name, SPACE))


def unsafe_model(name: str) -> Create:
    manifest = model(name, SPACE)
    del manifest["spec"]["encryption"]
    return Create("unsafe model", MODELS.format(SPACE), manifest)


def watched_pod(name: str) -> Create:
    return Create("pod in scope", PODS.format(SPACE), pod(name, SPACE))


def ward_pod(name: str) -> Create:
    """In scope by its namespace alone."""
    named = {"modelward.io/model-deployment": "wdbc"}
    return Create("pod in a protected namespace", PODS.format(WARD), pod(name, WARD, labels={}, annotations=named))


def injected_pod(name: str) -> Create:
    manifest = inject(pod(name, SPACE), image=IMAGE, config_key=KEY)
    return Create("pod with its sidecar", PODS.format(SPACE), manifest)


def decoy_pod(name: str) -> Create:
    manifest = inject(pod(name, SPACE), image=IMAGE, config_key=KEY)
    manifest["metadata"]["labels"]["modelward.io/inject"] = "disabled"
    manifest["spec"]["initContainers"][0]["image"] = "decoy:1"
    return Create("pod with a decoy", PODS.format(SPACE), manifest)


def other_pod(name: str) -> Create:
    return Create("unrelated pod", PODS.format(SPACE), pod(name, SPACE, labels={}))


def config_map(name: str) -> Create:
    metadata = {"name": name, "namespace": SPACE}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}}
    return Create("unrelated ConfigMap", CONFIG_MAPS.format(SPACE), manifest)


MIX: tuple[Callable[[str], Create], ...] = (
    *(safe_model, unsafe_model, watched_pod, config_map, unsafe_model),
    *(ward_pod, injected_pod, decoy_pod, other_pod, config_map),
)


class Replicas:
    """Two admission servers behind the Service, of which only the ready ones are endpoints."""

    def __init__(self, apiserver: ApiServer, folder: Path, service: Service) -> None:
        self._apiserver, self._folder, self._service = apiserver, folder, service
        self._started = 0
        self.running: list[Server] = []

    def start(self, *flags: str) -> Server:
        self._started += 1
        folder = self._folder / str(self._started)
        folder.mkdir()
        server = admission.start(self._apiserver, folder, *flags)
        self.running.append(server)
        self._publish()
        return server

    def kill_all(self) -> None:
        for server in self.running:  # the endpoints stay for a while, as they do in a cluster
            server.process.send_signal(signal.SIGKILL)
        for server in self.running:
            server.kill()
        self.running = []

    def leave(self, server: Server) -> None:
        """End one as a rollout does: told to, then out of the endpoints once it says that it is not ready."""
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: not server.ready())
        self.running.remove(server)
        self._publish()
        assert server.process.wait(timeout=20) == 0, server.log.read_text()

    def _publish(self) -> None:
        self._service.endpoints = tuple(server.port for server in self.running)


@pytest.fixture
def replicas(guarded: tuple[ApiServer, httpx.Client], service: Service, tmp_path: Path) -> Iterator[Replicas]:
    both = Replicas(guarded[0], tmp_path, service)
    yield both
    both.kill_all()
    service.endpoints = ()


def metric(client: httpx.Client, name: str) -> float:
    """The sum of one of the API server's metrics over modelward's webhooks."""
    lines = re.findall(rf"^{name}\{{[^}}]*modelward\.io[^}}]*\}} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return sum(map(float, lines))


FAIL_OPEN = "apiserver_admission_webhook_fail_open_count"
REQUESTS = "apiserver_admission_webhook_request_total"


@dataclass(frozen=True)
class Outcome:
    create: Create
    status: int
    text: str
    seconds: float


def run(client: httpx.Client, creates: list[Create], a_second: float) -> list[Outcome]:
    """Send all at this rate from many threads; in order, but for what is on its way at the same time."""
    began = time.monotonic()

    def one(index: int) -> Outcome:
        time.sleep(max(0.0, began + index / a_second - time.monotonic()))
        sent = time.monotonic()
        answer = creates[index].send(client)
        return Outcome(creates[index], answer.status_code, answer.text, time.monotonic() - sent)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(len(creates))))


def table(outcomes: list[Outcome]) -> Counter[tuple[str, str]]:
    return Counter((outcome.create.sort, "in" if outcome.status == 201 else "refused") for outcome in outcomes)


def listed(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def unwatched(pods: list[dict[str, Any]]) -> list[str]:
    """Names of the pods in scope whose spec the webhook would still have to change."""
    in_scope = [
        item
        for item in pods
        if "modelward.io/model" in item["metadata"].get("labels", {}) or item["metadata"]["namespace"] == WARD
    ]
    return [item["metadata"]["name"] for item in in_scope if inject(item, image=IMAGE, config_key=KEY) != item]


def trouble(replicas: Replicas, over: threading.Event, log: list[str]) -> None:
    """Both replicas die, come back, freeze and die again, until told to stop; ends with both alive."""
    while not over.is_set():
        for ending in ("killed", "frozen and killed"):
            if not replicas.running:
                for _ in range(2):
                    replicas.start()
            over.wait(1.5)
            if ending != "killed":
                for server in replicas.running:
                    server.process.send_signal(signal.SIGSTOP)
                over.wait(1.0)
            replicas.kill_all()
            log.append(ending)
            over.wait(1.0)
    for _ in range(2):
        replicas.start()


def test_killed_during_a_thousand_creates(
    guarded: tuple[ApiServer, httpx.Client], replicas: Replicas, record_property: Callable[..., None]
) -> None:
    _, client = guarded
    creates = [MIX[index % len(MIX)](f"n{index:04}") for index in range(CREATES)]
    for _ in range(2):
        replicas.start()
    over, deaths = threading.Event(), list[str]()
    with ThreadPoolExecutor(1) as background:
        killer = background.submit(trouble, replicas, over, deaths)
        try:
            outcomes = run(client, creates, A_SECOND)
        finally:
            over.set()
            killer.result()

    counts = table(outcomes)
    unsafe = [item for item in listed(client, MODELS.format(SPACE)) if "encryption" not in item["spec"]]
    pods = [*listed(client, PODS.format(SPACE)), *listed(client, PODS.format(WARD))]
    bare = unwatched(pods)
    blocked = [outcome for outcome in outcomes if "unrelated" in outcome.create.sort and outcome.status != 201]
    slowest = max(outcome.seconds for outcome in outcomes)
    opened, asked = metric(client, FAIL_OPEN), metric(client, REQUESTS)
    numbers = {
        "creates": len(outcomes),
        "times that both replicas died": len(deaths),
        "calls that found no webhook": opened,
        "calls that the webhook answered": asked - opened,
        "unsafe objects in": len(unsafe),
        "unwatched pods in": len(bare),
        "unrelated writes blocked": len(blocked),
        "slowest create, s": round(slowest, 2),
    }
    for (sort, outcome), count in sorted(counts.items()):
        print(f"{sort:32} {outcome:8} {count:5}")
    print(numbers)
    for name, value in numbers.items():
        record_property(name, value)

    assert (unsafe, bare, blocked) == ([], [], [])
    assert counts["safe model", "in"] == CREATES // 10, "a dead webhook must not hold safe models up"
    assert counts["pod with its sidecar", "in"] == CREATES // 10
    assert counts["unsafe model", "in"] == counts["pod with a decoy", "in"] == 0
    assert {outcome.status for outcome in outcomes} <= {201, 403}, "no time-outs, no errors of the API server"
    # It was dead for some of them and alive for others, or nothing has been shown.
    assert len(deaths) >= 2
    assert opened > 20
    assert counts["pod in scope", "in"] > 0
    assert counts["pod in scope", "refused"] > 0
    assert slowest < 10


def test_a_refused_pod_gets_in_once_the_webhook_is_back(
    guarded: tuple[ApiServer, httpx.Client], replicas: Replicas
) -> None:
    """What a ReplicaSet does: it tries again."""
    _, client = guarded
    refused = watched_pod("waits").send(client)
    assert refused.status_code == 403
    assert "modelward-sidecar" in refused.json()["message"]
    replicas.start()
    eventually(lambda: watched_pod("waits").send(client).status_code == 201)
    assert unwatched([item for item in listed(client, PODS.format(SPACE)) if item["metadata"]["name"] == "waits"]) == []


def test_a_rollout_is_not_noticed(guarded: tuple[ApiServer, httpx.Client], replicas: Replicas) -> None:
    """Replicas replaced one after the other under load: every call is answered."""
    _, client = guarded
    for _ in range(2):
        replicas.start("--drain-seconds=2")
    eventually(lambda: safe_model("warm").send(client, dry_run=True).status_code == 201)
    opened, asked = metric(client, FAIL_OPEN), metric(client, REQUESTS)
    creates = [(safe_model, watched_pod)[index % 2](f"rollout-{index:04}") for index in range(500)]
    over = threading.Event()

    def roll() -> int:
        rounds = 0
        while not over.is_set():
            replicas.start("--drain-seconds=2")
            replicas.leave(replicas.running[0])
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as background:
        rolling = background.submit(roll)
        try:
            outcomes = run(client, creates, A_SECOND)
        finally:
            over.set()
            rounds = rolling.result()
    failed = metric(client, FAIL_OPEN) - opened
    print(f"{rounds} replicas replaced, {metric(client, REQUESTS) - asked:.0f} calls, {failed:.0f} without an answer")
    assert failed == 0
    assert {outcome.status for outcome in outcomes} == {201}
    assert rounds >= 2
