"""gunicorn's corpus of raw requests: at the reader, and over real sockets in front of a model that is asked for all.

Over sockets the connection is the sidecar's own and the application lets everything pass, so that only the framing
stands between the client and the model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Exchange, Reply
from modelward.sidecar.heads import Heads
from modelward.sidecar.problems import Refusal
from modelward.sidecar.protocol import Connection
from modelward.sidecar.reader import RequestReader
from modelward.sidecar.server import Server
from modelward.sidecar.upstream import Upstream
from tests.conformance.corpora import files, raw_request
from tests.unit.sidecar.sink import Sink

# Invalid by gunicorn's own limits or settings, and read here without ambiguity.
READ_ALL_THE_SAME = {
    "001": "the header has not ended: it is waited for, and answered 408",
    "006": "a long target: within the limit here, and no route has it",
    "007": "a long field: within the limit here",
    "008": "long fields: within the limit here",
    "010": "one field more than gunicorn is set to: within the limit here",
    "011": "one field more than gunicorn is set to: within the limit here",
    "012": "fields larger than gunicorn is set to: within the limit here",
    "017": "a field larger than gunicorn is set to: within the limit here",
    "019": "contradictory X-Forwarded fields: none of them counts for anything here",
    "chunked_07": "underscores in names: fields are not passed on to the model, so none can pose as another",
    "040": "underscores in names: fields are not passed on to the model, so none can pose as another",
    "limit_header_default_01": "a long field: within the limit here",
    "rfc9112_chunked_missing_final_crlf_01": "the body has not ended: it is waited for, and answered 408",
}
# Valid, and refused here.
REFUSED_ALL_THE_SAME = {
    "009": "the coding identity is gone since RFC 7230",
    "013": "spaces within a chunk extension",
    "024": "a header larger than the limit",
    "025": "a transfer coding other than chunked",
    "025_line": "a transfer coding other than chunked",
    "027": "letters beyond ASCII in a target are to be encoded (RFC 3986)",
    "028": "a space before the colon must be refused (RFC 9112, 5.1)",
    "029": "the coding identity is gone since RFC 7230",
    "030": "the coding identity is gone since RFC 7230",
    "031": "a method of nobody's",
    "031compat": "a method of nobody's",
    "031compat2": "a method of nobody's",
    "compat_obs_fold": "folded lines must be refused (RFC 9112, 5.2)",
    "compat_obs_fold_huge": "folded lines must be refused (RFC 9112, 5.2)",
    "pp_01": "the PROXY protocol is not spoken",
    "pp_02": "the PROXY protocol is not spoken",
    "pp_04": "the PROXY protocol is not spoken",
    "pp_05": "the PROXY protocol is not spoken",
    "rfc9112_smuggle_gzip_chunked_01": "a transfer coding other than chunked",
    "rfc9112_smuggle_te_identity_chunked_01": "the coding identity is gone since RFC 7230",
    "rfc9112_target_absolute_01": "only paths are served: this is no proxy",
    "rfc9112_target_absolute_https_01": "only paths are served: this is no proxy",
    "rfc9112_target_absolute_ipv6_01": "only paths are served: this is no proxy",
    "rfc9112_target_absolute_userinfo_01": "only paths are served: this is no proxy",
    "rfc9112_target_asterisk_options_01": "only paths are served",
    "rfc9112_target_authority_connect_01": "this is no tunnel",
    "rfc9112_target_authority_ipv6_01": "this is no tunnel",
}


def read(content: bytes) -> list[Exchange]:
    sink = Sink()
    RequestReader(Limits(), sink, Heads()).feed(content, 0.0)
    return sink.exchanges


def with_host(content: bytes) -> bytes:
    """HTTP/1.1 without Host must be refused (RFC 9112, 3.2), and half of the corpus leaves it out."""
    if re.search(rb"\r\nhost:", content.partition(b"\r\n\r\n")[0], re.IGNORECASE):
        return content
    return re.sub(rb"( HTTP/1\.1\r\n)", rb"\1Host: x\r\n", content)


@pytest.mark.parametrize("path", files("http/invalid", "*.http"), ids=lambda path: path.stem)
def test_invalid_requests_are_refused_or_the_exception_has_a_reason(path: Path) -> None:
    content = raw_request(path)
    if path.stem in READ_ALL_THE_SAME:
        read(with_host(content))  # still an exception
        return
    for candidate in (content, with_host(content)):
        with pytest.raises(Refusal) as refused:
            read(candidate)
        assert refused.value.close


@pytest.mark.parametrize("path", files("http/valid", "*.http"), ids=lambda path: path.stem)
def test_valid_requests_are_read_or_the_exception_has_a_reason(path: Path) -> None:
    content = with_host(raw_request(path))
    if path.stem in REFUSED_ALL_THE_SAME:
        with pytest.raises(Refusal):
            read(content)
        return
    exchanges = read(content)
    assert exchanges
    assert exchanges[-1].complete or path.stem == "099"  # whose length counts the line breaks of the file


class _Everything:
    """An application that has no objection to anything."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    def admit(self, exchange: Exchange) -> None:
        pass

    def respond(self, exchange: Exchange, reply: Reply) -> Callable[[], None]:
        body = b"".join(exchange.body)
        head = b"%b %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        return self.upstream.call(head % (exchange.method, exchange.target, len(body)) + body, reply)

    def finished(self, exchange: Exchange) -> None:
        pass


