"""The sidecar as a whole: listeners, reloading, readiness, draining. Everything runs on one event loop."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from modelward.sidecar import gauges, log, memory
from modelward.sidecar.access_log import AccessLog, FileTarget
from modelward.sidecar.chain import Chain
from modelward.sidecar.config import ConfigError
from modelward.sidecar.control import Control
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.listener import Listener
from modelward.sidecar.monitor import Monitor
from modelward.sidecar.protocol import Connection
from modelward.sidecar.readiness import Readiness
from modelward.sidecar.record import Record
from modelward.sidecar.reporting import Reporting
from modelward.sidecar.resources import Resources
from modelward.sidecar.server import Server
from modelward.sidecar.setup import Setup, Source
from modelward.sidecar.tester import Testers

if TYPE_CHECKING:
    from modelward.sidecar.grpc.side import GrpcSide

_SWEEP_SECONDS = 0.5
_FLUSH_SECONDS = 0.1
_LAST_SECONDS = 0.2  # for connections that wait to be accepted, or are at their handshake, when the end comes
_WATCH_SECONDS = 2.0


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
        self._resources = Resources(self.instruments, self._key_withdrawn)
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
        chain = self._resources.chain(setup)
        self._gateway = Gateway(chain, self.instruments, self._access_log)
        self._gateway.watcher = self._watcher
        self._gateway.configuration = setup.digest
        self._readiness = Readiness(self._gateway, self._resources)
        self._access_log.tally = self._gateway.findings.windows.count
        bound = setup.settings.binding
        if setup.controller is not None:
            findings, model = self._gateway.findings, f"{bound.namespace}/{bound.name}"
            self._gateway.testers = Testers(setup.controller, model)
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
        self._measure()
        self._tasks = [
            asyncio.create_task(_every(_SWEEP_SECONDS, self._sweep)),
            asyncio.create_task(_every(_FLUSH_SECONDS, self._reporting.flush)),
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._readiness.probe()),
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
        self._resources.close()
        self.monitor.close()
        self._monitor_server.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._resources.ending, return_exceptions=True)
        self._reporting.close()
        untold = self._gateway.findings.windows.finish()
        if untold and self._gateway.control is not None:
            log.event("warning", "the controller did not ask who got these answers", requests=untold)
        await asyncio.sleep(0)

    async def _drained(self) -> None:
        """Return when the last connection has ended, or a second signal came."""
        while self._clients() and not self._stopping.is_set():  # noqa: ASYNC110 - a poll at the very end
            await asyncio.sleep(0.02)

    def _measure(self) -> None:
        """Have what is measured when it is asked for measured."""
        self.instruments.watch(
            "modelward_issuer_keys_age_seconds", "Age of the oldest keys fetched by URL.", self._resources.keyring.age
        )
        self.instruments.watch(
            "modelward_rate_limits_shared",
            "Whether rate limits are counted together with the other replicas (1) or alone, for now (0).",
            self._shared,
        )
        gauges.watch(self.instruments, self._gateway)
        self.instruments.watch("modelward_connections", "Open client connections.", self._clients)
        self.instruments.watch(
            "modelward_upstream_connections",
            "Connections to the model server.",
            lambda: self._gateway.chain.upstream.connections,
        )

    def _shared(self) -> float | None:
        """Whether rate limits are counted together just now: 1 or 0; None: it is not asked."""
        counting = self._resources.counting
        return None if counting is None else float(not counting.why)

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
        return "draining" if self.server.draining else self._readiness.lacking()

    # --- configuration

    async def reload(self) -> bool:
        """Take the source's present setup, if it can be used; otherwise keep what runs. True if it was taken."""
        try:
            setup = self._source.load(self._gateway.chain.settings.binding.generation)
            chain = self._resources.chain(setup)
            self._reporting.take(setup.settings.telemetry)
        except ConfigError as error:
            self.instruments.reloads.add("refused")
            log.event("error", "a changed configuration is refused, the old one stays in force", why=str(error))
            return False
        previous = self._gateway.chain
        chain.access.inherit(previous.access)
        self._gateway.take(chain)
        self._gateway.configuration = setup.digest
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

    def _key_withdrawn(self) -> None:
        self._gateway.chain.access.forget_tokens()

    def _note(self, setup: Setup) -> None:
        self._resources.keep(self._gateway.chain)
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

    def _sweep(self) -> None:
        self.server.sweep()
        self._monitor_server.sweep()
        self._gateway.chain.upstream.sweep()
        detection = self._gateway.chain.detection
        detection.tick()
        if detection.probes is not None and self._readiness.model:
            detection.probes.learn(self._gateway.chain.upstream, self.instruments.asked)
        if self._resources.auditing is not None:
            self._resources.auditing.tick()
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
