"""The Open Inference Protocol's own OpenAPI document, driven by schemathesis against real servers behind the sidecar.

    make conformance-oip      or   python -m tests.conformance.oip [--server mlserver] [--examples 60] [--seed 1]

The document is taken as it is published, but for four things: `${NAME}` in its paths becomes `{NAME}`, as OpenAPI
writes it; the answers that the sidecar itself gives take the place of the errors of each operation, since those of the
model are told in its words too; the token is added; and the model's name is often the one that is served, or nothing
would ever get as far as a body. A second run narrows the inputs to those that are declared, so that the model answers
and its answers are checked. What a server itself does otherwise than the document is taken out of it, and told in
`_as_served`.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from modelward.sidecar.problems import TABLE
from tests.conformance.corpora import files
from tests.conformance.servers import MODEL, ROOT, SERVERS, Server
from tests.unit.sidecar.harness import Running, settings, token

COLUMNS = 30
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth"
)
INPUT = {"name": "features", "datatype": "FP64", "shape": [-1, COLUMNS], "minimum": 0, "maximum": 10_000}
OUTPUTS = [
    {"name": "predict", "datatype": "INT64", "shape": [-1, 1]},
    {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]},
]


class _BeforeARealModel(Running):
    """The harness's sidecar, in front of a real model server."""

    def __init__(self, document: dict[str, Any], folder: Path, port: int) -> None:
        self._real = port
        super().__init__(document, folder)

    async def _start_model(self) -> None:
        await super()._start_model()
        self.model_port = self._real


def published(server: Server) -> dict[str, Any]:
    """The document, as an OpenAPI tool can use it, with the sidecar's own answers."""
    (path,) = files("oip", "open_inference_rest.yaml")
    if not path.exists():
        sys.exit(f"oip: there is no {path}: MODELWARD_DATA names the folder with the corpora")
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    document["paths"] = {path.replace("${", "{"): item for path, item in document["paths"].items()}
    document["security"] = [{"bearer": []}]
    parts = document["components"]
    parts["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    parts["schemas"]["problem"] = {
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance"],
        "properties": {name: {"type": "string"} for name in ("type", "title", "detail", "instance")}
        | {"status": {"type": "integer"}},
        "additionalProperties": False,
    }
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/problem"}}}
    for item in document["paths"].values():
        for method in ("get", "post"):
            for status in {problem.status for problem in TABLE} if method in item else ():
                item[method]["responses"][str(status)] = {"description": "told by the sidecar", "content": problem}
        for parameter in item.get("parameters", ()):
            if parameter["name"] == "MODEL_NAME":
                parameter["schema"] = {"anyOf": [{"type": "string", "enum": [MODEL]}, {"type": "string"}]}
    return _as_served(document, server)


def _as_served(document: dict[str, Any], server: Server) -> dict[str, Any]:
    """The document without what `server` does otherwise, whoever stands before it.

    KServe's Python server knows no versions (501), which the protocol leaves to it; and of what may be absent it
    writes null, which the document does not have.
    """
    if server.version is not None:
        return document
    document["paths"] = {
        path.replace("/versions/{MODEL_VERSION}", ""): {
            **item,
            "parameters": [one for one in item.get("parameters", ()) if one["name"] != "MODEL_VERSION"],
        }
        for path, item in document["paths"].items()
    }
    schemas = document["components"]["schemas"]
    for name in ("metadata_model_response", "inference_response", "response_output"):
        for member, schema in schemas[name]["properties"].items():
            if member not in schemas[name]["required"]:
                schemas[name]["properties"][member] = {"nullable": True, "allOf": [schema]}
    schemas["parameters"]["nullable"] = True
    return document


def narrowed(document: dict[str, Any], server: Server) -> dict[str, Any]:
    """The document for this very model: its name, its version, and requests that fit its declared inputs."""
    document = copy.deepcopy(document)
    for item in document["paths"].values():
        for body in [item["post"]["requestBody"]] if "post" in item else ():
            body["required"] = True
        for parameter in item.get("parameters", ()):
            value = MODEL if parameter["name"] == "MODEL_NAME" else server.version
            parameter["schema"] = {"type": "string", "enum": [value]}
    number = {"type": "number", "minimum": 0, "maximum": 10_000}
    row = {"type": "array", "items": number, "minItems": COLUMNS, "maxItems": COLUMNS}
    fitting = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "enum": ["features"]},
            "datatype": {"type": "string", "enum": ["FP64"]},
            "shape": {"type": "array", "enum": [[1, COLUMNS]]},
            "data": row,
        },
    }
    document["components"]["schemas"]["inference_request"] = {
        "type": "object",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "inputs": {"type": "array", "items": fitting, "minItems": 1, "maxItems": 1},
            "outputs": {
                "type": "array",
                "maxItems": 128,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "additionalProperties": False,
                    "properties": {"name": {"type": "string", "enum": ["predict", "predict_proba"]}},
                },
            },
        },
    }
    return document


def drive(program: Path, document: dict[str, Any], port: int, folder: Path, *options: str) -> int:
    """Run schemathesis; returns its exit code."""
    folder.mkdir()
    (folder / "openapi.json").write_text(json.dumps(document))
    command = [
        program,
        "run",
        folder / "openapi.json",
        f"--url=http://127.0.0.1:{port}",
        f"--header=Authorization: Bearer {token(exp=time.time() + 7200)}",
        "--phases=examples,coverage,fuzzing",
        "--continue-on-failure",
        "--no-color",
        *options,
    ]
    return subprocess.run([str(part) for part in command], cwd=folder, check=False).returncode


def run(server: Server, schemathesis: Path, options: tuple[str, ...]) -> int:
    """Drive both documents at the model in `server`; 0 when neither run found anything."""
    access = settings()["access"] | {"rules": [{"subjects": ["user:alice"], "operations": ["Infer", "Metadata"]}]}
    with tempfile.TemporaryDirectory() as name, server.start(Path(name) / "model") as port:
        upstream = {"model": MODEL, "protocol": "v2", "readyPath": f"/v2/models/{MODEL}/ready"}
        configuration = settings(upstream=upstream, access=access, inputs=[INPUT], outputs=OUTPUTS, screening={})
        running = _BeforeARealModel(configuration, Path(name), port)
        try:
            codes = []
            for kind, document, checks in (
                ("published", published(server), CHECKS),
                ("narrowed", narrowed(published(server), server), f"{CHECKS},positive_data_acceptance"),
            ):
                print(f"\n--- the document as {kind}", flush=True)
                folder = Path(name) / kind
                codes.append(drive(schemathesis, document, running.port, folder, f"--checks={checks}", *options))
            answers: dict[int, int] = {}
            for line in running.log():
                answers[line["status"]] = answers.get(line["status"], 0) + 1
        finally:
            running.stop()
    print("Answers by status, both runs:", ", ".join(f"{status} {count}" for status, count in sorted(answers.items())))
    return max(codes)


def main() -> int:
    """Run each server; 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=sorted(SERVERS), action="append", help="all of them unless named")
    parser.add_argument("--examples", type=int, default=60, help="generated requests an operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--schemathesis", type=Path, default=ROOT / "build" / "conformance" / "bin" / "schemathesis")
    given = parser.parse_args()
    options = (f"--max-examples={given.examples}", f"--seed={given.seed}")
    codes = []
    for name in given.server or SERVERS:
        print(f"\n=== {name}", flush=True)
        codes.append(run(SERVERS[name], given.schemathesis, options))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
