"""`modelward-sidecar`: the entry point in the pod."""

import argparse
import asyncio
import base64
import binascii
import contextlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

# One thread is all that a row of numbers needs; OpenBLAS would otherwise keep memory for one per core.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import uvloop

from modelward.sidecar.config import ConfigError
from modelward.sidecar.record import Record
from modelward.sidecar.setup import SignedFiles, Source
from modelward.sidecar.sidecar import Address, Sidecar


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM; exit 2 with a reason when the configuration cannot be used."""
    options = _parse(arguments)
    namespace = os.environ.get("MODELWARD_NAMESPACE", "")
    source = SignedFiles(options.config_dir, options.tls_dir, options.config_key, namespace, options.model)
    try:
        serve(
            source,
            Address(options.host, options.port),
            Address(options.host, options.monitor_port),
            grpc=Address(options.host, options.grpc_port),
        )
    except ConfigError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        ports = f"{options.port}, {options.monitor_port} or {options.grpc_port}"
        sys.exit(_complain(f"cannot listen on port {ports}: {error.strerror}"))


def serve(
    source: Source,
    listen: Address,
    monitor: Address,
    access_log: int = 1,
    watcher: Callable[[Record], None] | None = None,
    grpc: Address | None = None,
) -> None:
    """Run a sidecar on an event loop of its own until SIGTERM or SIGINT.

    `access_log` is a file descriptor; `watcher` is shown each record as well, on the event loop. `grpc` is listened on
    while the configuration names the model's gRPC port.

    Raises:
        ConfigError: the setup cannot be used.
        OSError: an address cannot be listened on.
    """
    _raise_file_limit()

    async def run() -> None:
        sidecar = Sidecar(source, listen, monitor, access_log, watcher, grpc)
        await sidecar.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modelward-sidecar", description="The data plane in front of one model server."
    )
    parser.add_argument(
        "--config-dir", type=Path, required=True, help="directory with config.json, config.sig and the baseline"
    )
    parser.add_argument("--tls-dir", type=Path, required=True, help="directory with tls.crt and tls.key")
    parser.add_argument(
        "--config-key", type=_public_key, required=True, help="base64 of the 32-byte Ed25519 key that signs it"
    )
    parser.add_argument("--model", required=True, help="name of the ModelDeployment served")
    parser.add_argument("--host", default="", help="address to listen on (default: all, IPv6 and IPv4)")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--grpc-port", type=int, default=8444, help="where the model's gRPC port is configured")
    parser.add_argument("--monitor-port", type=int, default=9090)
    return parser.parse_args(arguments)


def _public_key(text: str) -> bytes:
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(text, validate=True)
        if len(key) == 32:
            return key
    raise argparse.ArgumentTypeError("must be the base64 of 32 bytes")


def _raise_file_limit() -> None:
    """Each connection is a file: take as many as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _complain(message: str) -> int:
    sys.stderr.write(f"modelward-sidecar: {message}\n")
    return 2


if __name__ == "__main__":
    main()
