"""Keys that are fetched by URL: by the very code that fetches them, from an issuer over real TLS."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from modelward import allowlist
from modelward.sidecar import remote_keys
from modelward.sidecar.config import Access, ConfigError, Issuer, KeyFetching
from modelward.sidecar.fetch import MAX_BYTES, Fetched, FetchError, fetch
from modelward.sidecar.keyring import KeyRing
from modelward.sidecar.remote_keys import RemoteKeys
from tests.unit.sidecar.harness import AUDIENCE, ISSUER, KEY, infer, jwk, settings, token, until
from tests.unit.sidecar.identity import IdentityProvider, ok
from tests.unit.sidecar.pki import Authority

OTHER = ec.generate_private_key(ec.SECP256R1())
ONE, TWO = {"keys": [jwk(KEY)]}, {"keys": [jwk(KEY), jwk(OTHER, "k2")]}


@pytest.fixture
def idp(tmp_path: Path) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path, ok(ONE))
    yield provider
    provider.close()


def get(idp: IdentityProvider, url: str = "", seconds: float = 60, authority: Authority | None = None) -> Fetched:
    context = ssl.create_default_context(cadata=(authority or idp.authority).pem)
    return asyncio.run(fetch(url or idp.url, context, seconds))


def why(idp: IdentityProvider, **options: Any) -> str:
    with pytest.raises(FetchError) as error:
        get(idp, **options)
    return str(error.value)


# --- the allow-list


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://login.example/realms/clinic/keys", True),
        ("https://login.example/", True),
        ("https://exact.example/keys", True),
        ("https://exact.example/keys/more", False),
        ("https://exact.example/keys?x=1", False),
        ("https://login.example", False),
        ("https://login.example.evil.example/", False),
        ("https://login.example@evil.example/", False),
        ("https://login.example:444/", False),
        ("https://LOGIN.example/", False),
        ("https://login.example\\@evil.example/", False),
        ("http://login.example/", False),
        ("HTTPS://login.example/", False),
        ("https://tenant.example/a/keys", True),
        ("https://tenant.example/b/keys", False),
        ("https://tenant.example/a/../b/keys", False),
        ("https://tenant.example/a/%2E%2e/b/keys", False),
        ("https://tenant.example/a/x#y", False),
        ("https://tenant.example/a/x y", False),
        ("https://tenant.example/a/\r\nhost: x", False),
        ("https://169.254.169.254/", False),
    ],
)
def test_what_is_on_the_list(url, allowed):
    listed = ["https://login.example/", "https://exact.example/keys", "https://tenant.example/a/"]
    assert (allowlist.problem(url, listed) == "") == allowed
    assert allowlist.problem(url, [])


@pytest.mark.parametrize(
    ("base", "allowed"),
    [
        ("https://tenant.example/a", True),
        ("http://inside.example:5000", True),
        ("https://tenant.example/a/b/", True),
        ("https://tenant.example", False),
        ("https://tenant.example/a/admin?x=", False),  # what is appended would be no part of the path
        ("https://tenant.example/a/..;/b", False),
        ("https://tenant.example/a/..%2fb", False),
        ("https://tenant.example/a/%252e%252e/b", False),
        ("http://tenant.example/a", False),
        ("https://[::1]/a", False),
    ],
)
def test_what_paths_are_appended_to(base, allowed):
    listed = ["https://tenant.example/a/", "http://inside.example:5000/"]
    assert (allowlist.problem(base, listed, plain=True) == "") == allowed


# --- one fetch


def test_a_document_over_tls(idp):
    assert get(idp) == Fetched(json.dumps(ONE).encode(), None)
    (asked,) = idp.asked
    assert asked.startswith(b"GET /keys HTTP/1.1\r\nhost: localhost:%d\r\n" % idp.port)
    idp.answer = ok(ONE, header="Cache-Control: public, max-age=120, must-revalidate\r\n")
    assert get(idp).max_age == 120
    get(idp, idp.url + "?tenant=a")
    assert idp.asked[-1].startswith(b"GET /keys?tenant=a HTTP/1.1\r\n")


def test_chunked_and_unframed_bodies(idp):
    body = json.dumps(ONE).encode()
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    idp.answer = chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    assert get(idp).body == body
    idp.answer = b"HTTP/1.1 200 OK\r\n\r\n" + body
    assert get(idp).body == body
    idp.answer = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ok(ONE)
    assert get(idp).body == body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: https://localhost/\r\ncontent-length: 0\r\n\r\n", "redirects"),
        (ok(b"", status="404 Not Found"), "status 404"),
        (ok(b"", status="500 Oops"), "status 500"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "broke off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}", "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "broke off"),
        (b"", "broke off"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (ok(b"x" * MAX_BYTES), "more than"),
        (ok(gzip.compress(b"{}"), header="content-encoding: gzip\r\n"), "compressed"),
    ],
)
def test_answers_that_cannot_be_used(idp, answer, said):
    idp.answer = answer
    assert said in why(idp)


def test_time_and_trust_are_bounded(idp, tmp_path):
    idp.answer = lambda _: time.sleep(3)
    assert why(idp, seconds=0.3) == "no answer within 0.3 seconds"

    def drip(client):
        for byte in ok(ONE):
            client.sendall(bytes([byte]))
            time.sleep(0.05)

    idp.answer = drip
    started = time.monotonic()
    assert "no answer" in why(idp, seconds=0.3)
    assert time.monotonic() - started < len(ok(ONE)) * 0.05, "it was given up before it had all come"
    assert "does not verify" in why(idp, authority=Authority("another"))
    assert "does not verify" in why(idp, url=f"https://127.0.0.1:{idp.port}/keys")  # not the certificate's name
    idp.close()
    assert why(idp).lower() in ("connection refused", "the connection fails")
    assert "does not resolve" in why(idp, url="https://no-such-host.invalid/keys")


# --- keeping them


class Source:
    """Documents as an issuer would give them, and a clock, so that hours take no time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answer: Any = ONE
        self.max_age: int | None = None
        self.withdrawals = 0
        self.counted: list[str] = []
        self.fetches = 0
        self.keys = RemoteKeys(
            "i",
            "https://i/keys",
            ssl.create_default_context(),
            self._withdrawn,
            self.counted.append,
            self._get,
            lambda: self.now,
        )

    def _withdrawn(self) -> None:
        self.withdrawals += 1

    async def _get(self, *_: object) -> Fetched:
        self.fetches += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        return Fetched(body, self.max_age)

    def refresh(self) -> float:
        return asyncio.run(self.keys.refresh())

    @property
    def kids(self) -> list[str]:
        return [key.kid for key in self.keys.current]


