"""Trace context (W3C, https://www.w3.org/TR/trace-context/): read strictly, passed on, or begun.

What does not fit the recommendation is not passed on: the model's own tracing must not have to read what anybody
chooses to send.
"""

import os
import re
from typing import NamedTuple

# Versions after 00 may go on behind a further dash; ff is none.
_PARENT = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_KEY = rb"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = _KEY + rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE = re.compile(rb"[ \t]*" + _MEMBER + rb"[ \t]*(?:,[ \t]*(?:" + _MEMBER + rb")?[ \t]*)*")
_MAX_STATE_BYTES = 512
_MAX_STATE_MEMBERS = 32
_SAMPLED = b"01"


class Trace(NamedTuple):
    """Where a request stands in a trace; identifiers in hexadecimal. `span` is our own, empty where we have none."""

    trace: bytes
    parent: bytes  # empty: it begins here
    flags: bytes
    state: bytes
    span: bytes

    def fields(self) -> list[tuple[bytes, bytes]]:
        """The fields for the model, as names and values."""
        state = [(b"tracestate", self.state)] if self.state else []
        return [(b"traceparent", b"00-%b-%b-%b" % (self.trace, self.span or self.parent, self.flags)), *state]

    def header(self) -> bytes:
        """The header fields for the model."""
        state = b"tracestate: %b\r\n" % self.state if self.state else b""
        return b"traceparent: 00-%b-%b-%b\r\n%b" % (self.trace, self.span or self.parent, self.flags, state)


def trace_of(header: dict[bytes, bytes], *, own: bool) -> Trace | None:
    """The trace that a request belongs to. `own`: with a span of ours in it, begun here if need be."""
    parent = header.get(b"traceparent")
    if parent is None and not own:
        return None
    span = os.urandom(8).hex().encode() if own else b""
    found = _PARENT.fullmatch(parent or b"")
    if found is None or (found[1] == b"00" and found[5] is not None):
        return Trace(os.urandom(16).hex().encode(), b"", _SAMPLED, b"", span) if own else None
    # Version 00 is what we write, and of the flags the ones that it knows.
    flags = _SAMPLED if int(found[4], 16) & 1 else b"00"
    return Trace(found[2], found[3], flags, _state(header.get(b"tracestate", b"")), span)


def _state(value: bytes) -> bytes:
    if len(value) > _MAX_STATE_BYTES or value.count(b",") >= _MAX_STATE_MEMBERS or not _STATE.fullmatch(value):
        return b""
    keys = [member.partition(b"=")[0].strip() for member in value.split(b",") if member.strip()]
    return value if len(keys) == len(set(keys)) else b""
