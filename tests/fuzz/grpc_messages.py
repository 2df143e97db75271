"""Any bytes as a gRPC message: refused, or read as the protobuf library reads it, and written as what was read.

An input is a ModelInferRequest; it is tried as an answer and as a message of frames as well.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

from modelward.sidecar.grpc import frames, framing, messages, wire
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Schema
from tests.fuzz.driver import Target, main
from tests.unit.sidecar.oip_messages import InferRequest, InferResponse

CANARY = "c4n4ry"  # stands in data of the seeds, and may stand in no message
_ANY = Schema("v2", None, "Reject")
_INTERESTING = (
    b"",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff" * 9 + b"\1",
    b"\x80" * 9 + b"\2",
    b"\x0a",
    b"\x12",
    b"\x2a\0",
)


def one(content: bytes) -> None:
    """Check what becomes of a message.

    Raises:
        AssertionError: it is not what it must be.
    """
    _alike(content, messages.read_request, messages.write_request, InferRequest)
    _alike(content, messages.read_response, messages.write_response, InferResponse)
    try:
        _, body = messages.read_request(content)
        _ANY.check(body)
    except wire.WireError:
        pass
    except Refusal as refusal:
        assert refusal.problem.slug in ("schema-violation", "malformed-json")
        assert CANARY not in refusal.detail
    assert framing.message([framing.framed(content)]) == content
    with contextlib.suppress(frames.FramesError):
        assert frames.Meter(0, 1 << 16).idle(content) * 9 <= len(content)


def _alike(content: bytes, read: Any, write: Any, kind: Any) -> None:
    try:
        form, body = read(content)
    except wire.WireError as error:
        assert CANARY not in str(error), f"a value in a message: {error}"
        return
    came = kind.FromString(content)  # raises where the library takes it for no message
    goes = kind.FromString(write(form, body))
    assert _plain(goes) == _plain(came), "what goes on is not what came"


def _plain(message: Any) -> bytes:
    """A message as bytes, where what means the same is the same."""
    tensors = message.inputs if isinstance(message, InferRequest) else message.outputs
    for tensor in tensors:
        if not tensor.contents.ByteSize():
            tensor.ClearField("contents")
    for part in (message, *tensors, *(message.outputs if isinstance(message, InferRequest) else ())):
        for parameter in part.parameters.values():
            if parameter.WhichOneof("parameter_choice") == "uint64_param" and parameter.uint64_param < 1 << 63:
                parameter.int64_param = parameter.uint64_param
    plain: bytes = message.SerializeToString(deterministic=True)
    return plain


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant: bytes changed, taken out, put in or doubled, here and there."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(content) + 1)
        end = min(place + chance.choice((1, 1, 2, 8)), len(content))
        kind = chance.randrange(5)
        if kind == 0 and place < len(content):
            content = content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]
        elif kind == 1:
            content = content[:place] + content[end:]
        elif kind == 2:
            content = content[:place] + chance.choice(_INTERESTING) + content[end:]
        elif kind == 3:
            content = content[:end] + content[place:]
        else:
            content = content[:place] + bytes([chance.randrange(256)]) + content[place:]
    return content


TARGET = Target("grpc_messages", one, mutate, room=1024)


if __name__ == "__main__":
    main(TARGET)
