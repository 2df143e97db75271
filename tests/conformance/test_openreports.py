"""A Report is what the published CRD of OpenReports says: no field that it would drop, no value that it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from modelward.planner.report import UNREADABLE, Broken, Judged, report
from tests.conformance.corpora import files

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


def problems(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    if not isinstance(value, TYPES[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        yield f"{path} is not of type {schema['type']}"
    elif isinstance(value, dict):
        yield from (f"{path}.{key} is missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            inner = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if inner is None:
                yield f"{path}.{key} is unknown and would be dropped"
            else:
                yield from problems(item, inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from problems(item, schema["items"], f"{path}[{index}]")
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{path} is none of {schema['enum']}"


def test_a_report_is_as_published() -> None:
    (path,) = files("openreports", "openreports.io_reports.yaml")
    crd = yaml.safe_load(path.read_text())
    (version,) = crd["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    warned = Broken("DataPolicy/clinic/p", "MON-001", "warn", "low", "Watched")
    failed = tuple(Broken("ClusterDataPolicy/baseline", f"ENC-{n:03}", "fail", "medium", "t" * 80) for n in range(40))
    few = report("clinic", {"a": UNREADABLE, "b": Judged(broken=(warned,), passed=2, excused=1)}, unwatched=1)
    many = report("clinic", {"c": Judged(broken=failed)})
    assert [one["rule"] for one in few["results"]] == ["SIDECAR-MISSING", "SCHEMA", "MON-001"]
    assert many["results"][-1]["rule"] == "NOT-LISTED"
    for out in (few, many):
        assert out["apiVersion"] == f"{crd['spec']['group']}/{version['name']}"
        assert out["kind"] == crd["spec"]["names"]["kind"]
        del out["metadata"]
        assert list(problems(out, schema, "report")) == []
    assert list(problems({**few, "verdict": 1}, schema, "report")) == ["report.verdict is unknown and would be dropped"]
