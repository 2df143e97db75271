"""The sidecar as a whole: listeners, reloading, readiness, draining. Everything runs on one event loop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from modelward.sidecar import gauges, log, memory
from modelward.sidecar.chain import Chain
from modelward.sidecar.config import Config, ConfigError
from modelward.sidecar.control import Control
from modelward.sidecar.exchange import Outcome, Response
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.keyring import KeyRing
from modelward.sidecar.listener import Listener
from modelward.sidecar.monitor import Monitor
from modelward.sidecar.problems import Refusal
from modelward.sidecar.protocol import Connection, Server
from modelward.sidecar.record import AccessLog, FileTarget, Record
from modelward.sidecar.reporting import Reporting
from modelward.sidecar.setup import Setup, Source
from modelward.sidecar.upstream import Upstream

if TYPE_CHECKING:
    from modelward.sidecar.auditing import Auditing
    from modelward.sidecar.encrypted import EncryptedPath
    from modelward.sidecar.grpc.side import GrpcSide
    from modelward.sidecar.shared_limits import Counting

_SWEEP_SECONDS = 0.5
_FLUSH_SECONDS = 0.1
_LAST_SECONDS = 0.2  # for connections that wait to be accepted, or are at their handshake, when the end comes
_WATCH_SECONDS = 2.0
_PROBE_SECONDS = 2.0
_FIRST_PROBE_SECONDS = 0.2  # until the model has been ready once


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0: any."""

    host: str
    port: int


