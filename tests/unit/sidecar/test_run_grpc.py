"""`modelward run` with gRPC: the same command, a port more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.ports import free_port
from tests.unit.sidecar.harness import NORMAL, STRANGE, token
from tests.unit.sidecar.oip import GrpcModel, call, grpc, opened
from tests.unit.sidecar.oip_messages import infer
from tests.unit.sidecar.test_run import ISSUER, config_maps, files, manifest, model, run  # noqa: F401 - fixtures too

Code = grpc.StatusCode


@pytest.mark.parametrize("named", ["by the command", "by the manifest"])
def test_grpc_is_served_beside_rest(files: Path, model: str, named: str) -> None:  # noqa: F811
    behind = GrpcModel()
    listen, port = free_port(), free_port()
    arguments = [
        "-f",
        files,
        "--upstream",
        model,
        "--listen",
        f"127.0.0.1:{listen}",
        "--grpc-listen",
        f"127.0.0.1:{port}",
    ]
    arguments += ["--monitor", f"127.0.0.1:{free_port()}", "--tls-out", files / "tls"]
    if named == "by the command":
        arguments += ["--grpc-upstream", f"127.0.0.1:{behind.port}"]
    else:
        asking = manifest()
        asking["spec"]["model"]["grpcPort"] = behind.port
        (files / "model.yaml").write_text(yaml.safe_dump(asking))
    name = manifest()["spec"]["model"].get("name") or manifest()["metadata"]["name"]
    command = [sys.executable, "-m", "modelward.cli.main", "run", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        try:
            told = []
            for row in (NORMAL, STRANGE):
                asked = infer(row)
                asked.model_name = name
                told.append(_ask(files / "tls" / "ca.crt", port, asked))
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            behind.server.stop(None)
    assert process.returncode == 0, err
    assert told == [Code.OK, Code.PERMISSION_DENIED]
    assert f"gRPC       127.0.0.1:{port} -> 127.0.0.1:{behind.port}" in err


def _ask(authority: Path, port: int, asked: object) -> grpc.StatusCode:
    deadline = time.monotonic() + 90
    while True:
        if authority.exists():
            credentials = grpc.ssl_channel_credentials(authority.read_bytes())
            with opened(port, credentials) as channel:
                code = call(0, asked, channel=channel, bearer=token(iss=ISSUER, aud="wdbc")).code
            if code != Code.UNAVAILABLE or time.monotonic() > deadline:
                return code
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--grpc-upstream", "10.0.0.1:8081"), "give 127.0.0.1:<port>"),
        (("--plaintext", "--grpc-listen", "0.0.0.0:8444"), "--plaintext is for the loopback address"),
    ],
)
def test_what_cannot_be_is_told(files: Path, options: tuple[str, ...], said: str) -> None:  # noqa: F811
    result = run("-f", files, *options)
    assert result.exit_code == 2
    assert said in result.output
