"""Entry point of the controller: elect, prepare, watch, and leave in order."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass

from kubernetes.aio.config import ConfigException

from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.election import Election
from modelward.controller.health import served
from modelward.controller.installation import Installation
from modelward.controller.operator import Operator
from modelward.controller.watch import watch
from modelward.planner.access import AccessSettings, AccessSettingsError, read_settings
from modelward.planner.sidecar import SYSTEM_NAMESPACE

LEASE = "modelward-controller"
_WEBHOOK_CERTIFICATES = ("own", "external")

log = logging.getLogger("modelward.controller")


@dataclass(frozen=True)
class Options:
    """What the controller is started with."""

    namespace: str
    sidecar_image: str
    jobs_image: str
    identity: str
    port: int
    watch_refusals: bool
    webhook_certificate: str
    access: AccessSettings
    verbose: bool


def options(arguments: list[str], environment: dict[str, str]) -> Options:
    """Read flags, with the environment for what is not given."""
    parser = argparse.ArgumentParser("modelward-controller", description="The modelward operator.")
    parser.add_argument("--namespace", default=environment.get("MODELWARD_NAMESPACE", SYSTEM_NAMESPACE))
    parser.add_argument("--sidecar-image", default=environment.get("MODELWARD_SIDECAR_IMAGE", ""))
    parser.add_argument("--jobs-image", default=environment.get("MODELWARD_JOBS_IMAGE", ""))
    parser.add_argument("--identity", default=environment.get("POD_NAME", socket.gethostname()))
    parser.add_argument("--port", type=int, default=8080, help="for /healthz, /readyz and /metrics")
    parser.add_argument(
        "--watch-refusals",
        action=argparse.BooleanOptionalAction,
        default=environment.get("MODELWARD_WATCH_REFUSALS", "true") == "true",
        help="read the API server's metrics for refusals that nobody told of",
    )
    parser.add_argument(
        "--webhook-certificate",
        choices=_WEBHOOK_CERTIFICATES,
        default=environment.get("MODELWARD_WEBHOOK_CERTIFICATE", "own"),
        help="own: issued here, with its caBundle; external: both are somebody else's, such as cert-manager's",
    )
    parser.add_argument(
        "--access", default=environment.get("MODELWARD_ACCESS", ""), help="the chart's values `access`, as JSON"
    )
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args(arguments)
    if not given.sidecar_image:
        parser.error("--sidecar-image or MODELWARD_SIDECAR_IMAGE must name the sidecar's image")
    if given.webhook_certificate not in _WEBHOOK_CERTIFICATES:  # argparse checks no default
        parser.error(f"MODELWARD_WEBHOOK_CERTIFICATE must be one of {', '.join(_WEBHOOK_CERTIFICATES)}")
    try:
        access = read_settings(given.access)
    except AccessSettingsError as error:
        parser.error(str(error))
    return Options(**vars(given) | {"access": access})


async def lead(operator: Operator, election: Election) -> bool:
    """Work as the leader until told to stop (SIGTERM), or until the Lease is lost; return whether all was well."""
    tasks = [asyncio.ensure_future(election.lost())]
    try:
        await operator.prepare()
        # All of ours exist before kopf starts: what is made after it waits for, for seconds, when it ends.
        tasks += [asyncio.ensure_future(work) for work in operator.work()]
        watching = asyncio.ensure_future(watch(operator))
        tasks.append(watching)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done() and task.exception():
                log.error("stops: %r", task.exception())
        return watching.done() and not watching.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run(chosen: Options) -> bool:
    """Stand by, lead, and leave; return whether that was because it was told to."""
    running = asyncio.current_task()
    if running is not None:  # kopf takes the signal over as it starts
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with Cluster.connected() as cluster:
        issues = chosen.webhook_certificate == "own"
        installation = Installation(
            cluster,
            chosen.namespace,
            chosen.sidecar_image,
            issues_for_webhook=issues,
            access=chosen.access,
            jobs_image=chosen.jobs_image,
        )
        operator = Operator(cluster, installation, backstop=chosen.watch_refusals)
        election = Election(cluster, chosen.namespace, LEASE, chosen.identity)
        async with served(chosen.port, operator.metrics):
            await election.won()
            try:
                return await lead(operator, election)
            finally:
                await election.release()


def main() -> None:
    """Run the controller."""
    chosen = options(sys.argv[1:], dict(os.environ))
    logging.basicConfig(
        level=logging.DEBUG if chosen.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        well = asyncio.run(run(chosen))
    except asyncio.CancelledError:
        well = True  # told to stop before it led
    except (ApiError, ConfigException, OSError) as error:
        sys.exit(f"modelward-controller: {error}")
    sys.exit(0 if well else 1)
