"""`explain`: the model's own answer to a request, and why it is that.

A request to explain goes by all the checks that one to infer does, and the model answers it. Then the model is asked
about more rows, call by call, with rests between, and for one row at a time, of each request in turn: whoever infers
comes first, and nobody's many rows keep another's from being explained.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial

import numpy as np

from modelward.detect.answers import AnswerError, Output
from modelward.detect.baseline import BaselineError, from_bytes
from modelward.detect.encoding import Array
from modelward.explain.methods import Explained, Method, MethodError, UnfaithfulError
from modelward.explain.reasons import reasons
from modelward.explain.target import open_outputs
from modelward.explain.weights import WeightsError
from modelward.privacy.spec import KEEP
from modelward.sidecar import config, log
from modelward.sidecar.asking import Asking, joined
from modelward.sidecar.columns import Columns, Subject
from modelward.sidecar.exchange import REDIRECTS, Outcome, Reply, Response
from modelward.sidecar.explained import method_of, tellers_of, treated_outputs, treatments_by_column
from modelward.sidecar.explanation import Explanation, Row, with_explanation
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tensors import Tensor, TensorSpec
from modelward.sidecar.upstream import Upstream

MAX_ROWS = 16  # of one request
MAX_PENDING = 8  # requests, the one that is being explained among them
MAX_OF_ONE = 2  # caller, of those
SECONDS = 30.0  # for the rows of one request, when it is their turn
ASKER = "Explanations"  # among those who ask the model for more than callers do
_ROWS = 64  # of one call
_ELEMENTS = 4096  # of the rows of one call: a millisecond's work here
_REST = 2  # times what a call took: as long is nothing asked after it, in which the model answers others
_LONGEST_REST = 0.05  # seconds

Count = Callable[[str, int], None]
"""Told who has asked the model about how many rows."""


class Explaining:
    """The explanations of one configuration.

    Raises:
        ConfigError: there is no baseline, or there are no declared inputs; or the method cannot be used with them.
    """

    def __init__(
        self,
        settings: config.Config,
        asked: config.Explanations,
        baseline: bytes | None,
        weights: bytes | None,
        declared: Mapping[str, TensorSpec] | None,
    ) -> None:
        named = settings.screening.baseline
        if baseline is None or named is None or declared is None:
            raise config.ConfigError("explanations need a baseline and the model's declared inputs")
        try:
            fitted = from_bytes(baseline, ())
        except BaselineError as error:
            raise config.ConfigError(f"the baseline: {error}") from error
        self._settings = asked
        self._baseline = f"sha256:{named.sha256}"
        self._treated = treated_outputs(settings)
        self._declared = None if settings.outputs is None else frozenset(each.name for each in settings.outputs)
        self._columns = Columns(fitted, declared)
        self._asking = Asking(settings.upstream, self._columns, declared, asked.output)
        self.target = self._asking.path.encode()
        treatments = treatments_by_column(settings)
        dropped = np.array([treatments.get(name, KEEP).treatment == "Drop" for name in self._columns.names])
        try:
            self._method = method_of(asked, weights, fitted, self._columns, dropped)
        except (MethodError, WeightsError) as error:
            raise config.ConfigError(f"explanations: {error}") from error
        self._shown = np.flatnonzero(~dropped)
        self._tellers = tellers_of(fitted, self._columns.names, treatments, asked.hidden, self._shown)
        self._pending: Counter[str] = Counter()  # by caller
        self._turn = asyncio.Lock()

    def subjects(self, tensors: Sequence[Tensor]) -> list[Subject]:
        """The rows to be explained.

        Raises:
            Refusal: 422, there are too many.
        """
        if any(tensor.rows > MAX_ROWS for tensor in tensors):
            raise Refusal(
                "schema-violation", f"At most {MAX_ROWS} rows are explained at a time: send several requests."
            )
        return self._columns.subjects(tensors)

    def begin(
        self, caller: str, subjects: Sequence[Subject], upstream: Upstream, count: Count, reply: Reply
    ) -> "Pending":
        """Take a place; the model's answer is to be told to `Pending.settle`, which explains and replies.

        Raises:
            Refusal: 503, too many requests wait, of all or of this caller.
        """
        if self._pending.total() >= MAX_PENDING or self._pending[caller] >= MAX_OF_ONE:
            detail = "Too many requests wait to be explained; try again."
            raise Refusal("overloaded", detail, reason="explanations-full", headers=b"retry-after: 5\r\n")
        self._pending[caller] += 1

        def explain(answer: Response) -> Coroutine[None, None, Response]:
            return self._explained(answer, subjects, _Asked(self._asking, self._open, upstream, count))

        return Pending(explain, reply, partial(self._leave, caller))

    def _leave(self, caller: str) -> None:
        self._pending[caller] -= 1
        if not self._pending[caller]:
            del self._pending[caller]

    def _open(self, outputs: Sequence[Output]) -> list[Output]:
        return open_outputs(outputs, self._treated, self._settings.output, self._declared)

    async def _explained(self, answer: Response, subjects: Sequence[Subject], asked: "_Asked") -> Response:
        try:
            found = await self._in_turn(subjects, asked)
        except TimeoutError:
            detail = f"The model did not answer the rows of the explanation in {SECONDS:g} seconds: send fewer rows."
            raise Refusal("upstream-timeout", detail, reason="explanation-slow") from None
        except AnswerError as error:
            log.event("warning", "an answer could not be explained", why=str(error))
            raise Refusal("bad-upstream", f"The answer cannot be explained: {error}.", reason="unexplained") from None
        except UnfaithfulError:
            log.event("error", "the weights of explanations are not those of the model: export them anew")
            raise Refusal(
                "bad-upstream",
                "The weights that explain are not those of the model that answers, and an explanation of another model"
                " would be worse than none; tell the model's owner the `instance`.",
                reason="unfaithful",
            ) from None
        return with_explanation(answer, self._told(subjects, found, asked.rows))

    async def _in_turn(self, subjects: Sequence[Subject], asked: "_Asked") -> list[Explained]:
        """What explains each row; those of other requests come between them, and their time is not this one's."""
        found: list[Explained] = []
        left = SECONDS
        for subject in subjects:
            async with self._turn:  # whoever waits longest is next
                began = time.monotonic()
                async with asyncio.timeout(left):
                    found.append(await asked.explained(self._method, subject))
                left -= time.monotonic() - began
        return found

    def _told(self, subjects: Sequence[Subject], found: Sequence[Explained], asked_rows: int) -> Explanation:
        return Explanation(
            method=self._settings.method,
            explained=[each.what for each in found],
            columns=[teller.name for teller in self._tellers],
            baseline=self._baseline,
            reference_rows=self._method.references,
            asked_rows=asked_rows,
            rows=[self._row(subject.row, each) for subject, each in zip(subjects, found, strict=True)],
            agreement=found[0].agreement,
            contact=self._settings.contact,
            contest_url=self._settings.contest_url,
        )

    def _row(self, row: Array, found: Explained) -> Row:
        shown = self._shown
        errors = None if found.errors is None else found.errors[shown]
        unsure = None if found.unsure is None else found.unsure[shown]
        words = reasons(self._tellers, row[shown], found.towards[shown], unsure, for_class=found.of_class)
        return Row(
            value=found.value,
            base=found.base,
            contributions=found.contributions[shown].tolist(),
            reasons=words,
            standard_errors=None if errors is None else errors.tolist(),
        )


