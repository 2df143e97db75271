"""The inference protocol over gRPC as the tests speak it: a real server behind the sidecar and real clients before it,
both grpcio's.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from tests.unit.sidecar.harness import Running, settings, token
from tests.unit.sidecar.oip_messages import PACKAGE, POOL, SERVICE, answer, declare, message

_WHY = "not what requirements/dev.txt says: make setup"
h2 = pytest.importorskip("h2", reason=_WHY)
for _part in ("config", "connection", "events", "exceptions", "settings"):
    pytest.importorskip(f"h2.{_part}")
grpc = pytest.importorskip("grpc", reason=_WHY)


@dataclass
class Asked:
    """A call as the model server got it."""

    method: str
    metadata: dict[str, str]
    message: Any


class GrpcModel(grpc.GenericRpcHandler):
    """A model server: what it was asked, and how it behaves."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.behaviour: Callable[[Any, grpc.ServicerContext], Any] = lambda *_: answer()
        self.start()

    def start(self, port: int = 0) -> None:
        self.server = grpc.server(ThreadPoolExecutor(8), (self,), options=[("grpc.so_reuseport", 0)])
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        self.server.start()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = details.method.rpartition("/")[2]

        def handle(asked: Any, context: grpc.ServicerContext) -> Any:
            metadata = {name: str(value) for name, value in context.invocation_metadata()}
            self.asked.append(Asked(method, metadata, asked))
            match method:
                case "ModelInfer":
                    return self.behaviour(asked, context)
                case "ServerMetadata":
                    return message("ServerMetadataResponse")(name="real", version="9", extensions=["a"])
                case "ModelMetadata":
                    return message("ModelMetadataResponse")(name=asked.name, versions=["1"], platform="none")
                case "ServerLive":
                    return message("ServerLiveResponse")(live=True)
                case _:
                    return message(f"{method}Response")(ready=True)

        return grpc.unary_unary_rpc_method_handler(
            handle, message(f"{method}Request").FromString, lambda told: told.SerializeToString()
        )


@dataclass
class Told:
    """What came of a call."""

    code: grpc.StatusCode
    detail: str
    message: Any
    metadata: dict[str, Any] = field(default_factory=dict)


def call(
    port: int,
    asked: Any,
    method: str = "ModelInfer",
    *,
    bearer: str | None = "",
    metadata: Sequence[tuple[str, str]] = (),
    channel: grpc.Channel | None = None,
    timeout: float = 60,
    **options: Any,
) -> Told:
    """One call; `bearer` empty: a good token, None: none. `asked` may be bytes, sent as they are."""
    if channel is None:
        with opened(port) as made:
            return call(port, asked, method, bearer=bearer, metadata=metadata, channel=made, timeout=timeout, **options)
    sent = list(metadata)
    if bearer is not None:
        sent.append(("authorization", f"Bearer {bearer or token()}"))
    path = method if method.startswith("/") else f"/{PACKAGE}.{SERVICE}/{method}"
    work = channel.unary_unary(path, lambda one: one if isinstance(one, bytes) else one.SerializeToString())
    try:
        told, its = work.with_call(asked, metadata=sent, timeout=timeout, **options)
    except grpc.RpcError as error:
        found = dict(error.initial_metadata() or ()) | dict(error.trailing_metadata() or ())
        return Told(error.code(), error.details() or "", None, found)
    parsed = message(f"{method}Response").FromString(told)
    return Told(grpc.StatusCode.OK, "", parsed, dict(its.initial_metadata()) | dict(its.trailing_metadata()))


def details(told: Told) -> tuple[int, str, str, dict[str, str]]:
    """Code, message, reason and metadata in google.rpc.Status and ErrorInfo, read by their descriptions."""
    raw = told.metadata["grpc-status-details-bin"]
    status = _STATUS.FromString(raw if isinstance(raw, bytes) else base64.b64decode(raw))
    (any_info,) = status.details
    assert any_info.type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    info = _INFO.FromString(any_info.value)
    assert info.domain == "modelward.io"
    return status.code, status.message, info.reason, dict(info.metadata)


def _google() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="tests/status.proto", package=PACKAGE, syntax="proto3")
    declared = {
        "Any": {"type_url": "1 string", "value": "2 bytes"},
        "Status": {"code": "1 int32", "message": "2 string", "details": "3 repeated Any"},
        "Info": {"reason": "1 string", "domain": "2 string", "metadata": "3 map string"},
    }
    for path, fields in declared.items():
        made = file.message_type.add(name=path)
        for name, text in fields.items():
            declare(made, path, name, text.split(" "))
    POOL.Add(file)
    return message("Status"), message("Info")


_STATUS, _INFO = _google()


@contextmanager
def opened(port: int, credentials: grpc.ChannelCredentials | None = None, **options: Any) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    settled = [("grpc.use_local_subchannelPOOL", 1), ("grpc.enable_retries", 0), *options.items()]
    made = (
        grpc.insecure_channel(f"127.0.0.1:{port}", settled)
        if credentials is None
        else grpc.secure_channel(f"localhost:{port}", credentials, settled)
    )
    try:
        yield made
    finally:
        made.close()


def with_grpc(model: GrpcModel, **changes: Any) -> dict[str, Any]:
    """A configuration with everything on, and gRPC."""
    document = settings(**changes)
    return document | {"upstream": document["upstream"] | {"grpcPort": model.port}}


def port_of(running: Running) -> int:
    assert running.sidecar.grpc is not None
    return running.sidecar.grpc.listener.port
