"""What becomes of a verdict besides the answer: it is counted, told to the controller, and held against the client."""

import time
from collections.abc import Callable

from modelward.incidents import Drifted, Rate, Report
from modelward.sidecar.config import Config
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.incidents import Incidents, Key, network_of, rfc3339
from modelward.sidecar.metrics import Counter
from modelward.sidecar.quarantine import Quarantines
from modelward.sidecar.verdict import Verdict


class Findings:
    """All that was found since the sidecar began, over all changes of the configuration.

    `count` is `modelward_anomalies_total{detector,action}`; `note` puts a line into the access log.
    """

    def __init__(self, count: Counter, note: Callable[..., None], clock: Callable[[], float] = time.time) -> None:
        self._count = count
        self._note = note
        self.incidents = Incidents(clock)
        self.quarantines = Quarantines(clock)

    def take(self, exchange: Exchange, verdict: Verdict) -> None:
        """Take the verdict that acts on `exchange`, and any that does not as well."""
        self._count.add(verdict.detector, verdict.action)
        caller = exchange.caller
        if caller is None:
            return
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
        )
