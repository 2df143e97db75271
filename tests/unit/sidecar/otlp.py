"""An OpenTelemetry collector for tests: takes OTLP over HTTP, or misbehaves in one of the known ways."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.unit.sidecar.harness import until

_MESSAGES = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Collector

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        collector = self.server
        collector.requests += 1
        match collector.behaviour:
            case "hang":
                collector.released.wait(30)
                self.close_connection = True
            case "drip":
                for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + b"x" * 900:
                    if collector.released.wait(0.05):
                        break
                    self.wfile.write(bytes([byte]))
                self.close_connection = True
            case "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            case "garbage":
                self.wfile.write(b"SSH-2.0-OpenSSH\r\n")
                self.close_connection = True
            case "redirect":
                self.send_response(307)
                self.send_header("location", collector.elsewhere)
                self.send_header("content-length", "0")
                self.end_headers()
            case "endless":
                self.send_response(200)
                self.end_headers()
                while not collector.released.is_set():
                    try:
                        self.wfile.write(b"x" * 65536)
                    except OSError:
                        break
                self.close_connection = True
            case int() as status:
                if status == 200:
                    collector.take(self.path, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Collector(ThreadingHTTPServer):
    """`behaviour`: a status, or hang, drip, reset, garbage, redirect, endless."""

    daemon_threads = True

    def __init__(self, behaviour: int | str = 200, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.behaviour = behaviour
        self.elsewhere = ""
        self.released = threading.Event()
        self.requests = 0
        self.bodies: list[bytes] = []
        self.messages: list[Any] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        pass

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        self.messages.append(_MESSAGES[path].FromString(body))

    def spans(self, wanted: int = 0) -> list[Any]:
        """The spans that came, once there are so many."""
        return self._wait(
            wanted,
            lambda: [
                span
                for message in self.messages
                if isinstance(message, ExportTraceServiceRequest)
                for resource in message.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ],
        )

    def lines(self, wanted: int = 0) -> list[str]:
        """The lines of the access log that came."""
        return self._wait(
            wanted,
            lambda: [
                record.body.string_value
                for message in self.messages
                if isinstance(message, ExportLogsServiceRequest)
                for resource in message.resource_logs
                for scope in resource.scope_logs
                for record in scope.log_records
            ],
        )

    def metrics(self) -> dict[str, Any]:
        """The metrics that came last, by name."""
        found = [message for message in self.messages if isinstance(message, ExportMetricsServiceRequest)]
        scopes = [scope for resource in found[-1].resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def _wait(self, wanted: int, read: Any) -> list[Any]:
        until(lambda: len(read()) >= wanted)
        return read()

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


def telemetry(collector: Collector, **changes: Any) -> dict[str, Any]:
    """The configuration's section."""
    return {"endpoint": collector.url, "allow": [collector.url]} | changes
