"""gRPC in trouble: hostile, slow and vanished clients; certificates, configurations and the end, while it serves."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest

from modelward.sidecar.config import Tls
from modelward.sidecar.setup import Setup
from modelward.sidecar.tls import server_context
from tests.unit.sidecar import harness
from tests.unit.sidecar.harness import Running, settings, several, token, until
from tests.unit.sidecar.oip import GrpcModel, call, details, grpc, h2, opened, port_of, with_grpc
from tests.unit.sidecar.oip_messages import answer, infer
from tests.unit.sidecar.pki import LOCALHOST, Authority

Code = grpc.StatusCode
PATH = "/inference.GRPCInferenceService/ModelInfer"


class Secured(Running):
    """With certificates: `tls` are the settings, `files` certificate and key."""

    def __init__(
        self, document: dict[str, Any], folder: Path, files: tuple[Path, Path] | None = None, **tls: Any
    ) -> None:
        self.files, self.tls = files, tls
        super().__init__(document, folder)

    def setup(self, document: dict[str, Any], context: Any = None) -> Setup:
        setup = super().setup(document, context)
        if self.files is None:
            return setup
        return replace(setup, grpc_context=server_context(Tls(**self.tls), *self.files, "h2"))

    def reload(self, document: dict[str, Any]) -> bool:
        self.source._setup = self.setup(document)
        return self.call(self.sidecar.reload())


@pytest.fixture
def model() -> Iterator[GrpcModel]:
    model = GrpcModel()
    yield model
    model.server.stop(None)


@pytest.fixture
def serve(model: GrpcModel, tmp_path: Path) -> Iterator[Callable[..., Secured]]:
    def make(folder: Path, files: Any = None, tls: Any = None, **changes: Any) -> Secured:
        return Secured(with_grpc(model, **changes), folder, files, **(tls or {}))

    with several(tmp_path, make) as start:
        yield start


class Raw:
    """A client that sends frames as it likes, made by h2 where they are to be good ones."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.events: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, stream: int, *, end: bool = False, bearer: str = "", **changes: str) -> None:
        headers = {":method": "POST", ":scheme": "http", ":path": PATH, ":authority": "x", "te": "trailers",
                   "content-type": "application/grpc", "authorization": f"Bearer {bearer or token()}"}  # fmt: skip
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        self.h2.send_headers(stream, list(headers.items()), end_stream=end)

    def message(self, stream: int, data: bytes | None = None, *, end: bool = True) -> None:
        content = infer().SerializeToString() if data is None else data
        self.h2.send_data(stream, b"\0" + len(content).to_bytes(4, "big") + content, end_stream=end)

    def read(self, until: Any, *, acknowledge: bool = True) -> Any:
        """Events up to the first that `until` says yes to; None: the connection ended."""
        while True:
            for index, event in enumerate(self.events):
                if until(event):
                    del self.events[: index + 1]
                    return event
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            try:
                for event in self.h2.receive_data(data):
                    self.events.append(event)
                    if acknowledge and isinstance(event, h2.events.DataReceived):
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            except h2.exceptions.ProtocolError:  # it takes nothing behind a GOAWAY
                return None
            with contextlib.suppress(OSError):
                self.flush()

    def status(self, stream: int) -> str:
        """The status of a call, from its trailers."""

        def trailers(event: Any) -> bool:
            kinds = (h2.events.ResponseReceived, h2.events.TrailersReceived)
            return isinstance(event, kinds) and event.stream_id == stream and "grpc-status" in dict(event.headers)

        event = self.read(trailers)
        assert event is not None, "the connection ended"
        return dict(event.headers)["grpc-status"]

    def goaway(self) -> int | None:
        """The code that the connection ended with; None: without one."""
        event = self.read(lambda event: isinstance(event, h2.events.ConnectionTerminated))
        return None if event is None else int(event.error_code)


def works(running: Running) -> bool:
    return call(port_of(running), infer()).code == Code.OK


HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
NOT_HTTP_2 = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "zeros": b"\0" * 100,
    "a frame of 16 MiB": HELLO + b"\xff" * 100,
    "a frame of 17 KiB, of which little comes": HELLO + SETTINGS + b"\0\x44\0\0\0\0\0\0\1a",
    "headers without an end": HELLO
    + SETTINGS
    + b"\0\x40\0\1\0\0\0\0\1"
    + bytes(1 << 14)
    + 4 * (b"\0\x40\0\x09\0\0\0\0\1" + bytes(1 << 14)),
    "settings of a wrong length": HELLO + b"\0\0\4\4\0\0\0\0\0\0\0\0\0",
    "garbage in HPACK": HELLO + SETTINGS + b"\0\0\5\1\4\0\0\0\1\xff\xff\xff\xff\xff",
    "data of no stream": HELLO + SETTINGS + b"\0\0\4\0\1\0\0\0\1abcd",
    "a continuation of nothing": HELLO + SETTINGS + b"\0\0\1\x09\0\0\0\0\1a",
    "a stream that is not the client's": HELLO + SETTINGS + b"\0\0\0\1\4\0\0\0\2",
}


