"""One request and what becomes of it, and the application that a connection serves."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from modelward.sidecar.caller import Caller
from modelward.sidecar.problems import STATUS_LINES, Refusal, document
from modelward.sidecar.tracing import Trace
from modelward.sidecar.verdict import Verdict

if TYPE_CHECKING:
    from modelward.sidecar.failures import Failure


class Response(NamedTuple):
    """An answer: rendered header lines (without framing) and the whole body."""

    status: int
    headers: bytes
    body: bytes


class Stream:
    """An answer that comes piece by piece (server-sent events): its beginning, and then whom to tell of the rest.

    The model's side calls `piece` and, once, `end`; the client's side sets what they do with `open`, and may hold the
    model up with `pause` and `resume` while the client does not read. `screen` is given each piece and gives what may
    go on; it raises Refusal where nothing more may, and is asked with None at the end for what it still holds.
    """

    __slots__ = ("_ended", "_on_end", "_on_piece", "headers", "pause", "resume", "screen", "status")

    def __init__(self, status: int, headers: bytes, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.status = status
        self.headers = headers
        self.pause = pause
        self.resume = resume
        self.screen: Callable[[bytes | None], bytes] | None = None
        self._on_piece: Callable[[bytes], None] | None = None
        self._on_end: Callable[[Refusal | None], None] | None = None
        self._ended = False

    def open(self, on_piece: Callable[[bytes], None], on_end: Callable[["Refusal | None"], None]) -> None:
        """Say who takes the pieces, and who is told of the end: None, or why it broke off."""
        self._on_piece = on_piece
        self._on_end = on_end

    def piece(self, data: bytes) -> bool:
        """Pass a piece on; False when the stream has ended, and no more is wanted."""
        if self._ended or self._on_piece is None:
            return False
        try:
            data = self.screen(data) if self.screen is not None else data
        except Refusal as refusal:
            self.end(refusal)
            return False
        if data:
            self._on_piece(data)
        return not self._ended

    def end(self, refusal: Refusal | None) -> None:
        """The stream is over, well or not; only the first call counts."""
        if self._ended:
            return
        if refusal is None and self.screen is not None:
            try:
                rest = self.screen(None)
            except Refusal as found:
                refusal = found
            else:
                if rest and self._on_piece is not None:
                    self._on_piece(rest)
        self._ended = True
        if self._on_end is not None:
            self._on_end(refusal)


class Exchange:
    """A request as it goes through the sidecar; what the record will tell of it is filled in on the way.

    Times are `time.perf_counter`'s, in seconds. `header` has lower-case names; `received` counts the body's bytes.
    """

    __slots__ = (
        "address",
        "body",
        "caller",
        "certificate",
        "chunks",
        "close",
        "complete",
        "expects",
        "failure",
        "fields",
        "finding",
        "grpc_status",
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
        "streamed",
        "target",
        "trace",
        "treated",
        "upstream_started",
        "upstream_time",
        "values",
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
        self.chunks = False  # the client understands the chunked transfer coding
        self.refusal: Refusal | None = None
        # For the application and the record.
        self.state: object = None
        self.trace: Trace | None = None
        self.caller: Caller | None = None
        self.operation = ""
        self.model: str | None = None
        self.purpose: str | None = None
        self.fields: tuple[str, ...] = ()
        self.treated: tuple[str, ...] = ()  # field:treatment
        self.rows = 0
        self.finding: Verdict | None = None  # what a detector said
        self.values: dict[str, list[Any]] | str | None = None  # of the inputs, where a policy has them recorded
        self.failure: Failure | None = None  # the model's own error, which the caller is told of and not told
        self.reason = ""
        self.status = 0
        self.grpc_status = -1  # none: it came over HTTP/1.1
        self.sent = 0  # bytes of the answer's body
        self.streamed = False  # the answer came piece by piece
        self.upstream_started = 0.0
        self.upstream_time = 0.0

    @property
    def tests(self) -> bool:
        """Whether the caller is a security test, see `sidecar.tester`."""
        return self.caller is not None and self.caller.tests


Outcome = Response | Stream | Refusal
Reply = Callable[[Outcome], None]
CLIENT_GONE = 499  # status in the record alone: the client left before its answer
REDIRECTS = 300
"""The least status of redirects and errors, which hold no answer of the model's to check, count or explain."""


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


def render_stream_head(stream: Stream, *, request_id: str, chunked: bool, close: bool) -> bytes:
    """The header of `stream` on the wire."""
    return b"".join(
        (
            STATUS_LINES[stream.status],
            stream.headers,
            b"x-modelward-request-id: ",
            request_id.encode(),
            b"\r\n",
            b"transfer-encoding: chunked\r\n" if chunked else b"",
            b"connection: close\r\n\r\n" if close else b"\r\n",
        )
    )


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
        refusal.status,
        b"content-type: application/problem+json\r\ncache-control: no-store\r\n" + refusal.headers,
        document(refusal, request_id),
    )
