"""Ports for servers that a test starts.

A port that the system chose is free again once its probe is closed, and any connection may be given it until the server
is there to take it. These are of a range that the system gives to nobody, and each is handed out once.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

# Under the ports of connections (from 32768 on, ip_local_port_range) and those of Kubernetes' nodes (from 30000 on).
FIRST, LAST = 20_000, 29_999
_LAST_GIVEN = Path(tempfile.gettempdir()) / f"modelward-tests-port-{os.getuid()}"


def free_port() -> int:
    """A port of the loopback address that nobody listens on, and that no other test on this machine is given."""
    with _LAST_GIVEN.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = int(file.read() or LAST)
        for step in range(1, LAST - FIRST + 2):
            port = FIRST + (last + step - FIRST) % (LAST - FIRST + 1)
            if _is_free(port):
                file.truncate(0)
                file.write(str(port))
                return port
    raise AssertionError(f"somebody listens on every port from {FIRST} to {LAST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