@pytest.mark.parametrize("what", NOT_HTTP_2)
def test_what_is_not_http_2_ends_its_connection_and_no_other(serve, model, what):
    running = serve()
    with opened(port_of(running)) as channel:
        assert call(0, infer(), channel=channel).code == Code.OK
        with socket.create_connection(("127.0.0.1", port_of(running)), timeout=20) as client:
            client.sendall(NOT_HTTP_2[what])
            with contextlib.suppress(ConnectionResetError):
                while client.recv(65536):
                    pass
        assert call(0, infer(), channel=channel).code == Code.OK
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    "flood",
    [
        "pings",
        "settings",
        "resets",
        "empty data",
        "tiny data",
        "padded data",
        "data of a call that was refused",
        "windows",
        "windows of a stream that is over",
        "priorities",
        "unknown frames",
    ],
)
def test_who_makes_work_and_asks_for_nothing_is_cut_off(serve, model, flood):
    running = serve()
    frames = {
        "pings": b"\0\0\x08\6\0\0\0\0\0" + bytes(8),
        "settings": b"\0\0\0\4\0\0\0\0\0",
        "windows": b"\0\0\4\x08\0\0\0\0\0\0\0\0\1",
        "windows of a stream that is over": b"\0\0\4\x08\0\0\0\0\1\0\0\0\1",
        "priorities": b"\0\0\5\2\0\0\0\0\x63\0\0\0\0\1",
        "unknown frames": b"\0\0\0\xee\0\0\0\0\0",
        "empty data": b"\0\0\0\0\0\0\0\0\1",
        "tiny data": b"\0\0\1\0\0\0\0\0\1\0",
        "padded data": b"\0\0\x80\0\x08\0\0\0\1\x7f" + bytes(127),
        "data of a call that was refused": b"\0\x04\0\0\0\0\0\0\1" + bytes(1024),
    }
    with Raw(port_of(running)) as client:
        if flood == "resets":
            for stream in range(1, 6001, 2):
                client.ask(stream)
                client.h2.reset_stream(stream)
            sent = client.h2.data_to_send()
        else:
            client.ask(1, bearer="none" if "refused" in flood else "")
            if "refused" in flood:
                client.flush()
                assert client.status(1) == "16"
            if "over" in flood:
                client.message(1)
                client.flush()
                assert client.status(1) == "0"
            client.flush()
            sent = frames[flood] * 6000
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.socket.sendall(sent)
        assert client.goaway() in (11, None)  # ENHANCE_YOUR_CALM, where the connection's end has not overtaken it
    assert works(running)
    assert len(model.asked) == 1 + ("over" in flood)


def test_a_client_that_pings_now_and_then_is_not(serve):
    running = serve()
    with Raw(port_of(running)) as client:
        for index in range(300):
            client.ask(2 * index + 1)
            client.message(2 * index + 1)
            for _ in range(8):
                client.h2.ping(bytes(8))
            client.flush()
            assert client.status(2 * index + 1) == "0"


def test_more_calls_at_a_time_than_agreed_end_the_connection(serve, model):
    model.behaviour = lambda *_: time.sleep(0.5) or answer()
    running = serve()
    with Raw(port_of(running)) as client:
        client.read(lambda event: isinstance(event, h2.events.RemoteSettingsChanged))
        assert client.h2.remote_settings.max_concurrent_streams == 100
        client.h2.remote_settings._settings.pop(h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS)
        for stream in range(1, 2 * 120, 2):
            client.ask(stream)
        client.flush()
        assert client.goaway() is not None
    assert works(running)


def test_slow_and_idle_clients_are_not_waited_for(serve):
    limits = {"headSeconds": 2, "bodySeconds": 2, "idleSeconds": 2, "drainSeconds": 5}
    running = serve(limits=limits)
    with Raw(port_of(running)) as silent, Raw(port_of(running)) as slow:
        slow.ask(1)
        slow.h2.send_data(1, b"\0\0")
        slow.flush()
        assert slow.status(1) == "4"  # DEADLINE_EXCEEDED
        assert silent.goaway() == 0
        assert slow.goaway() == 0
    assert running.log(1)[0]["reason"] == "request-timeout"


