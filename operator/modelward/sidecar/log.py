"""The sidecar's own log: what happens to it, as JSON lines on standard error. Requests go to the access log."""

import sys
import traceback
from datetime import UTC, datetime

import msgspec


def event(level: str, message: str, **facts: object) -> None:
    """Write one line. `facts` must hold nothing of a caller or a value."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = msgspec.json.encode({"time": time, "level": level, "message": message, **facts})
    sys.stderr.write(line.decode() + "\n")
    sys.stderr.flush()


def fault(message: str, error: BaseException) -> None:
    """Write where an unexpected error arose and of what kind it is; not its text, which may quote a value."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    event("error", message, kind=type(error).__name__, where=where)
