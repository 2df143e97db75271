"""The detectors of one configuration, built from its baseline and the declared inputs, and asked together."""

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from modelward.detect import clients
from modelward.detect.baseline import Baseline, BaselineError, from_bytes
from modelward.detect.encoding import Array
from modelward.detect.observed import RateWatch
from modelward.incidents import Drifted, Rate
from modelward.sidecar import config, log
from modelward.sidecar.binary import Body
from modelward.sidecar.columns import Columns
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.problems import Refusal
from modelward.sidecar.screening import Screen
from modelward.sidecar.tensors import Tensor, TensorSpec
from modelward.sidecar.verdict import Verdict

if TYPE_CHECKING:
    from modelward.sidecar.probes import Probes
    from modelward.sidecar.watch import Watch

MAX_ROWS = 4096
"""Rows of one request that are looked at. All is done while other callers wait: a body of 4 MiB holds a million rows of
a column, a minute's work for the costlier detectors."""
_MOST_SHIFTS = 32  # that the metrics tell, however many columns there are
_network_of = lru_cache(maxsize=4096)(clients.network_of)


class Detection:
    """What watches a model's requests and answers. A verdict comes with reasons where the policies let values be seen.

    `screen`: the detectors of single rows; `watch`: those that remember; `needs_answers`: they want to see answers as
    well; `fitted`: when the baseline was made, where it says so.

    What a configuration does not ask for is not loaded: that is megabytes.

    Raises:
        ConfigError: no baseline or no declared inputs to go with a detector, or they do not fit one another.
    """

    def __init__(
        self, settings: config.Config, content: bytes | None, declared: Mapping[str, TensorSpec] | None
    ) -> None:
        self._settings = settings
        screening = settings.screening
        asked = {each.type: each for each in screening.detectors}
        if len(asked) != len(screening.detectors):
            raise config.ConfigError("a detector is asked for twice; keep one of its type")
        of_rows = [each for each in asked.values() if each.type in config.INPUT_TYPES]
        watching = [each for each in asked.values() if each.type in config.WATCH_TYPES]
        comparing = next((name for name in asked if name != "Output"), None)
        baseline = None if comparing is None else _baseline(comparing, content, asked)
        self._columns = None if baseline is None else _columns(str(comparing), baseline, declared)
        self.fitted = "" if baseline is None else baseline.origin.fitted
        self.screen: Screen | None = None
        self._rates: list[RateWatch] = []
        if of_rows and baseline is not None and self._columns is not None:
            self.screen = Screen(screening, of_rows, baseline, self._columns, explains=settings.record_values)
            self._rates = [RateWatch(rate) for rate in self.screen.rates]
        self.watch: Watch | None = None
        if watching:
            from modelward.sidecar import watch  # noqa: PLC0415

            watchers = dict(watch.watchers(watching, baseline))
            self.watch = watch.Watch(screening, settings.upstream.protocol, watchers)
        self.probes: Probes | None = None
        probing = [each for each in asked.values() if each.type in config.PROBE_TYPES]
        if probing and baseline is not None and self._columns is not None and declared is not None:
            from modelward.sidecar import asking, probes  # noqa: PLC0415

            model = asking.Asking(settings.upstream, self._columns, declared)
            model.check_covered()
            self.probes = probes.Probes(screening, probing, baseline, model, declared)
        self.needs_answers = self.watch is not None and self.watch.needs_answers
        self._active = bool(asked)

    def inherit(self, previous: "Detection") -> None:
        """Go on remembering where the configuration before this one stopped, for the detectors that are the same."""
        before, now = previous._settings, self._settings  # noqa: SLF001 - its own kind
        if [_compared(before), before.upstream.model] != [_compared(now), now.upstream.model]:
            return
        if previous.screen is not None and self.screen is not None and previous.screen.same(self.screen):
            self._rates = previous._rates  # noqa: SLF001
        theirs = {each.type: each for each in before.screening.detectors}
        same = {each.type for each in now.screening.detectors if theirs.get(each.type) == each}
        learnt = previous.probes
        if learnt is not None and self.probes is not None and {*learnt.names} == {*self.probes.names} <= same:
            self.probes = learnt.under(now.screening)
        if previous.watch is not None and self.watch is not None:
            self.watch.inherit(previous.watch, same)

    def judge(self, exchange: Exchange, tensors: Sequence[Tensor]) -> Sequence[Verdict]:
        """What a request is found to be; may change the tensors' data when it is to be sanitised.

        Raises:
            Refusal: 422, it has more rows than are looked at, or inputs of different numbers of rows.
        """
        if self._active and any(tensor.rows > MAX_ROWS for tensor in tensors):
            raise Refusal(
                "schema-violation", f"A request may have at most {MAX_ROWS} rows here: send several requests."
            )
        watched = self._before(exchange, tensors) if self.watch is not None and self.watch.needs_rows else ()
        # How often a row is strange, no security test has a say in.
        found = None if self.screen is None else self.screen.judge(tensors, counted=not exchange.tests)
        return watched if found is None else (*watched, found)

    def to_probe(self, tensors: Sequence[Tensor], *, streams: bool) -> tuple[Array | None, Sequence[Verdict]]:
        """The encoded rows that the model is to be asked about again; or none, and what that means.

        `streams`: the answer would be gone before the verdict.
        """
        if self.probes is None or self._columns is None:
            return None, ()
        if not streams:
            try:
                return self._columns.rows(tensors), ()
            except Exception as error:  # noqa: BLE001 - the policy says what it means
                log.fault("the rows of a request could not be had", error)
        return None, self.probes.failed()

    def judge_answer(self, exchange: Exchange, body: Body) -> Sequence[Verdict]:
        """What the model's answer is found to be."""
        return () if self.watch is None else self.watch.after(_facts(exchange), body, exchange.rows)

    def release(self, name: str) -> None:
        """Forget what is held against a client, whoever vouches for it."""
        if self.watch is not None:
            for issuer in (*(each.name for each in self._settings.access.issuers), "client-certificate"):
                self.watch.release(clients.Caller(name, issuer, ""))

    def _before(self, exchange: Exchange, tensors: Sequence[Tensor]) -> Sequence[Verdict]:
        assert self.watch is not None  # noqa: S101 - asked by judge
        assert self._columns is not None  # noqa: S101 - there is a baseline
        try:
            rows = self._columns.rows(tensors)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - the policy says what it means
            log.fault("the rows of a request could not be had", error)
            return self.watch.failed()
        return self.watch.before(_facts(exchange), rows)

    def close(self) -> None:
        """Nothing is asked of the model any more."""
        if self.probes is not None:
            self.probes.close()

    # --- how it stands

    def tick(self) -> None:
        """Bring the counts of rows up to date; called about twice a second."""
        if self.screen is not None:
            seen, found = self.screen.counted()
            for rate, alarms in zip(self._rates, found, strict=True):
                rate.add(seen, alarms)

    def rates(self) -> tuple[Rate, ...]:
        """How often each detector of rows finds one strange."""
        self.tick()
        names = self.screen.names if self.screen is not None else ()
        of_probes = self.probes.rates if self.probes is not None else {}
        watched = (*zip(names, self._rates, strict=True), *of_probes.items())
        return tuple(Rate(name, *each.verdict()) for name, each in watched)

    def drift(self, *, whole: bool = False) -> tuple[Drifted, ...]:
        """What has drifted.

        With `whole` scores are rounded up to whole numbers: from that of a feature of two values anybody computes how
        many rows had each.
        """
        drift = self.watch.drift() if self.watch is not None else None
        found = () if drift is None else drift.told(time.time())
        return (
            tuple(msgspec.structs.replace(one, score=float(math.ceil(one.score))) for one in found) if whole else found
        )

    def shifts(self, *, whole: bool = False) -> Iterator[tuple[tuple[str, ...], float]]:
        """The greatest scores of drift's tests, by feature (empty: all together) and test; `whole` as of `drift`."""
        drift = self.watch.drift() if self.watch is not None else None
        for feature, test, score in drift.scores()[:_MOST_SHIFTS] if drift is not None else ():
            yield (feature, test), float(math.ceil(score)) if whole and math.isfinite(score) else score

    def described(self) -> str:
        """The detectors of single rows and the rates asked of them, as in `Ensemble=0.01 Tails=0.05`."""
        screen = self.screen
        return "" if screen is None else " ".join(map("{}={:g}".format, screen.names, screen.rates))


def _facts(exchange: Exchange) -> clients.Facts:
    caller = exchange.caller
    name, issuer = (caller.name, caller.issuer) if caller is not None else ("", "")
    if caller is not None and caller.tests:  # it shares no network with others, and no issuer with the test before
        return clients.Facts(clients.Caller(name, name, name), time.time(), tests=True)
    return clients.Facts(clients.Caller(name, issuer, _network_of(exchange.address)), time.time())


def _compared(settings: config.Config) -> tuple[object, ...]:
    """What detectors' memories depend on, besides their own settings."""
    return settings.screening.baseline, settings.inputs, settings.outputs, settings.fields


def _baseline(detector: str, content: bytes | None, asked: Collection[str]) -> Baseline:
    if content is None:
        raise config.ConfigError(f"the detector {detector} needs a baseline: fit one with `modelward fit`")
    try:
        return from_bytes(content, asked)
    except BaselineError as error:
        raise config.ConfigError(f"the baseline: {error}") from error


def _columns(detector: str, baseline: Baseline, declared: Mapping[str, TensorSpec] | None) -> Columns:
    if declared is None:
        raise config.ConfigError(f"the detector {detector} needs the model's inputs declared in `spec.schema.inputs`")
    return Columns(baseline, declared)
