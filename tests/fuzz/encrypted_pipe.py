"""Hostile bodies through the sidecar's own part and real processes: a 4xx with the reason, and never a wrong answer.

    python -m tests.fuzz.encrypted_pipe --runs 100000 --by-chance

As `tests.fuzz.encrypted`, which computes in this process, but from the HTTP body on: JSON or binary tensors, what the
client signed, the pipe, the process, and back. A recipe's first byte says what is changed (a request for a score, a
mean or a count, the keys, a whole body) and whether its client signs it again. A process that dies is counted, and the
next request must be answered.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import struct
import threading
import time
from collections import Counter
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.encrypted import envelope
from modelward.encrypted.client import Client, ClientKeys, v2_answer, v2_body
from modelward.encrypted.envelope import Statistic
from modelward.encrypted.parameters import EncryptedError, Parameters
from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.encrypted import EncryptedPath
from modelward.sidecar.encrypted_callers import Seen
from modelward.sidecar.exchange import Exchange, Response
from modelward.sidecar.problems import Refusal
from tests.fuzz.driver import Target, main
from tests.fuzz.encrypted import changed
from tests.fuzz.encrypted import mutate as mutate_recipe
from tests.fuzz.mutate import mutated

_CKKS = Parameters(poly_modulus_degree=4096, coeff_modulus_bits=(40, 28, 41), scale_bits=28)
_BFV = Parameters("BFV", 4096, (36, 36, 37))
_WEIGHTS = json.dumps({"coef": [0.5, 0.25]}).encode()
_ROWS = np.array([[1.0, 1.0], [1.0, 0.0]])
_SIGNATURE = 64
_READY_SECONDS = 60.0
_LENGTH = struct.Struct("<I")
_DIED = frozenset(("worker-died", "worker-killed", "timeout", "queue-full"))
_KINDS = ("request", "keys", "body", "binary")


class Offer:
    """A client, what it may ask with the right answer, and the sidecar's part with processes behind it."""

    def __init__(self, parameters: Parameters, asked: dict[Statistic | None, list[float]]) -> None:
        self.keys = ClientKeys.generate(parameters, columns=2 if None in asked else 0, rows=2)
        self.client = Client(self.keys)
        self.signing = Ed25519PrivateKey.from_private_bytes(self.keys.signing)
        self.asked = [(self._request(statistic), truth) for statistic, truth in asked.items()]
        weights = config.WeightsFile(envelope.hashlib.sha256(_WEIGHTS).hexdigest()) if None in asked else None
        settings = config.InUse(parameters, weights, statistics=True, memory_bytes=400 << 20)
        self.path = EncryptedPath(settings, "m", _WEIGHTS if weights else None, lambda: 0.0)

    def _request(self, statistic: Statistic | None) -> bytes:
        bound = 0 if statistic == "count" else 2
        return self.client.encrypt(_ROWS, "ab", model="m", now=0, bound_bits=bound, statistic=statistic)

    def signed(self, body: bytes) -> bytes:
        """What the client signs, whatever it is."""
        return body + self.signing.sign(envelope._signed(envelope.digest(body + bytes(_SIGNATURE))))


class World:
    """The sidecar's parts on an event loop in a thread, and what became of the requests."""

    def __init__(self) -> None:
        self.offers = (
            Offer(_CKKS, {None: [0.75, 0.5], "mean": [1.0, 0.5], "sum": [2.0, 1.0]}),
            Offer(_BFV, {"count": [2.0, 1.0], "sum": [2.0, 1.0]}),
        )
        self.outcomes: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        for offer in self.offers:
            self._loop.call_soon_threadsafe(offer.path.workers.start)
        for offer in self.offers:
            self.until_ready(offer)
            request, truth = offer.asked[0]
            assert right(offer, self.answered(offer, v2_body(request, offer.keys.public)), truth)

    def until_ready(self, offer: Offer) -> None:
        """Wait for a process; raises AssertionError when none comes."""
        until = time.monotonic() + _READY_SECONDS
        while not offer.path.workers.ready:
            assert time.monotonic() < until, "no process has come back"
            time.sleep(0.01)

    def deaths(self) -> int:
        """Processes that ended so far."""
        return sum(offer.path.workers.restarts for offer in self.offers)

    def answered(self, offer: Offer, content: bytes, length: bytes | None = None) -> Any:
        """What the sidecar gives for a body: a response or a refusal."""
        asked = asyncio.run_coroutine_threadsafe(self._ask(offer, Body(content, length)), self._loop)
        outcome = asked.result(_READY_SECONDS)
        self.outcomes[outcome.reason if isinstance(outcome, Refusal) else "answered"] += 1
        return outcome

    def known_again(self, offer: Offer) -> None:
        """Have the client's own keys kept: the last two of each caller are, and recipes bring their own."""
        offer.path._keys.resolve(envelope.digest(offer.keys.public), offer.keys.public, "")

    async def _ask(self, offer: Offer, body: Body) -> Response | Refusal | None:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        offer.path._seen = Seen(lambda: 0.0)  # or what came before would be refused for that alone
        try:
            abandon = offer.path.take(Exchange("1"), body, future.set_result)
        except Refusal as refusal:
            return refusal
        return Refusal("not-found", "a plain request", reason="plain") if abandon is None else await future

    def recovered(self, offer: Offer) -> bool:
        """Whether a good request is answered again."""
        self.until_ready(offer)
        request, truth = offer.asked[0]
        return right(offer, self.answered(offer, v2_body(request, offer.keys.public)), truth)


