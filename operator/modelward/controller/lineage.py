"""Keeps who got each model's answers in the ConfigMap `<model>.lineage`, and has the events of its life emitted.

What was counted is written before it is believed, and what was emitted is written once the receiver has it: who
starts anew goes on from there. An event may come twice then, as the same run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from modelward.controller.apply import NameTakenError, ensure
from modelward.controller.cluster import Cluster
from modelward.controller.emitter import Emitter
from modelward.controller.emitters import Emitters
from modelward.incidents import Report
from modelward.lineage.subject import Fit, Subject, subject_of
from modelward.planner.consumers import Fresh, Record, gathered, own_record, record_map, record_name, windows_of
from modelward.planner.emission import Outcome, fit_news, settled, taken, under_way, unsent
from modelward.planner.names import KubeObject, ours
from modelward.wording import rfc3339

if TYPE_CHECKING:
    from modelward.lineage.events import Change, Event

Place = tuple[str, str]
Policies = Sequence[KubeObject]


class _Model:
    """What is known of one model, apart from its record."""

    def __init__(self, uid: str, record: Record) -> None:
        self.uid = uid
        self.record = record
        self.subject: Subject | None = None  # as it serves, for all that is known
        self.emitter: Emitter | None = None
        self.taken = False  # the record's name is somebody else's
        self.queued: dict[str, int] = {}
        self.waiting = 0  # windows in the queue
        self.outcomes: list[Outcome] = []
        self.changes: dict[str, str] = {}  # of the record, once the receiver was told
        self.announced: dict[str, str] = {}  # what it is about to be told

    def written(self, record: Record, outcomes: Sequence[Outcome], changes: Mapping[str, str]) -> None:
        """The record is what is kept now; what became known while it was written has its turn the next time."""
        self.record = record
        self.outcomes = self.outcomes[len(outcomes) :]
        self.changes = {key: value for key, value in self.changes.items() if changes.get(key) != value}
        self.queued = {key: value for key, value in self.queued.items() if key in record.marks}


class Lineage:
    """Counts and emits, one model at a time."""

    def __init__(
        self,
        cluster: Cluster,
        emitters: Emitters,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._emitters = emitters
        self._clock = clock
        self._models: dict[Place, _Model] = {}

    def of(self, namespace: str, name: str) -> Record | None:
        """Return what is kept of a model; None: nothing was asked of it yet."""
        model = self._models.get((namespace, name))
        return model.record if model else None

    async def hold_name(self, raw: KubeObject) -> None:
        """See to it that who gets a model's answers can be kept: else it is told of nowhere once we end.

        Raises:
            NameTakenError: the ConfigMap's name is somebody else's.
            ApiError: the API server refused or did not answer.
        """
        model = await self._model(raw)
        if model.taken:
            await ensure(self._cluster, record_map(raw, model.record))
            model.taken = False

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        counts = {outcome: self._emitters.counts[outcome] for outcome in ("sent", "failed", "dropped")}
        return {
            "modelward_telemetry_total": (
                "Windows, deployments and fits told to receivers of lineage events, by what became of them.",
                {f'{{sink="lineage",outcome="{outcome}"}}': float(count) for outcome, count in counts.items()},
            ),
            "modelward_lineage_pending": ("Those that wait for their turn.", {"": float(self._emitters.pending)}),
        }

    async def take(self, raw: KubeObject, told: Mapping[str, Report | str]) -> bool:
        """Count what a model's pods told, by their names; return whether its status has something new to tell.

        Raises:
            ApiError: the API server refused or did not answer; nothing is counted then.
        """
        model = await self._model(raw)
        model.emitter = self._emitters.of(raw)
        before = model.record
        emits = model.emitter is not None
        known = {process: mark.counted for process, mark in before.marks.items()}
        if emits:
            known = {process: min(upto, taken(before, process, model.queued)) for process, upto in known.items()}
        windows, after = await asyncio.to_thread(_counted, before, told, known, emits=emits)  # the loop must turn
        if emits:
            self._take_up(model, windows)
        lost = 0
        if emits:
            after, lost = under_way(before, after, model.queued)
        outcomes, changes = list(model.outcomes), dict(model.changes)
        after = msgspec.structs.replace(settled(after, outcomes, lost), **changes)
        if after == before:
            return False
        was_taken = model.taken
        try:
            await ensure(self._cluster, record_map(raw, after))
            model.taken = False
        except NameTakenError:
            model.taken = True
        model.written(after, outcomes, changes)
        self._emitters.counts["dropped"] += after.dropped - before.dropped
        others = {one.key for one in after.consumers} != {one.key for one in before.consumers}
        return others or model.taken != was_taken

    async def judged(self, raw: KubeObject, policies: Policies) -> None:
        """A model was judged: what serves is described so until something else is deployed."""
        model = await self._model(raw)
        model.emitter = self._emitters.of(raw)
        if model.subject is None and model.emitter is not None:
            model.subject = subject_of(raw, policies)

    async def deployed(self, raw: KubeObject, policies: Policies) -> None:
        """What a model's manifest and policies ask for was brought about."""
        model = await self._model(raw)
        model.emitter = self._emitters.of(raw)
        if model.emitter is None:
            return
        model.subject = subject_of(raw, policies)
        digest = model.subject.digest
        if digest in (model.announced.get("deployed"), model.record.deployed):
            return
        change: Change = "ALTER" if model.record.deployed or "deployed" in model.announced else "CREATE"
        self._announce(model, "deployed", digest, partial(self._deployment, model.subject, change))

    async def fitting(self, raw: KubeObject, policies: Policies, fit: Fit) -> None:
        """A baseline is being fitted for a model, was fitted, or could not be."""
        model = await self._model(raw)
        model.emitter = self._emitters.of(raw)
        if model.emitter is None:
            return
        about = model.subject or subject_of(raw, policies)
        kept, news = fit_news(model.announced.get("fit") or model.record.fit, fit.run, fit.state)
        if news:
            fits = [fit._replace(run=run, state=state) for run, state in news]
            self._announce(model, "fit", kept, partial(self._fits, about, fits))

    def gone(self, namespace: str, name: str) -> None:
        """A model is no more, and its ConfigMap with it."""
        model = self._models.pop((namespace, name), None)
        if model and model.emitter and model.subject and (model.record.deployed or "deployed" in model.announced):
            model.emitter.offer(partial(self._deployment, model.subject, "DROP"), lambda _: None, model.uid)

    async def _model(self, raw: KubeObject) -> _Model:
        namespace, name = place = _place(raw)
        uid = raw["metadata"]["uid"]
        if place in self._models and self._models[place].uid != uid:  # another, which has its name now
            self.gone(namespace, name)
        if place not in self._models:
            there = await self._cluster.get("ConfigMap", namespace, record_name(name))
            kept = own_record(raw, there)
            model = self._models.setdefault(place, _Model(uid, kept))
            model.taken = there is not None and not ours(there, record_map(raw, kept))
        return self._models[place]

    def _take_up(self, model: _Model, windows: Sequence[Fresh]) -> None:
        """Have windows emitted that were not yet, as far as there is room.

        A model may have as many in the queue as there is room for others yet: however many tell a lot, none fills it
        (dynamic thresholds, Choudhury and Hahne 1998).
        """
        emitter, about = model.emitter, model.subject
        if emitter is None or about is None:
            return
        for one in unsent(model.record, windows, model.queued):
            number = one.window.sequence
            missed = number - taken(model.record, one.process, model.queued) - 1
            done = partial(self._settle, model, one, missed)
            if model.waiting >= emitter.room or not emitter.offer(partial(self._serving, about, one), done, model.uid):
                break
            model.waiting += 1
            model.queued[one.process] = number

    def _announce(self, model: _Model, what: str, value: str, make: Callable[[], Sequence[Event]]) -> None:
        emitter = model.emitter
        if emitter is not None and emitter.offer(make, lambda _: model.changes.update({what: value}), model.uid):
            model.announced[what] = value

    @staticmethod
    def _settle(model: _Model, one: Fresh, missed: int, sent: bool) -> None:  # noqa: FBT001
        model.waiting -= 1
        model.outcomes.append(Outcome(one.process, one.window.sequence, sent, missed))

    def _serving(self, about: Subject, one: Fresh) -> Sequence[Event]:
        from modelward.lineage.events import serving  # noqa: PLC0415 - the client costs memory

        return serving(about, self._emitters.namespace, one.pod, one.process, one.window)

    def _deployment(self, about: Subject, change: Change) -> Sequence[Event]:
        from modelward.lineage.events import deployment  # noqa: PLC0415

        return deployment(about, self._emitters.namespace, rfc3339(self._clock()), change)

    def _fits(self, about: Subject, fits: Sequence[Fit]) -> Sequence[Event]:
        from modelward.lineage.events import fitting  # noqa: PLC0415

        return [fitting(about, self._emitters.namespace, rfc3339(self._clock()), fit) for fit in fits]


def _counted(
    before: Record, told: Mapping[str, Report | str], known: Mapping[str, int], *, emits: bool
) -> tuple[list[Fresh], Record]:
    windows = windows_of(told, known)
    return windows, gathered(before, told, windows, emits=emits)


def _place(raw: KubeObject) -> Place:
    return raw["metadata"]["namespace"], raw["metadata"]["name"]
