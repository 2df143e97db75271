"""The chain of checks, in order: caller, rule and rate, body, treatment, screening; then the model; then the record.

One `Chain` is one configuration, immutable. The `Gateway` is what connections serve; it swaps chains between
requests, and each exchange keeps the chain that it began with.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from modelward.detect.encoding import Array
from modelward.incidents import Report
from modelward.privacy.keys import Keys as PseudonymKeys
from modelward.sidecar import binary, config, log
from modelward.sidecar.access import Access
from modelward.sidecar.answers import Answers
from modelward.sidecar.binary import Body
from modelward.sidecar.control import Control, Order
from modelward.sidecar.detection import Detection
from modelward.sidecar.events import EventScreen
from modelward.sidecar.exchange import Exchange, Outcome, Reply, Response, Stream
from modelward.sidecar.findings import Findings
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.keys import Keys, given
from modelward.sidecar.probes import Waiting
from modelward.sidecar.problems import Refusal
from modelward.sidecar.record import AccessLog, Record, Recorder, values_of
from modelward.sidecar.routes import Route, Router
from modelward.sidecar.schema import Checked, Outputs, Schema
from modelward.sidecar.telemetry import Finished, Tracing
from modelward.sidecar.tensors import Tensor
from modelward.sidecar.ticket import Held, Ticket
from modelward.sidecar.tracing import trace_of
from modelward.sidecar.treatment import Treatments
from modelward.sidecar.upstream import Upstream
from modelward.sidecar.verdict import Verdict

if TYPE_CHECKING:
    from modelward.sidecar.encrypted import EncryptedPath
    from modelward.sidecar.shared_limits import Counting

_JSON = b"application/json"
_OTHER_MEDIA = (binary.HEADER, b"content-encoding")  # headers of bodies that are more, or less, than JSON
_UTF8 = (b"", b"charset=utf-8", b'charset="utf-8"')


class Chain:
    """The checks of one configuration, and the connections to its model.

    `keys` gives an issuer's keys, `counting` is the common count of rate limits, `encrypted` takes requests that nobody
    here can read.

    Raises:
        ConfigError: the parts of the configuration do not fit one another, a key or the baseline cannot be used.
    """

    def __init__(
        self,
        settings: config.Config,
        baseline: bytes | None,
        upstream: Upstream,
        keys: Callable[[config.Issuer], Keys] = given,
        pseudonyms: PseudonymKeys | None = None,
        counting: "Counting | None" = None,
        encrypted: "EncryptedPath | None" = None,
    ) -> None:
        self.settings = settings
        self.encrypted = encrypted
        self.router = Router(settings.upstream.protocol, settings.upstream.model)
        self.access = Access(settings.access, keys, counting)
        self.schema = Schema(settings.upstream.protocol, settings.inputs, settings.undeclared_fields)
        self.outputs = Outputs(settings.outputs) if settings.outputs is not None else None
        declared = self.schema.declared
        self.treated = tuple(f"{name}:{one.treatment}" for name, one in settings.fields.items())
        self.treatments = Treatments.build(settings, declared, pseudonyms)
        self.answers: Answers | None = None
        if self.treatments is not None:
            self.schema.optional = self.treatments.optional
            self.schema.treated = frozenset(settings.fields)
            self.answers = Answers(settings, pseudonyms)
            declared = {name: spec for name, spec in (declared or {}).items() if name not in self.treatments.dropped}
        # Detectors see what the model sees: their baselines are fitted on treated data.
        self.detection = Detection(settings, baseline, declared)
        self.upstream = upstream
        self.authority = f"{settings.upstream.host}:{settings.upstream.port}".encode()


class Work:
    """What one exchange carries along: its chain and route, and a ticket while its rate limit is being asked."""

    __slots__ = ("chain", "flag", "probed", "route", "tensors", "ticket", "watch")

    def __init__(self, chain: Chain, route: Route, ticket: Ticket | None) -> None:
        self.ticket = ticket
        self.chain = chain
        self.route = route
        self.flag = b""
        self.tensors: list[Tensor] = []  # as the model got them; kept only where its answer is treated
        self.probed: Array | None = None  # rows that detectors ask the model about again
        self.watch: Callable[[Body], None] | None = None  # looks at the answer; raises Refusal to withhold it


class Gateway:
    """The data plane, as `exchange.Application`."""

    def __init__(self, chain: Chain, instruments: Instruments, access_log: AccessLog) -> None:
        self._instruments = instruments
        self._log = access_log
        self._recorder = Recorder()
        self.tracing: Tracing | None = None  # where spans go, if anywhere
        self.watcher: Callable[[Record], None] | None = None  # whom each record is shown to as well
        self.findings = Findings(instruments.anomalies, access_log.note)
        self.take(chain)
        self.control: Control | None = None  # where the controller asks, if there is one

    def take(self, chain: Chain) -> None:
        """Judge by `chain` from the next request on."""
        previous: Chain | None = getattr(self, "chain", None)
        if previous is not None:
            chain.detection.inherit(previous.detection)
            if previous.detection.probes is not chain.detection.probes:
                previous.detection.close()
        self.chain = chain
        self.findings.quarantines.take_rules(chain.settings.screening.quarantine)

    def report(self) -> Report:
        """What the controller is told."""
        detection = self.chain.detection
        return self.findings.report(self.chain.settings, detection.fitted, detection.rates(), detection.drift())

    def release(self, name: str) -> int:
        """Let every client of this name go; how many were held."""
        self.chain.detection.release(name)
        return self.findings.quarantines.release(name)

    def admit(self, exchange: Exchange) -> None:
        """Caller, path, access rule and rate limit; and that a body, if any, is JSON."""
        try:
            self._admit(exchange, self.chain)
        except Refusal:
            order = self.control.order(exchange) if self.control is not None else None
            if order is None:
                raise
            exchange.state = order
        except Exception as error:  # noqa: BLE001 - whatever it is, the request must not pass
            raise fault(error) from None

    def _admit(self, exchange: Exchange, chain: Chain) -> None:
        header = exchange.header
        access = chain.access
        exchange.caller = caller = access.authenticate(header.get(b"authorization"), exchange.certificate)
        self.findings.quarantines.refuse(caller)
        route = self.route(chain, exchange)
        exchange.operation = route.operation
        exchange.model = route.model
        exchange.purpose = access.purpose(caller, header.get(b"x-modelward-purpose"))
        ticket = access.authorise(caller, route.operation, exchange.purpose)
        if route.has_body:
            self.check_media(header, route)
        exchange.state = Work(chain, route, ticket)

    def respond(self, exchange: Exchange, reply: Reply) -> Callable[[], None] | None:
        """Check the body, screen it, and ask the model, once the rate limit is known to hold."""
        work = exchange.state
        if not isinstance(work, Work):
            reply(self._carry_out(exchange))
            return None
        if work.ticket is None:
            return self._ask(exchange, reply)
        return Held(work.ticket, partial(self._ask, exchange, reply), reply).abandon

    def _carry_out(self, exchange: Exchange) -> Response:
        order, control = exchange.state, self.control
        if isinstance(order, Order) and control is not None:
            done = control.carry_out(order, b"".join(exchange.body))
            if done is not None:
                return done
        exchange.state = None
        self._admit(exchange, self.chain)  # as any other who asks for a path that there is not
        raise Refusal("not-found", "There is no such path.")

    def _ask(self, exchange: Exchange, reply: Reply) -> Callable[[], None] | None:
        try:
            work = exchange.state
            assert isinstance(work, Work)  # noqa: S101 - set by admit
            if work.chain.encrypted is not None and work.route.has_body:
                abandon = work.chain.encrypted.take(exchange, _body(exchange), reply)
                if abandon is not None:
                    return abandon
            payload = self._payload(exchange, work)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001
            raise fault(error) from None
        exchange.upstream_started = time.perf_counter()
        settle = partial(self._settle, exchange, work, reply)
        if work.probed is None:
            return self.forward(work, payload, settle)
        return self._probe(exchange, work, payload, settle)

    def _probe(
        self, exchange: Exchange, work: Work, payload: Any, settle: Callable[[Outcome], None]
    ) -> Callable[[], None]:
        """Ask the model, and about the rows once more; the answer goes out when both are done."""
        chain, probes = work.chain, work.chain.detection.probes
        assert probes is not None  # noqa: S101 - there are rows for it
        assert work.probed is not None  # noqa: S101

        def conclude(outcome: Outcome, verdicts: list[Verdict]) -> None:
            try:
                work.flag = self.findings.act(exchange, verdicts) or work.flag
            except Refusal as refusal:
                outcome = refusal
            settle(outcome)

        judging = probes.judge(chain.upstream, work.probed, self._instruments.asked)
        waiting = Waiting(asyncio.get_running_loop().create_task(judging), conclude)
        try:
            abandon = self.forward(work, payload, waiting.settle)
        except Refusal:
            waiting.abandon()
            raise

        def leave() -> None:
            waiting.abandon()
            abandon()

        return leave

    # --- what differs with the protocol: `sidecar.grpc.gateway` has the same chain with other ends

    def route(self, chain: Chain, exchange: Exchange) -> Route:
        """What is asked for; raises Refusal."""
        return chain.router.route(exchange.method, exchange.target)

    @staticmethod
    def check_media(header: dict[bytes, bytes], route: Route) -> None:
        """Whether the body is in a form that is read here; raises Refusal."""
        _check_media(header, route)

    def forward(self, work: Work, payload: Any, settle: Callable[[Outcome], None]) -> Callable[[], None]:
        """Ask the model; returns how to abandon it."""
        return work.chain.upstream.call(payload, settle, streams=work.route.streams)

    def _payload(self, exchange: Exchange, work: Work) -> Any:
        """The request for the model, once the body has passed."""
        chain = work.chain
        exchange.trace = trace_of(exchange.header, own=self.tracing is not None)
        if not work.route.has_body:
            return _request(b"GET", exchange, chain.authority, None)
        checked = self.judged(exchange, work, _body(exchange))
        return _request(b"POST", exchange, chain.authority, checked.encode())

    def judged(self, exchange: Exchange, work: Work, body: Body) -> Checked:
        """`body`, once it has passed the schema, the treatments and the screening."""
        chain = work.chain
        if chain.encrypted is not None and chain.encrypted.settings.only:
            raise Refusal(
                "schema-violation",
                "This model is asked by encrypted requests alone: see `modelward he`.",
                reason="not-encrypted",
            )
        checked = chain.schema.check(body)
        if chain.schema.declared is not None:
            exchange.fields = tuple([tensor.spec.name for tensor in checked.tensors])
            exchange.rows = checked.rows
        if chain.treatments is not None:
            chain.treatments.apply(checked.tensors)
            exchange.treated = chain.treated
            if chain.answers is not None:
                work.tensors = checked.tensors
        verdicts = chain.detection.judge(exchange, checked.tensors)
        if chain.settings.record_values and chain.schema.declared is not None:
            exchange.values = values_of(checked.tensors)
        if verdicts:
            work.flag = self.findings.act(exchange, verdicts)
        if chain.detection.needs_answers and work.route.operation == "Infer":
            work.watch = partial(self._watch, exchange, work)
        if chain.detection.probes is not None and work.route.operation == "Infer":
            work.probed, unjudged = chain.detection.to_probe(checked.tensors, streams=work.route.streams)
            work.flag = self.findings.act(exchange, unjudged)
        return checked

    def _watch(self, exchange: Exchange, work: Work, body: Body) -> None:
        verdicts = work.chain.detection.judge_answer(exchange, body)
        if verdicts:
            work.flag = self.findings.act(exchange, verdicts)

    def _settle(self, exchange: Exchange, work: Work, reply: Reply, outcome: Outcome) -> None:
        exchange.upstream_time = time.perf_counter() - exchange.upstream_started
        if isinstance(outcome, Response):
            outcome = _checked(outcome, work)
        elif isinstance(outcome, Stream):
            if work.chain.outputs is not None or work.chain.answers is not None or work.watch is not None:
                outcome.screen = EventScreen(partial(_event, work))
            outcome.headers += work.flag
        reply(outcome)

    def finished(self, exchange: Exchange) -> None:
        """Measure and record; what the controller asks is no request to the model."""
        if isinstance(exchange.state, Order):
            return
        if exchange.streamed:  # its time is the model's from the first piece to the last
            exchange.upstream_time = time.perf_counter() - exchange.upstream_started
        overhead = 0.0
        if exchange.started:
            overhead = max(time.perf_counter() - exchange.started - exchange.upstream_time, 0.0)
        if exchange.refusal is not None:
            exchange.reason = exchange.refusal.reason
        self._instruments.finished(exchange, overhead)
        upstream_us, overhead_us = round(exchange.upstream_time * 1e6), round(overhead * 1e6)
        now = time.time()
        record = self._recorder.record(exchange, now, upstream_us, overhead_us)
        self._log.append(record)
        if self.watcher is not None:
            self.watcher(record)
        if self.tracing is not None:
            trace = exchange.trace
            if trace is None or not trace.span:  # it did not get to the model, or began when nobody traced
                trace = trace_of(exchange.header, own=True)
                assert trace is not None  # noqa: S101 - it is our own
            self.tracing.append(Finished(trace, record, int(now * 1e9)))


def _body(exchange: Exchange) -> Body:
    pieces = exchange.body
    content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return Body(content, exchange.header.get(binary.HEADER))


def answer(work: Work, body: Body) -> Body:
    """An answer that fits the declared outputs, its fields treated; raises Refusal."""
    chain = work.chain
    answers = chain.answers
    if work.route.operation == "Infer":
        if chain.outputs is not None:
            chain.outputs.check(body)
        if work.watch is not None:
            work.watch(body)
        if answers is not None and not answers.concerned:
            return body
    return body if answers is None else answers.treat(body, work.tensors)


def _event(work: Work, data: bytes) -> bytes:
    return answer(work, Body(data)).content


def _checked(response: Response, work: Work) -> Outcome:
    """The model's answer as the caller may have it."""
    headers, content = response.headers, response.body
    if work.route.has_body and response.status == 200:
        body = Body(content, binary.header_value(headers))
        try:
            passed = answer(work, body)
        except Refusal as refusal:
            return refusal
        if passed is not body:
            content = passed.content
            if body.json_length is not None:
                headers = binary.with_header_value(headers, passed.json_length or b"%d" % len(content))
    if work.flag or content is not response.body:
        return Response(response.status, headers + work.flag, content)
    return response