@cache
def world() -> World:
    """Made when it is first wanted."""
    return World()


def right(offer: Offer, outcome: Any, truth: list[float]) -> bool:
    """Whether an outcome is an answer that its client reads as the truth."""
    if not isinstance(outcome, Response):
        return False
    values = np.ravel(offer.client.decrypt(_envelope(outcome))[0])
    return values.shape == (2,) and bool(np.abs(values - truth).max() < 1e-2)


def _envelope(response: Response) -> bytes:
    if not response.headers.startswith(b"content-type: application/octet-stream"):
        return v2_answer(response.body)
    start = int(response.headers.split(b"content-length: ")[1].split()[0]) + _LENGTH.size
    return response.body[start:]


def one(content: bytes) -> None:
    """Try one recipe.

    Raises:
        AssertionError: something passed that must not, or the sidecar's part broke.
    """
    here = world()
    lead, recipe = content[:1] or b"\0", content[1:]
    kind, again = _KINDS[lead[0] % 4], bool(lead[0] & 0x80)
    offer = here.offers[lead[0] >> 2 & 1]
    request, truth = offer.asked[(lead[0] >> 3 & 3) % len(offer.asked)]
    before = here.deaths()
    same, send = _prepared(here, offer, kind, request, recipe, again=again)
    if send is None:
        return
    outcome = send()
    if kind == "keys":
        here.known_again(offer)
    if here.deaths() > before or (isinstance(outcome, Refusal) and outcome.reason in _DIED):
        assert here.recovered(offer), "a process died, and none answers in its place"
        return
    if isinstance(outcome, Refusal):
        assert not same, outcome.detail
        assert 400 <= outcome.problem.status < 500, outcome.reason
        assert outcome.reason != "worker-fault", "refused without the reason"
        assert 10 < len(outcome.detail) < 700
        return
    assert outcome.status == 200
    if again and kind in ("request", "keys") and not same:  # its client's own loss: an error or numbers, and no crash
        try:
            offer.client.decrypt(_envelope(outcome))
        except EncryptedError as error:
            assert len(str(error)) < 600
        return
    assert same or kind != "request", "what nobody signed has passed"
    assert right(offer, outcome, truth), "a wrong answer was returned as right"


def _prepared(here: World, offer: Offer, kind: str, request: bytes, recipe: bytes, *, again: bool) -> tuple[bool, Any]:
    """Whether it comes to the good one, and how it is sent; None: there is nothing to send."""
    if kind == "request":
        bad = offer.signed(changed(request[:-_SIGNATURE], recipe)) if again else changed(request, recipe)
        return bad == request, partial(here.answered, offer, _body(request, bad))
    if kind == "keys":
        good = offer.keys.public
        keys = offer.signed(changed(good[:-_SIGNATURE], recipe)) if again else changed(good, recipe)
        if again:  # and a request under them, or nothing would look at them
            header, parts = envelope.opened(request, envelope.Request)
            header = msgspec.structs.replace(header, keys=envelope.digest(keys))
            request = envelope.sealed(header, parts, offer.signing)
        return keys == good, partial(here.answered, offer, v2_body(request, keys)) if keys else None
    if kind == "body":
        good = v2_body(request)
        chance = random.Random(recipe)
        body = mutated(good, chance) if again else changed(good, recipe)
        return body == good, partial(here.answered, offer, body)
    head, rest = _binary(request)
    whole = head + rest
    content = changed(whole, recipe)
    length = b"%d" % len(head) if not again else changed(b"%d" % len(head), recipe)
    return (content, length) == (whole, b"%d" % len(head)), partial(here.answered, offer, content, length)


def _body(good: bytes, bad: bytes) -> bytes:
    """A V2 body that says what the good request would, with other bytes in it."""
    document = json.loads(v2_body(good))
    document["inputs"][0]["data"] = [base64.b64encode(bad).decode()]
    return json.dumps(document).encode()


def _binary(request: bytes) -> tuple[bytes, bytes]:
    document = json.loads(v2_body(request))
    (tensor,) = document["inputs"]
    del tensor["data"]
    tensor["parameters"] = {"binary_data_size": _LENGTH.size + len(request)}
    return json.dumps(document).encode(), _LENGTH.pack(len(request)) + request


TARGET = Target("encrypted_pipe", one, mutate_recipe)


def told() -> str:
    """What became of the requests, for people."""
    here = world()
    outcomes = ", ".join(f"{name} {count:,}" for name, count in here.outcomes.most_common())
    return f"encrypted_pipe: {here.deaths()} processes ended and were replaced; {outcomes}"


if __name__ == "__main__":
    try:
        main(TARGET)
    finally:
        print(told())
