"""Golden pairs: `tests/data/plan/<case>/input.yaml` becomes exactly `output.yaml`.

MODELWARD_WRITE_GOLDEN=1 writes the outputs anew; read the difference before you commit it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import references_of
from modelward.api.validate import canonical, is_ours, parse
from modelward.cli.files import read_paths
from modelward.cli.output import to_yaml
from modelward.planner.deployment import RUNTIME_ANNOTATION
from modelward.planner.plan import Material, Plan, Settings, plan
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate
from modelward.planner.service import WITHHELD_LABEL
from modelward.planner.sidecar_config_error import SidecarConfigError
from tests.unit.planner.test_sidecar_config import parsed, supported

CASES = sorted((Path(__file__).parents[2] / "data" / "plan").iterdir())
MATERIAL = Material(
    ServingCertificate(b"chain", b"key", b"authorities"), lambda document: hashlib.sha512(document).digest()
)
SETTINGS = Settings(sidecar_image="modelward-sidecar@sha256:" + "b" * 64, config_key="a2V5")


def planned(
    folder: Path,
    settings: Settings = SETTINGS,
    *,
    withheld: bool = False,
    grpc_port: int | None = None,
    **changes: Any,
) -> Plan:
    objects = [document.data for document in read_paths([folder / "input.yaml"])]
    resources = [parse(item) for item in objects if is_ours(item)]
    (md,) = (one for one in resources if isinstance(one, ModelDeployment))
    if grpc_port is not None:
        assert md.spec.model
        changes["model"] = md.spec.model.model_copy(update={"grpc_port": grpc_port})
    if changes:
        md = md.model_copy(update={"spec": md.spec.model_copy(update=changes)})
    policies = [canonical(one) for one in resources if not isinstance(one, ModelDeployment)]
    references = References.among(objects, "clinic")
    assert not references.missing(references_of(md))
    return plan(md, policies, references, MATERIAL, settings, withheld=withheld)


def readable(result: Plan) -> str:
    """Plans as YAML, with the configuration written out instead of as one long line."""
    documents: list[Any] = []
    for item in result.objects:
        if item["kind"] == "ConfigMap":
            config = json.loads(item["data"]["config.json"])
            item = {**item, "data": {**item["data"], "config.json": config}}  # noqa: PLW2901
        documents.append(item)
    text = "---\n".join(map(to_yaml, [*documents, {"absent": [list(pair) for pair in result.absent]}]))
    return re.sub(rf"{RUNTIME_ANNOTATION}: .*", f"{RUNTIME_ANNOTATION}: digest of the sidecar", text)


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_golden(folder: Path) -> None:
    found = readable(planned(folder))
    golden = folder / "output.yaml"
    if os.environ.get("MODELWARD_WRITE_GOLDEN"):
        golden.write_text(found)
    assert list(yaml.safe_load_all(found)) == list(yaml.safe_load_all(golden.read_text()))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_a_plan_is_the_same_every_time(folder: Path) -> None:
    assert planned(folder) == planned(folder)


def by_kind(result: Plan) -> dict[str, Any]:
    return {item["kind"]: item for item in result.objects}


def test_a_change_of_the_configuration_does_not_restart_pods_but_one_of_the_sidecar_does() -> None:
    before = by_kind(planned(CASES[0]))
    reconfigured = by_kind(planned(CASES[0], encryption=None, access=None))
    assert reconfigured["ConfigMap"] != before["ConfigMap"]
    assert reconfigured["Deployment"] == before["Deployment"]
    upgraded = by_kind(
        planned(CASES[0], Settings(sidecar_image="modelward-sidecar@sha256:" + "c" * 64, config_key="a2V5"))
    )
    assert upgraded["Deployment"]["spec"]["template"] != before["Deployment"]["spec"]["template"]
    rekeyed = by_kind(planned(CASES[0], Settings(sidecar_image=SETTINGS.sidecar_image, config_key="b3RoZXI=")))
    assert rekeyed["Deployment"]["spec"]["template"] != before["Deployment"]["spec"]["template"]


def test_a_withheld_service_selects_no_pod() -> None:
    result = by_kind(planned(CASES[0], withheld=True))
    pod_labels = result["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert result["Service"]["spec"]["selector"][WITHHELD_LABEL] == "true"
    assert WITHHELD_LABEL not in pod_labels


@pytest.mark.parametrize(("replicas", "wanted"), [(0, False), (1, False), (2, True)])
def test_a_single_pod_has_no_budget_and_one_left_over_is_to_go(replicas: int, *, wanted: bool) -> None:
    result = planned(CASES[0], replicas=replicas)
    assert ("PodDisruptionBudget" in by_kind(result)) is wanted
    assert (("PodDisruptionBudget", "wdbc") in result.absent) is not wanted


def test_pods_meet_the_restricted_pod_security_standard() -> None:
    """The fields that https://kubernetes.io/docs/concepts/security/pod-security-standards/ asks for."""
    for folder in CASES:
        pod = by_kind(planned(folder))["Deployment"]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(pod)
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert context["readOnlyRootFilesystem"] is True
            assert "privileged" not in context
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "persistentVolumeClaim"}


