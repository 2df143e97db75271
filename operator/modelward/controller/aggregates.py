"""Adds up the counters that sidecars have encrypted to auditors, unread, and gives out what covers a whole period.

What was added is written down before the sidecars are told so: who dies between the two is told again of a window that
it has added already, and adds it no second time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from modelward.audit.layout import Layout, LayoutError, layout_of
from modelward.audit.settings import Audit, Auditor
from modelward.audit.told import Collect, Collected, Window
from modelward.controller.apply import NameTakenError, ensure
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.events import Recorder
from modelward.incidents import Report
from modelward.planner.aggregate import Kept, aggregate_map, aggregate_name, read_kept, until
from modelward.planner.names import KubeObject
from modelward.planner.sidecar import config_map_name
from modelward.wording import rfc3339

if TYPE_CHECKING:
    from modelward.audit.aggregate import Sum

Place = tuple[str, str]
Ask = Callable[[dict[str, bytes]], Awaitable[dict[str, bytes]]]
"""Sends pods, by name, each its body, and gives the answers of those that gave one."""

_NEVER = float("inf")
_LATE_SECONDS = 90  # pods without detectors are asked once a minute, and encrypting takes its time
_NONCE = 12
_REFUSALS = (400, 403, 413, 422)  # trying again alone mends none: it must keep nothing else from being told

log = logging.getLogger("modelward.controller")


class _Configured(msgspec.Struct, frozen=True):
    audit: Audit | None = None


@dataclass(frozen=True)
class _Work:
    """What is asked of a model, and what stands: sums and what was given out, by the digest of the auditor's keys."""

    audit: Audit
    layout: Layout
    kept: Kept
    sums: Mapping[str, Sum]

    def auditor(self, keys: str) -> Auditor:
        return next(one for one in self.audit.auditors if one.keys == keys)


