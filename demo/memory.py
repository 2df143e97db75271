"""Looks for numbers in the memory of running processes: what a process could have read, it held somewhere."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_CHUNK = 16 << 20


class Found(NamedTuple):
    """What one process held."""

    pid: int
    command: str
    searched: int
    """Bytes."""
    hits: int


def patterns(numbers: Iterable[float]) -> list[bytes]:
    """How a number lies in memory: as eight bytes, and as the text that JSON has for it."""
    out = []
    for number in numbers:
        out += [struct.pack("<d", number), repr(number).encode()]
    return out


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += children.get(one, [])
    return found


def search(pid: int, wanted: Iterable[bytes]) -> Found:
    """Count places in the readable memory of a process that hold one of the patterns; needs the right to trace it."""
    wanted = list(wanted)
    overlap = max(map(len, wanted)) - 1
    searched = hits = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in _regions(pid):
            tail = b""
            for at in range(start, end, _CHUNK):
                try:
                    memory.seek(at)
                    chunk = memory.read(min(_CHUNK, end - at))
                except (OSError, ValueError, OverflowError):  # unmapped meanwhile, or the kernel's own
                    break
                searched += len(chunk)
                window = tail + chunk
                hits += sum(window.count(pattern) for pattern in wanted)
                tail = window[-overlap:]
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return Found(pid, command, searched, hits)


def _regions(pid: int) -> Iterator[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, *_ = line.split()
        if mode.startswith("r") and not line.endswith(("[vvar]", "[vsyscall]")):
            start, _, end = span.partition("-")
            yield int(start, 16), int(end, 16)