class _Model(asyncio.Protocol):
    """Counts what it gets, and answers."""

    received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        _Model.received += len(data)
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")  # type: ignore[attr-defined]
        self.transport.close()


async def _statuses(content: bytes, limits: Limits) -> tuple[list[int], int]:
    """The statuses that a client gets which sends `content`, and how many bytes the model gets."""
    loop = asyncio.get_running_loop()
    _Model.received = 0
    model = await loop.create_server(_Model, "127.0.0.1", 0)
    upstream = Upstream("127.0.0.1", model.sockets[0].getsockname()[1], limits, loop)
    server = Server(_Everything(upstream), limits, loop.time)
    front = await loop.create_server(lambda: Connection(server), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname())
    writer.write(content)
    answer = b""
    while True:
        try:
            piece = await asyncio.wait_for(reader.read(65536), 0.05)
        except TimeoutError:
            server.sweep()  # requests that do not end are waited for only so long
            continue
        except ConnectionResetError:
            break
        if not piece:
            break
        answer += piece
    writer.close()
    server.abort()
    upstream.close()
    front.close()
    model.close()
    await asyncio.sleep(0)
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)], _Model.received


SHORT = Limits(head_seconds=0.2, body_seconds=0.2, idle_seconds=0.2)


async def test_over_sockets_nothing_of_an_invalid_request_is_forwarded(capsys: pytest.CaptureFixture[str]) -> None:
    refused, waited, passed = 0, 0, []
    for path in files("http/invalid", "*.http"):
        statuses, forwarded = await _statuses(with_host(raw_request(path)), SHORT)
        if path.stem in READ_ALL_THE_SAME and forwarded:
            passed.append(path.stem)
            continue
        assert forwarded == 0, path.stem
        assert len(statuses) == 1, path.stem
        assert statuses[0] in (400, 408, 431, 501, 505), (path.stem, statuses)
        waited += statuses == [408]
        refused += statuses != [408]
    total = refused + waited + len(passed)
    with capsys.disabled():
        print(
            f"\nHTTP over sockets: of {total} invalid {refused} refused and {waited} not whole (408), 0 bytes of them"
            f" forwarded; {len(passed)} read all the same, each for a reason that is written down",
            end="",
        )
    assert total >= 70
    assert set(passed) <= set(READ_ALL_THE_SAME)


async def test_over_sockets_valid_requests_pass_or_the_exception_has_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    passed = 0
    refused = []
    for path in files("http/valid", "*.http"):
        statuses, forwarded = await _statuses(with_host(raw_request(path)), SHORT)
        if path.stem in REFUSED_ALL_THE_SAME:
            assert statuses[-1] != 200, path.stem
            refused.append(path.stem)
        elif path.stem != "099":
            assert forwarded > 0, path.stem
            assert set(statuses) <= {100, 200}, (path.stem, statuses)
            passed += 1
    with capsys.disabled():
        print(
            f"\nHTTP over sockets: of {passed + len(refused) + 1} valid {passed} passed;"
            f" {len(refused) + 1} not, each for a reason that is written down",
            end="",
        )
    assert set(refused) == set(REFUSED_ALL_THE_SAME)
