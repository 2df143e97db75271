"""What the access log keeps of a request: who, when, from where, why, what was asked, and what came of it.

Field names are logged, and only declared ones; values never. Nothing a caller sends is logged verbatim but what a
verified token says of them and the stated purpose, both as JSON strings, so a line cannot be forged.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from modelward.sidecar.exchange import Exchange
from modelward.sidecar.tensors import Tensor

_MAX_VALUES = 4096  # of a request, in the record
_MAX_VALUE_BYTES = 16 << 10


class Record(msgspec.Struct, omit_defaults=True):
    """What is told of one request: times in RFC 3339, sizes in bytes, durations in microseconds."""

    time: str
    request: str
    subject: str = ""
    issuer: str = ""
    address: str = ""
    purpose: str = ""
    method: str = ""
    operation: str = ""
    model: str = ""
    fields: tuple[str, ...] = ()
    treated: tuple[str, ...] = ()
    rows: int = 0
    verdict: str = ""
    detector: str = ""
    scores: dict[str, float] = {}
    reasons: tuple[str, ...] = ()
    values: Any = None
    reason: str = ""
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_us: int = 0
    overhead_us: int = 0
    grpc_status: int = -1  # the status code, of what came over gRPC
    model_status: int = 0  # of the model's own error; the caller got other words
    model_bytes: int = 0
    model_digest: str = ""


_NO_SCORES: dict[str, float] = {}


def values_of(tensors: Sequence[Tensor]) -> dict[str, list[Any]] | str:
    """The inputs that the model gets, for the record; too many of them are not kept, and that is told."""
    kept = [tensor for tensor in tensors if tensor.kept]
    if sum(len(tensor) for tensor in kept) <= _MAX_VALUES:
        values = {tensor.spec.name: list(tensor.data) for tensor in kept}
        if len(msgspec.json.encode(values)) <= _MAX_VALUE_BYTES:
            return values
    return "too large"


class Recorder:
    """Makes records of finished exchanges."""

    def __init__(self) -> None:
        self._clock = _Clock()

    def record(self, exchange: Exchange, now: float, upstream_us: int, overhead_us: int) -> Record:
        """The record of `exchange`, finished at `now`, seconds since the epoch."""
        caller = exchange.caller
        found = exchange.finding
        failure = exchange.failure
        return Record(
            self._clock.text(now),
            exchange.id,
            caller.name if caller else "",
            caller.issuer if caller else "",
            exchange.address,
            exchange.purpose or "",
            exchange.method.decode("latin-1"),
            exchange.operation,
            exchange.model or "",
            exchange.fields,
            exchange.treated,
            exchange.rows,
            found.name if found else "",
            found.detector if found else "",
            (found.scores or _NO_SCORES) if found else _NO_SCORES,
            found.reasons if found else (),
            exchange.values,
            exchange.reason,
            exchange.status,
            exchange.received,
            exchange.sent,
            upstream_us,
            overhead_us,
            exchange.grpc_status,
            *(failure or ()),
        )


class _Clock:
    """Writes times as RFC 3339 in milliseconds; the part down to the second is kept for as long as it lasts."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{int((now - second) * 1000):03}Z"
