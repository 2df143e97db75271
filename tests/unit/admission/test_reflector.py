"""The copy of a collection, against a small API server that misbehaves on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from modelward.admission import client as client_module
from modelward.admission.client import ApiError, GoneError
from modelward.admission.reflector import STALE_SECONDS, Reflector
from tests.unit.admission.http import Answer, Asked, serving

PATH = "/api/v1/things"


def thing(name: str, version: int = 1, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "a", "resourceVersion": str(version)}, **more}


def line(kind: str, item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


class Server:
    """Answers lists from `lists` and watches from `watches`, in order; a watch without a script stays silent."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[dict[str, str]] = []

    async def __call__(self, request: Asked) -> Answer:
        self.asked.append(request.query)
        if "watch" in request.query:
            return self._watch(self.watches.pop(0) if self.watches else None)
        answer = self.lists.pop(0)
        if isinstance(answer, int):
            return answer, b'{"message": "no"}'
        if isinstance(answer, bytes):
            return 200, answer
        items, metadata = answer
        return 200, json.dumps({"items": items, "metadata": metadata}).encode()

    def _watch(self, script: Any) -> Answer:
        if isinstance(script, int):
            return script, b'{"message": "no"}'

        async def stream() -> AsyncIterator[bytes]:
            for chunk in script or ():
                yield chunk
            if script is None:
                await asyncio.sleep(3600)

        return 200, stream()


async def reflected(server: Server, until: Callable[[Reflector[Any]], bool], **more: Any) -> Reflector[Any]:
    async with serving(server) as client:
        reflector: Reflector[Any] = Reflector(client, PATH, lambda item: item, **more)
        running = asyncio.ensure_future(reflector.run())
        try:
            async with asyncio.timeout(60):
                while not until(reflector):
                    assert not running.done(), running.exception()
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return reflector


def names(reflector: Reflector[Any]) -> set[str]:
    return set(reflector.items.get("a", {}))


async def test_lists_page_by_page_then_follows_changes():
    changes = [
        line("ADDED", thing("c", 11)) + line("DELETED", thing("a", 12))[:20],
        line("DELETED", thing("a", 12))[20:],
        line("MODIFIED", thing("b", 13, new=True)),
        line("BOOKMARK", {"metadata": {"resourceVersion": "20"}}),
    ]
    server = Server(
        [([thing("a")], {"resourceVersion": "10", "continue": "next"}), ([thing("b")], {"resourceVersion": "10"})],
        [changes],
    )
    told = []
    reflector = await reflected(server, lambda _: len(server.asked) >= 4, changed=lambda: told.append(1))
    assert names(reflector) == {"b", "c"}
    assert reflector.items["a"]["b"]["new"]
    assert server.asked[1]["continue"] == "next"
    assert [query.get("resourceVersion") for query in server.asked[2:4]] == ["10", "20"]
    assert server.asked[2]["allowWatchBookmarks"] == "true"
    assert len(told) == 4  # the list, and three changes


@pytest.mark.parametrize("gone", [410, [line("ERROR", {"code": 410, "message": "too old"})]])
async def test_lists_again_when_the_version_is_gone(gone):
    server = Server([([thing("a")], {"resourceVersion": "1"}), ([thing("b")], {"resourceVersion": "9"})], [gone])
    reflector = await reflected(server, lambda reflector: names(reflector) == {"b"})
    assert reflector.synced


@pytest.mark.parametrize("failure", [500, 403, b"<html>", b"[]", b'{"items": [{}], "metadata": {}}'])
async def test_keeps_trying_and_is_not_ready_until_it_works(failure):
    server = Server([failure, failure, ([thing("a")], {"resourceVersion": "1"})], [])
    states = set()

    def until(reflector: Reflector[Any]) -> bool:
        states.add((reflector.synced, bool(names(reflector))))
        return bool(names(reflector))

    await reflected(server, until)
    assert states <= {(False, False), (True, True)}


@pytest.mark.parametrize("broken", [[b"junk\n"], [line("ADDED", "no object")], [b'{"type": 1}\n'], 500])
async def test_a_broken_watch_keeps_the_copy(broken):
    lists: list[Any] = [([thing("a")], {"resourceVersion": "1"})] * 2
    server = Server(lists, [broken])
    reflector = await reflected(server, lambda _: len(server.asked) >= 4)
    assert names(reflector) == {"a"}


async def test_a_watch_that_ends_at_once_is_not_spun_on():
    server = Server([([], {"resourceVersion": "1"})], [[] for _ in range(1000)])
    await_until = asyncio.get_running_loop().time() + 1.0
    await reflected(server, lambda _: asyncio.get_running_loop().time() > await_until)
    assert len(server.asked) < 12


async def test_a_copy_that_has_not_been_heard_of_is_not_trusted():
    now = [0.0]
    server = Server([([thing("a")], {"resourceVersion": "1"})], [])
    reflector = await reflected(server, lambda reflector: len(server.asked) >= 2, clock=lambda: now[0])
    assert reflector.synced
    now[0] = STALE_SECONDS + 1
    assert not reflector.synced


async def test_a_line_without_end_is_not_kept(monkeypatch):
    monkeypatch.setattr(client_module, "MAX_LINE", 1000)
    async with serving(Server([], [[b"x" * 600, b"x" * 600]])) as client:
        with pytest.raises(ApiError, match="larger than"):
            [event async for event in client.watch(PATH, {}, "application/json")]


async def test_a_page_without_end_is_not_kept(monkeypatch):
    monkeypatch.setattr(client_module, "MAX_PAGE", 1000)
    async with serving(Server([([thing("a", more="x" * 1000)], {"resourceVersion": "1"})], [])) as client:
        with pytest.raises(OSError, match="larger than 1000 bytes"):
            await client.list(PATH, {}, "application/json")


async def test_errors_carry_the_api_servers_words():
    async with serving(Server([403, 410], [])) as client:
        with pytest.raises(ApiError, match="403: no"):
            await client.list(PATH, {}, "application/json")
        with pytest.raises(GoneError):
            await client.list(PATH, {}, "application/json")


async def test_the_token_is_read_anew_for_each_request(tmp_path):
    token = tmp_path / "token"
    seen = []

    async def answer(request: Asked) -> Answer:
        seen.append(request.headers["authorization"])
        return 200, b'{"items": [], "metadata": {"resourceVersion": "1"}}'

    async with serving(answer, token=token) as client:
        for value in ("one", "two\n"):
            token.write_text(value)
            await client.list(PATH, {}, "application/json")
    assert seen == ["Bearer one", "Bearer two"]


async def test_a_selector_reaches_the_server_as_it_was_meant():
    seen = []

    async def answer(request: Asked) -> Answer:
        seen.append((request.path, request.query))
        return 200, b'{"items": [], "metadata": {"resourceVersion": "1"}}'

    async with serving(answer) as client:
        await client.list(PATH, {"fieldSelector": "metadata.name=a&b c"}, "application/json")
    assert seen == [(PATH, {"fieldSelector": "metadata.name=a&b c", "limit": "100"})]