def test_a_client_that_does_not_take_its_answer_holds_up_nobody(serve, model):
    rows = 100_000
    big = answer({"name": "y", "datatype": "FP64", "shape": [rows], "contents": {"fp64_contents": [0.5] * rows}})
    model.behaviour = lambda asked, _: big if asked.id else answer()
    running = serve(limits={"writeSeconds": 2, "drainSeconds": 5})
    asked = infer()
    asked.id = "big"
    with Raw(port_of(running)) as client:
        for stream in (1, 3):
            client.ask(stream)
            client.message(stream, asked.SerializeToString())
        client.flush()
        assert works(running)
        reset = client.read(lambda event: isinstance(event, h2.events.StreamReset), acknowledge=False)
        assert reset is not None
    assert [line["status"] for line in running.log(3)].count(499) >= 1


@pytest.mark.parametrize("end", ["reset", "window and reset", "connection"])
def test_who_leaves_before_the_last_byte_has_had_the_others(serve, model, end):
    rows = 10_000
    big = answer({"name": "y", "datatype": "FP64", "shape": [rows], "contents": {"fp64_contents": [0.5] * rows}})
    model.behaviour = lambda *_: big
    running = serve()
    with Raw(port_of(running)) as client:
        client.ask(1)
        client.message(1)
        client.flush()
        taken = 0
        while taken < 65_535:
            data = client.read(lambda event: isinstance(event, h2.events.DataReceived), acknowledge=False)
            taken += len(data.data)
        if end == "window and reset":
            client.h2.increment_flow_control_window(1, 1)
        if end != "connection":
            client.h2.reset_stream(1)
            client.flush()
            time.sleep(0.2)
    (line,) = running.log(1)
    assert (line["status"], line["bytes_out"]) == (499, 65_530)
    window = running.sidecar._gateway.findings.windows._open.closed(1, time.time())
    assert window.answered == len(window.consumers) == 1


def test_a_body_that_goes_over_the_limit_of_all_bodies_is_refused(serve):
    running = serve(limits={"bufferedBytes": 50_000, "drainSeconds": 5})
    with Raw(port_of(running)) as first, Raw(port_of(running)) as second:
        first.ask(1)
        first.h2.send_data(1, bytes(16_000))
        first.h2.send_data(1, bytes(16_000))
        first.h2.send_data(1, bytes(16_000))
        first.flush()
        until(lambda: running.sidecar.grpc.server.buffered == 48_000)
        second.ask(1)
        second.h2.send_data(1, bytes(16_000))
        second.flush()
        assert second.status(1) == "14"
    until(lambda: running.sidecar.grpc.server.buffered == 0)  # what was held is let go with its connection
    assert works(running)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({":method": "GET"}, "3"),
        ({"content_type": "application/json"}, "3"),
        ({"grpc_encoding": "gzip"}, "12"),
        ({"grpc_timeout": "soon"}, "3"),
        ({"x_large": "a" * 20_000}, "8"),
    ],
)
def test_headers_that_are_not_those_of_a_call(serve, model, changes, status):
    with Raw(port_of(serve())) as client:
        client.ask(1, **changes)
        client.message(1)
        client.flush()
        assert client.status(1) == status
    assert model.asked == []


@pytest.mark.parametrize(
    "body", [b"", b"\0\0\0", b"\1\0\0\0\0", b"\0\0\0\0\1ab", b"\0\0\0\0\0\0\0\0\0\0", b"\2\0\0\0\0"]
)
def test_a_body_that_is_not_one_message(serve, model, body):
    with Raw(port_of(serve())) as client:
        client.ask(1)
        client.h2.send_data(1, body, end_stream=True)
        client.flush()
        assert client.status(1) in ("3", "12")
    assert model.asked == []


def test_trailers_in_a_request_and_a_call_without_a_message(serve, model):
    with Raw(port_of(serve())) as client:
        client.ask(1)
        client.message(1, end=False)
        client.h2.send_headers(1, [("x-trailer", "a")], end_stream=True)
        client.flush()
        assert client.status(1) == "3"
        client.ask(3, end=True)
        client.flush()
        assert client.status(3) == "3"
    assert model.asked == []


