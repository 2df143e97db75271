"""Finds the pods that should be watched and are not, and tells of them.

The API server lets no such pod in. There are some all the same: made before modelward was, or while its policies were
taken away, or in a namespace that was protected later. They are looked for in turn, page by page, so that what is kept
is what was found and not what was looked at.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from modelward.controller.cluster import Cluster
from modelward.controller.events import Recorder
from modelward.controller.installation import Installed
from modelward.controller.observe import leaving, unwatched_because
from modelward.controller.repair import Candidate, Repair
from modelward.planner.names import KubeObject
from modelward.planner.sidecar import INJECT_ENABLED, INJECT_LABEL, MODEL_ANNOTATION, MODEL_LABEL, SYSTEM_NAMESPACE
from modelward.wording import names

SCAN_SECONDS = 20.0
"""Between two looks: a pod is found within this time and that of one look, and well within a minute."""

MAX_NAMED = 100  # pods of a namespace that are named; all are counted
_MAX_TOLD = 50  # pods told of in one look; the others follow in the next ones
_MAX_CANDIDATES = 200
# A pod that is not ready for longer keeps the repair of its fellows waiting no more: anyone may make one that never is.
_COMING_UP = timedelta(minutes=10)
_MAX_REMEMBERED = 20_000
_EXEMPT = ("kube-system", SYSTEM_NAMESPACE)
_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"  # of a static pod: the kubelet's, which admission cannot stop
_NO_MODEL = f"{INJECT_LABEL}!={INJECT_ENABLED},!{MODEL_LABEL}"

Place = tuple[str, str]
"""Where to look: a namespace (empty: in all), and a label selector."""


@dataclass(frozen=True)
class UnwatchedPod:
    """A pod that should be watched and is not.

    Attributes:
        model: the ModelDeployment that it names or is of; empty where it names none.
        because: what is wrong with it, a sentence.
        controller: what made it and makes it anew, such as `ReplicaSet wdbc-7f`; empty for a pod made by hand.
    """

    namespace: str
    name: str
    uid: str
    model: str
    because: str
    controller: str


@dataclass
class _Look:
    """What one look finds."""

    found: dict[str, list[UnwatchedPod]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    judged: dict[str, tuple[str, str]] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    coming_up: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)


class UnwatchedPods:
    """Looks for them, and remembers what was found last.

    Attributes:
        found: by namespace, up to MAX_NAMED of those found by the last look.
        counts: by namespace, how many there are; 0 where pods are watched and all well.
    """

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        installed: Callable[[], Installed],
        concerns: Callable[[str, str], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare.

        Args:
            cluster: the API server.
            recorder: of events.
            installed: gives the sidecar's settings.
            concerns: told the namespace and name of a model whose unwatched pods became others.
            clock: gives the time.
        """
        self._cluster = cluster
        self._recorder = recorder
        self._installed = installed
        self._concerns = concerns
        self._clock = clock
        self._repair = Repair(cluster, recorder, clock)
        self._judged: dict[str, tuple[str, str]] = {}  # by uid: the version that was judged, and what was wrong
        self._judged_by: object = None
        self._told: OrderedDict[str, str] = OrderedDict()
        self._told_models: dict[tuple[str, str], frozenset[str]] = {}
        self.found: Mapping[str, tuple[UnwatchedPod, ...]] = {}
        self.counts: Mapping[str, int] = {}

    def of(self, namespace: str, model: str) -> tuple[str, ...]:
        """Return the names of a model's unwatched pods."""
        return tuple(pod.name for pod in self.found.get(namespace, ()) if pod.model == model)

    async def look(self, protected: Collection[str]) -> None:
        """Look once, tell of what is new, and repair where a policy asks for it.

        Args:
            protected: the namespaces in which every pod is to be watched.

        Raises:
            ApiError: the API server did not answer; what was found before stands.
        """
        settings = self._installed().settings
        if settings != self._judged_by:
            self._judged, self._judged_by = {}, settings
        look = _Look()
        async for place, model in self._places(protected):
            async for page in self._cluster.pages("Pod", *place):
                for pod in page:
                    self._see(look, pod, model)
        self.found = {namespace: tuple(pods) for namespace, pods in look.found.items()}
        self.counts, self._judged = look.counts, look.judged
        await self._tell()
        await self._repair.evict(look.candidates, look.coming_up, protected)
        await self._repair.touch_backed_off(protected)

    async def _places(self, protected: Collection[str]) -> AsyncIterator[tuple[Place, str]]:
        """Where pods in scope are, and of which model where labels do not say."""
        yield ("", MODEL_LABEL), ""
        yield ("", f"{INJECT_LABEL}={INJECT_ENABLED},!{MODEL_LABEL}"), ""
        # By a workload's own selector first: those say whose the pods are.
        async for page in self._cluster.pages("ModelDeployment"):
            for model in page:
                selector = (model.get("status") or {}).get("selector")
                if model["spec"].get("targetRef") and selector:
                    metadata = model["metadata"]
                    yield (metadata["namespace"], f"{selector},{_NO_MODEL}"), metadata["name"]
        for namespace in sorted(protected):
            yield (namespace, _NO_MODEL), ""

    def _see(self, look: _Look, pod: KubeObject, model: str) -> None:
        metadata = pod["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        if namespace in _EXEMPT or uid in look.seen or _finished(pod) or leaving(pod, self._clock()):
            return
        if model or not (metadata.get("labels") or {}).get(MODEL_LABEL):
            look.seen.add(uid)  # only these come by more than one way
        because = self._because(look, pod)
        look.counts[namespace] += bool(because)
        controller = _controller(pod)
        if not because:
            if controller and not _ready(pod) and self._clock() - _made(pod) < _COMING_UP:
                look.coming_up.add(controller["uid"])
            return
        named = look.found.setdefault(namespace, [])
        found = UnwatchedPod(
            namespace,
            metadata["name"],
            uid,
            _model_of(pod) or model,
            because,
            f"{controller['kind']} {controller['name']}" if controller else "",
        )
        if len(named) < MAX_NAMED:
            named.append(found)
            if controller and found.model and len(look.candidates) < _MAX_CANDIDATES:
                look.candidates.append(Candidate(pod, found.model, controller["uid"], found.controller))

    def _because(self, look: _Look, pod: KubeObject) -> str:
        metadata = pod["metadata"]
        version = metadata.get("resourceVersion", "")
        known = self._judged.get(metadata["uid"])
        because = known[1] if known and known[0] == version else self._judge(pod)
        if len(look.judged) < _MAX_REMEMBERED:
            look.judged[metadata["uid"]] = (version, because)
        return because

    def _judge(self, pod: KubeObject) -> str:
        if _MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
            return "it is a static pod, which its node starts without asking anyone"
        return unwatched_because(pod, self._installed().settings)

    async def _tell(self) -> None:
        """Tell once of each pod, and of each model whose unwatched pods are others than before."""
        pods = [pod for found in self.found.values() for pod in found]
        news = [pod for pod in pods if self._told.get(pod.uid) != pod.because]
        for pod in news[:_MAX_TOLD]:
            about = {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(pod)}
            await self._recorder.record(about, "Warning", "SidecarMissing", _sentence(pod))
            self._told[pod.uid] = pod.because
            self._told.move_to_end(pod.uid)
        while len(self._told) > _MAX_REMEMBERED:
            self._told.popitem(last=False)
        models: dict[tuple[str, str], list[UnwatchedPod]] = {}
        for pod in pods:
            if pod.model:
                models.setdefault((pod.namespace, pod.model), []).append(pod)
        for place in self._told_models.keys() - models.keys():
            del self._told_models[place]
            self._concerns(*place)
        for (namespace, name), its in models.items():
            uids = frozenset(pod.uid for pod in its)
            if self._told_models.get((namespace, name)) != uids:
                await self._tell_model(namespace, name, its)
                self._told_models[namespace, name] = uids
                self._concerns(namespace, name)

    async def _tell_model(self, namespace: str, name: str, pods: list[UnwatchedPod]) -> None:
        about = await self._cluster.get("ModelDeployment", namespace, name)
        if about is not None:
            await self._recorder.record(
                about,
                "Warning",
                "SidecarMissing",
                f"runs without its genuine sidecar: {names(pod.name for pod in pods)}; {pods[0].because}",
            )


def _metadata(pod: UnwatchedPod) -> dict[str, str]:
    return {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid}


def _sentence(pod: UnwatchedPod) -> str:
    if pod.controller:
        fix = f"delete the pod, for {pod.controller} to make it anew; a policy with spec.repair does so by itself"
    else:
        fix = "delete the pod and create it again: nothing made it that could, so modelward leaves it alone"
    return f"runs without its genuine sidecar: {pod.because}. Fix: {fix}"


def _finished(pod: KubeObject) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _ready(pod: KubeObject) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _made(pod: KubeObject) -> datetime:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])


def _controller(pod: KubeObject) -> KubeObject | None:
    """What made the pod, and makes it anew when it goes; a static pod's node does no such thing."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((one for one in owners if one.get("controller") and one["kind"] != "Node"), None)


def _model_of(pod: KubeObject) -> str:
    metadata = pod["metadata"]
    label = (metadata.get("labels") or {}).get(MODEL_LABEL)
    return str(label or (metadata.get("annotations") or {}).get(MODEL_ANNOTATION) or "")
