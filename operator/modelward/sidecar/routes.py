"""Which paths of the inference protocols are open, and what each one means to the access rules.

Names are held to unreserved characters, so that no encoded slash or dot segment can make the model server read
another path than the one judged here. Query strings are no part of either protocol and find no route.
"""

import re
from typing import Literal, NamedTuple

from modelward.sidecar.config import Operation
from modelward.sidecar.problems import Refusal

_NAME = rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_V2 = re.compile(
    rb"/v2(?:/|/health/(?:live|ready)|/models/("
    + _NAME
    + rb")(?:/versions/"
    + _NAME
    + rb")?(/infer|/infer_stream|/generate_stream|/explain|/feedback|/ready)?)?"
)
_V1 = re.compile(rb"/v1/models(?:/(" + _NAME + rb")(?:/versions/" + _NAME + rb")?(:predict|:explain|:feedback)?)?")
_PATTERNS = {"v1": _V1, "v2": _V2}
_POSTED: dict[bytes, Operation] = {
    b"/infer": "Infer",
    b"/infer_stream": "Infer",
    b"/generate_stream": "Infer",
    b":predict": "Infer",
    b"/explain": "Explain",
    b":explain": "Explain",
    b"/feedback": "Feedback",
    b":feedback": "Feedback",
}
_STREAMED = (b"/infer_stream", b"/generate_stream")  # the protocol's generate extension: answers as they are made
_READING = (b"GET", b"HEAD")


class Route(NamedTuple):
    """A path that is open: what it does, the model it names (if any), and whether it carries a body to check.

    `streams`: its answer may come as a stream of events. `binary`: tensors may come and go as bytes.
    """

    operation: Operation
    model: str | None
    has_body: bool
    streams: bool = False
    binary: bool = False


class Router:
    """Finds routes to one model by one protocol; remembers the targets it has seen, boundedly."""

    def __init__(self, protocol: Literal["v1", "v2"], model: str) -> None:
        self._pattern = _PATTERNS[protocol]
        self._protocol = protocol
        self._model = model
        self._known: dict[tuple[bytes, bytes], Route] = {}

    def route(self, method: bytes, target: bytes) -> Route:
        """The route of `method` `target`; raises Refusal (404 or 405)."""
        known = self._known.get((method, target))
        if known is None:
            known = self._match(method, target)
            if len(self._known) < 256:
                self._known[method, target] = known
        return known

    def _match(self, method: bytes, target: bytes) -> Route:
        match = self._pattern.fullmatch(target)
        if match is None:
            hint = " Query strings are not accepted." if b"?" in target else ""
            raise Refusal(
                "not-found", f"This model speaks the inference protocol {self._protocol}; no other path is open.{hint}"
            )
        operation = _POSTED.get(match[2] or b"")
        allowed: tuple[bytes, ...] = (b"POST",) if operation else _READING
        if method not in allowed:
            names = b", ".join(allowed)
            raise Refusal(
                "method-not-allowed", f"Use {names.decode()} for this path.", headers=b"allow: " + names + b"\r\n"
            )
        model = match[1].decode() if match[1] else None
        if model is not None and model != self._model:  # whatever else the server has loaded is not what was declared
            raise Refusal("not-found", f"The model here is {self._model}.")
        has_body = operation is not None
        action = match[2] or b""
        return Route(operation or "Metadata", model, has_body, streams=action in _STREAMED, binary=action == b"/infer")