def test_the_model_port_is_for_nobody() -> None:
    for folder in CASES:
        policy = by_kind(planned(folder))["NetworkPolicy"]["spec"]
        assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {8443, 9090}
        assert all("from" in rule for rule in policy["ingress"] if rule["ports"][0]["port"] == 9090)
        assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53}


def test_grpc_is_let_in_where_the_model_has_it_and_nowhere_else() -> None:
    for port in (8081, None):
        for folder in CASES:
            objects = by_kind(planned(folder, grpc_port=port))
            let_in = {one["port"] for rule in objects["NetworkPolicy"]["spec"]["ingress"] for one in rule["ports"]}
            assert (8444 in let_in, 8081 in let_in) == (port is not None, False)
            upstream = json.loads(objects["ConfigMap"]["data"]["config.json"])["upstream"]
            assert upstream.get("grpcPort") == port
            served = {one["name"]: (one["port"], one["targetPort"]) for one in objects["Service"]["spec"]["ports"]}
            assert served == {"https": (443, 8443)} | ({"grpc": (8444, 8444)} if port else {})


def test_the_keys_of_pseudonyms_are_in_the_secret_where_they_are_needed() -> None:
    folder = CASES[0]
    objects = [document.data for document in read_paths([folder / "input.yaml"])]
    (md,) = (one for one in map(parse, filter(is_ours, objects)) if isinstance(one, ModelDeployment))
    assert md.spec.schema_
    text = md.spec.schema_.inputs[0].model_copy(update={"name": "patient", "datatype": "BYTES", "columns": []})
    schema = md.spec.schema_.model_copy(update={"inputs": [*md.spec.schema_.inputs, text]})
    md = md.model_copy(update={"spec": md.spec.model_copy(update={"schema_": schema})})
    asked = {"kind": "DataPolicy", "metadata": {"name": "p"}, "spec": {}}
    material = dataclasses.replace(MATERIAL, keys=b"keys")
    for treatment, given in (("Pseudonymise", True), ("Drop", False)):
        asked["spec"] = {"fields": [{"name": "patient", "treatment": treatment}]}
        made = plan(md, [asked], References.among(objects, "clinic"), material, SETTINGS)
        (secret,) = (item for item in made.objects if item["kind"] == "Secret")
        assert ("pseudonym.keys" in secret["data"]) is given


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_baseline_is_copied_into_an_object_of_the_kind_it_comes_from(kind: str) -> None:
    manifest = supported()
    content = base64.b64encode(b"baseline").decode()
    field, key = ("configMapName", "binaryData") if kind == "ConfigMap" else ("secretName", "data")
    manifest["spec"]["monitoring"]["baseline"] = {field: "wdbc-baseline"}
    objects = [
        {"kind": "ConfigMap", "metadata": {"name": "clinic-jwks", "namespace": "clinic"}, "data": {"jwks.json": "{}"}},
        {"kind": kind, "metadata": {"name": "wdbc-baseline", "namespace": "clinic"}, key: {"baseline.npz": content}},
    ]
    references = replace(References.among(objects, "clinic"), client_authorities="authorities")
    result = plan(parsed(manifest), [], references, MATERIAL, SETTINGS)
    (config,) = (item for item in result.objects if item["kind"] == "ConfigMap")
    (secret,) = (item for item in result.objects if item["kind"] == "Secret")
    assert (config.get("binaryData", {}).get("baseline.npz"), secret["data"].get("baseline.npz")) == (
        (content, None) if kind == "ConfigMap" else (None, content)
    )
    named = json.loads(config["data"]["config.json"])["screening"]["baseline"]
    assert named.get("secret", False) == (kind == "Secret")


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_what_kubernetes_would_not_keep_is_refused_before_anything_is_made(kind: str) -> None:
    """A baseline that has its object to itself where it comes from shares one with the rest here."""
    manifest = supported()
    field, key = ("configMapName", "binaryData") if kind == "ConfigMap" else ("secretName", "data")
    manifest["spec"]["monitoring"]["baseline"] = {field: "wdbc-baseline"}
    content = base64.b64encode(bytes((1 << 20) - 10)).decode()
    objects = [
        {"kind": "ConfigMap", "metadata": {"name": "clinic-jwks", "namespace": "clinic"}, "data": {"jwks.json": "{}"}},
        {"kind": kind, "metadata": {"name": "wdbc-baseline", "namespace": "clinic"}, key: {"baseline.npz": content}},
    ]
    references = replace(References.among(objects, "clinic"), client_authorities="authorities")
    with pytest.raises(SidecarConfigError, match=rf"the {kind} .* Kubernetes keeps 1,048,576"):
        plan(parsed(manifest), [], references, MATERIAL, SETTINGS)
