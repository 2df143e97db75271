"""The Job that attacks a model in the cluster: is told what, runs `modelward attack`, and hands its report over.

It ends with 0 once the controller has fetched the report, whatever that says; why it has none is its termination
message, which the controller makes a condition of.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelward.attack.report import MAX_BYTES
from modelward.cli.handover import Handover, HandoverError
from modelward.cli.output import to_json
from modelward.cli.own_job import JobError, job_arguments, run_job
from modelward.securitytest import MAX_ERRAND_BYTES, PATH, SECONDS, Errand

_SPARE_SECONDS = 300  # of the Job's time, in which the report is fetched
_ATTACK_SECONDS = 900  # by which a caller with 30 requests a minute has asked enough to tell something; most need 30


class SecurityTestJobError(JobError):
    """Why there is no report."""


def attack(errand: Errand, folder: Path) -> bytes:
    """Return the report of `modelward attack`.

    Raises:
        SecurityTestJobError: it made none; the message is its own.
    """
    out = folder / "report.json"
    command = [sys.executable, "-m", "modelward.cli.main", "attack", errand.url]
    command += ["--suite", errand.request.suite, "-o", "json", "--out", str(out), "--seconds", str(_ATTACK_SECONDS)]
    command += ["-f", str(_written(folder / "model.json", to_json(errand.manifest)))]
    command += ["--ca-file", str(_written(folder / "ca.crt", errand.authorities))]
    for number, token in enumerate(errand.tokens):
        command += ["--token-file", str(_written(folder / f"token-{number}", token))]
    command += ["--stranger-token-file", str(_written(folder / "stranger", errand.stranger))]
    if errand.model_port:
        command += ["--model-port", str(errand.model_port)]
    if errand.chain:
        command += ["--client-cert", str(_written(folder / "client.crt", errand.chain))]
        command += ["--client-key", str(_written(folder / "client.key", errand.key))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS - _SPARE_SECONDS, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise SecurityTestJobError(f"the attacks took longer than {SECONDS - _SPARE_SECONDS} s") from None
    try:
        report = out.read_bytes()
    except OSError:
        said = next(iter(reversed(done.stderr.strip().splitlines())), "")
        raise SecurityTestJobError(said or f"modelward attack ended with {done.returncode} and no report") from None
    if len(report) > MAX_BYTES:
        raise SecurityTestJobError(f"the report has more than {MAX_BYTES:,} bytes")
    return report


def _written(path: Path, content: str) -> Path:
    path.touch(0o600)
    path.write_text(content, encoding="utf-8")
    return path


def run(options: argparse.Namespace, ready: Callable[[int], None] = lambda _: None) -> None:
    """Do the errand; `ready` is told the port once the controller can ask.

    Raises:
        SecurityTestJobError: it came to nothing.
    """
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(options.config_key))
    try:
        with (
            Handover(PATH, options.model, key, options.tls, options.port, MAX_ERRAND_BYTES) as handover,
            tempfile.TemporaryDirectory(prefix="attack-") as folder,
        ):
            ready(handover.port)
            errand = _read(handover.errand(), options.model)
            handover.offer(attack(errand, Path(folder)), errand.request.digest)
            handover.wait()
    except (HandoverError, OSError) as error:
        raise SecurityTestJobError(str(error) or type(error).__name__) from error


def _read(content: bytes, model: str) -> Errand:
    try:
        errand = msgspec.json.decode(content, type=Errand)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise SecurityTestJobError("what the controller brought is not an errand of this version") from None
    if errand.request.model != model:
        raise SecurityTestJobError("the errand is for another model")
    return errand


def main(arguments: list[str] | None = None) -> None:
    """Run the Job's container."""
    run_job(run, job_arguments("modelward-security-test-job", __doc__).parse_args(arguments))


if __name__ == "__main__":
    main()
