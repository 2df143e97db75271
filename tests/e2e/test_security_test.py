"""Models that are attacked before they serve, on the kind cluster: one that withstands, and one with a hole."""

from __future__ import annotations

import copy
import json
from typing import Any

from demo.kubectl import Cluster, NotAsToldError, wait_for
from demo.serving import condition
from tests.corpus import Manifest
from tests.e2e.conftest import Installed
from tests.e2e.test_life import in_namespace

SOUND, HOLED = "sound", "holed"
SECONDS = 420


def under_test(modelward: Installed, namespace: str, name: str) -> Manifest:
    model = copy.deepcopy(in_namespace(modelward.example("model.yaml"), namespace))
    model["metadata"]["name"] = name
    model["spec"] |= {"replicas": 1, "securityTest": {"suite": "baseline", "gate": True}}
    model["spec"]["model"]["name"] = "wdbc"
    return model


def with_a_hole(model: Manifest) -> Manifest:
    """Numbers may be anything: no bound is declared, and nobody watches them."""
    for bound in ("minimum", "maximum"):
        del model["spec"]["schema"]["inputs"][0][bound]
    del model["spec"]["monitoring"], model["spec"]["explanations"]  # which are by the baseline
    return model


def ended(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        resource = cluster.get("modeldeployment", name, "-n", namespace)
        told = condition(resource, "SecurityTested")
        if told.get("status") in ("True", "False") and resource["status"].get("lastSecurityTest"):
            return resource
        raise NotAsToldError(f"SecurityTested is {told.get('status')}: {told.get('message', 'nothing yet')}")

    return wait_for(f"the security test of {name} has ended", look, timeout=SECONDS)


def addresses(cluster: Cluster, namespace: str, name: str) -> list[Any]:
    slices = cluster.get("endpointslices", "-n", namespace, "-l", f"kubernetes.io/service-name={name}")["items"]
    return [each for one in slices for each in one.get("endpoints") or ()]


def test_a_model_serves_once_it_withstands_and_one_with_a_hole_does_not(modelward: Installed, namespace: str) -> None:
    cluster = modelward.cluster
    referred = [in_namespace(modelward.example(name), namespace) for name in ("jwks.yaml", "baseline.yaml")]
    modelward.apply(*referred)
    modelward.apply(under_test(modelward, namespace, SOUND), with_a_hole(under_test(modelward, namespace, HOLED)))

    resource = ended(cluster, namespace, SOUND)
    report = json.loads(cluster.get("configmap", f"{SOUND}.security-test", "-n", namespace)["data"]["report.json"])
    assert condition(resource, "SecurityTested")["reason"] == "Passed", report
    assert condition(resource, "Ready")["status"] == "True"
    assert resource["status"]["lastSecurityTest"]["withstood"] > 10
    past = next(attack for attack in report["attacks"] if attack["id"] == "bypass.model-port")
    assert past["outcome"] == "Withstood", past
    wait_for("the model has endpoints", lambda: addresses(cluster, namespace, SOUND) or None, timeout=180)

    resource = ended(cluster, namespace, HOLED)
    assert condition(resource, "SecurityTested")["reason"] == "AttackSucceeded", resource["status"]
    assert condition(resource, "Ready")["reason"] == "SecurityTestFailed"
    assert "input.out-of-range" in resource["status"]["lastSecurityTest"]["succeeded"]
    assert resource["status"]["readyReplicas"] == 1, "it runs, and takes nobody"
    assert addresses(cluster, namespace, HOLED) == []
    assert "endpoint" not in resource["status"]
    (event,) = [
        one
        for one in cluster.get("events", "-n", namespace)["items"]
        if one["reason"] == "SecurityTestFailed" and one["involvedObject"]["name"] == HOLED
    ]
    assert (event["type"], event["count"]) == ("Warning", 1)
    assert "input.out-of-range" in event["message"]

    # Nobody was accused of it, and nobody counts as a consumer.
    monitoring = cluster.get("modeldeployment", SOUND, "-n", namespace)["status"].get("monitoring") or {}
    assert monitoring.get("incidents", []) == []
    assert monitoring.get("quarantined", []) == []
