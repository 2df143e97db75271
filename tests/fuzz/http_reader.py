"""Any bytes as a client's: requests or one refusal, the same however they are cut, and nothing that reads otherwise."""

from __future__ import annotations

import random

from modelward.sidecar.config import Limits
from modelward.sidecar.heads import Heads
from modelward.sidecar.problems import Refusal
from modelward.sidecar.reader import RequestReader
from tests.fuzz.driver import Target, main
from tests.unit.sidecar.sink import Sink

CANARY = b"c4n4ry"  # stands in values of the seeds, and may stand in no message
_LIMITS = Limits(header_bytes=2048, headers=16)
_ROOMIER = Limits(header_bytes=4096, headers=32)  # written plainly, a request may be longer by a length
_SLUGS = {"bad-framing", "header-too-large", "http-version-not-supported", "not-implemented"}
_Read = tuple[bytes, bytes, dict[bytes, bytes], bytes, bool, bool]
_PIECES = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\x00", b"\x7f", b"\xff", b"\r\n\r\n", b",", b";", b"0", b"+1", b"-1"),
    *(b"Content-Length: 3\r\n", b"content-length:0\r\n", b"Content-Length: 3, 3\r\n", b"Content-Length:\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding : chunked\r\n"),
    *(b"transfer-encoding: chunked, chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"TE: trailers\r\n"),
    *(b"Host: y\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n"),
    *(b"Expect: 100-continue\r\n", b"HTTP/1.0", b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0", b"POST ", b"CONNECT "),
    *(b" folded\r\n", b"PRI * ", b"0\r\n\r\n"),
    *(b"0\r\nHost: z\r\n\r\n", b"5;a=b\r\n", b"ffffffffffffffff\r\n", b"1\r\na\r\n", b"x: " + b"y" * 3000),
)  # fmt: skip


def _read(pieces: list[bytes], limits: Limits = _LIMITS, heads: Heads | None = None) -> tuple[list[_Read], str]:
    """What is read, and the slug of the refusal if there is one."""
    sink = Sink()
    reader = RequestReader(limits, sink, Heads() if heads is None else heads)
    slug = ""
    try:
        for piece in pieces:
            if not reader.ended:
                reader.feed(piece, 1.0)
    except Refusal as refusal:
        assert refusal.close, "nothing can be read on after a refusal"
        assert CANARY not in refusal.detail.encode(), "a value in a message"
        slug = refusal.problem.slug
        assert slug in _SLUGS, slug
    assert sink.held <= sum(map(len, pieces)), "more was read than was sent"
    return [
        (each.method, each.target, each.header, b"".join(each.body), each.chunks, each.complete)
        for each in sink.exchanges
    ], slug


def _written(read: _Read) -> bytes:
    """The request, as the plainest client would send it."""
    method, target, header, body, chunks, _ = read
    fields = {name: value for name, value in header.items() if name != b"transfer-encoding"}
    if body or b"content-length" in fields or method == b"POST":
        fields[b"content-length"] = b"%d" % len(body)
    lines = b"".join(b"%b: %b\r\n" % field for field in fields.items())
    return b"%b %b HTTP/1.%d\r\n%b\r\n%b" % (method, target, 1 if chunks else 0, lines, body)


def one(content: bytes) -> None:
    """Check what is read of `content`.

    Raises:
        AssertionError: it is not what it must be.
    """
    heads: Heads = Heads()
    whole, slug = _read([content], heads=heads)
    for _ in range(2):  # known from the second time on
        assert _read([content], heads=heads) == (whole, slug), "it reads otherwise when its head is known"
    chance = random.Random(content)
    cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.randrange(1, 6)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    cut, cut_slug = _read(pieces)
    # A header that has no end yet is refused for its length at another moment; what was whole before is the same.
    if slug == cut_slug:
        assert [one for one in whole if one[5]] == [one for one in cut if one[5]], "the cut makes a difference"
    else:
        assert "header-too-large" in (slug, cut_slug), f"{slug or 'read'} in one piece, {cut_slug or 'read'} in several"
    for read in whole:
        if read[5]:
            (again,), nothing = _read([_written(read)], _ROOMIER)
            assert not nothing, f"what was read is refused when written plainly: {nothing}"
            assert (again[0], again[1], again[3]) == (read[0], read[1], read[3]), (
                "it reads otherwise when written plainly"
            )


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant: pieces of requests put in, taken out, doubled, moved."""
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice((0, 1, 2, 8, 40)))
        match chance.randrange(6):
            case 0:
                content = content[:start]
            case 1:
                content = content[:start] + content[end:]
            case 2:
                content = content[:end] + content[start:]
            case 3:
                lines = content.split(b"\r\n")
                place = chance.randrange(len(lines))
                lines.insert(place, chance.choice(_PIECES).removesuffix(b"\r\n"))
                content = b"\r\n".join(lines)
            case 4 if content:
                place = chance.randrange(len(content))
                content = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
            case _:
                content = content[:start] + chance.choice(_PIECES) + content[end:]
    return content[:65536]


TARGET = Target("http_reader", one, mutate)


if __name__ == "__main__":
    main(TARGET)
