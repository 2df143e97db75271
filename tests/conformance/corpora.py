"""Public corpora, read from where they lie beside the checkout; a run without them fails and says so."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("MODELWARD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def files(folder: str, pattern: str) -> list[Path]:
    """The corpus files, or one that is not there: the test that opens it tells what is missing."""
    return sorted((DATA / folder).glob(pattern)) or [DATA / folder / "is-not-there-set-MODELWARD_DATA"]


def raw_request(path: Path) -> bytes:
    r"""A request of gunicorn's corpus: `\r\n` and other escapes are written out, line breaks are not part of it."""
    data = path.read_bytes().replace(b"\n", b"")
    escapes = {b"\\r": b"\r", b"\\n": b"\n", b"\\t": b"\t", b"\\0": b"\0"}
    for written, meant in escapes.items():
        data = data.replace(written, meant)
    while (at := data.find(b"\\x")) >= 0:
        data = data[:at] + bytes([int(data[at + 2 : at + 4], 16)]) + data[at + 4 :]
    return data