def test_too_many_connections(serve):
    running = serve(limits={"connections": 8, "drainSeconds": 5})  # a quarter of them
    with Raw(port_of(running)) as one, Raw(port_of(running)):
        one.read(lambda event: isinstance(event, h2.events.RemoteSettingsChanged))
        with Raw(port_of(running)) as third:
            assert third.goaway() == 11
        one.ask(1)
        one.message(1)
        one.flush()
        assert one.status(1) == "0"


def test_the_queue_to_the_model_is_bounded(serve, model):
    held = threading.Event()
    running = serve(limits={"upstreamConnections": 2, "upstreamQueue": 3, "drainSeconds": 5})
    assert works(running), "and the connection to the model is there"
    model.behaviour = lambda *_: held.wait(10) and answer()
    with Raw(port_of(running)) as client:
        for stream in range(1, 13, 2):
            client.ask(stream)
            client.message(stream)
        client.flush()
        assert client.status(11) == "14"
        held.set()
        ended = {client.read(lambda event: isinstance(event, h2.events.StreamEnded)).stream_id for _ in range(6)}
        assert ended == {1, 3, 5, 7, 9, 11}
    assert sorted(line["grpc_status"] for line in running.log(7)) == [0] * 6 + [14]


def test_calls_under_way_end_well_and_new_ones_go_elsewhere_when_the_sidecar_ends(serve, model):
    go_on = threading.Event()
    model.behaviour = lambda *_: go_on.wait(60) and answer()
    running = serve(limits={"drainSeconds": 60})
    with Raw(port_of(running)) as client:
        client.ask(1)
        client.message(1)
        client.flush()
        while not model.asked:
            time.sleep(0.01)
        ending = threading.Thread(target=lambda: running.call(running.sidecar.stop()))
        ending.start()
        first = client.read(lambda event: isinstance(event, h2.events.ConnectionTerminated))
        assert (first.error_code, first.last_stream_id) == (0, (1 << 31) - 1)
        client.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        client.ask(3)  # it was on its way when the end was told
        client.message(3)
        client.flush()
        until(lambda: len(model.asked) == 2)
        go_on.set()
        got = b""
        while data := client.socket.recv(65536):
            got += data
        ending.join()
    assert got.count(answer().SerializeToString()) == 2
    assert {line["grpc_status"] for line in running.log(2)} == {0}


def test_the_model_ends_its_connection_while_calls_are_under_way(serve, model):
    model.behaviour = lambda *_: time.sleep(0.5) or answer()
    running = serve()
    told: list[Any] = []
    asking = threading.Thread(target=lambda: told.append(call(port_of(running), infer())))
    asking.start()
    while not model.asked:
        time.sleep(0.01)
    model.server.stop(5).wait()  # GOAWAY, and what is under way is finished
    asking.join()
    assert told[0].code == Code.OK
    model.start(model.port)
    assert works(running)


# --- certificates and configurations


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def credentials(authority: Authority, pair: tuple[Path, Path] | None = None) -> Any:
    key, chain = (pair[1].read_bytes(), pair[0].read_bytes()) if pair else (None, None)
    return grpc.ssl_channel_credentials(authority.pem.encode(), key, chain)


def test_tls_and_a_certificate_that_changes_under_load(serve, authority, tmp_path):
    files = authority.issue(tmp_path, LOCALHOST)
    running = serve(files=files)
    stop, told = threading.Event(), []

    def load() -> None:
        with opened(port_of(running), credentials(authority)) as channel:
            while not stop.is_set():
                told.append(call(0, infer(), channel=channel).code)

    asking = threading.Thread(target=load)
    asking.start()
    while not told:
        time.sleep(0.01)
    other = Authority("another")
    running.files = other.issue(tmp_path, LOCALHOST, name="other")
    assert running.reload(json_of(running))
    with opened(port_of(running), credentials(other)) as channel:
        assert call(0, infer(), channel=channel).code == Code.OK
    with opened(port_of(running), credentials(authority)) as channel:
        assert call(0, infer(), channel=channel, timeout=3).code == Code.UNAVAILABLE
    until(lambda: len(told) > 3)
    stop.set()
    asking.join()
    assert set(told) == {Code.OK}, "the connection that was there is not touched"


def json_of(running: Running, **changes: Any) -> dict[str, Any]:
    import msgspec  # noqa: PLC0415

    return msgspec.to_builtins(running.source._setup.settings) | changes


