"""One request and what becomes of it, and the application that a connection serves."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from modelward.sidecar.caller import Caller
from modelward.sidecar.problems import STATUS_LINES, Refusal, document


class Response(NamedTuple):
    """An answer: rendered header lines (without framing) and the whole body."""

    status: int
    headers: bytes
    body: bytes


class Exchange:
    """A request as it goes through the sidecar; what the record will tell of it is filled in on the way.

    Times are `time.perf_counter`'s, in seconds. `header` has lower-case names; `received` counts the body's bytes.
    """

    __slots__ = (
        "address",
        "body",
        "caller",
        "certificate",
        "close",
        "complete",
        "expects",
        "fields",
        "header",
        "id",
        "method",
        "model",
        "operation",
        "purpose",
        "reason",
        "received",
        "refusal",
        "rows",
        "sent",
        "started",
        "state",
        "status",
        "target",
        "upstream_started",
        "upstream_time",
        "verdict",
    )

    def __init__(self, identifier: str) -> None:
        self.id = identifier
        self.address = ""
        self.certificate: Caller | None = None
        self.started = 0.0  # when its last byte came
        self.method = b""
        self.target = b""
        self.header: dict[bytes, bytes] = {}
        self.body: list[bytes] = []
        self.received = 0
        self.expects = False  # the client waits for 100 Continue before it sends the body
        self.complete = False
        self.close = False  # the connection ends after this exchange
        self.refusal: Refusal | None = None
        # For the application and the record.
        self.state: object = None
        self.caller: Caller | None = None
        self.operation = ""
        self.model: str | None = None
        self.purpose: str | None = None
        self.fields: tuple[str, ...] = ()
        self.rows = 0
        self.verdict = ""
        self.reason = ""
        self.status = 0
        self.sent = 0  # bytes of the answer's body
        self.upstream_started = 0.0
        self.upstream_time = 0.0


Outcome = Response | Refusal
Reply = Callable[[Outcome], None]
CLIENT_GONE = 499  # status in the record alone: the client left before its answer


class Application(Protocol):
    """What a connection serves. Nothing here may block or raise anything but Refusal."""

    def admit(self, exchange: Exchange) -> None:
        """Judge the request by its header, before any of its body is kept; raises Refusal."""

    def respond(self, exchange: Exchange, reply: Reply) -> Callable[[], None] | None:
        """Answer the complete request through `reply`, now or later, once; raises Refusal.

        Returns a function that abandons the work, for when the client goes away first.
        """

    def finished(self, exchange: Exchange) -> None:
        """The exchange is over: answered, refused or abandoned (status `CLIENT_GONE`). Called once for each."""


def render(response: Response, *, request_id: str, close: bool, head: bool) -> bytes:
    """The bytes of `response` on the wire. `head`: without its body, as HEAD asks."""
    return b"".join(
        (
            STATUS_LINES[response.status],
            response.headers,
            b"x-modelward-request-id: ",
            request_id.encode(),
            b"\r\ncontent-length: %d\r\n" % len(response.body),
            b"connection: close\r\n\r\n" if close else b"\r\n",
            b"" if head else response.body,
        )
    )


def refused(refusal: Refusal, request_id: str) -> Response:
    """The answer that tells of `refusal`."""
    return Response(
        refusal.problem.status,
        b"content-type: application/problem+json\r\ncache-control: no-store\r\n" + refusal.headers,
        document(refusal, request_id),
    )
