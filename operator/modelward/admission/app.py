"""The two listeners as ASGI applications: reviews over TLS, and health and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime

from modelward.admission.client import ApiError
from modelward.admission.decide import NotReadyError, Surroundings, decide
from modelward.admission.events import Event, events_of
from modelward.admission.metrics import Metrics
from modelward.admission.review import MAX_BODY, Request, ReviewError, decode, encode
from modelward.admission.server import Application, Message, Receive, Send

PATH = "/admit"
BODY_SECONDS = 5.0
MAX_HELD = 64 * 1024 * 1024
"""Bytes of bodies that are being read at any time, over all connections."""

log = logging.getLogger(__name__)


class HttpError(Exception):
    """A request that gets this status instead of a review's answer."""

    def __init__(self, status: int, message: str, outcome: str = "malformed") -> None:
        super().__init__(message)
        self.status = status
        self.outcome = outcome


class _GoneError(Exception):
    """The client hung up."""


class Webhook:
    """Answers reviews.

    What cannot be answered is answered with an HTTP error, never with a guess. The webhook's failurePolicy is Ignore:
    an error hands the object over to the ValidatingAdmissionPolicies, which judge it by the same rules. A refusal would
    lock people out while this server starts; an allow would be one by accident.
    """

    def __init__(
        self,
        surroundings: Callable[[str], Awaitable[Surroundings]],
        record: Callable[[list[Event]], None],
        metrics: Metrics,
        now: Callable[[], datetime],
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        """Prepare.

        Args:
            surroundings: gives what the cluster holds for an object in this namespace.
            record: takes Events to be written.
            metrics: counts.
            now: the time.
            leaving: whether clients should connect anew, and so elsewhere.
        """
        self._leaving = leaving
        self._surroundings = surroundings
        self._record = record
        self._metrics = metrics
        self._now = now
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        kind, outcome = "", "failed"
        try:
            request = decode(await self._body(scope, receive))
            kind = request.kind.kind
            outcome, answer = await self._answer(request)
            await _respond(send, 200, "application/json", answer, close=self._leaving())
        except _GoneError:
            outcome = "malformed"
        except HttpError as error:
            outcome = error.outcome
            await _respond(send, error.status, "text/plain", f"{error}\n".encode())
        except ReviewError as error:
            outcome = "malformed"
            await _respond(send, 400, "text/plain", f"{error}\n".encode())
        except (NotReadyError, ApiError, OSError) as error:
            outcome = "unavailable"
            log.warning("review handed over to the ValidatingAdmissionPolicies: %s", error)
            await _respond(send, 503, "text/plain", b"not ready to judge\n")
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be no traceback and no allow
            frames = traceback.extract_tb(error.__traceback__)[-3:]  # where, and not what: it may hold values
            where = ", ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
            log.error("review failed: %s at %s", type(error).__name__, where)  # noqa: TRY400
            await _respond(send, 500, "text/plain", b"this review could not be judged\n")
        finally:
            self._metrics.reviews[_known(kind), outcome] += 1

    async def _answer(self, request: Request) -> tuple[str, bytes]:
        around = await self._surroundings(request.namespace)
        begun = time.perf_counter()
        now = self._now()
        try:
            decision = decide(request, around, now)
        except RecursionError:  # the decoder takes more levels than what comes after it
            raise ReviewError("request.object is nested too deep to be judged") from None
        answer = encode(request.uid, decision)
        self._metrics.review_seconds += time.perf_counter() - begun
        self._record(events_of(request, decision, now))
        return ("allowed" if decision.allowed else "denied"), answer

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        if scope["path"] != PATH:
            raise HttpError(404, f"reviews go to {PATH}")
        if scope["method"] != "POST":
            raise HttpError(405, "reviews are posted")
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise HttpError(415, "a review is application/json")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _GoneError
                    chunk = message.get("body", b"")
                    if len(body) + len(chunk) > MAX_BODY:
                        raise HttpError(413, f"a review has {MAX_BODY} bytes at most")
                    if self._held + len(chunk) > MAX_HELD:
                        raise HttpError(503, "too many reviews at once", "unavailable")
                    body += chunk
                    self._held += len(chunk)
                    more = message.get("more_body", False)
        except TimeoutError:
            raise HttpError(408, f"the body did not come within {BODY_SECONDS:g} s") from None
        finally:
            self._held -= len(body)
        return bytes(body)


def health(ready: Callable[[], bool], metrics: Metrics) -> Application:
    """Return the application with /healthz, /readyz and /metrics."""

    async def application(scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG001 - no bodies here
        match scope["path"]:
            case "/healthz":
                await _respond(send, 200, "text/plain", b"ok\n")  # it answers, so the event loop turns
            case "/readyz":
                is_ready = ready()
                await _respond(send, 200 if is_ready else 503, "text/plain", b"ok\n" if is_ready else b"not ready\n")
            case "/metrics":
                await _respond(send, 200, "text/plain; version=0.0.4", metrics.render().encode())
            case _:
                await _respond(send, 404, "text/plain", b"/healthz, /readyz or /metrics\n")

    return application


def _known(kind: str) -> str:
    """The kind as a label; strangers must not be able to make labels up."""
    return kind if kind in ("ModelDeployment", "DataPolicy", "ClusterDataPolicy", "Pod") else "other"


async def _respond(send: Send, status: int, content_type: str, body: bytes, *, close: bool = False) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
