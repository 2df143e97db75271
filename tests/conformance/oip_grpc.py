"""The inference protocol over gRPC, against a real server behind the sidecar.

    make conformance-oip      or   python -m tests.conformance.oip_grpc [--requests 300] [--seed 1]

The client is grpcio with messages by the protobuf library; the server is MLServer with the example's model. Every
method is called; requests with typed and with raw contents, of one row and of many, must be answered as the server
itself answers them when it is asked directly, and requests that were spoilt must be refused and never reach it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.conformance.oip import COLUMNS, INPUT, OUTPUTS, _BeforeARealModel
from tests.conformance.servers import MODEL, mlserver
from tests.unit.sidecar.harness import settings
from tests.unit.sidecar.oip import Told, call, grpc, opened, port_of
from tests.unit.sidecar.oip_messages import InferRequest, Parameter, message

Code = grpc.StatusCode


def asked(rows: np.ndarray, *, raw: bool) -> Any:
    request = InferRequest(model_name=MODEL)
    tensor = request.inputs.add(name="features", datatype="FP64", shape=list(rows.shape))
    tensor.parameters["content_type"].CopyFrom(Parameter(string_param="np"))
    if raw:
        request.raw_input_contents.append(rows.astype("<f8").tobytes())
    else:
        tensor.contents.fp64_contents.extend(rows.ravel())
    return request


def _without_data(request: Any) -> None:
    request.inputs[0].ClearField("contents")
    del request.raw_input_contents[:]


def _twice(request: Any) -> None:
    request.inputs.add().CopyFrom(request.inputs[0])
    if request.raw_input_contents:
        request.raw_input_contents.append(request.raw_input_contents[0])


def _first(value: float) -> Callable[[Any], None]:
    def spoil(request: Any) -> None:
        if request.raw_input_contents:
            request.raw_input_contents[0] = np.float64(value).tobytes() + request.raw_input_contents[0][8:]
        else:
            request.inputs[0].contents.fp64_contents[0] = value

    return spoil


def _set(name: str, value: Any) -> Callable[[Any], None]:
    return lambda request: setattr(request.inputs[0], name, value)


SPOILT: dict[str, Callable[[Any], None]] = {
    "another model": lambda request: setattr(request, "model_name", "other"),
    "an undeclared input": _set("name", "undeclared"),
    "another datatype": _set("datatype", "FP32"),
    "no datatype": _set("datatype", ""),
    "a shape of more": lambda request: request.inputs[0].shape.append(1),
    "a row too many": lambda request: request.inputs[0].shape.__setitem__(0, request.inputs[0].shape[0] + 1),
    "a negative shape": lambda request: request.inputs[0].shape.__setitem__(0, -1),
    "no data": _without_data,
    "an input twice": _twice,
    "no input": lambda request: request.ClearField("inputs") or request.ClearField("raw_input_contents"),
    "not a number": _first(float("nan")),
    "an infinity": _first(float("-inf")),
    "below the minimum": _first(-1.0),
    "above the maximum": _first(1e9),
    "shared memory": lambda request: (
        request.inputs[0].parameters["shared_memory_region"].CopyFrom(Parameter(string_param="region"))
    ),
}


def main() -> int:
    """Run it; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    faults: list[str] = []
    told: Counter[str] = Counter()
    access = settings()["access"] | {"rules": [{"subjects": ["user:alice"], "operations": ["Infer", "Metadata"]}]}
    with tempfile.TemporaryDirectory() as name, mlserver(Path(name) / "model") as port:
        own = json.loads((Path(name) / "model" / "settings.json").read_text())["grpc_port"]
        upstream = {"model": MODEL, "protocol": "v2", "readyPath": f"/v2/models/{MODEL}/ready", "grpcPort": own}
        document = settings(upstream=upstream, access=access, inputs=[INPUT], outputs=OUTPUTS, screening={})
        running = _BeforeARealModel(document, Path(name), port)
        try:
            with opened(port_of(running)) as before, opened(own) as direct:
                _methods(before, direct, faults, told)
                _requests(before, direct, given.requests, chance, faults, told)
            records = running.log(sum(told.values()))
        finally:
            running.stop()
    print("Answers by status:", ", ".join(f"{code} {count}" for code, count in sorted(told.items())))
    refused = sum(bool(line.get("reason")) for line in records)
    reached = sum(bool(line.get("reason")) and line.get("upstream_us", 0) > 0 for line in records)
    if refused != sum(told.values()) - told["OK"] or reached:
        faults.append(f"{refused} calls have a reason in the access log, {reached} of them reached the model")
    print(f"{sum(told.values())} calls, {refused} refused by the sidecar, {len(faults)} faults")
    print("\n".join(faults[:20]))
    return bool(faults)


def _methods(before: Any, direct: Any, faults: list[str], told: Counter[str]) -> None:
    for method in ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata"):
        request = message(f"{method}Request")(**({"name": MODEL} if method.startswith("Model") else {}))
        got, wanted = (call(0, request, method, channel=channel) for channel in (before, direct))
        told[got.code.name] += 1
        if (got.code, got.message) != (Code.OK, wanted.message):
            faults.append(f"{method}: {got} in place of {wanted}")


def _requests(
    before: Any, direct: Any, count: int, chance: random.Random, faults: list[str], told: Counter[str]
) -> None:
    values = np.random.default_rng(chance.randrange(1 << 32))
    for index in range(count):
        raw = chance.random() < 0.5
        request = asked(values.uniform(0, 1000, (chance.choice((1, 1, 2, 64, 1000)), COLUMNS)), raw=raw)
        request.id = f"r{index}"
        spoilt = chance.choice(list(SPOILT)) if chance.random() < 0.4 else ""
        if spoilt:
            SPOILT[spoilt](request)
        got = call(0, request, channel=before)
        told[got.code.name] += 1
        if spoilt:
            if got.code not in (Code.INVALID_ARGUMENT, Code.NOT_FOUND):
                faults.append(f"{spoilt}: {got.code}")
        elif (why := _differs(got, call(0, request, channel=direct))) != "":
            faults.append(f"raw {raw}, {list(request.inputs[0].shape)}: {why}")


def _differs(got: Told, wanted: Told) -> str:
    if (got.code, wanted.code) != (Code.OK, Code.OK):
        return f"{got.code} {got.detail}, asked directly {wanted.code} {wanted.detail}"
    return "" if got.message == wanted.message else "the answer differs from that to who asks directly"


if __name__ == "__main__":
    sys.exit(main())