@pytest.mark.parametrize(
    ("max_age", "expected"),
    [(None, 300), (0, 60), (59, 60), (900, 900), (10**9, 3600)],
)
def test_fetched_anew_before_their_time_is_over(max_age, expected):
    source = Source()
    source.max_age = max_age
    assert source.refresh() == pytest.approx(expected * 0.8)


def test_rotation_and_withdrawal():
    source = Source()
    source.refresh()
    assert (source.kids, source.withdrawals) == (["k1"], 0)
    source.answer = TWO
    source.refresh()
    assert (source.kids, source.withdrawals) == (["k1", "k2"], 0)  # a new key beside it: no token is in doubt
    source.answer = {"keys": [jwk(OTHER, "k2")]}
    source.refresh()
    assert (source.kids, source.withdrawals) == (["k2"], 1)
    source.answer = {"keys": [jwk(KEY, "k2")]}  # another key of the same name
    source.refresh()
    assert source.withdrawals == 2


@pytest.mark.parametrize(
    "answer",
    [
        FetchError("its host name does not resolve"),
        b"not JSON",
        b"[]",
        b"[" * 100_000,
        {"keys": []},
        {"keys": [{"kty": "oct"}]},
        RuntimeError("a fault"),
    ],
    ids=["fetch", "text", "list", "deep", "empty", "secret", "fault"],
)
def test_a_silent_or_senseless_issuer_leaves_what_is_there_for_a_bounded_time(answer, capsys):
    source = Source()
    source.refresh()
    began = source.now
    source.answer = answer
    while source.keys.current:
        source.now += source.refresh()
        assert source.now - began < 2 * 3600
    assert source.now - began >= 300 + remote_keys.STALE_SECONDS
    assert source.counted[-1] == "expired"
    assert source.withdrawals == 1  # what those keys vouched for is doubtful now
    log = capsys.readouterr().err
    assert "an issuer's keys cannot be fetched" in log
    assert len(log.splitlines()) < 6  # told when it begins, not each time
    source.answer = ONE
    source.refresh()
    assert source.kids == ["k1"]


def test_failures_are_tried_again_ever_more_slowly_and_never_for_longer_than_a_minute():
    source = Source()
    source.answer = FetchError("x")
    assert [source.refresh() for _ in range(9)] == [1, 2, 5, 10, 20, 30, 60, 60, 60]
    assert not source.keys.current
    assert source.keys.why == "x"


@given(st.lists(st.floats(0, 30), max_size=200))
def test_unknown_keys_cause_few_fetches(waits):
    """Whoever makes tokens up, at whatever rate, causes a fetch every ten seconds at most."""

    async def run() -> None:
        source = Source()
        await source.keys.refresh()
        source.max_age = 3600
        begun = source.now
        for wait in waits:
            source.now += wait
            if source.keys.missed():
                source.keys._wanted.clear()
                await source.keys.refresh()
        assert source.fetches <= 1 + (source.now - begun) / remote_keys.MISS_SECONDS

    asyncio.run(run())


