"""gRPC's way through the gateway: the very same chain of checks, with other ends."""

import re
import time
from collections.abc import Callable
from typing import Any

from modelward.sidecar import failures
from modelward.sidecar.access_log import AccessLog
from modelward.sidecar.binary import Body
from modelward.sidecar.chain import Chain, Work
from modelward.sidecar.exchange import Exchange, Outcome, Reply, Response
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.grpc import framing, messages, routes, status
from modelward.sidecar.grpc.http2 import once
from modelward.sidecar.grpc.upstream import Call, Failed, Upstream
from modelward.sidecar.grpc.wire import WireError
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.passing import answer, fault
from modelward.sidecar.problems import Refusal
from modelward.sidecar.routes import Route
from modelward.sidecar.tracing import trace_of

_MEDIA = (b"application/grpc", b"application/grpc+proto")
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_VERSION = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,127})?")  # as in the paths of REST


class GrpcGateway(Gateway):
    """The data plane for gRPC. `use` gives it the chain that its sibling has, and the way to the model's gRPC port."""

    upstream: Upstream

    def __init__(self, sibling: Gateway, upstream: Upstream, instruments: Instruments, access_log: AccessLog) -> None:
        super().__init__(sibling.chain, instruments, access_log)
        self.findings = sibling.findings  # who is in quarantine is so here and there
        self.use(sibling.chain, upstream)

    def use(self, chain: Chain, upstream: Upstream) -> None:
        """Serve by another configuration from now on."""
        self.chain = chain
        self.upstream = upstream
        self._router = routes.Router(chain.settings.upstream.model)

    def encrypted(self, exchange: Exchange, work: Work, reply: Reply) -> None:  # noqa: ARG002
        """Nothing: encrypted requests come by HTTP alone. A body is a message here, whatever else it looks like."""
        return

    def route(self, chain: Chain, exchange: Exchange) -> Route:  # noqa: ARG002
        """What is asked for; raises Refusal."""
        return self._router.route(exchange.method, exchange.target)

    @staticmethod
    def check_media(header: dict[bytes, bytes], route: Route) -> None:  # noqa: ARG004
        """Messages are protocol buffers, and not compressed: what is small and becomes large is not read here."""
        if header.get(b"content-type", b"").lower() not in _MEDIA:
            raise Refusal("unsupported-media-type", "Send the message as `content-type: application/grpc`.")
        if header.get(b"grpc-encoding", b"identity") != b"identity":
            raise Refusal("not-implemented", "Send the message plain, not compressed.")

    def forward(self, work: Work, payload: Any, settle: Callable[[Outcome], None]) -> Callable[[], None]:  # noqa: ARG002
        """Ask the model; returns how to abandon it."""
        return self.upstream.call(payload, settle)

    def _payload(self, exchange: Exchange, work: Work) -> Call:
        """The call for the model, once the message has passed."""
        exchange.trace = trace_of(exchange.header, own=self.tracing is not None)
        limits = work.chain.settings.limits
        seconds = min(_seconds(exchange.header.get(b"grpc-timeout")), limits.upstream_seconds)
        try:
            content = framing.message(exchange.body)
            message = self._message(exchange, work, content)
        except framing.CompressedError:
            raise Refusal("not-implemented", "Send the message plain, not compressed.") from None
        except framing.FramingError:
            raise Refusal("bad-framing", "A call has exactly one message, framed as gRPC has it.") from None
        except WireError as error:
            detail = f"The message cannot be read: {error}."
            raise Refusal("malformed-json", detail, reason="malformed-message") from None
        # A little more than is waited here: a late call is told of from here, and the model works for nobody no longer.
        metadata = [once(b"x-request-id", exchange.id.encode()), (b"grpc-timeout", b"%dm" % ((seconds + 1) * 1000))]
        if exchange.trace is not None:
            metadata += [once(*field) for field in exchange.trace.fields()]
        slow = Refusal("upstream-timeout", "The model did not answer in time.")
        return Call(exchange.target, metadata, message, time.monotonic() + seconds, slow)

    def _message(self, exchange: Exchange, work: Work, content: bytes) -> bytes:
        """The message for the model: nothing of the client's bytes, but what was read in them."""
        exchange.received = len(content)
        if exchange.target in routes.NAMED:
            name, version = messages.read_names(content)
            _check_model(work, name, version)
            return messages.write_names(name, version)
        if exchange.target != routes.INFER:
            messages.read_nothing(content)
            return b""
        form, body = messages.read_request(content)
        _check_model(work, form.model, form.version)
        return messages.write_request(form, self.judged(exchange, work, body).encode())

    def _settle(self, exchange: Exchange, work: Work, reply: Reply, outcome: Outcome) -> None:
        exchange.upstream_time = time.perf_counter() - exchange.upstream_started
        if isinstance(outcome, Failed):
            exchange.failure = failures.Failure.of(outcome.status, outcome.body)
            outcome = status.instead_of(outcome.status)
        elif isinstance(outcome, Response) and exchange.target == routes.INFER:
            if work.groups is not None:
                work.answered = outcome
            outcome = _checked(outcome, work)
        reply(outcome)

    @staticmethod
    def body_of_answer(response: Response) -> Body:
        """What the model said, in the form of REST; raises WireError."""
        return messages.read_response(response.body)[1]


def _check_model(work: Work, name: str, version: str) -> None:
    model = work.chain.settings.upstream.model
    if name != model:  # whatever else the server has loaded is not what was declared
        raise Refusal("not-found", f"The model here is {model}.")
    if not _VERSION.fullmatch(version):
        raise Refusal("schema-violation", "The model's version must be a name: letters, digits, `.`, `_`, `-`.")


def _checked(response: Response, work: Work) -> Outcome:
    """The model's answer as the caller may have it."""
    chain = work.chain
    if chain.outputs is None and chain.answers is None and work.watch is None:
        return response
    try:
        form, body = messages.read_response(response.body)
        passed = answer(work, body)
        if passed is body:
            return response
        return Response(response.status, b"", messages.write_response(form, passed))
    except Refusal as refusal:
        return refusal
    except WireError:
        return Refusal("bad-upstream", "The model's answer could not be read.", reason="upstream-schema")
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer must not pass, and the caller be told
        return fault(error)


def _seconds(timeout: bytes | None) -> float:
    """How long the client waits, by `grpc-timeout`."""
    if timeout is None:
        return float("inf")
    found = _TIMEOUT.fullmatch(timeout)
    if found is None:
        raise Refusal("bad-framing", "`grpc-timeout` must be up to eight digits and one of H, M, S, m, u, n.")
    return int(found[1]) * _UNITS[found[2]]
