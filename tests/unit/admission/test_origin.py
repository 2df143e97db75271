"""HTTP to the API server, over real sockets: what is trusted, what is kept, and what ends it."""

from __future__ import annotations

import asyncio
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509

from modelward.admission import origin as origin_module
from modelward.admission.origin import MAX_HEADER, Origin
from tests.unit.admission.http import Talk, listening
from tests.unit.sidecar.pki import Authority

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def answering(*answers: bytes) -> tuple[Talk, list[int]]:
    """One of these answers to each request of a connection, closed after the last; and the requests by connection."""
    counts: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(counts)
        counts.append(0)
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            counts[place] += 1
            writer.write(answer)

    return talk, counts


async def get(origin: Origin, most: int = 1000) -> tuple[int, bytes]:
    async with origin.request("GET", "/", {}) as answer:
        return answer.status, await answer.body(most)


async def get_once(url: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    origin = Origin(url, context or ssl.create_default_context())
    try:
        return await get(origin)
    finally:
        origin.close()


def plain(port: int) -> Origin:
    return Origin(f"http://127.0.0.1:{port}", ssl.create_default_context())


async def test_a_connection_is_used_again():
    talk, counts = answering(OK, OK, OK)
    async with listening(talk) as port:
        origin = plain(port)
        for _ in range(3):
            assert await get(origin) == (200, b"ok")
        origin.close()
    assert counts == [3]


async def test_one_that_the_server_closed_is_not():
    talk, counts = answering(OK)
    async with listening(talk) as port:
        origin = plain(port)
        for _ in range(3):
            assert await get(origin) == (200, b"ok")
            await asyncio.sleep(0.05)
        origin.close()
    assert counts == [1, 1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        OK + OK,  # the second would be taken for the answer to what is asked next
    ],
)
async def test_one_that_is_not_to_be_trusted_with_more_is_not(answer: bytes):
    talk, counts = answering(answer, answer)
    async with listening(talk) as port:
        origin = plain(port)
        for _ in range(2):
            assert await get(origin) == (200, b"ok")
        origin.close()
    assert counts == [1, 1]


async def test_an_interim_answer_is_none():
    talk, _ = answering(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    async with listening(talk) as port:
        assert await get_once(f"http://127.0.0.1:{port}") == (200, b"ok")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed before"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", "closed before"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", "closed before"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", "closed before"),  # without a length nobody can tell that it is whole
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\na: " + b"x" * (MAX_HEADER + 1), "header of the answer is larger"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000, "larger than 1000 bytes"),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(answer: bytes, said: str):
    talk, _ = answering(answer)
    async with listening(talk) as port:
        with pytest.raises(OSError, match=said):
            await get_once(f"http://127.0.0.1:{port}")


async def test_silence_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(origin_module, "SECONDS", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        with pytest.raises(TimeoutError, match="no answer within"):
            await get_once(f"http://127.0.0.1:{port}")


def certified(authority: Authority, folder: Path, name: x509.GeneralName) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue(folder, name))
    return context


async def test_who_is_not_vouched_for_is_told_nothing(tmp_path: Path):
    here = x509.IPAddress(ip_address("127.0.0.1"))
    mine, theirs = Authority(), Authority()
    received = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))

    talk_ok, _ = answering(OK)
    trusting = ssl.create_default_context(cadata=mine.pem)
    async with listening(talk_ok, certified(mine, tmp_path, here)) as port:
        assert await get_once(f"https://127.0.0.1:{port}", trusting) == (200, b"ok")
    for authority, name in ((theirs, here), (mine, x509.DNSName("elsewhere.example"))):
        async with listening(talk, certified(authority, tmp_path, name)) as port:
            with pytest.raises(ssl.SSLCertVerificationError):
                await get_once(f"https://127.0.0.1:{port}", trusting)
    assert not any(received)
