"""What the sidecar measures. Port 9090 tells it to the cluster's monitoring: counts and times, nothing of a caller."""

import os
import resource
import time
from collections.abc import Callable, Iterable

from modelward.sidecar.access_log import SINK
from modelward.sidecar.config import PROBE_TYPES
from modelward.sidecar.exchange import CLIENT_GONE, Exchange
from modelward.sidecar.metrics import Counter, Gauge, Gauges, Histogram, Metric, Sample, exposition
from modelward.sidecar.problems import TABLE
from modelward.sidecar.quarantine import QUARANTINED
from modelward.sidecar.telemetry import METRICS, TRACES
from modelward.sidecar.verdict import ACTIONS

_DENIALS = ("unauthenticated", "forbidden", "rate-limited")
OUTCOMES = ("sent", "dropped", "failed")  # of a record, on its way to a sink
OF_FEEDBACK = ("taken", "unknown", "repeated", "unfit", "kept", "full", "lost")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Instruments:
    """All of the metrics. The callables are asked when the metrics are read."""

    def __init__(self) -> None:
        outcomes = [("answered",), ("abandoned",), *((problem.slug,) for problem in TABLE)]
        self.requests = Counter("modelward_requests_total", "Requests, by what came of them.", ("outcome",), outcomes)
        self.denied = Counter(
            "modelward_access_denied_total",
            "Requests refused by access rules.",
            ("reason",),
            [(slug,) for slug in (*_DENIALS, QUARANTINED)],
        )
        self.anomalies = Counter(
            "modelward_anomalies_total",
            "Requests that a detector found anomalous, or could not judge.",
            ("detector", "action"),
        )
        self.overhead = Histogram(
            "modelward_overhead_seconds", "Time in the sidecar, from a request's last byte, without the model's."
        )
        self.upstream = Histogram("modelward_upstream_seconds", "Time in the model server.")
        self.telemetry = Counter(
            "modelward_telemetry_total",
            "Records, by what became of them; of otlp-metrics: exports.",
            ("sink", "outcome"),
            [(sink, outcome) for sink in (SINK, TRACES, METRICS) for outcome in OUTCOMES],
        )
        self.reloads = Counter(
            "modelward_configuration_reloads_total",
            "Configurations and certificates seen.",
            ("outcome",),
            [("taken",), ("refused",)],
        )
        self.key_fetches = Counter(
            "modelward_issuer_key_fetches_total",
            "Fetches of issuers' keys by URL; expired: keys given up, the issuer having been silent for too long.",
            ("outcome",),
            [("fetched",), ("failed",), ("expired",)],
        )
        self.rate_limit_checks = Counter(
            "modelward_rate_limit_checks_total",
            "Requests under a shared rate limit: counted together with the other replicas, or alone.",
            ("counted",),
            [("together",), ("alone",)],
        )
        self.extra_calls = Counter(
            "modelward_extra_model_calls_total",
            "Rows that a detector asked the model about, besides the callers'.",
            ("detector",),
            [(name,) for name in PROBE_TYPES],
        )
        self.feedback = Counter(
            "modelward_feedback_total",
            "Requests whose truth callers told, by what came of it.",
            ("outcome",),
            [(outcome,) for outcome in OF_FEEDBACK],
        )
        self.certificate_expires: float | None = None  # seconds since the epoch
        self.generation = 0
        self._gauges: list[Gauge | Gauges] = [
            Gauge(
                "modelward_certificate_expiry_seconds", "Seconds until the serving certificate expires.", self._expiry
            ),
            Gauge(
                "modelward_configuration_generation",
                "Generation of the configuration in force.",
                lambda: self.generation,
            ),
            Gauge("process_cpu_seconds_total", "CPU time used.", _cpu_seconds, "counter"),
            Gauge("process_resident_memory_bytes", "Memory in use.", _resident_bytes),
        ]

    def asked(self, detector: str, rows: int) -> None:
        """Count rows that a detector asked the model."""
        self.extra_calls.add(detector, amount=rows)

    def expect(self, detectors: Iterable[str]) -> None:
        """Show these detectors' series from now on, at zero."""
        for detector in detectors:
            for action in ACTIONS:
                self.anomalies.add(detector, action, amount=0)

    def watch(self, name: str, text: str, read: Callable[[], float | None]) -> None:
        """Add a gauge."""
        self._gauges.append(Gauge(name, text, read))

    def watch_all(
        self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    ) -> None:
        """Add a gauge with labels."""
        self._gauges.append(Gauges(name, text, labels, read))

    def finished(self, exchange: Exchange, overhead: float) -> None:
        """Count a finished exchange."""
        refusal = exchange.refusal
        if refusal is not None:
            slug = refusal.problem.slug
            self.requests.add(slug)
            if slug in _DENIALS:
                self.denied.add(QUARANTINED if refusal.reason == QUARANTINED else slug)
        elif exchange.status == CLIENT_GONE:
            self.requests.add("abandoned")
        else:
            self.requests.add("answered")
        self.overhead.observe(overhead)
        if exchange.upstream_time:
            self.upstream.observe(exchange.upstream_time)

    def exposition(self) -> bytes:
        """The metrics as Prometheus reads them."""
        return exposition(self._all())

    def samples(self) -> list[Sample]:
        """The metrics at this moment."""
        return [metric.sample() for metric in self._all()]

    def _all(self) -> tuple[Metric, ...]:
        return (
            self.requests,
            self.denied,
            self.anomalies,
            self.overhead,
            self.upstream,
            self.telemetry,
            self.reloads,
            self.key_fetches,
            self.rate_limit_checks,
            self.extra_calls,
            self.feedback,
            *self._gauges,
        )

    def _expiry(self) -> float | None:
        return None if self.certificate_expires is None else self.certificate_expires - time.time()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_bytes() -> float | None:
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * _PAGE
    except OSError:  # not Linux
        return None