# --- the key ring


def remote(url: str, name: str = "i", **more: Any) -> Issuer:
    return Issuer(name=name, issuer=f"https://{name}", audiences=["a"], jwks_uri=url, **more)


def test_the_sidecar_holds_the_list_itself():
    async def run() -> None:
        ring = KeyRing(lambda: None, lambda _: None)
        fetching = KeyFetching(allow=["https://login.example/"])
        with pytest.raises(ConfigError, match=r"issuer i: https://evil\.example/: it is not among the addresses"):
            ring.keys(remote("https://evil.example/"), fetching)
        with pytest.raises(ConfigError, match="give one of the two"):
            ring.keys(remote("https://login.example/", jwks=ONE), fetching)
        with pytest.raises(ConfigError, match="not a bundle of PEM"):
            ring.keys(remote("https://login.example/"), KeyFetching(allow=fetching.allow, authorities="x"))
        with pytest.raises(ConfigError, match="no keys are given"):
            ring.keys(Issuer(name="i", issuer="i", audiences=["a"]), fetching)

    asyncio.run(run())


def test_what_is_kept_outlives_a_change_of_configuration(idp):
    async def run() -> None:
        ring = KeyRing(lambda: None, lambda _: None)
        fetching = KeyFetching(allow=[idp.url, idp.url + "/2"], authorities=idp.authority.pem)
        first = ring.keys(remote(idp.url), fetching)
        ring.keep(Access(issuers=[remote(idp.url)], key_fetching=fetching))
        async with asyncio.timeout(60):
            while ring.missing:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        assert ring.keys(remote(idp.url, "renamed"), fetching) is first
        assert first.current
        ring.keys(remote(idp.url + "/2"), fetching)  # of a configuration that is refused in the end
        ring.keep(Access(issuers=[remote(idp.url)], key_fetching=fetching))
        assert ring.missing == ""
        assert len(idp.asked) == 1
        ring.close()

    asyncio.run(run())


# --- end to end


def by_url(idp: IdentityProvider, **changes: Any) -> dict[str, Any]:
    issuer = {"name": "issuer", "issuer": ISSUER, "audiences": [AUDIENCE], "jwksURI": idp.url}
    fetching = {"allow": [idp.url], "authorities": idp.authority.pem}
    return {"access": settings()["access"] | {"issuers": [issuer], "keyFetching": fetching} | changes}


def test_a_sidecar_with_an_issuer_by_url(run, idp, monkeypatch):
    monkeypatch.setattr(remote_keys, "MISS_SECONDS", 0.2)
    running = run(**by_url(idp))
    until(lambda: running.monitor("/readyz").status == 200)
    assert running.ask(infer()).status == 200
    assert running.metric('modelward_issuer_key_fetches_total{outcome="fetched"}') == 1
    assert 0 <= running.metric("modelward_issuer_keys_age_seconds") < 120
    # A key that is not there yet: refused at once, fetched because of it, and good the next time.
    idp.answer = ok(TWO)
    time.sleep(0.3)
    fresh = token(OTHER, kid="k2")
    refused = running.ask(infer(), bearer=fresh)
    assert (refused.status, refused.problem) == (401, "unauthenticated")
    assert "read anew" in refused.json["detail"]
    until(lambda: running.ask(infer(), bearer=fresh).status == 200)
    # The first key is withdrawn: what it vouched for is refused, remembered or not.
    idp.answer = ok({"keys": [jwk(OTHER, "k2")]})
    time.sleep(0.3)
    old = token()
    running.ask(infer(), bearer=token(kid="made-up"))
    until(lambda: running.ask(infer(), bearer=old).status == 401)
    assert running.ask(infer(), bearer=fresh).status == 200


def test_a_silent_issuer_keeps_a_new_pod_unready_and_says_why(run, idp):
    idp.answer = ok(b"", status="503 Service Unavailable")
    running = run(**by_url(idp))
    until(lambda: b"issuer: it answers with status 503" in running.monitor("/readyz").body)
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (503, "keys-unavailable")
    assert answer.header["retry-after"]
    assert running.model.asked == []
    idp.answer = ok(ONE)
    until(lambda: running.monitor("/readyz").status == 200)
    assert running.ask(infer()).status == 200


def test_an_issuer_that_hangs_delays_no_request(run, idp):
    idp.answer = lambda _: time.sleep(8)
    other = settings()["access"]["issuers"][0]
    document = by_url(idp)
    document["access"]["issuers"][0] |= {"name": "slow", "issuer": "https://slow.example"}
    document["access"]["issuers"].append(other)
    running = run(**document)
    for bearer, status in [("", 200)] * 20 + [(token(iss="https://slow.example"), 503)]:
        started = time.monotonic()
        assert running.ask(infer(), bearer=bearer).status == status
        assert time.monotonic() - started < 4, "it waited for the issuer, or until that was given up"
