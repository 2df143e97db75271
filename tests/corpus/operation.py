"""Cases of what goes on while a model serves: monitoring, explanation, fairness, security tests and the workload."""

from __future__ import annotations

from typing import Any

from tests.corpus.case import DIGEST, Change, case, drop, put
from tests.corpus.policies import Manifest

case("strict", "no monitoring", drop("spec/monitoring"), "MON-001", "MON-002")
case("baseline", "no monitoring", drop("spec/monitoring"))
case("strict", "another detector", put("spec/monitoring/detectors", [{"type": "Drift"}]), "MON-001")
case("strict", "no detector", put("spec/monitoring/detectors", []), "MON-001")
case("strict", "flag only", put("spec/monitoring/onAnomaly", "Flag"), "MON-002")
case("strict", "sanitise", put("spec/monitoring/onAnomaly", "Sanitise"), "MON-002")
case("strict", "no baseline", drop("spec/monitoring/baseline"), "MON-003")
case("baseline", "no baseline", drop("spec/monitoring/baseline"))
case("strict", "a log that goes nowhere", put("spec/monitoring/telemetry", {"accessLog": "OTLP"}), "MON-004")
case("strict", "telemetry by defaults", put("spec/monitoring/telemetry", {}))
case("strict", "no minimum", drop("spec/schema/inputs/0/minimum"), "MON-005")
case("baseline", "no minimum", drop("spec/schema/inputs/0/minimum"))

case("strict", "no contact", drop("spec/explanations/contact"), "EXP-001")
case("strict", "no contest", drop("spec/explanations/contestURL"), "EXP-001")
case("strict", "no explanations", drop("spec/explanations"), "EXP-001")
case("baseline", "no explanations", drop("spec/explanations"))
case("strict", "contested in the clear", put("spec/explanations/contestURL", "http://clinic.example"), "EXP-002")
case("strict", "nobody may ask why", put("spec/access/rules/0/operations", ["Infer"]), "EXP-003")

case("strict", "another attribute", put("spec/fairness/protected/0/field", "sex"), "FAI-001")
case("strict", "no fairness", drop("spec/fairness"), "FAI-001")
case("strict", "no groups", put("spec/fairness/protected/0/groups", []), "FAI-002")
case("strict", "groups by edges", put("spec/fairness/protected/0", {"field": "age", "edges": [40]}))
case("strict", "neither groups nor edges", put("spec/fairness/protected/0", {"field": "age"}), "FAI-002")
case("strict", "as much difference as accepted", put("spec/fairness/maxDifference", 0.1))
case("strict", "a little more difference", put("spec/fairness/maxDifference", 0.11), "FAI-003")
case("strict", "no difference", put("spec/fairness/maxDifference", 0.0))
case("strict", "any difference", put("spec/fairness/maxDifference", 1.0), "FAI-003")

case("strict", "no security test", drop("spec/securityTest"), "TST-001")
case("strict", "a test by defaults", put("spec/securityTest", {}), "TST-003")
case("strict", "a test that does not gate", put("spec/securityTest/gate", False), "TST-002")

IMAGE = "spec/model/image"
for _image in (
    "wdbc:1.0",
    "wdbc",
    "wdbc@sha256:abc",
    f"wdbc@sha512:{DIGEST}",
    f"wdbc@sha256:{DIGEST}@sha256:{DIGEST}",
    "registry.example/wdbc@sha256:",
):
    case("baseline", f"image {_image}", put(IMAGE, _image), "RUN-001")
case("strict", "an image by tag", put(IMAGE, "registry.example/wdbc:1.0"), "RUN-001")
case("strict", "an image by tag, from nowhere", put(IMAGE, "wdbc:1.0"), "RUN-001", "RUN-005")
case("baseline", "an image with a line break in it", put(IMAGE, "wdbc\nlatest"), "RUN-001")
case("baseline", "an image with a long name", put(IMAGE, "w" * 512), "RUN-001")
case("strict", "no resources", drop("spec/model/resources"), "RUN-002")
case("strict", "no memory limit", put("spec/model/resources/limits", {"cpu": 1}), "RUN-002")
case("strict", "no requests", drop("spec/model/resources/requests"), "RUN-002")
case("baseline", "no resources", drop("spec/model/resources"))


def variable(name: str, **more: Any) -> Change:
    return put("spec/model/env", [{"name": name, **more}])


for _name in ("DB_PASSWORD", "hf_token", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "Signing.Private_Key"):
    case("baseline", f"{_name} in the clear", variable(_name, value="hunter2"), "RUN-003")
for _name in ("MAX_TOKENS", "TOKENIZERS_PARALLELISM", "SECRETARY", "KEYBOARD"):
    case("baseline", f"{_name} in the clear", variable(_name, value="1"))
case("baseline", "a token from a Secret", variable("TOKEN", valueFrom={"secretKeyRef": {"name": "s", "key": "t"}}))
case("baseline", "a path to credentials", variable("GOOGLE_APPLICATION_CREDENTIALS", value="/var/run/secrets/gcp.json"))
case("baseline", "an empty token", variable("TOKEN", value=""))
case("nothing", "a token in the clear", variable("TOKEN", value="hunter2"))


def volume(**more: Any) -> Change:
    return put("spec/model/volumeClaims", [{"claimName": "weights", "mountPath": "/models", **more}])


case("strict", "a volume", volume())
case("strict", "a volume to write to", volume(readOnly=False), "RUN-004")
case("baseline", "a volume to write to", volume(readOnly=False))
for _registry in ("registry.example.evil/wdbc", "docker.io/wdbc", "registry.examplewdbc", "evil/registry.example/wdbc"):
    case("strict", f"an image from {_registry}", put(IMAGE, f"{_registry}@sha256:{DIGEST}"), "RUN-005")
case("strict", "an image from further below", put(IMAGE, f"registry.example/team/wdbc@sha256:{DIGEST}"))
case("baseline strict", "root", put("spec/model/runAsUser", 0), "RUN-006")
case("baseline strict", "a user", put("spec/model/runAsUser", 65532))


def target(manifest: Manifest) -> None:
    del manifest["spec"]["model"]
    manifest["spec"]["targetRef"] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "old"}


case("baseline strict", "a workload that runs", target)
