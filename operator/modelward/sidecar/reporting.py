"""Where records go: the access log's target, spans and metrics, over all changes of the configuration."""

import os
import socket

from modelward.sidecar import log
from modelward.sidecar.access_log import SINK, AccessLog, FileTarget
from modelward.sidecar.config import Binding, Telemetry
from modelward.sidecar.instruments import OUTCOMES, Instruments
from modelward.sidecar.telemetry import METRICS, TRACES, CollectorTarget, Courier, Tracing


class Reporting:
    """Brings what the configuration asks for about; `output` is where the access log goes unless it goes elsewhere."""

    def __init__(self, access_log: AccessLog, output: FileTarget, instruments: Instruments, bound: Binding) -> None:
        self.who: dict[str, str | int] = {
            "pod": os.environ.get("MODELWARD_POD") or socket.gethostname(),
            "namespace": bound.namespace,
            "model": bound.name,
            "generation": bound.generation,
        }
        self.tracing: Tracing | None = None
        self._access_log = access_log
        self._output = output
        self._instruments = instruments
        self._settings: Telemetry | None = None
        self._retired: list[Tracing] = []

    def take(self, settings: Telemetry | None) -> None:
        """Report as `settings` say from now on.

        Raises:
            ConfigError: they cannot be used; everything is as it was.
        """
        if settings == self._settings:
            return
        tracing, logs = None, None
        if settings is not None:
            tracing = Courier(settings, self.who)
            logs = Courier(settings, self.who) if settings.access_log == "OTLP" else None
        if self.tracing is not None:
            self.tracing.retire()
            self._retired.append(self.tracing)
        instruments = self._instruments
        self.tracing = Tracing(tracing, instruments.telemetry, instruments.samples) if tracing else None
        before = self._settings.access_log if self._settings else "Stdout"
        if logs is not None or before == "OTLP":
            self._access_log.redirect(CollectorTarget(logs) if logs else self._output)
        self._settings = settings

    def flush(self) -> None:
        """See to everything that is under way; some ten times a second."""
        self._access_log.flush()
        for tracing in [*self._retired, *([self.tracing] if self.tracing else [])]:
            tracing.flush()
        self._retired = [each for each in self._retired if not each.ended]

    def close(self) -> None:
        """Write and send what is left, within a short time."""
        under_way = [*self._retired, *([self.tracing] if self.tracing else [])]
        for tracing in under_way:
            tracing.hurry()
        self._access_log.close()
        for tracing in under_way:
            tracing.close()
        self._retired, self.tracing = [], None
        log.event("info", "what became of records", **self._totals())

    def _totals(self) -> dict[str, dict[str, int]]:
        """By sink and outcome; the last that can be told of them, since nobody reads metrics any more."""
        count = self._instruments.telemetry
        sinks = (SINK, TRACES, METRICS)
        return {sink: {outcome: int(count.value(sink, outcome)) for outcome in OUTCOMES} for sink in sinks}
