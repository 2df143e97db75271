"""What is behind a real sidecar in these tests: a model server that answers by a function, and a manifest for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from modelward.planner.names import KubeObject
from tests.integration.test_controller import model

Inputs = Sequence[dict[str, Any]]


@contextmanager
def model_server(outputs: Callable[[Inputs], Inputs]) -> Iterator[int]:
    """The port of a server that is ready, and answers the inputs of each request with these outputs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"{}")

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(json.dumps({"model_name": "m", "outputs": outputs(asked["inputs"])}).encode())

        def _answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def column(name: str, datatype: str, data: Sequence[Any]) -> dict[str, Any]:
    """An output of one element a row."""
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": list(data)}


def asked(name: str, port: int, inputs: Inputs, operations: Sequence[str] = ("Infer",), **spec: Any) -> KubeObject:
    """A model behind `port` that takes `inputs` and may be asked by all whom `test_incidents.token` is for."""
    trusted = {"name": "i", "issuer": "https://i", "audiences": ["a"], "jwksConfigMapName": "callers"}
    rules = [{"subjects": ["group:all"], "operations": list(operations)}]
    manifest = model(name, schema={"inputs": inputs}, access={"issuers": [trusted], "rules": rules}, **spec)
    manifest["spec"]["model"]["port"] = port
    return manifest


def condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    """The condition's status, reason and message."""
    (found,) = [one for one in status["conditions"] if one["type"] == kind]
    return found["status"], found["reason"], found["message"]