class Aggregates:
    """Adds up one model's windows at a time. `key` gives the key that signs configurations, and signs aggregates."""

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        key: Callable[[], Ed25519PrivateKey],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._key = key
        self._clock = clock
        self._due: dict[Place, float] = {}  # when there may be something to give out
        self.windows: Counter[tuple[Place, str]] = Counter()

    def forget(self, namespace: str, name: str) -> None:
        """A model is gone, and its ConfigMap with it."""
        self._due.pop((namespace, name), None)
        for key in [key for key in self.windows if key[0] == (namespace, name)]:
            del self.windows[key]

    async def take(self, raw: KubeObject, told: Mapping[str, Report | str], ask: Ask) -> None:
        """Add what a model's pods, by their names, have to collect, and give out what is complete.

        Raises:
            ApiError: the API server did not answer; nothing is added then.
        """
        place = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        dropped = sum(one.encrypted.dropped for one in told.values() if isinstance(one, Report))
        if dropped:
            self.windows[place, "dropped"] = dropped
        waiting = [pod for pod, one in told.items() if isinstance(one, Report) and one.encrypted.waiting]
        now = self._clock().timestamp()
        if not waiting and self._due.get(place, 0.0) > now:
            return
        work = await self._work(raw)
        if work is None:
            self._due[place] = _NEVER  # until a pod says otherwise
            return
        windows = await _collected(ask, waiting, work)
        added, refused = await asyncio.to_thread(_added, work, windows, now)
        after, given = self._given_out(raw, added, now)
        if after.sums != work.sums:
            try:
                await ensure(self._cluster, aggregate_map(raw, self._sealed(raw, after)))
            except (NameTakenError, ApiError) as error:
                if isinstance(error, ApiError) and error.status not in _REFUSALS:
                    raise
                await self._recorder.record(raw, "Warning", "AggregateNotKept", str(error), topic="aggregate")
                return
        self._due[place] = _due(after)
        await _settled(ask, windows)
        self.windows[place, "added"] += sum(map(len, windows.values())) - sum(map(len, refused.values()))
        self.windows[place, "refused"] += sum(map(len, refused.values()))
        await self._tell(raw, given, refused)

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        series = {
            f'{{namespace="{namespace}",model="{name}",outcome="{outcome}"}}': float(count)
            for ((namespace, name), outcome), count in self.windows.items()
        }
        return {"modelward_model_audit_windows": ("Windows of encrypted counters, by what became of them.", series)}

    async def _work(self, raw: KubeObject) -> _Work | None:
        namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
        audit = _audit(await self._cluster.get("ConfigMap", namespace, config_map_name(name)), self._key())
        if audit is None:
            return None
        try:
            layout = layout_of(audit.counted, audit.uncounted)
        except LayoutError:
            return None
        keys = tuple(one.keys for one in audit.auditors)
        kept = read_kept(await self._cluster.get("ConfigMap", namespace, aggregate_name(name)), keys)
        sums, lost = self._opened(raw, kept.running)
        changed = any(total.layout != layout.digest() and total.windows for total in sums)
        left = any(total.keys not in keys and total.windows for total in sums)
        if lost or changed or left:
            why = "they cannot be opened any more"
            if changed or left:
                why = "something else is counted by now" if changed else "they are of a key that is asked for no more"
            message = f"the counters of the period under way are lost, for {why}: it begins anew"
            await self._recorder.record(raw, "Warning", "AggregateLost", message, topic=why)
        return _Work(audit, layout, kept, _running(sums, keys, layout.digest(), kept))

    def _given_out(self, raw: KubeObject, work: _Work, now: float) -> tuple[_Work, list[str]]:
        """The work with what is complete given out and begun anew, and the keys for which that is so."""
        from modelward.audit.aggregate import emptied, sealed  # noqa: PLC0415 - numpy, for those who ask for it

        model = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
        published, sums, given = dict(work.kept.published), dict(work.sums), list[str]()
        about = {keys: {**told, "running": None} for keys, told in work.kept.about.items() if keys not in sums}
        for auditor in work.audit.auditors:
            total = sums[auditor.keys]
            told = dict(work.kept.about.get(auditor.keys) or {})
            if now >= _complete_at(total, auditor, work.audit.seconds):
                published[auditor.keys] = sealed(
                    total,
                    work.layout.encode(),
                    self._key(),
                    model=model,
                    policy=auditor.policy[:256],
                    minimum=auditor.minimum,
                    max_difference=work.audit.max_difference,
                    minimum_group_size=work.audit.minimum_group_size,
                )
                told["givenOut"] = _about(total)
                sums[auditor.keys] = emptied(total, total.layout)
                given.append(auditor.keys)
            running = sums[auditor.keys]
            told |= {"policy": auditor.policy, "running": _about(running) if running.windows else None}
            about[auditor.keys] = told
        return replace(work, kept=Kept(published, work.kept.running, about), sums=sums), given

    def _sealed(self, raw: KubeObject, work: _Work) -> Kept:
        nonce = os.urandom(_NONCE)
        content = msgspec.msgpack.encode(list(work.sums.values()))
        return replace(work.kept, running=nonce + self._cipher().encrypt(nonce, content, _whose(raw)))

    def _opened(self, raw: KubeObject, sealed: bytes) -> tuple[list[Sum], bool]:
        """The sums, and whether there were some that cannot be opened."""
        from modelward.audit.aggregate import Sum  # noqa: PLC0415

        if not sealed:
            return [], False
        try:
            content = self._cipher().decrypt(sealed[:_NONCE], sealed[_NONCE:], _whose(raw))
            return msgspec.msgpack.decode(content, type=list[Sum]), False
        except (InvalidTag, ValueError, RecursionError):  # msgspec's errors are ValueErrors
            return [], True

    def _cipher(self) -> AESGCM:
        derive = HKDF(SHA256(), 32, salt=None, info=b"modelward running aggregates")
        return AESGCM(derive.derive(self._key().private_bytes_raw()))

    async def _tell(self, raw: KubeObject, given: list[str], refused: Mapping[str, list[str]]) -> None:
        name = raw["metadata"]["name"]
        for keys in given:
            message = (
                f"counters under the key sha256:{keys} are complete: modelward audit open --from-cluster md/{name}"
            )
            await self._recorder.record(raw, "Normal", "AggregateGivenOut", message, topic=keys)
        for pod, why in refused.items():
            message = f"{len(why)} windows of encrypted counters by {pod} are not added: {why[0]}"
            await self._recorder.record(raw, "Warning", "WindowRefused", message, topic=pod, heard=True)