def test_a_client_certificate_is_a_caller(serve, authority, tmp_path, model):
    files = authority.issue(tmp_path, LOCALHOST)
    access = {"issuers": [], "rules": [{"subjects": ["san:localhost"], "operations": ["Infer"]}]}
    running = serve(files=files, tls={"mode": "MutualTLS", "client_ca": authority.pem}, access=access)
    pair = authority.issue(tmp_path, LOCALHOST, name="client")
    with opened(port_of(running), credentials(authority, pair)) as channel:
        assert call(0, infer(), channel=channel, bearer=None).code == Code.OK
        told = call(0, infer(), channel=channel)
        assert told.code == Code.UNAUTHENTICATED, "a token that is shown must verify, beside a good certificate too"
    stranger = Authority("stranger").issue(tmp_path, LOCALHOST, name="stranger")
    for shown in (None, stranger):
        with opened(port_of(running), credentials(authority, shown)) as channel:
            assert call(0, infer(), channel=channel, bearer=None, timeout=3).code == Code.UNAVAILABLE
    assert running.log(1)[0]["subject"] == "san:localhost"
    assert len(model.asked) == 1


def test_the_least_version_of_tls_is_held_and_h2_must_be_spoken(serve, authority, tmp_path):
    running = serve(files=authority.issue(tmp_path, LOCALHOST))
    context = authority.client_context()
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        socket.create_connection(("127.0.0.1", port_of(running))) as raw,
    ):
        context.wrap_socket(raw, server_hostname="localhost").recv(1)
    context = authority.client_context()
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port_of(running))) as raw,
        contextlib.suppress(ConnectionError, ssl.SSLError),
        context.wrap_socket(raw, server_hostname="localhost") as client,
    ):
        assert client.recv(1) == b""


def test_grpc_comes_and_goes_with_the_configuration(model, tmp_path):
    plain = settings()
    running = Secured(plain, tmp_path)
    try:
        assert running.sidecar.grpc is None
        with_it = plain | {"upstream": plain["upstream"] | {"grpcPort": model.port}}
        assert running.reload(with_it)
        assert works(running)
        narrow = with_it | {
            "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3], "maximum": 1}],
            "screening": {},
        }
        port = port_of(running)
        with opened(port) as channel:
            assert call(0, infer(), channel=channel).code == Code.OK
            assert running.reload(narrow)
            assert call(0, infer(), channel=channel).code == Code.INVALID_ARGUMENT, "on the connection that is there"
        assert running.reload(plain)
        assert running.sidecar.grpc is None
        assert call(port, infer(), timeout=3).code == Code.UNAVAILABLE
        assert running.ask(harness.infer()).status == 200
    finally:
        running.stop()


def test_nothing_that_was_sent_turns_up_where_it_was_not_sent_to(serve, model, capfd):
    canary = "canary-7f3a"
    running = serve(
        inputs=[
            {"name": "x", "datatype": "FP64", "shape": [-1, 3]},
            {"name": "note", "datatype": "BYTES", "shape": [-1]},
        ],
        screening={},
    )

    def noted(*values: bytes, **changes: Any) -> Any:
        asked = infer()
        asked.inputs.add(**({"name": "note", "datatype": "BYTES", "shape": [1]} | changes))
        asked.inputs[1].contents.bytes_contents.extend(values)
        return asked

    value = canary.encode()
    wrong = noted(value)
    wrong.id = wrong.model_version = canary
    other = noted(value)
    other.model_name = canary
    asks = [noted(value), noted(value, value), noted(value + b"\xff"), noted(value, name=canary),
            noted(value, datatype=canary), wrong, other, noted(value).SerializeToString()[:-2], value,
            b"\x0a\x0b" + value]  # fmt: skip
    told = [call(port_of(running), asked) for asked in asks]
    told += [call(port_of(running), noted(value), bearer=canary), call(port_of(running), b"", f"/{canary}/{canary}")]
    told += [call(port_of(running), noted(value), metadata=[("x-custom", canary), ("traceparent", canary)])]
    model.behaviour = lambda _, context: context.abort(Code.INTERNAL, canary)
    call(port_of(running), noted(value))
    with Raw(port_of(running)) as client:
        client.ask(1, **{":method": canary, "content_type": canary, "grpc_timeout": canary, "grpc_encoding": canary})
        client.flush()
        client.status(1)
    assert {one.code for one in told} >= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.UNAUTHENTICATED}
    metrics = running.monitor("/metrics").body
    lines = running.log(15)
    assert canary not in repr(lines)
    assert value not in metrics
    assert canary not in "".join(capfd.readouterr())
    for one in told:
        if one.code != Code.OK:
            names = details(one)[1].replace(f"`{canary}`", "")  # a name that is not declared is told to who sent it
            assert canary not in names
