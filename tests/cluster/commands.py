"""Running other programs: bounded in time, their output in the log, their failure a message that can be acted on."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.cluster import cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MINUTE = 60.0


class ClusterError(Exception):
    """Something failed; the message says what, where and what to do."""

    exit_code = 1


class PrerequisiteError(ClusterError):
    """The machine lacks something; the message names the command that mends it."""

    exit_code = 2


def log_file() -> Path:
    """Where the output of every program that was run goes."""
    return cache.folder() / "cluster.log"


def run(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout: float = 30 * MINUTE,
) -> str:
    """Run a program to its end and return what it wrote to standard output.

    Raises:
        ClusterError: it is not there, failed, or took longer than ``timeout`` seconds.
    """
    command = [str(arg) for arg in args]
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]} is not on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{shlex.join(command)}` had not ended after {timeout:.0f} s") from error
    _log(command, done.stdout + done.stderr)
    if done.returncode != 0:
        raise failure(command, done.stdout + done.stderr)
    return done.stdout


def succeeds(args: Sequence[str | Path], *, timeout: float = MINUTE) -> bool:
    """Whether a program ends well; for questions that have no other answer."""
    try:
        run(args, timeout=timeout)
    except ClusterError:
        return False
    return True


def pipe(source: Sequence[str | Path], sink: Sequence[str | Path]) -> None:
    """Run ``source | sink``, both of them to their end.

    Raises:
        ClusterError: one of the two failed.
    """
    producer_args, consumer_args = [str(arg) for arg in source], [str(arg) for arg in sink]
    with log_file().open("ab") as log:
        producer = subprocess.Popen(producer_args, stdout=subprocess.PIPE, stderr=log)
        consumer = subprocess.Popen(consumer_args, stdin=producer.stdout, stdout=log, stderr=log)
        assert producer.stdout is not None  # asked for two lines above
        producer.stdout.close()  # the consumer's copy is the only one left: its death ends the producer
        try:
            codes = (producer.wait(30 * MINUTE), consumer.wait(30 * MINUTE))
        finally:
            producer.kill()
            consumer.kill()
    if any(codes):
        raise failure([*producer_args, "|", *consumer_args], tail(log_file()))


def failure(command: Sequence[str], output: str) -> ClusterError:
    """The error for a program that failed: its last lines, and where the rest is."""
    last = "\n  ".join(output.strip().splitlines()[-12:])
    return ClusterError(f"`{shlex.join(command)}` failed:\n  {last}\nThe whole output is in {log_file()}")


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a file that may be long."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


def _log(command: Sequence[str], output: str) -> None:
    with log_file().open("a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(command)}\n{output}\n")
