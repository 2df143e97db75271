"""kubectl and helm against one cluster: bounded in time, never raising for what a command says."""

from __future__ import annotations

import json
import os
import re
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

T = TypeVar("T")
Tick = Callable[[float], None]
"""Told every second how long, in seconds, something has been waited for."""

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")


class NotAsToldError(Exception):
    """The cluster did not do what was expected of it; the message says what, and what was seen instead."""


@dataclass(frozen=True)
class Output:
    """What a command said and how it ended."""

    command: str
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.returncode == 0

    @property
    def text(self) -> str:
        """Everything it said."""
        return "\n".join(part for part in (self.stdout.rstrip(), self.stderr.rstrip()) if part)

    def expect_ok(self) -> Output:
        """Return itself.

        Raises:
            NotAsToldError: it did not end well.
        """
        if not self.ok:
            raise NotAsToldError(f"`{self.command}` failed (exit {self.returncode}):\n{self.text}")
        return self


def silent(_seconds: float) -> None:
    """Wait without telling anyone."""


@dataclass(frozen=True)
class Cluster:
    """A cluster and the programs that speak to it; commands run in `folder`."""

    bin_dir: Path
    kubeconfig: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every command: the cluster's own tools first on the PATH."""
        path = f"{self.bin_dir}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, *args: str | Path, stdin: str = "", timeout: float = 60, tick: Tick = silent) -> Output:
        """Run a program to its end.

        Args:
            args: the program and its arguments.
            stdin: what it reads.
            timeout: seconds after which it is killed; its exit code is then 124, as of timeout(1).
            tick: called every second.
        """
        command = [str(arg) for arg in args]
        begun = time.monotonic()
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
        ) as process:
            given: str | None = stdin
            while True:
                try:
                    stdout, stderr = process.communicate(given, timeout=1)
                except subprocess.TimeoutExpired:
                    given = None  # handed over already
                    elapsed = time.monotonic() - begun
                    tick(elapsed)
                    if elapsed > timeout:
                        process.kill()
                        stdout, stderr = process.communicate()
                        stderr += f"\nstopped after {timeout:.0f} s"
                        return Output(shlex.join(command), 124, stdout, stderr)
                else:
                    return Output(shlex.join(command), process.returncode, stdout, stderr)

    def kubectl(self, *args: str | Path, stdin: str = "", timeout: float = 60, tick: Tick = silent) -> Output:
        """Run kubectl."""
        return self.run("kubectl", *args, stdin=stdin, timeout=timeout, tick=tick)

    def get(self, *args: str) -> dict[str, Any]:
        """Return an object (or a list) as `kubectl get -o json` gives it.

        Raises:
            NotAsToldError: it is not there, or the API server did not answer.
        """
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json").expect_ok().stdout)
        return found

    @contextmanager
    def port_forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """Open a way from this machine to a port of a pod or Service; gives the local port.

        Raises:
            NotAsToldError: kubectl could not open it within 30 s.
        """
        command = ["kubectl", "-n", namespace, "port-forward", "--address=127.0.0.1", target, f"0:{port}"]
        with subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                assert process.stdout is not None  # noqa: S101 - asked for above
                yield _forwarded_port(process.stdout, shlex.join(command))
            finally:
                process.terminate()


def _forwarded_port(output: IO[bytes], command: str) -> int:
    deadline = time.monotonic() + 30
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if selector.select(timeout=1):
                chunk = os.read(output.fileno(), 4096)
                said += chunk
                if found := _FORWARDING.search(said.decode(errors="replace")):
                    return int(found[1])
                if not chunk:
                    break
    raise NotAsToldError(f"`{command}` opened no port:\n{said.decode(errors='replace')}")


def wait_for(what: str, probe: Callable[[], T | None], *, timeout: float, tick: Tick = silent) -> T:
    """Ask `probe` every half second until it gives something.

    Raises:
        NotAsToldError: it gave nothing within `timeout` seconds; the message has what its last error was.
    """
    begun = time.monotonic()
    last = ""
    while (elapsed := time.monotonic() - begun) < timeout:
        try:
            found = probe()
        except NotAsToldError as error:
            last = f" Last seen: {error}"
        else:
            if found is not None:
                return found
        tick(elapsed)
        time.sleep(0.5)
    raise NotAsToldError(f"after {timeout:.0f} s there was still not: {what}.{last}")
