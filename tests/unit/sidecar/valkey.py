"""A real Valkey or Redis server, started for the tests on a port of its own."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.commands import PrerequisiteError
from tests.cluster.prerequisites import ensure_valkey
from tests.ports import free_port


class Server:
    """The server; `stop` and `start` as often as wanted, at the same address."""

    def __init__(self, folder: Path, *options: str) -> None:
        try:
            self._program = ensure_valkey()
        except PrerequisiteError as error:
            pytest.fail(str(error))
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._process = subprocess.Popen([*command, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                assert time.monotonic() < deadline, "the server did not start within 60 seconds"
                time.sleep(0.02)

    def say(self, *words: str) -> bytes:
        """Send one command; what it answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            client.sendall((" ".join(words) + "\r\n").encode())
            return client.recv(1 << 20)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
