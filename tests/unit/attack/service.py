"""A model behind an endpoint, without a network: with all protections, of which each can be taken away."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelward.attack.driver import Budget, Driver
from modelward.attack.exchange import PROBLEM, Reply, Request
from modelward.attack.layout import Layout
from modelward.attack.target import Callers, Rows, Target

GOOD = "e30.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
STRANGER = "e30.eyJzdWIiOiJiIn0.c2lnbmF0dXJl"
LOW, HIGH = 0.0, 10.0
WIDTH = 4
SCHEMA = {
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, WIDTH], "minimum": LOW, "maximum": HIGH}],
    "outputs": [{"name": "y", "datatype": "INT64", "shape": [-1]}, {"name": "p", "datatype": "FP64", "shape": [-1, 2]}],
}
Model = Callable[[np.ndarray], float]


def linear(row: np.ndarray) -> float:
    """The probability of the class 1: which half of the room a row is in."""
    return 1 / (1 + math.exp(-float(np.clip(row @ [1.0, -1.0, 0.5, -0.5], -30, 30))))


def ordinary(count: int = 120, seed: int = 1) -> np.ndarray:
    """Rows of two kinds, far apart."""
    rng = np.random.default_rng(seed)
    middle = np.where(rng.integers(2, size=(count, 1)), [7.0, 3.0, 6.0, 4.0], [3.0, 7.0, 4.0, 6.0])
    return np.clip(rng.normal(middle, 0.5), LOW, HIGH)


@dataclass
class Service:
    """Answers requests. Each of the switches takes a protection away."""

    model: Model = linear
    anonymous: bool = False  # nobody is asked who they are
    any_token: bool = False  # whatever stands in the place of a token is one
    unsigned: bool = False  # signatures are not looked at
    any_caller: bool = False  # rules are not looked at
    any_purpose: bool = True  # needs none
    trusts: str = ""  # a header that says who somebody is
    loose_paths: bool = False  # paths are tidied before they are matched, and checked before
    overrides: bool = False
    any_model: bool = False
    admin: bool = False
    ambiguous: bool = False  # takes requests whose end is ambiguous
    second_answer: bool = False  # and finds another in them
    plain: bool = False
    old_tls: bool = False
    model_open: bool = False
    lax: bool = False  # inputs are not held to the schema
    echoes: bool = False  # answers repeat what was sent
    traces: bool = False  # errors show where they came from
    breaks: bool = False  # errors are 500
    scores: bool = True
    per_window: int | None = 1000
    watched: Callable[[np.ndarray], bool] | None = None  # whether a row is refused
    holds_after: int | None = None  # anomalies, after which the caller is refused altogether
    requests: list[Request] = field(default_factory=list)
    anomalies: dict[str, int] = field(default_factory=dict)
    in_window: int = 0

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.channel == "plain":
            return self._infer(request) if self.plain else Reply(trouble="closed")
        if request.channel == "old-tls":
            return Reply(200) if self.old_tls else Reply(trouble="tls")
        if request.channel == "model":
            return Reply(200, {}, b"{}") if self.model_open else Reply(trouble="refused")
        if request.raw is not None:
            if self.second_answer:
                return Reply(400, following=(401,))
            return Reply(200) if self.ambiguous else problem(400, "bad-framing")
        return self._request(request)

    def _request(self, request: Request) -> Reply:
        path, method = request.target, request.method
        if self.overrides:
            method = request.headers.get("x-http-method-override", method)
        exact = path in ("/v2/models/m", "/v2/models/m/infer")
        if not (self.loose_paths and not exact) and not (self.overrides and method != request.method):
            refused = self._authenticate(request)
            if refused is not None:
                return refused
        if self.loose_paths:
            path = path.rstrip("/").replace("//", "/")
        if self.any_model and path.startswith("/v2/models/") and path.endswith("/infer"):
            path = "/v2/models/m/infer"
        if path == "/v2/models/m" and method == "GET":
            return answer({"name": "m", **SCHEMA})
        if path == "/v2/models/m/infer" and method == "POST":
            return self._limited() or self._infer(request)
        if self.admin:
            return answer({})
        return problem(404, "not-found")

    def _authenticate(self, request: Request) -> Reply | None:
        if self.anonymous or (self.trusts and self.trusts in request.headers):
            return None
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not token or "authorization" not in request.headers or token.startswith("Basic"):
            return problem(401, "unauthenticated")
        known = token in (GOOD, STRANGER) or token.startswith("good-")
        if not (known or self.any_token or (self.unsigned and token.count(".") == 2)):
            return problem(401, "unauthenticated")
        if token == STRANGER and not self.any_caller:
            return problem(403, "forbidden")
        if not self.any_purpose and request.headers.get("x-modelward-purpose") != "diagnosis":
            return problem(403, "forbidden")
        held = self.holds_after is not None and self.anomalies.get(token, 0) >= self.holds_after
        return problem(403, "forbidden") if held else None

    def _limited(self) -> Reply | None:
        self.in_window += 1
        if self.per_window is None or self.in_window <= self.per_window:
            return None
        self.in_window = 0
        return problem(429, "rate-limited", {"retry-after": "7"})

    def _infer(self, request: Request) -> Reply:
        body = request.body or b""
        plain = request.headers.get("content-type") == "application/json" and "content-encoding" not in request.headers
        if not (plain or self.lax or self.echoes or self.traces or self.breaks):
            return problem(415, "unsupported-media-type")
        try:
            row = self._row(body)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, OverflowError):
            told = b""
            if self.echoes:
                told = body[:4096]
            if self.traces:
                told = b'Traceback (most recent call last):\n  File "serve.py", line 1, in infer\n'
            if self.breaks or self.echoes or self.traces:
                return Reply(500 if self.breaks else 400, {"content-type": "text/plain"}, told)
            return problem(422, "schema-violation")
        if self.watched is not None and self.watched(row):
            token = request.headers.get("authorization", "").removeprefix("Bearer ")
            self.anomalies[token] = self.anomalies.get(token, 0) + 1
            return problem(403, "anomalous-input")
        share = self.model(row)
        outputs: list[dict[str, Any]] = [{"name": "y", "datatype": "INT64", "shape": [1], "data": [int(share >= 0.5)]}]
        if self.scores:
            outputs.append({"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [1 - share, share]})
        return answer({"model_name": "m", "outputs": outputs})

    def _row(self, body: bytes) -> np.ndarray:
        """The row, held to the schema strictly; or, where that is lax, whatever can be made of the body."""
        if self.lax:
            if len(body) > 4 << 20:
                return np.ones(WIDTH)
            document = json.loads(body)
            return np.resize(np.nan_to_num(np.array(document["inputs"][0]["data"], dtype=float)), WIDTH)
        if len(body) > 4 << 20 or len(body) < 2:
            raise ValueError
        document = json.loads(body, object_pairs_hook=_once, parse_constant=_never)
        if set(document) - {"inputs", "outputs"} or len(document["inputs"]) != 1:
            raise ValueError
        one = document["inputs"][0]
        if set(one) != {"name", "datatype", "shape", "data"} or one["name"] != "x" or one["datatype"] != "FP64":
            raise ValueError
        if one["shape"] != [1, WIDTH] or not all(isinstance(number, float) for number in one["data"]):
            raise ValueError
        row = np.array(one["data"])
        if row.shape != (WIDTH,) or not ((row >= LOW) & (row <= HIGH)).all():
            raise ValueError
        return row


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError
    return dict(pairs)


def _never(_: str) -> None:
    raise ValueError


def answer(document: Any) -> Reply:
    return Reply(200, {"content-type": "application/json"}, json.dumps(document).encode())


def problem(status: int, slug: str, headers: dict[str, str] | None = None) -> Reply:
    document = {"type": f"https://modelward.io/problems/{slug}", "status": status}
    return Reply(status, {"content-type": PROBLEM} | (headers or {}), json.dumps(document).encode())


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds


def target(**changes: Any) -> Target:
    given: dict[str, Any] = {
        "model": "m",
        "host": "model.example:8443",
        "callers": Callers((GOOD,)),
        "stranger": STRANGER,
        "layout": Layout.of_schema(SCHEMA, "v2"),
        "data": Rows(ordinary()),
        "holdout": Rows(ordinary(seed=2)),
        "model_port": True,
    }
    return Target(**(given | changes))


def driver(service: Callable[[Request], Reply], clock: Clock | None = None, **budget: Any) -> Driver:
    clock = clock or Clock()
    return Driver(service, Budget(**({"requests": 2000, "seconds": 3600.0} | budget)), clock, clock.sleep)
