"""The inference protocol's gRPC messages, made by the protobuf library.

They are described here once more, apart from the sidecar's own tables: names, numbers and types are those of the
published open_inference_grpc.proto, which tests/conformance holds them to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.unit.sidecar.harness import COLUMNS, NORMAL

PACKAGE, SERVICE = "inference", "GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")

_PARAMETERS = "map InferParameter"
_TENSOR = {"name": "1 string", "datatype": "2 string", "shape": "3 repeated int64", "parameters": f"4 {_PARAMETERS}",
           "contents": "5 InferTensorContents"}  # fmt: skip
_META = "ModelMetadataResponse.TensorMetadata"
MESSAGES: dict[str, dict[str, str]] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": "1 bool"},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": "1 bool"},
    "ModelReadyRequest": {"name": "1 string", "version": "2 string"},
    "ModelReadyResponse": {"ready": "1 bool"},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": "1 string", "version": "2 string", "extensions": "3 repeated string"},
    "ModelMetadataRequest": {"name": "1 string", "version": "2 string"},
    _META: {"name": "1 string", "datatype": "2 string", "shape": "3 repeated int64"},
    "ModelMetadataResponse": {
        "name": "1 string", "versions": "2 repeated string", "platform": "3 string", "inputs": f"4 repeated {_META}",
        "outputs": f"5 repeated {_META}", "properties": "6 map string",
    },
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": {"name": "1 string", "parameters": f"2 {_PARAMETERS}"},
    "ModelInferRequest": {
        "model_name": "1 string", "model_version": "2 string", "id": "3 string", "parameters": f"4 {_PARAMETERS}",
        "inputs": "5 repeated ModelInferRequest.InferInputTensor",
        "outputs": "6 repeated ModelInferRequest.InferRequestedOutputTensor",
        "raw_input_contents": "7 repeated bytes",
    },
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "ModelInferResponse": {
        "model_name": "1 string", "model_version": "2 string", "id": "3 string", "parameters": f"4 {_PARAMETERS}",
        "outputs": "5 repeated ModelInferResponse.InferOutputTensor", "raw_output_contents": "6 repeated bytes",
    },
    "InferParameter": {
        "bool_param": "1 oneof bool", "int64_param": "2 oneof int64", "string_param": "3 oneof string",
        "double_param": "4 oneof double", "uint64_param": "5 oneof uint64",
    },
    "InferTensorContents": {
        "bool_contents": "1 repeated bool", "int_contents": "2 repeated int32", "int64_contents": "3 repeated int64",
        "uint_contents": "4 repeated uint32", "uint64_contents": "5 repeated uint64",
        "fp32_contents": "6 repeated float", "fp64_contents": "7 repeated double",
        "bytes_contents": "8 repeated bytes",
    },
}  # fmt: skip


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tests/oip.proto", package=PACKAGE, syntax="proto3")
    made: dict[str, Any] = {}
    for path in sorted(MESSAGES, key=lambda path: path.count(".")):
        outer, _, name = path.rpartition(".")
        made[path] = made[outer].nested_type.add(name=name) if outer else file.message_type.add(name=name)
    for path, declared in MESSAGES.items():
        for name, text in declared.items():
            declare(made[path], path, name, text.split(" "))
    return file


def declare(message: Any, path: str, name: str, words: list[str]) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    number, kind = int(words[0]), words[-1]
    if "map" in words:
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        declare(entry, "", "key", ["1", "string"])
        declare(entry, "", "value", ["2", kind])
        kind = f"{path}.{entry.name}"
    one = message.field.add(name=name, number=number)
    one.label = proto.LABEL_REPEATED if {"map", "repeated"} & set(words) else proto.LABEL_OPTIONAL
    if "oneof" in words:
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        one.oneof_index = 0
    scalar = getattr(proto, f"TYPE_{kind.upper()}", None)
    if scalar is not None:
        one.type = scalar
    else:
        one.type, one.type_name = proto.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


POOL = descriptor_pool.DescriptorPool()
POOL.Add(_described())


def message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


InferRequest, InferResponse = message("ModelInferRequest"), message("ModelInferResponse")
Parameter, Contents = message("InferParameter"), message("InferTensorContents")


def infer(data: Sequence[float] = NORMAL, *, raw: bool = False, **changes: Any) -> Any:
    """A request that fits; `changes` are those of its one input."""
    asked = InferRequest(model_name="m")
    tensor = {"name": "x", "datatype": "FP64", "shape": [len(data) // COLUMNS, COLUMNS]} | changes
    if raw:
        asked.raw_input_contents.append(np.array(data, "<f8").tobytes())
    elif "contents" not in tensor:
        tensor["contents"] = {"fp64_contents": data}
    asked.inputs.add(**tensor)
    return asked


def answer(*outputs: dict[str, Any]) -> Any:
    """A model's answer."""
    told = InferResponse(model_name="m", model_version="1")
    for output in outputs or ({"name": "y", "datatype": "INT64", "shape": [1], "contents": {"int64_contents": [1]}},):
        told.outputs.add(**output)
    return told