def _check_media(header: dict[bytes, bytes], route: Route) -> None:
    if header.get(b"content-type") == _JSON and header.keys().isdisjoint(_OTHER_MEDIA):  # what most send
        return
    media, _, parameters = header.get(b"content-type", b"").partition(b";")
    media = media.strip().lower()
    if binary.HEADER in header:
        if not route.binary:
            raise _unsupported("Binary tensors are for `infer` of the protocol V2; send the body as JSON here.")
        if media not in (binary.MEDIA, b""):  # Triton's own client says nothing
            raise _unsupported("Send a body with binary tensors as `Content-Type: application/octet-stream`.")
    elif media != _JSON or parameters.strip().lower() not in _UTF8:
        raise _unsupported(
            "Send the body as `Content-Type: application/json`, in UTF-8; one with binary tensors needs the header "
            "Inference-Header-Content-Length."
            if media == binary.MEDIA and route.binary
            else "Send the body as `Content-Type: application/json`, in UTF-8."
        )
    if header.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _unsupported("Send the body plain, not compressed.")


def _unsupported(detail: str) -> Refusal:
    return Refusal("unsupported-media-type", detail)


def _request(method: bytes, exchange: Exchange, authority: bytes, body: Body | None) -> bytes:
    """The request as the model gets it: nothing of the client's header but its path, and the trace it belongs to."""
    target = exchange.target.rstrip(b"/")  # the protocol writes /v2/ and /v2; servers know one and redirect the other
    named = exchange.id.encode()
    parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", authority, b"\r\nx-request-id: ", named, b"\r\n"]
    if exchange.trace is not None:
        parts.append(exchange.trace.header())
    if body is None:
        parts.append(b"\r\n")
    elif body.json_length is None:
        parts.append(b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body.content))
        parts.append(body.content)
    else:
        parts.append(
            b"content-type: application/octet-stream\r\ninference-header-content-length: %b\r\n"
            b"content-length: %d\r\n\r\n" % (body.json_length, len(body.content))
        )
        parts.append(body.content)
    return b"".join(parts)


def fault(error: Exception) -> Refusal:
    """What a caller is told of a fault of ours, which is logged."""
    log.fault("a request met a fault in the sidecar", error)
    return Refusal("internal-error", "The sidecar failed; tell the model's owner the `instance`.", close=True)
