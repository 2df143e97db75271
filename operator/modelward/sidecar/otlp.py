"""Spans, log lines and metrics as OTLP has them, made by the OpenTelemetry SDK. Imported only where OTLP is on.

Nothing here is made on the event loop: what the SDK calls a span is made of a finished record, in the thread that sends
it. Traces and metrics go to more people than the access log does: they tell nothing of who asked.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from modelward import __version__
from modelward.sidecar.metrics import BUCKETS, Sample
from modelward.sidecar.telemetry import Finished

# The SDK logs what it cannot encode, with the value.
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
logging.getLogger("opentelemetry").propagate = False


class _OneResource(Resource):
    """The process's resource. The encoder groups by it; its hash would be found by way of JSON, for each span anew."""

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Encoder:
    """Makes bodies of requests to a collector. `who` is as the access log's first line has it."""

    def __init__(self, who: dict[str, str | int]) -> None:
        self._resource = _OneResource(
            {
                "service.name": f"modelward/{who.get('model', '')}",
                "service.namespace": str(who.get("namespace", "")),
                "service.instance.id": str(who.get("pod", "")),
                "service.version": __version__,
                "k8s.namespace.name": str(who.get("namespace", "")),
                "k8s.pod.name": str(who.get("pod", "")),
            }
        )
        self._scope = InstrumentationScope("modelward.sidecar", __version__)
        self._started = time.time_ns()

    def traces(self, finished: Sequence[Finished]) -> bytes:
        """A span for each exchange."""
        message: bytes = encode_spans([self._span(one) for one in finished]).SerializeToString()
        return message

    def logs(self, lines: Sequence[bytes]) -> bytes:
        """The access log's lines as they are, chain and all."""
        now = time.time_ns()
        records = [
            ReadableLogRecord(
                LogRecord(
                    timestamp=now,
                    observed_timestamp=now,
                    context=_NOWHERE,
                    severity_number=SeverityNumber.INFO,
                    body=line.decode(),
                    event_name="modelward.access",
                ),
                self._resource,
                self._scope,
            )
            for line in lines
        ]
        message: bytes = encode_logs(records).SerializeToString()
        return message

    def metrics(self, samples: Sequence[Sample]) -> bytes:
        """What port 9090 tells, at this moment."""
        now = time.time_ns()
        metrics = [export.Metric(one.name, one.text, "", self._data(one, now)) for one in samples]
        scoped = [export.ScopeMetrics(self._scope, metrics, "")]
        data = export.MetricsData([export.ResourceMetrics(self._resource, scoped, "")])
        message: bytes = encode_metrics(data).SerializeToString()
        return message

    def _span(self, finished: Finished) -> ReadableSpan:
        trace, record = finished.trace, finished.record
        identifier = int(trace.trace, 16)
        flags = TraceFlags(int(trace.flags, 16))
        attributes: dict[str, str | int] = {
            "modelward.request.id": record.request,
            "http.request.method": record.method,
            "http.response.status_code": record.status,
            "http.request.body.size": record.bytes_in,
            "http.response.body.size": record.bytes_out,
            "modelward.operation": record.operation,
            "modelward.model": record.model,
            "modelward.rows": record.rows,
            "modelward.verdict": record.verdict,
            "modelward.reason": record.reason,
            "modelward.upstream_us": record.upstream_us,
            "modelward.overhead_us": record.overhead_us,
        }
        if record.grpc_status >= 0:
            attributes["rpc.system"] = "grpc"
            attributes["rpc.grpc.status_code"] = record.grpc_status
        return ReadableSpan(
            name=record.operation or "refused",
            context=SpanContext(identifier, int(trace.span, 16), is_remote=False, trace_flags=flags),
            parent=SpanContext(identifier, int(trace.parent, 16), is_remote=True) if trace.parent else None,
            resource=self._resource,
            attributes={name: value for name, value in attributes.items() if value != ""},
            kind=SpanKind.SERVER,
            status=Status(StatusCode.ERROR) if record.status >= 500 else _UNSET,
            start_time=finished.ended_ns - (record.upstream_us + record.overhead_us) * 1000,
            end_time=finished.ended_ns,
            instrumentation_scope=self._scope,
        )

    def _data(self, sample: Sample, now: int) -> export.Sum | export.Gauge | export.Histogram:
        cumulative = export.AggregationTemporality.CUMULATIVE
        if sample.kind == "histogram":
            counts, total = sample.buckets
            unknown: Any = None  # least and greatest, which the format may leave out
            point = export.HistogramDataPoint(
                {}, self._started, now, sum(counts), total, counts, BUCKETS, unknown, unknown
            )
            return export.Histogram([point], cumulative)
        points = [export.NumberDataPoint(labels, self._started, now, value) for labels, value in sample.points]
        if sample.kind == "counter":
            return export.Sum(points, cumulative, is_monotonic=True)
        return export.Gauge(points)


_NOWHERE = Context()
_UNSET = Status(StatusCode.UNSET)