class Pending:
    """A request that waits for its answer, and then for what explains it."""

    def __init__(
        self, explain: Callable[[Response], Coroutine[None, None, Response]], reply: Reply, leave: Callable[[], None]
    ) -> None:
        self._explain = explain
        self._reply: Reply | None = reply
        self._leave = leave
        self._task: asyncio.Task[None] | None = None

    def settle(self, outcome: Outcome) -> None:
        """The model has answered, and the answer may go out; or it may not, or there is none."""
        if isinstance(outcome, Response) and outcome.status < REDIRECTS:
            self._task = asyncio.get_running_loop().create_task(self._run(outcome))
        else:
            self._finish(outcome)

    def abandon(self) -> None:
        """The caller has gone."""
        if self._task is not None:
            self._task.cancel()
        if self._reply is not None:
            self._reply = None
            self._leave()

    async def _run(self, answer: Response) -> None:
        try:
            outcome: Outcome = await self._explain(answer)
        except Refusal as refusal:
            outcome = refusal
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller is to be told
            log.fault("an explanation failed", error)
            outcome = Refusal("internal-error", "The sidecar failed; tell the model's owner the `instance`.")
        self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            self._leave()
            reply(outcome)


class _Asked:
    """Asks the model for one explanation, one call after another, and counts the rows."""

    def __init__(
        self, asking: Asking, open_: Callable[[Sequence[Output]], list[Output]], upstream: Upstream, count: Count
    ) -> None:
        self._asking = asking
        self._open = open_
        self._upstream = upstream
        self._count = count
        self.rows = 0

    async def explained(self, method: Method, subject: Subject) -> Explained:
        """What the method finds of one row."""
        conversation = method.explain(subject.row)
        rows = next(conversation)
        while True:
            outputs = await self._ask(rows, subject)
            try:
                rows = conversation.send(outputs)
            except StopIteration as end:
                explained: Explained = end.value
                return explained

    async def _ask(self, rows: Array, subject: Subject) -> list[Output]:
        step = max(1, min(self._asking.at_once, _ROWS, _ELEMENTS // rows.shape[1]))
        answers = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            began = time.monotonic()
            answers.append(self._open(await self._asking.ask(self._upstream, part, subject)))
            self._count(ASKER, len(part))
            self.rows += len(part)
            await asyncio.sleep(min(_REST * (time.monotonic() - began), _LONGEST_REST))
        return joined(answers)
