"""Entry point of the admission server: watch, listen, tell, and leave in order."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from modelward.admission.app import Webhook, health
from modelward.admission.caches import Caches
from modelward.admission.certificate import Certificate
from modelward.admission.client import connected
from modelward.admission.events import Recorder
from modelward.admission.metrics import Metrics
from modelward.admission.server import Server
from modelward.planner.sidecar import SYSTEM_NAMESPACE

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DRAIN_SECONDS = 5.0  # until every API server has heard that this replica is going
_EVENT_SECONDS = 3.0
_ANSWER_SECONDS = 10.0

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


async def serve(chosen: Options) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics, certificate = Metrics(), Certificate()
    async with connected(chosen.api_server, chosen.ca, chosen.token) as client:
        caches, recorder = Caches(client, chosen.namespace, certificate.use), Recorder(client, metrics)
        judge = Webhook(caches.surroundings, recorder.record, metrics, lambda: datetime.now(UTC), stop.is_set)
        webhook = Server(judge, chosen.host, chosen.port, certificate.context)

        def ready() -> bool:
            return caches.synced and webhook.started and not stop.is_set()

        probes = Server(health(ready, metrics), chosen.host, chosen.health_port)
        await probes.start()
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(work) for work in (caches.run(), recorder.run())]
            if await _first(stop, certificate.loaded):
                await webhook.start()
                log.info("serving on port %d", chosen.port)
                await stop.wait()
                await asyncio.sleep(chosen.drain_seconds)  # not ready any more, and still answering
                await webhook.stop(_ANSWER_SECONDS)
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await recorder.drain(_EVENT_SECONDS)
        await probes.stop(1.0)


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
    try:
        uvloop.run(serve(chosen))
    except OSError as error:
        sys.exit(f"modelward-admission: {error}")
    except BaseExceptionGroup as group:  # a task group's way of telling
        told, others = group.split(OSError)
        if told is None or others is not None:
            raise
        sys.exit(f"modelward-admission: {told.exceptions[0]}")
