"""An emitter for each receiver of lineage events: the installation's own, and those that models name and may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from modelward import allowlist
from modelward.controller.emitter import Emitter
from modelward.controller.installation import Installed
from modelward.controller.kafka import KafkaReceiver
from modelward.controller.receivers import FileReceiver, HttpReceiver, Receiver, UndeliveredError
from modelward.planner.names import KubeObject

MAX_RECEIVERS = 64
_THREADS = 4  # of their own: a receiver that is slow must not keep what else the controller does in threads waiting


class Emitters:
    """Finds the emitter of a model. Nothing is connected to before something is to be sent."""

    def __init__(self, installed: Callable[[], Installed]) -> None:
        self._installed = installed
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="lineage")
        self._emitters: dict[str, Emitter] = {}
        self.counts: Counter[str] = Counter()

    def of(self, raw: KubeObject) -> Emitter | None:
        """Return where a model's events go; None: nowhere, for it names none that is allowed, and there is no other."""
        settings = self._installed().settings.access.lineage
        telemetry = (raw["spec"].get("monitoring") or {}).get("telemetry") or {}
        named = telemetry.get("lineageEndpoint") or ""
        if named and allowlist.problem(named, settings.allow, plain=True):
            return None
        where = named or settings.url or settings.file or settings.kafka.bootstrap_servers
        if not where:
            return None
        there = self._emitters.get(where)
        # Whoever may name an address on an allowed host may name thousands; the installation's own always has room.
        if there is None and (not named or self._room()):
            there = self._emitters[where] = Emitter(where, partial(self._receiver, where), self._executor, self.counts)
        return there

    @property
    def pending(self) -> int:
        """How many windows, deployments and fits wait for their turn."""
        return sum(one.pending for one in self._emitters.values())

    @property
    def namespace(self) -> str:
        """The namespace of jobs, and of data sets that have no address."""
        return self._installed().settings.access.lineage.namespace

    async def close(self) -> None:
        """Send no more."""
        for emitter in self._emitters.values():
            await emitter.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _room(self) -> bool:
        """Whether there is room for another receiver, once those that have nothing to do are let go."""
        if len(self._emitters) >= MAX_RECEIVERS:
            for where, one in [*self._emitters.items()]:
                if not one.pending:
                    one.let_go()
                    del self._emitters[where]
        return len(self._emitters) < MAX_RECEIVERS

    def _receiver(self, where: str) -> Receiver:
        installed = self._installed()
        settings, secret = installed.settings.access.lineage, installed.lineage_secret
        if where == settings.file:
            return FileReceiver(where)
        if where == settings.kafka.bootstrap_servers:
            # As a rule the Secret says to encrypt: without it nothing goes in the clear instead.
            if settings.kafka.secret_name and not secret:
                raise UndeliveredError(f"Kafka: there is no Secret {settings.kafka.secret_name} of options", again=True)
            return KafkaReceiver(where, settings.kafka.topic, secret, settings.authorities)
        # The key is the installation's: whoever may name an address must not have it sent there.
        key = secret.get("apiKey", "").strip()  # `kubectl create --from-file` keeps the line's end, and no header may
        return HttpReceiver(where, settings.authorities, key if where == settings.url else "")