class Sidecar:
    """Serves one model. `start`, then `stop`; or `run`, which stops on SIGTERM and SIGINT."""

    def __init__(
        self,
        source: Source,
        listen: Address,
        monitor: Address,
        access_log: int = 1,
        watcher: Callable[[Record], None] | None = None,
        grpc: Address | None = None,
    ) -> None:
        self.instruments = Instruments()
        self._source = source
        self._fingerprint = source.fingerprint()
        self._addresses = (listen, monitor)
        self._grpc_address = grpc
        self.grpc: GrpcSide | None = None  # while the configuration names the model's gRPC port
        self._output = FileTarget(access_log)
        self._watcher = watcher
        self._access_log = AccessLog(self._output, self.instruments.telemetry)
        self._tasks: list[asyncio.Task[None]] = []
        self._model_ready = False
        self._keyring = KeyRing(self._key_withdrawn, self.instruments.key_fetches.add)
        self._keys_awaited = True
        self._workers_awaited = True
        self._counting: Counting | None = None
        self._encrypted: EncryptedPath | None = None
        self._auditing: Auditing | None = None
        self._audit_awaited = True
        self._ending: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Load the setup and listen.

        Raises:
            ConfigError: the setup cannot be used.
            OSError: an address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_report)
        setup = self._source.load(0)
        chain = self._chain(setup)
        self._gateway = Gateway(chain, self.instruments, self._access_log)
        self._gateway.watcher = self._watcher
        self._access_log.tally = self._gateway.findings.windows.count
        bound = setup.settings.binding
        if setup.controller is not None:
            findings, model = self._gateway.findings, f"{bound.namespace}/{bound.name}"
            self._gateway.control = Control(
                setup.controller,
                model,
                findings.quarantines,
                self._gateway.release,
                self._gateway.report,
                self._gateway.collect,
                self._access_log.note,
                self._gateway.labels,
            )
        self._reporting = Reporting(self._access_log, self._output, self.instruments, bound)
        self._reporting.take(setup.settings.telemetry)
        self._gateway.tracing = self._reporting.tracing
        self._access_log.begin(**self._reporting.who, **_told(chain))
        limits = setup.settings.limits
        self.server = Server(self._gateway, limits, loop.time)
        self._monitor_server = Server(Monitor(self.instruments, self.not_ready), limits, loop.time)
        listen, monitor = self._addresses
        self.listener = Listener(listen.host, listen.port, partial(Connection, self.server))
        self.monitor = Listener(monitor.host, monitor.port, partial(Connection, self._monitor_server))
        await self.listener.accept(setup.context)
        await self.monitor.accept(None)
        await self._serve_grpc(setup, chain)
        self._note(setup)
        self.instruments.watch(
            "modelward_issuer_keys_age_seconds", "Age of the oldest keys fetched by URL.", self._keyring.age
        )
        self.instruments.watch(
            "modelward_rate_limits_shared",
            "Whether rate limits are counted together with the other replicas (1) or alone, for now (0).",
            lambda: None if self._counting is None else float(not self._counting.why),
        )
        gauges.watch(self.instruments, self._gateway)
        self.instruments.watch("modelward_connections", "Open client connections.", self._clients)
        self.instruments.watch(
            "modelward_upstream_connections",
            "Connections to the model server.",
            lambda: self._gateway.chain.upstream.connections,
        )
        self._tasks = [
            asyncio.create_task(_every(_SWEEP_SECONDS, self._sweep)),
            asyncio.create_task(_every(_FLUSH_SECONDS, self._reporting.flush)),
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._probe()),
        ]

    async def run(self) -> None:
        """Serve until told to stop, then drain. A second signal ends at once what is still under way."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        await self.start()
        memory.settle()
        ports = {"port": self.listener.port, "monitor": self.monitor.port}
        log.event("info", "serving", **ports, **({"grpc": self.grpc.listener.port} if self.grpc else {}))
        await self._stopping.wait()
        self._stopping.clear()
        log.event("info", "draining", connections=self._clients())
        await self.stop()

    async def stop(self) -> None:
        """Let what is under way finish for a while, accept no more, then close everything."""
        self.server.drain()
        if self.grpc is not None:
            self.grpc.server.drain()
        await asyncio.sleep(_LAST_SECONDS)  # what has connected already would be reset, its request unread
        self.listener.close()
        if self.grpc is not None:
            self.grpc.listener.close()
        await asyncio.sleep(_LAST_SECONDS)  # who is at the handshake is no connection yet
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.server.limits.drain_seconds):
                await self._drained()
        self.server.abort()
        if self.grpc is not None:
            self.grpc.close()
        self._gateway.chain.upstream.close()
        self._gateway.chain.detection.close()
        self._keyring.close()
        self._count_by(None)
        self._encrypt_by(None)
        self._audit_by(None)
        self.monitor.close()
        self._monitor_server.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._ending, return_exceptions=True)
        self._reporting.close()
        untold = self._gateway.findings.windows.finish()
        if untold and self._gateway.control is not None:
            log.event("warning", "the controller did not ask who got these answers", requests=untold)
        await asyncio.sleep(0)

    async def _drained(self) -> None:
        """Return when the last connection has ended, or a second signal came."""
        while self._clients() and not self._stopping.is_set():  # noqa: ASYNC110 - a poll at the very end
            await asyncio.sleep(0.02)

    def _clients(self) -> int:
        return len(self.server.connections) + (len(self.grpc.server.connections) if self.grpc else 0)

    async def _serve_grpc(self, setup: Setup, chain: Chain) -> None:
        """Have gRPC served, or not, as the setup says."""
        if setup.settings.upstream.grpc_port is None or self._grpc_address is None:
            if self.grpc is not None:
                self.grpc.server.drain()
                self.grpc.close()
                self.grpc = None
            return
        if self.grpc is None:
            from modelward.sidecar.grpc.side import GrpcSide  # noqa: PLC0415 - for those who ask for it

            address = self._grpc_address
            self.grpc = GrpcSide(address.host, address.port, setup, self._gateway, self.instruments, self._access_log)
        await self.grpc.take(setup, chain)
        self.grpc.gateway.tracing, self.grpc.gateway.watcher = self._gateway.tracing, self._watcher

    def not_ready(self) -> str:
        """What keeps this pod from taking requests; nothing when it is ready."""
        if self.server.draining:
            return "draining"
        # At the start alone: an issuer that goes silent later must not take every replica out of service.
        self._keys_awaited = self._keys_awaited and bool(self._keyring.missing)
        if self._keys_awaited:
            return f"an issuer's keys are not there: {self._keyring.missing}"
        # Likewise: who can make a process die must not take the plain requests with it.
        self._workers_awaited = self._workers_awaited and not (self._encrypted is None or self._encrypted.workers.ready)
        if self._workers_awaited:
            return "no process is ready to score encrypted requests"
        self._audit_awaited = self._audit_awaited and not (self._auditing is None or self._auditing.ready)
        if self._audit_awaited:
            return "counters cannot be encrypted to an auditor's key yet"
        if not self._model_ready:
            return "the model server does not answer its ready path"
        probes = self._gateway.chain.detection.probes
        return "" if probes is None else probes.not_ready()

    # --- configuration

    async def reload(self) -> bool:
        """Take the source's present setup, if it can be used; otherwise keep what runs. True if it was taken."""
        try:
            setup = self._source.load(self._gateway.chain.settings.binding.generation)
            chain = self._chain(setup)
            self._reporting.take(setup.settings.telemetry)
        except ConfigError as error:
            self.instruments.reloads.add("refused")
            log.event("error", "a changed configuration is refused, the old one stays in force", why=str(error))
            return False
        previous = self._gateway.chain
        chain.access.inherit(previous.access)
        self._gateway.take(chain)
        self._gateway.tracing = self._reporting.tracing
        self.server.limits = setup.settings.limits
        self.server.heads.forget()  # they fitted the limits before
        if chain.upstream is not previous.upstream:
            previous.upstream.close()
        await self.listener.accept(setup.context)
        try:
            await self._serve_grpc(setup, chain)
        except OSError as error:
            log.event("error", "gRPC is not served: its port cannot be listened on", why=error.strerror)
        self._note(setup)
        self.instruments.reloads.add("taken")
        self._access_log.note("configuration", generation=setup.settings.binding.generation, **_told(chain))
        log.event("info", "a changed configuration is in force", generation=setup.settings.binding.generation)
        return True

    def _chain(self, setup: Setup) -> Chain:
        access = setup.settings.access
        keys = partial(self._keyring.keys, fetching=access.key_fetching)
        counting = self._counting_of(setup)
        encrypted = self._encrypted_of(setup)
        return Chain(
            setup.settings,
            setup.baseline,
            self._connect(setup.settings),
            keys,
            setup.keys,
            counting,
            encrypted,
            setup.explained_weights,
            self._auditing_of(setup),
        )

    def _encrypted_of(self, setup: Setup) -> "EncryptedPath | None":
        """What takes encrypted requests: that which there is, if nothing about it has changed."""
        settings, model = setup.settings.in_use, setup.settings.upstream.model
        if settings is None:
            return None
        there = self._encrypted
        if there is not None and (there.settings, there.weights) == (settings, setup.weights):
            return there
        from modelward.sidecar.encrypted import EncryptedPath  # noqa: PLC0415 - for those who ask for it

        return EncryptedPath(settings, model, setup.weights)

    def _encrypt_by(self, encrypted: "EncryptedPath | None") -> None:
        previous, self._encrypted = self._encrypted, encrypted
        if previous is encrypted:
            return
        if encrypted is not None:
            encrypted.workers.start()
        if previous is not None:
            task = asyncio.get_running_loop().create_task(previous.workers.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _auditing_of(self, setup: Setup) -> "Auditing | None":
        """What counts for auditors: that which there is, if nothing about it has changed."""
        settings, inputs = setup.settings.audit, setup.settings.inputs
        if settings is None:
            return None
        there = self._auditing
        if there is not None and (there.settings, there.keys, there.inputs) == (settings, setup.audit_keys, inputs):
            return there
        from modelward.sidecar.auditing import Auditing  # noqa: PLC0415 - for those who ask for it

        made = Auditing(settings, setup.audit_keys, inputs)
        if there is not None:
            made.inherit(there)
        return made

    def _audit_by(self, auditing: "Auditing | None") -> None:
        previous, self._auditing = self._auditing, auditing
        if previous is auditing:
            return
        if auditing is not None:
            auditing.start()
        if previous is not None:
            task = asyncio.get_running_loop().create_task(previous.close())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _counting_of(self, setup: Setup) -> "Counting | None":
        """The common count of rate limits that a setup asks for: the one there is, if nothing about it has changed."""
        settings, password = setup.settings.access.shared_limits, setup.limits_password
        if settings is None:
            return None
        there = self._counting
        if there is not None and (there.settings, there.password) == (settings, password):
            return there
        from modelward.sidecar.shared_limits import Counting  # noqa: PLC0415 - for those who ask for it

        return Counting(settings, password, self.instruments.rate_limit_checks.add)

    def _count_by(self, counting: "Counting | None") -> None:
        if self._counting is not None and self._counting is not counting:
            self._counting.close()
        self._counting = counting
        if counting is not None:
            counting.start()

    def _key_withdrawn(self) -> None:
        self._gateway.chain.access.forget_tokens()

    def _connect(self, settings: Config) -> Upstream:
        """Connections to the model that `settings` names: those there are, if nothing about them has changed."""
        gateway: Gateway | None = getattr(self, "_gateway", None)
        if gateway is not None:
            running = gateway.chain
            if (running.settings.upstream, running.settings.limits) == (settings.upstream, settings.limits):
                return running.upstream
        return Upstream(settings.upstream.host, settings.upstream.port, settings.limits, asyncio.get_running_loop())

    def _note(self, setup: Setup) -> None:
        self._keyring.keep(setup.settings.access)
        self._count_by(self._gateway.chain.access.counting)
        self._encrypt_by(self._gateway.chain.encrypted)
        self._audit_by(self._gateway.chain.auditing)
        self.instruments.generation = setup.settings.binding.generation
        self.instruments.expect(each.type for each in setup.settings.screening.detectors)
        self.instruments.certificate_expires = setup.certificate_expires

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            # The fingerprint first: what changes while it is read will be seen the next time.
            fingerprint = self._source.fingerprint()
            if fingerprint != self._fingerprint:
                self._fingerprint = fingerprint
                await self.reload()
                memory.settle()

    # --- the model

    async def _probe(self) -> None:
        while True:
            chain = self._gateway.chain
            path = chain.settings.upstream.ready_path.encode()
            request = b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path, chain.authority)
            with contextlib.suppress(Refusal):  # busy is not unready
                chain.upstream.call(request, self._probed)
            await asyncio.sleep(_PROBE_SECONDS if self._model_ready else _FIRST_PROBE_SECONDS)

    def _probed(self, outcome: Outcome) -> None:
        ready = isinstance(outcome, Response) and outcome.status == 200
        if ready != self._model_ready:
            log.event("info", "the model server is ready" if ready else "the model server is not ready")
        self._model_ready = ready

    def _sweep(self) -> None:
        self.server.sweep()
        self._monitor_server.sweep()
        self._gateway.chain.upstream.sweep()
        detection = self._gateway.chain.detection
        detection.tick()
        if detection.probes is not None and self._model_ready:
            detection.probes.learn(self._gateway.chain.upstream, self.instruments.asked)
        if self._auditing is not None:
            self._auditing.tick()
        if self.grpc is not None:
            self.grpc.sweep()


def _told(chain: Chain) -> dict[str, str]:
    """What scores in the access log refer to: the baseline's digest, the detectors and their rates."""
    baseline, rates = chain.settings.screening.baseline, chain.detection.described()
    return {"baseline": f"sha256:{baseline.sha256}", "detectors": rates} if baseline and rates else {}


async def _every(seconds: float, work: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        work()


def _report(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's own troubles, without the texts that might quote a value."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.fault("the event loop met a fault", error)
    else:
        log.event("error", "the event loop met a fault", what=str(context.get("message", ""))[:200])
