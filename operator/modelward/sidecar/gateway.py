"""The chain of checks, in order: caller, rule and rate, body, treatment, screening; then the model; then the record.

One `chain.Chain` is one configuration. The `Gateway` is what connections serve; it swaps chains between requests, and
each exchange keeps the chain that it began with.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from modelward.audit.told import Collect, Collected
from modelward.fairness.labels import Labels
from modelward.incidents import Report
from modelward.sidecar import binary, counting, failures, feedback, passing, rest
from modelward.sidecar.access import Access
from modelward.sidecar.access_log import AccessLog
from modelward.sidecar.binary import Body
from modelward.sidecar.caller import Caller
from modelward.sidecar.chain import Chain, Work
from modelward.sidecar.control import Control, Order
from modelward.sidecar.events import EventScreen
from modelward.sidecar.exchange import REDIRECTS, Exchange, Outcome, Reply, Response, Stream
from modelward.sidecar.findings import Findings
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.problems import Refusal
from modelward.sidecar.record import Record, Recorder, values_of
from modelward.sidecar.routes import Route
from modelward.sidecar.schema import Checked
from modelward.sidecar.telemetry import Finished, Tracing
from modelward.sidecar.tester import Testers
from modelward.sidecar.ticket import Held
from modelward.sidecar.tracing import trace_of
from modelward.sidecar.verdict import Verdict


class Gateway:
    """The data plane, as `exchange.Application`."""

    def __init__(self, chain: Chain, instruments: Instruments, access_log: AccessLog) -> None:
        self._instruments = instruments
        self._log = access_log
        self._recorder = Recorder()
        self.tracing: Tracing | None = None  # where spans go, if anywhere
        self.watcher: Callable[[Record], None] | None = None  # whom each record is shown to as well
        self.findings = Findings(instruments.anomalies, access_log.note)
        self.configuration = ""  # digest of the signed one in force
        self.take(chain)
        self.control: Control | None = None  # where the controller asks, if there is one
        self.testers: Testers | None = None  # knows the security test, likewise

    def take(self, chain: Chain) -> None:
        """Judge by `chain` from the next request on."""
        previous: Chain | None = getattr(self, "chain", None)
        if previous is not None:
            chain.detection.inherit(previous.detection)
            if previous.detection.probes is not chain.detection.probes:
                previous.detection.close()
            if chain.fairness is not None and previous.fairness is not None:
                chain.fairness.inherit(previous.fairness)
            if chain.reidentification is not None and previous.reidentification is not None:
                chain.reidentification.inherit(previous.reidentification)
        self.chain = chain
        self.findings.quarantines.take_rules(chain.settings.screening.quarantine)

    def report(self) -> Report:
        """What the controller is told."""
        detection, fairness, auditing = self.chain.detection, self.chain.fairness, self.chain.auditing
        drift = detection.drift(whole=self.chain.kept)
        told = self.findings.report(self.chain.settings, detection.fitted, detection.rates(), drift)
        told = msgspec.structs.replace(told, configuration=self.configuration)
        if fairness is not None:
            self._instruments.feedback.add("lost", amount=fairness.elsewhere.expire())
            told = msgspec.structs.replace(told, fairness=fairness.labels() if fairness.kept else fairness.report())
        combined = self.chain.reidentification
        if auditing is not None and self.chain.kept:
            judged = None if combined is None else combined.judged(auditing.period)
            told = msgspec.structs.replace(told, kept=True, judged=judged)
        elif combined is not None:
            told = msgspec.structs.replace(told, combinations=combined.report())
        return told if auditing is None else msgspec.structs.replace(told, encrypted=auditing.told())

    def collect(self, asked: Collect) -> Collected:
        """What was encrypted for auditors, for the controller."""
        auditing = self.chain.auditing
        return Collected() if auditing is None else auditing.collect(asked)

    def release(self, name: str) -> int:
        """Let every client of this name go; how many were held."""
        self.chain.detection.release(name)
        return self.findings.quarantines.release(name)

    def labels(self, brought: Labels) -> int:
        """Take what other replicas were told; of how many requests it was counted."""
        fairness = self.chain.fairness
        return 0 if fairness is None else feedback.bring(fairness, brought, self._instruments.feedback)

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
            raise passing.fault(error) from None

    def _admit(self, exchange: Exchange, chain: Chain) -> None:
        header = exchange.header
        access = chain.access
        exchange.caller = caller = self._who(exchange, access)
        self.findings.quarantines.refuse(caller)
        route = self.route(chain, exchange)
        exchange.operation = route.operation
        exchange.model = route.model
        exchange.purpose = access.purpose(caller, header.get(b"x-modelward-purpose"))
        ticket = access.authorise(caller, route.operation, exchange.purpose)
        if route.has_body:
            self.check_media(header, route)
        exchange.state = work = Work(chain, route, ticket, counts=chain.counts and not caller.tests)
        if work.explains and b"/versions/" in exchange.target:  # whose answer is explained is the one that is asked
            raise Refusal(
                "not-found", "Only the model's default version can be explained: leave out `/versions/` and its name."
            )

    def _who(self, exchange: Exchange, access: Access) -> Caller:
        """Who asks; the security test is nobody whom an issuer vouches for."""
        try:
            return access.authenticate(exchange.header.get(b"authorization"), exchange.certificate)
        except Refusal:
            tester = self.testers.caller(exchange) if self.testers is not None else None
            if tester is None:
                raise
            return tester

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
            if work.route.operation == "Feedback":
                passes_on = self.control is not None
                reply(feedback.take(work.chain.fairness, exchange, self._instruments.feedback, passes_on=passes_on))
                return None
            abandon = self.encrypted(exchange, work, reply)
            if abandon is not None:
                return abandon
            payload = self._payload(exchange, work)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001
            raise passing.fault(error) from None
        exchange.upstream_started = time.perf_counter()
        if work.explains:
            return self._explain(exchange, work, payload, reply)
        return self._call(exchange, work, payload, reply)

    def _call(self, exchange: Exchange, work: Work, payload: Any, reply: Reply) -> Callable[[], None]:
        settle = partial(self._settle, exchange, work, reply)
        if work.probed is None:
            return self.forward(work, payload, settle)
        return self._probe(exchange, work, payload, settle)

    def _explain(self, exchange: Exchange, work: Work, payload: Any, reply: Reply) -> Callable[[], None]:
        """Ask the model as for any answer; when it may go out, have it explained."""
        chain = work.chain
        assert chain.explaining is not None  # noqa: S101 - it explains

        def explained(outcome: Outcome) -> None:
            exchange.upstream_time = time.perf_counter() - exchange.upstream_started
            reply(outcome)

        caller = exchange.caller.key if exchange.caller is not None else ""
        pending = chain.explaining.begin(caller, work.subjects, chain.upstream, self._instruments.asked, explained)
        try:
            abandon = self._call(exchange, work, payload, pending.settle)
        except Refusal:
            pending.abandon()
            raise

        def leave() -> None:
            pending.abandon()
            abandon()

        return leave

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

        waiting = probes.while_asked(
            chain.upstream, work.probed, self._instruments.asked, conclude, counts=not exchange.tests
        )
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

    def encrypted(self, exchange: Exchange, work: Work, reply: Reply) -> Callable[[], None] | None:
        """Have an encrypted request scored; None: it is a plain one. A score is given to who may `Infer` alone."""
        path = work.chain.encrypted
        if path is None or work.route.operation != "Infer" or work.route.streams or work.explains:
            return None
        return path.take(exchange, rest.body_of(exchange), reply)

    def route(self, chain: Chain, exchange: Exchange) -> Route:
        """What is asked for; raises Refusal."""
        return chain.router.route(exchange.method, exchange.target)

    @staticmethod
    def check_media(header: dict[bytes, bytes], route: Route) -> None:
        """Whether the body is in a form that is read here; raises Refusal."""
        rest.check_media(header, route)

    def forward(self, work: Work, payload: Any, settle: Callable[[Outcome], None]) -> Callable[[], None]:
        """Ask the model; returns how to abandon it."""
        return work.chain.upstream.call(payload, settle, streams=work.route.streams)

    def _payload(self, exchange: Exchange, work: Work) -> Any:
        """The request for the model, once the body has passed."""
        chain = work.chain
        exchange.trace = trace_of(exchange.header, own=self.tracing is not None)
        if not work.route.has_body:
            return rest.request(b"GET", exchange, chain.authority, None)
        checked = self.judged(exchange, work, rest.body_of(exchange))
        target = b"" if chain.explaining is None or not work.explains else chain.explaining.target
        return rest.request(b"POST", exchange, chain.authority, checked.encode(), target)

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
        if work.counts:
            counting.begin(work, checked.tensors)
        if chain.treatments is not None:
            chain.treatments.apply(checked.tensors)
            exchange.treated = chain.treated
            if chain.answers is not None:
                work.tensors = checked.tensors
        if work.counts:
            counting.treated(work, checked.tensors)
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
        if chain.explaining is not None and work.explains:
            work.subjects = chain.explaining.subjects(checked.tensors)
        return checked

    def _watch(self, exchange: Exchange, work: Work, body: Body) -> None:
        verdicts = work.chain.detection.judge_answer(exchange, body)
        if verdicts:
            work.flag = self.findings.act(exchange, verdicts)

    def _settle(self, exchange: Exchange, work: Work, reply: Reply, outcome: Outcome) -> None:
        exchange.upstream_time = time.perf_counter() - exchange.upstream_started
        if isinstance(outcome, Response) and outcome.status >= REDIRECTS:
            exchange.failure = failures.Failure.of(outcome.status, outcome.body)
            outcome = failures.instead_of(outcome, work.flag)
        elif isinstance(outcome, Response):
            if work.groups is not None:
                work.answered = outcome
            outcome = passing.response(outcome, work)
        elif isinstance(outcome, Stream):
            outcome = self._screened(outcome, work)
        reply(outcome)

    @staticmethod
    def _screened(outcome: Stream, work: Work) -> Outcome:
        """A stream, each event of which is checked where anything is."""
        try:
            passing.check_plain(outcome.headers, work)
            if work.chain.outputs is not None or work.chain.answers is not None or work.watch is not None:
                outcome.screen = EventScreen(partial(passing.event, work))
            outcome.headers += work.flag
        except Refusal as refusal:  # its pieces are then for nobody, and the model is left
            return refusal
        return outcome

    def finished(self, exchange: Exchange) -> None:
        """Measure and record; what the controller asks is no request to the model."""
        work = exchange.state
        if isinstance(work, Order):
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
        if isinstance(work, Work) and work.counts:
            counting.count(exchange, work, self.body_of_answer)

    @staticmethod
    def body_of_answer(response: Response) -> Body:
        """What the model said, in the form of REST."""
        return Body(response.body, binary.header_value(response.headers))
