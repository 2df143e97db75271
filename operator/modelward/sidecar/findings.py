"""What becomes of a verdict besides the answer: it is counted, told to the controller, and held against the client."""

import time
from collections.abc import Callable, Sequence

from modelward.detect.clients import network_of
from modelward.incidents import Drifted, Rate, Report
from modelward.sidecar.config import Config
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.incidents import Incidents, Key, rfc3339
from modelward.sidecar.metrics import Counter
from modelward.sidecar.quarantine import Quarantines
from modelward.sidecar.verdict import Verdict, worst
from modelward.sidecar.windows import Windows


class Findings:
    """All that was found since the sidecar began, over all changes of the configuration.

    `count` is `modelward_anomalies_total{detector,action}`; `note` puts a line into the access log.
    """

    def __init__(self, count: Counter, note: Callable[..., None], clock: Callable[[], float] = time.time) -> None:
        self._count = count
        self._note = note
        self.incidents = Incidents(clock)
        self.quarantines = Quarantines(clock)
        self.windows = Windows(clock)

    def act(self, exchange: Exchange, verdicts: Sequence[Verdict]) -> bytes:
        """Take what was found of `exchange`; the worst acts. The header line that tells the caller.

        Raises:
            Refusal: the request, or its answer, must not go on.
        """
        for verdict in verdicts:
            self._take(exchange, verdict)
        exchange.finding = acting = worst((exchange.finding, *verdicts))
        if acting is None:
            return b""
        if acting.refusal is not None:
            raise acting.refusal
        return b"x-modelward-verdict: " + acting.name.encode() + b"\r\n"

    def _take(self, exchange: Exchange, verdict: Verdict) -> None:
        caller = exchange.caller
        if caller is None or not caller.tests:  # nobody is to be alarmed by a test; the access log tells of it
            self._count.add(verdict.detector, verdict.action)
        if caller is None:
            return
        if not caller.tests:
            network = network_of(exchange.address)
            self.incidents.add(Key(caller.name, caller.issuer, network, verdict.detector, verdict.action), exchange.id)
        held = self.quarantines.count(caller, verdict.detector) if verdict.anomaly else None
        if held is not None:
            self._note("quarantined", client=held.client, issuer=held.issuer, until=held.until, reason=held.reason)

    def report(self, settings: Config, fitted: str, rates: tuple[Rate, ...], drift: tuple[Drifted, ...]) -> Report:
        """What the controller is told, under the configuration in force. `fitted`: when its baseline was made."""
        bound, baseline = settings.binding, settings.screening.baseline
        return Report(
            model=f"{bound.namespace}/{bound.name}",
            baseline=f"sha256:{baseline.sha256}" if baseline else "",
            fitted=fitted,
            since=rfc3339(self.incidents.since),
            incidents=self.incidents.told(),
            quarantined=self.quarantines.told(),
            rates=rates,
            drift=drift,
            dropped=self.incidents.dropped,
            served=self.windows.told(),
        )
