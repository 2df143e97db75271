"""Entry point of the admission server: watch, listen, tell, and leave in order."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from modelward.admission.app import Webhook, health
from modelward.admission.caches import Caches
from modelward.admission.certificate import Certificate
from modelward.admission.client import connected
from modelward.admission.events import Recorder
from modelward.admission.metrics import Metrics
from modelward.planner.sidecar import SYSTEM_NAMESPACE

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DRAIN_SECONDS = 5.0  # until every API server has heard that this replica is going
_EVENT_SECONDS = 3.0
_MAX_CONNECTIONS = 1024

log = logging.getLogger("modelward.admission")


@dataclass(frozen=True)
class Options:
    """What the admission server is started with."""

    namespace: str
    api_server: str
    ca: Path
    token: Path
    host: str
    port: int
    health_port: int
    drain_seconds: float
    verbose: bool


def options(arguments: list[str], environment: dict[str, str]) -> Options:
    """Read flags, with the environment for what is not given."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    in_cluster = f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""
    parser = argparse.ArgumentParser("modelward-admission", description="modelward's admission server.")
    parser.add_argument("--namespace", default=environment.get("MODELWARD_NAMESPACE", SYSTEM_NAMESPACE))
    parser.add_argument("--api-server", default=in_cluster, help="URL; in a cluster it is known")
    parser.add_argument("--ca", type=Path, default=_SERVICE_ACCOUNT / "ca.crt", help="the API server's authorities")
    parser.add_argument("--token", type=Path, default=_SERVICE_ACCOUNT / "token", help="the service account's token")
    parser.add_argument("--host", default="", help="address to listen on; all if not given")
    parser.add_argument("--port", type=int, default=8443, help="for reviews, over TLS")
    parser.add_argument("--health-port", type=int, default=8080, help="for /healthz, /readyz and /metrics")
    parser.add_argument("--drain-seconds", type=float, default=_DRAIN_SECONDS, help="served on after SIGTERM")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args(arguments)
    if not given.api_server:
        parser.error("--api-server must be given outside a cluster")
    for file in (given.ca, given.token):
        if not file.is_file():
            parser.error(f"{file} is not there: give --ca and --token, or run as a service account")
    return Options(**vars(given))


class _Server(uvicorn.Server):
    """Two servers share a process here, and signals are the process's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(application: Any, host: str, port: int, certificate: Certificate | None = None) -> _Server:
    config = uvicorn.Config(
        application,
        host=host or None,  # type: ignore[arg-type]  # None: every address, of both families
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=120,  # longer than the API server keeps an idle connection, so that it is the one to close
        timeout_graceful_shutdown=10,
        ssl_context_factory=(lambda _config, _default: certificate.context) if certificate else None,
    )
    return _Server(config)


async def serve(chosen: Options) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics, certificate = Metrics(), Certificate()
    async with connected(chosen.api_server, chosen.ca, chosen.token) as client:
        caches, recorder = Caches(client, chosen.namespace, certificate.use), Recorder(client, metrics)
        webhook = _server(
            Webhook(caches.surroundings, recorder.record, metrics, lambda: datetime.now(UTC), stop.is_set),
            chosen.host,
            chosen.port,
            certificate,
        )

        def ready() -> bool:
            return caches.synced and webhook.started and not stop.is_set()

        probes = _server(health(ready, metrics), chosen.host, chosen.health_port)
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(work) for work in (caches.run(), recorder.run())]
            probing = group.create_task(probes.serve())
            if await _first(stop, certificate.loaded):
                serving = group.create_task(webhook.serve())
                log.info("serving on port %d", chosen.port)
                await stop.wait()
                await asyncio.sleep(chosen.drain_seconds)  # not ready any more, and still answering
                webhook.should_exit = True
                await serving
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await recorder.drain(_EVENT_SECONDS)
            probes.should_exit = True
            await probing


async def _first(stop: asyncio.Event, loaded: asyncio.Event) -> bool:
    """Wait for either; tell whether there is something to serve with."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (stop, loaded)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return not stop.is_set()


def main() -> None:
    """Run the admission server."""
    chosen = options(sys.argv[1:], dict(os.environ))
    logging.basicConfig(
        level=logging.DEBUG if chosen.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for noisy in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        uvloop.run(serve(chosen))
    except OSError as error:
        sys.exit(f"modelward-admission: {error}")
