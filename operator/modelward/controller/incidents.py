"""Asks models' sidecars what they have to tell: Events, the condition Monitored, metrics, quarantines, consumers.

What was told of is written in the model's status, so that a controller that starts anew, or another that takes over,
does not tell it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from random import SystemRandom
from typing import Any

import msgspec

from modelward import incidents
from modelward.controller.aggregates import Aggregates
from modelward.controller.asking import Asked, Asker, AskingError
from modelward.controller.certificates import Pair, due, issue_client
from modelward.controller.cluster import Cluster
from modelward.controller.emitters import Emitters
from modelward.controller.events import Recorder
from modelward.controller.incident_metrics import incident_metrics
from modelward.controller.installation import Installed
from modelward.controller.lineage import Lineage
from modelward.controller.observe import leaving, unwatched_because
from modelward.controller.security_tests import Loaded
from modelward.controller.telling import tell
from modelward.fairness.labels import Labels
from modelward.incidents import Release, Report, Spread
from modelward.planner.fairness_reports import counted, to_let_go, to_pass_on
from modelward.planner.names import KubeObject, host_names
from modelward.planner.references import References
from modelward.planner.reidentification import steady
from modelward.planner.sidecar import HTTPS_PORT, RELEASE_ANNOTATION, RELEASE_AT_ANNOTATION, serving_secret_name
from modelward.planner.sightings import Seen, gathered, monitoring_status, shown, to_spread, without

SECONDS = 15.0
"""Between two looks at a model with detectors."""
QUIET_SECONDS = 60.0
"""Between two looks at another: nobody is held, and nothing is found that could not wait."""
MAX_PODS = 50
"""Of a model that are asked at a look."""
_MAX_REPORT = 4 << 20
_MAX_COLLECTED = 16 << 20  # what 50 pods count for two auditors in one window
_AT_ONCE = 8  # pods of one model
_ROUND_SECONDS = 12.0  # for all of them: whose pods are slow must not keep other models waiting
CLIENT_NAME = "controller.modelward.internal"
"""In the certificate that the controller shows to sidecars with mutual TLS; no access rule names it."""

_CHANCE = SystemRandom()

Place = tuple[str, str]


class Incidents:
    """Looks at one model at a time, and remembers what was seen last."""

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        installed: Callable[[], Installed],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        port: int = HTTPS_PORT,
        lineage: Lineage | None = None,
        kept: Callable[[str, str], bool] = lambda *_: False,
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._installed = installed
        self._clock = clock
        self._aggregates = Aggregates(cluster, recorder, lambda: installed().signing_key, clock)
        self._lineage = lineage or Lineage(cluster, Emitters(installed))
        self._kept = kept  # whether counts of a model's groups are for auditors alone, whatever its sidecars say
        self._shown: Pair | None = None
        self._asker = Asker(lambda: installed().signing_key.sign, port, client=self._client)
        self._seen: dict[Place, Seen] = {}
        self._let_go: dict[Place, tuple[tuple[str, str], set[str]]] = {}  # a release under way: which pods did it

    def of(self, namespace: str, name: str) -> Seen | None:
        """Return what was seen of a model last; None: it has not been looked at."""
        return self._seen.get((namespace, name))

    async def look(self, namespace: str, name: str) -> tuple[bool, float | None]:
        """Ask a model's sidecars.

        Returns:
            Whether there is something new for its status, and in how many seconds to look again (None: it is gone).

        Raises:
            ApiError: the API server refused or did not answer.
        """
        raw = await self._cluster.get("ModelDeployment", namespace, name)
        if raw is None or "deletionTimestamp" in raw["metadata"]:
            self._let_go.pop((namespace, name), None)
            self._aggregates.forget(namespace, name)
            self._lineage.gone(namespace, name)
            return self._seen.pop((namespace, name), None) is not None, None
        ready = await self._pods(raw)
        pods = dict(islice(ready.items(), MAX_PODS))
        told = dict(zip(pods, await self._ask_all(pods.values(), "GET", incidents.INCIDENTS), strict=True))
        told, released = await self._release(raw, pods, told)
        await self._spread(pods, told)
        await self._pass_on(pods, told)
        before = self._seen.get((namespace, name))
        seen = await asyncio.to_thread(gathered, told, kept=self._kept(namespace, name))
        seen = replace(seen, released=released, unasked=len(ready) - len(pods))
        if not seen.kept:
            groups = counted(raw, told, before.fairness if before else None, self._clock().timestamp())
            seen = replace(seen, fairness=groups, combined=steady(before.combined if before else None, seen.combined))
        await self._tell(raw, seen)
        self._seen[namespace, name] = seen
        news = await self._lineage.take(raw, told)
        await self._aggregates.take(raw, told, partial(self._collect, pods))
        return news or seen != before, SECONDS if _has_detectors(raw) else QUIET_SECONDS

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        # By what policies say now: of figures that were seen before they said so nothing is told either.
        seen = {place: replace(one, kept=one.kept or self._kept(*place)) for place, one in self._seen.items()}
        return {**incident_metrics(seen), **self._aggregates.metrics()}

    async def loaded(self, raw: KubeObject) -> list[Loaded]:
        """Return some of a model's ready pods, and which configuration each of them goes by; see `SecurityTests`."""
        asked = list((await self._pods(raw)).values())[:_AT_ONCE]
        told = await self._ask_all(asked, "GET", incidents.INCIDENTS)
        pairs = zip(asked, told, strict=True)
        return [Loaded(whom.address, report.configuration) for whom, report in pairs if isinstance(report, Report)]

    async def _pods(self, raw: KubeObject) -> dict[str, Asked]:
        """Whom to ask: ready pods with their genuine sidecar, by name."""
        metadata, status = raw["metadata"], raw.get("status") or {}
        if not status.get("selector"):
            return {}
        namespace, name = metadata["namespace"], metadata["name"]
        pods = await self._cluster.find("Pod", namespace, selector=status["selector"])
        settings, now = self._installed().settings, self._clock()
        asked = [pod for pod in pods if _ready(pod) and not leaving(pod, now) and not unwatched_because(pod, settings)]
        authorities = await self.authorities(raw) if asked else b""
        host = host_names(namespace, name)[0]
        return {
            pod["metadata"]["name"]: Asked(pod["status"]["podIP"], f"{namespace}/{name}", host, authorities)
            for pod in asked
        }

    async def authorities(self, raw: KubeObject) -> bytes:
        """Return who vouches for a model's certificate: modelward's own, or where its owner gave one, theirs."""
        in_transit = (raw["spec"].get("encryption") or {}).get("inTransit") or {}
        if not in_transit.get("secretName"):
            return self._installed().authority.bundle
        namespace, name = raw["metadata"]["namespace"], serving_secret_name(raw["metadata"]["name"])
        secret = await self._cluster.get("Secret", namespace, name)
        return References(secrets={name: secret or {}}).content("Secret", name, "ca.crt") or b""

    async def _ask_all(
        self, whom: Any, method: str, path: str, bodies: Sequence[bytes] | None = None
    ) -> list[Report | str]:
        """Ask pods side by side, some at a time, within a bound for all; a text says why one gave no answer."""
        slots = asyncio.Semaphore(_AT_ONCE)
        end = asyncio.get_running_loop().time() + _ROUND_SECONDS

        async def one(each: Asked, body: bytes) -> Report | str:
            try:
                async with asyncio.timeout_at(end), slots:
                    return await self._ask(each, method, path, body)
            except TimeoutError:
                return f"not asked, or no answer: {_ROUND_SECONDS:.0f} s are for all pods of a model"

        asked = list(whom)
        return list(await asyncio.gather(*map(one, asked, bodies or [b""] * len(asked))))

    async def _collect(self, pods: Mapping[str, Asked], bodies: Mapping[str, bytes]) -> dict[str, bytes]:
        """What some pods, by their names, have encrypted for auditors; a pod without an answer is left out.

        All of it together is bounded: whom it does not reach at this look, in an order of chance, it does at another.
        """
        slots, found = asyncio.Semaphore(_AT_ONCE), dict[str, bytes]()

        async def one(pod: str, body: bytes) -> None:
            with suppress(AskingError):
                async with slots:
                    if sum(map(len, found.values())) >= _MAX_COLLECTED:
                        return
                    answer = await self._asker.ask(pods[pod], "POST", incidents.AGGREGATES, body, _MAX_REPORT)
                if answer.status == 200:
                    found[pod] = answer.content

        with suppress(TimeoutError):
            async with asyncio.timeout(_ROUND_SECONDS):
                await asyncio.gather(*(one(pod, bodies[pod]) for pod in _CHANCE.sample(sorted(bodies), len(bodies))))
        return found

    async def _ask(self, whom: Asked, method: str, path: str, body: bytes) -> Report | str:
        try:
            answer = await self._asker.ask(whom, method, path, body, _MAX_REPORT)
        except AskingError as error:
            return str(error)
        if answer.status != 200:
            return f"answered {answer.status}"
        if method == "POST":
            return ""
        try:
            report = msgspec.json.decode(answer.content, type=Report)
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return "what it tells is no report of this version"
        return report if report.model == whom.model else "it reports for another model"

    async def _release(
        self, raw: KubeObject, pods: Mapping[str, Asked], told: dict[str, Report | str]
    ) -> tuple[dict[str, Report | str], tuple[str, str] | None]:
        """Let go whom an annotation names, once each time it is asked for; give what stands as if it were told then."""
        annotations = raw["metadata"].get("annotations") or {}
        client, at = annotations.get(RELEASE_ANNOTATION, ""), annotations.get(RELEASE_AT_ANNOTATION, "")[:64]
        if not client or len(client) > 1024:
            return told, None
        done = (shown(client), shown(at))
        before = ((raw.get("status") or {}).get("monitoring") or {}).get("released") or {}
        if (before.get("client"), before.get("at")) == done:
            return told, done
        place = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        if not await self._let_go_by(pods, Release(client), place, done):
            return told, (before["client"], before["at"]) if before else None  # tried again at the next look
        self._let_go.pop(place, None)
        await self._recorder.record(raw, "Normal", "ClientReleased", f"{done[0]} was let out of quarantine", topic=at)
        return without(told, client), done

    async def _let_go_by(
        self, pods: Mapping[str, Asked], release: Release, place: Place, asked: tuple[str, str]
    ) -> bool:
        """Whether all pods have let a client go. Each does it once: while one is silent, others may hold it anew."""
        under_way, did = self._let_go.get(place, (asked, set()))
        if under_way != asked:
            did = set()
        self._let_go[place] = asked, did
        lacking = [pod for pod in pods if pod not in did]
        body = msgspec.json.encode(release)
        answers = await self._ask_all([pods[pod] for pod in lacking], "POST", incidents.RELEASE, [body] * len(lacking))
        did.update(pod for pod, failure in zip(lacking, answers, strict=True) if not failure)
        return bool(pods) and did >= set(pods)

    async def _spread(self, pods: Mapping[str, Asked], told: Mapping[str, Report | str]) -> None:
        """Have every replica hold whom one of them holds; what fails is tried again at the next look."""
        lacking = to_spread(told)
        bodies = [msgspec.json.encode(Spread(held)) for held in lacking.values()]
        await self._ask_all([pods[pod] for pod in lacking], "POST", incidents.QUARANTINE, bodies)

    async def _pass_on(self, pods: Mapping[str, Asked], told: Mapping[str, Report | str]) -> None:
        """Bring each replica the labels of its answers that others were told; what fails is tried again."""
        bringing = to_pass_on(told)
        failures = await self._bring(pods, bringing)
        reached = [labels for labels, failure in zip(bringing.values(), failures, strict=True) if not failure]
        await self._bring(pods, to_let_go(told, reached))

    async def _bring(self, pods: Mapping[str, Asked], labels: Mapping[str, Labels]) -> list[Report | str]:
        bodies = [msgspec.json.encode(each) for each in labels.values()]
        return await self._ask_all([pods[pod] for pod in labels], "POST", incidents.LABELS, bodies)

    async def _tell(self, raw: KubeObject, seen: Seen) -> None:
        last = self.of(raw["metadata"]["namespace"], raw["metadata"]["name"])
        before = monitoring_status(last) if last else (raw.get("status") or {}).get("monitoring") or {}
        await tell(self._recorder, raw, seen, before)

    def _client(self) -> Pair:
        """The certificate that is shown where one is asked for."""
        now = self._clock()
        if self._shown is None or due(self._shown.certificate, now):
            self._shown = issue_client(self._installed().authority, CLIENT_NAME, now, timedelta(days=1))
        return self._shown


def _has_detectors(raw: KubeObject) -> bool:
    return bool((raw["spec"].get("monitoring") or {}).get("detectors"))


def _ready(pod: KubeObject) -> bool:
    status = pod.get("status", {})
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    return bool(ready and status.get("podIP"))
