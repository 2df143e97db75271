"""Evasion and Backdoor: detectors that ask the model more than the caller did.

They first learn how the model answers ordinary rows, the baseline's sample; until then they cannot judge. From then on
a request's rows are asked about again, with what each detector wants to know, while the model answers the caller; the
answer waits for the verdict, for a bounded time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from modelward.detect.answers import AnswerError
from modelward.detect.backdoor import Backdoor
from modelward.detect.baseline import Baseline
from modelward.detect.encoding import Array
from modelward.detect.evasion import Evasion
from modelward.detect.observed import RateWatch
from modelward.detect.probing import Learning, Probe, Probed, ProbeError
from modelward.detect.surroundings import Surroundings
from modelward.sidecar import config, log
from modelward.sidecar.asking import Asking, part
from modelward.sidecar.exchange import Outcome
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tensors import TensorSpec
from modelward.sidecar.upstream import Upstream
from modelward.sidecar.verdict import Verdict, anomalous_input, failed

MAX_ROWS = 64  # of one request
SECONDS = 5.0  # that an answer waits for a verdict
_BATCH = 32  # rows that are learnt from at once
_AGAIN_SECONDS = 2.0  # between attempts to learn
_USUAL_RATE = 0.01

Count = Callable[[str, int], None]
"""Told how many rows a detector has asked the model."""


class Probes:
    """Those that one configuration asks for.

    Raises:
        ConfigError: one cannot work with this baseline, or with this number of extra rows.
    """

    def __init__(
        self,
        screening: config.Screening,
        asked: Sequence[config.Detector],
        baseline: Baseline,
        asking: Asking,
        declared: Mapping[str, TensorSpec],
    ) -> None:
        self._on_anomaly = screening.on_anomaly
        self._on_error = screening.on_detector_error
        self._asking = asking
        self._sample = baseline.summary.sample
        try:
            around = Surroundings.of(self._sample, image=_image(declared), fixed=_codes(baseline))
            self._learning = {
                each.type: Learning(_probe(each, around), each.false_positive_rate or _USUAL_RATE) for each in asked
            }
        except ProbeError as error:
            raise config.ConfigError(str(error)) from error
        self._detectors: dict[str, Probed] = {}
        self._task: asyncio.Task[None] | None = None
        self.rates: dict[str, RateWatch] = {
            each.type: RateWatch(each.false_positive_rate or _USUAL_RATE) for each in asked
        }
        self.names = tuple(self._learning)
        self._learning_left = set(self.names)
        self._faults: dict[str, str] = {}  # of those that cannot work with this model

    def under(self, screening: config.Screening) -> "Probes":
        """The same, with what it has learnt, under what `screening` says of its findings."""
        self._on_anomaly = screening.on_anomaly
        self._on_error = screening.on_detector_error
        return self

    # --- learning

    def learn(self, upstream: Upstream, count: Count) -> None:
        """Begin to learn from the model, unless that has begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._learn(upstream, count))

    def close(self) -> None:
        """Learn no further."""
        if self._task is not None:
            self._task.cancel()

    async def _learn(self, upstream: Upstream, count: Count) -> None:
        for name, learning in self._learning.items():
            try:
                await self._learn_one(name, learning, upstream, count)
            except (AnswerError, ProbeError) as error:
                self._faults[name] = str(error)
                log.event("error", "a detector cannot work with this model", detector=name, why=str(error))
            except Exception as error:  # noqa: BLE001 - the others learn on; what it means is the policy's to say
                self._faults[name] = "it failed while it learnt"
                log.fault("a detector failed to learn", error)
            self._learning_left.discard(name)

    def not_ready(self) -> str:
        """What keeps requests from being judged, where they must be; nothing when all is well."""
        if self._on_error == "Pass":
            return ""
        for name, why in self._faults.items():
            return f"{name} cannot work with this model: {why}"
        left = ", ".join(sorted(self._learning_left))
        return f"learning how the model answers: {left}" if left else ""

    async def _learn_one(self, name: str, learning: Learning, upstream: Upstream, count: Count) -> None:
        for start in range(0, len(self._sample), _BATCH):
            if learning.full:
                break
            rows = self._sample[start : start + _BATCH]
            probes = learning.probes(rows)
            while True:
                try:
                    outputs = await self._asking.ask(upstream, np.concatenate([rows, probes]))
                    break
                except Refusal:  # busy, or gone for a while
                    await asyncio.sleep(_AGAIN_SECONDS)
            count(name, len(rows) + len(probes))
            stop = len(rows) + len(probes)
            learning.add(rows, part(outputs, 0, len(rows)), part(outputs, len(rows), stop))
        self._detectors[name] = await asyncio.to_thread(learning.detector)
        log.event("info", "a detector has learnt how the model answers", detector=name, rows=learning.learnt)

    # --- judging

    async def judge(self, upstream: Upstream, rows: Array, count: Count, *, counts: bool = True) -> list[Verdict]:
        """What the encoded `rows` (n, d) of a request are found to be; `counts`: towards how often that is."""
        try:
            async with asyncio.timeout(SECONDS):
                return await self._judge(upstream, rows, count, counts=counts)
        except (AnswerError, ProbeError, Refusal, TimeoutError) as error:
            log.event("warning", "detectors could not judge a request", why=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the policy says what a failing detector means
            log.fault("a detector failed", error)
        return self.failed()

    def while_asked(
        self,
        upstream: Upstream,
        rows: Array,
        count: Count,
        then: Callable[[Outcome, list[Verdict]], None],
        *,
        counts: bool = True,
    ) -> "Waiting":
        """Begin to judge `rows` while the model is asked for the caller; `then` gets its answer and the verdicts."""
        judging = self.judge(upstream, rows, count, counts=counts)
        return Waiting(asyncio.get_running_loop().create_task(judging), then)

    def failed(self) -> list[Verdict]:
        """What it means that a request cannot be judged."""
        return [failed(name, self._on_error) for name in self.names]

    async def _judge(self, upstream: Upstream, rows: Array, count: Count, *, counts: bool) -> list[Verdict]:
        verdicts = [failed(name, self._on_error) for name in self.names if name not in self._detectors]
        if not self._detectors:
            return verdicts
        if len(rows) > MAX_ROWS:
            raise ProbeError("too many rows")
        wanted = {name: detector.probes(rows) for name, detector in self._detectors.items()}
        outputs = await self._asking.ask(upstream, np.concatenate([rows, *wanted.values()]))
        given, start = part(outputs, 0, len(rows)), len(rows)
        for name, probes in wanted.items():
            count(name, len(probes))
            scores = self._detectors[name].scores(rows, given, part(outputs, start, start + len(probes)))
            start += len(probes)
            strange = ~(scores <= 1.0)
            if counts:
                self.rates[name].add(len(rows), int(strange.sum()))
            if strange.any():
                verdicts.append(self._verdict(name, float(np.nan_to_num(scores, nan=np.inf).max())))
        return verdicts

    def _verdict(self, name: str, score: float) -> Verdict:
        reasons = (f"the model's answers to rows like it: {score:.2f}",)
        if self._on_anomaly == "Flag":
            return Verdict("anomalous", name, "flagged", reasons=reasons)
        return Verdict("anomalous", name, "blocked", anomalous_input(), reasons=reasons)


class Waiting:
    """An answer that waits for the verdict on its request: `settle` gets it, `then` both."""

    def __init__(self, judging: asyncio.Task[list[Verdict]], then: Callable[[Outcome, list[Verdict]], None]) -> None:
        self._judging = judging
        self._then = then
        self._outcome: Outcome | None = None
        judging.add_done_callback(self._done)

    def settle(self, outcome: Outcome) -> None:
        """The model has answered."""
        self._outcome = outcome
        if isinstance(outcome, Refusal):  # nothing is left to be judged
            self._judging.cancel()
        if self._judging.done():
            self._tell()

    def abandon(self) -> None:
        """The caller has gone."""
        self._judging.cancel()
        self._outcome = None

    def _done(self, _: object) -> None:
        if self._outcome is not None:
            self._tell()

    def _tell(self) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._then(outcome, [] if self._judging.cancelled() else self._judging.result())


def _probe(asked: config.Detector, around: Surroundings) -> Probe:
    return Backdoor(around, asked.extra_calls) if asked.type == "Backdoor" else Evasion(around, asked.extra_calls)


def _image(declared: Mapping[str, TensorSpec]) -> tuple[int, int, int] | None:
    """Height, width and channels where the one input is declared as images, channels last."""
    if len(declared) != 1:
        return None
    match next(iter(declared.values())).shape:
        case [-1, height, width] if height > 3 and width > 4:
            return height, width, 1
        case [-1, height, width, (1 | 3 | 4) as channels] if height > 3 and width > 3:
            return height, width, channels
    return None


def _codes(baseline: Baseline) -> list[int]:
    return [index for index, column in enumerate(baseline.encoding.columns) if column.categories is not None]