def _audit(item: KubeObject | None, key: Ed25519PrivateKey) -> Audit | None:
    """What the configuration that the controller wrote for the sidecar asks for, once its signature holds."""
    data = (item or {}).get("data") or {}
    try:
        document = data["config.json"].encode()
        key.public_key().verify(base64.b64decode(data["config.sig"], validate=True), document)
        return msgspec.json.decode(document, type=_Configured).audit
    except (KeyError, InvalidSignature, binascii.Error, ValueError, RecursionError):
        return None


def _running(sums: list[Sum], keys: tuple[str, ...], layout: str, kept: Kept) -> dict[str, Sum]:
    """The sums to add to: those that there are, begun anew where something else is counted by now.

    One that was lost, or whose key comes back, does not go into the time of what was given out before.
    """
    from modelward.audit.aggregate import Sum, emptied  # noqa: PLC0415

    there = {total.keys: total for total in sums}
    out = {}
    for key in keys:
        total = there.get(key) or Sum(key, layout, closed=until(kept.about.get(key) or {}))
        out[key] = total if total.layout == layout else emptied(total, layout)
    return out


async def _collected(ask: Ask, pods: list[str], work: _Work) -> dict[str, tuple[Window, ...]]:
    bodies = {}
    for pod in pods:
        through = {keys: total.pods[pod] for keys, total in work.sums.items() if pod in total.pods}
        bodies[pod] = msgspec.json.encode(Collect(through))
    answers = await ask(bodies) if bodies else {}
    found = {}
    for pod in list(answers):
        try:
            found[pod] = msgspec.json.decode(answers.pop(pod), type=Collected).windows
        except (ValueError, RecursionError):
            log.warning("pod %s tells of counters that cannot be read", pod)
    return found


def _added(work: _Work, windows: Mapping[str, tuple[Window, ...]], now: float) -> tuple[_Work, dict[str, list[str]]]:
    """The work with the windows added, and for each pod why some of its are not."""
    from modelward.audit.aggregate import WindowError, added  # noqa: PLC0415

    sums, refused = dict(work.sums), dict[str, list[str]]()
    for pod, told in windows.items():
        for window in told:
            if window.keys not in sums:
                refused.setdefault(pod, []).append("it is of a key that nobody asks for")
                continue
            try:
                sums[window.keys] = added(sums[window.keys], window, pod, work.audit.seconds, now)
            except WindowError as error:
                refused.setdefault(pod, []).append(str(error))
    return replace(work, sums=sums), refused


async def _settled(ask: Ask, windows: Mapping[str, tuple[Window, ...]]) -> None:
    """Tell the pods what they need not keep; who is not told is asked again later, and nothing comes in twice."""
    bodies = {}
    for pod, told in windows.items():
        through: dict[str, int] = {}
        for window in told:
            through[window.keys] = max(through.get(window.keys, 0), window.start)
        bodies[pod] = msgspec.json.encode(Collect(through))
    if bodies:
        await ask(bodies)


def _complete_at(total: Sum, auditor: Auditor, seconds: int) -> float:
    """When a sum of windows of so many seconds may be given out; what all pods counted last has come by then."""
    if total.windows < auditor.minimum_windows:
        return _NEVER
    return total.begun + auditor.period_seconds + min(seconds, _LATE_SECONDS)


def _due(work: _Work) -> float:
    """When the next aggregate may be complete."""
    running = [_complete_at(total, work.auditor(keys), work.audit.seconds) for keys, total in work.sums.items()]
    return min(running, default=_NEVER)


def _about(total: Sum) -> dict[str, Any]:
    begun, ended = (rfc3339(datetime.fromtimestamp(at, UTC)) for at in (total.begun, total.ended))
    return {"from": begun, "to": ended, "windows": total.windows, "pods": total.contributed}


def _whose(raw: KubeObject) -> bytes:
    metadata = raw["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}/{metadata['uid']}".encode()
