"""A process that scores for one model, and may die of it: SEAL keeps the interpreter's lock and reads strangers' bytes.

It is started by the sidecar with its limits, reads jobs on standard input and answers on standard output, one at a
time, and knows nothing else: no network, no files but the weights. A frame is two lengths (u32) and two contents:

    job: request, keys        answer: status, content

A job without keys is for those that the request names and the process may still know. `status` is one byte: 0 the
content is the answer's envelope, 1 a refusal in words, 2 a fault (a type's name, and no value), 3 ready, 4 the keys are
not known (any more).
"""

import resource
import struct
import sys
from typing import BinaryIO, Final

import msgspec

from modelward.encrypted import envelope, model
from modelward.encrypted.context import Context
from modelward.encrypted.parameters import EncryptedError, Parameters, SecurityBits
from modelward.encrypted.serve import Guests, Server

FRAME: Final = struct.Struct("<II")
ANSWERED, REFUSED, FAULT, READY, UNKNOWN_KEYS = (bytes([status]) for status in range(5))
MAX_FRAME: Final = 300 << 20


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The first frame: what to score, and within what. `memory` in bytes of address space.

    Without weights (no digest, and none in the frame) there are `statistics` of columns alone.
    """

    model: str
    parameters: Parameters
    weights_sha256: str
    memory: int
    security_bits: SecurityBits = 128
    statistics: bool = False


def main() -> None:
    """Serve until standard input ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    settings, weights = _read(source) or (b"", b"")
    # Nothing of a request may end on a disk, and a worker that was taken over can open next to nothing.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        server = _server(msgspec.json.decode(settings, type=Settings), weights)
        guests = Guests(server)
    except (EncryptedError, msgspec.MsgspecError) as error:
        _write(sink, REFUSED, str(error).encode())
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    _write(sink, READY, b"")
    while (job := _read(source)) is not None:
        _write(sink, *_done(server, guests, *job))


def _server(settings: Settings, weights: bytes) -> Server:
    resource.setrlimit(resource.RLIMIT_AS, (settings.memory, settings.memory))
    exported = model.read(weights) if settings.weights_sha256 else None
    if exported is not None and exported.sha256 != settings.weights_sha256:
        raise EncryptedError(f"the weights have the digest sha256:{exported.sha256}, another is configured")
    server = Server(exported, settings.model, settings.parameters, settings.security_bits, settings.statistics)
    server.check()
    Context(settings.parameters, settings.security_bits)  # ready is who has Pyfhel, and parameters that it takes
    return server


def _done(server: Server, guests: Guests, request: bytes, keys: bytes) -> tuple[bytes, bytes]:
    try:
        guest = guests.admit(keys) if keys else guests.known(envelope.opened(request, envelope.Request)[0].keys)
        return (UNKNOWN_KEYS, b"") if guest is None else (ANSWERED, server.answer(request, guest))
    except EncryptedError as error:
        return REFUSED, str(error).encode()
    except Exception as error:  # noqa: BLE001 - whatever it is, no answer came of it
        return FAULT, type(error).__name__.encode()


def _read(source: BinaryIO) -> tuple[bytes, bytes] | None:
    lead = source.read(FRAME.size)
    if len(lead) < FRAME.size:
        return None
    first, second = FRAME.unpack(lead)
    if first + second > MAX_FRAME:
        return None
    return source.read(first), source.read(second)


def _write(sink: BinaryIO, status: bytes, content: bytes) -> None:
    sink.write(FRAME.pack(len(status), len(content)) + status + content)
    sink.flush()


if __name__ == "__main__":
    main()
