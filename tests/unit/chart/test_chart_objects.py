"""The objects that the chart makes: hardened, complete, and free of what would lock a cluster out."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from modelward.api.validate import canonical, parse
from modelward.planner.access import Kafka, Lineage, read_settings
from modelward.rules.check import baseline_policy
from tests.unit.chart.rendering import CHART, Objects, Render, hook_of, of_kind
from tests.unit.sidecar.pki import Authority

SYSTEM = ("kube-system", "modelward-system")


def test_every_object_is_there_once(objects: Objects) -> None:
    keys = [(item["kind"], item["metadata"]["name"]) for item in objects if hook_of(item) != "post-delete"]
    assert len(keys) == len(set(keys))


def test_pods_are_hardened(objects: Objects) -> None:
    deployments = of_kind(objects, "Deployment")
    assert set(deployments) == {"modelward-controller", "modelward-admission"}
    for deployment in deployments.values():
        pod = deployment["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["topologySpreadConstraints"]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["imagePullPolicy"] == "IfNotPresent"
            assert {"requests", "limits"} <= set(container["resources"])
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)


@pytest.mark.parametrize("process", ["controller", "admission"])
def test_a_process_has_its_account_and_its_budget(objects: Objects, process: str) -> None:
    name = f"modelward-{process}"
    deployment = of_kind(objects, "Deployment")[name]
    budget = of_kind(objects, "PodDisruptionBudget")[name]
    account = of_kind(objects, "ServiceAccount")[name]
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == name
    assert account["automountServiceAccountToken"] is False
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] == 1  # minAvailable would block drains at one replica


def test_the_service_reaches_the_webhooks_port(objects: Objects) -> None:
    service = of_kind(objects, "Service")["modelward-admission"]
    pod = of_kind(objects, "Deployment")["modelward-admission"]["spec"]["template"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert [(port["port"], ports[port["targetPort"]]) for port in service["spec"]["ports"]] == [(443, 8443)]


def _webhooks(objects: Objects) -> list[dict[str, Any]]:
    return list(of_kind(objects, "MutatingWebhookConfiguration")["modelward"]["webhooks"])


def test_a_dead_webhook_locks_nobody_out(objects: Objects) -> None:
    for webhook in _webhooks(objects):
        assert webhook["failurePolicy"] == "Ignore"
        assert webhook["timeoutSeconds"] == 2
        assert webhook["sideEffects"] == "NoneOnDryRun"


def test_the_chart_leaves_the_ca_to_the_controller(objects: Objects) -> None:
    assert all("caBundle" not in webhook["clientConfig"] for webhook in _webhooks(objects))


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    assert {item["operator"] for item in expressions} <= {"NotIn", "DoesNotExist"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        item["key"] not in labels
        if item["operator"] == "DoesNotExist"
        else labels.get(item["key"]) not in item["values"]
        for item in expressions
    )


@pytest.mark.parametrize("namespace", ["models", *SYSTEM])
@pytest.mark.parametrize("protected", [True, False])
@pytest.mark.parametrize("inject", [None, "enabled", "disabled"])
def test_a_pod_in_scope_is_asked_about_once(
    objects: Objects, namespace: str, protected: bool, inject: str | None
) -> None:
    namespace_labels = {"kubernetes.io/metadata.name": namespace}
    if protected:
        namespace_labels["modelward.io/protected"] = "true"
    pod_labels = {"modelward.io/inject": inject} if inject else {}
    asked = [
        webhook["name"]
        for webhook in _webhooks(objects)
        if "pods" in webhook["rules"][0]["resources"]
        and _matches(webhook["namespaceSelector"], namespace_labels)
        and _matches(webhook["objectSelector"], pod_labels)
    ]
    in_scope = namespace not in SYSTEM and (protected or inject == "enabled")
    assert len(asked) == (1 if in_scope else 0)


def test_a_job_of_modelwards_own_is_not_asked_about(objects: Objects) -> None:
    """The backstop says who may make one; it carries no sidecar."""
    namespace = {"kubernetes.io/metadata.name": "models", "modelward.io/protected": "true"}
    assert not [
        webhook["name"]
        for webhook in _webhooks(objects)
        if "pods" in webhook["rules"][0]["resources"]
        and _matches(webhook["namespaceSelector"], namespace)
        and _matches(webhook["objectSelector"], {"modelward.io/job": "fit"})
    ]


def test_baseline_is_the_one_that_check_judges_by(objects: Objects) -> None:
    baseline = of_kind(objects, "ClusterDataPolicy")["baseline"]
    assert canonical(parse(baseline))["spec"] == baseline_policy()["spec"]


def test_baseline_follows_its_values(render: Render) -> None:
    assert "baseline" not in of_kind(render("baseline.create=false"), "ClusterDataPolicy")
    warn = of_kind(render("baseline.enforcement=Warn"), "ClusterDataPolicy")["baseline"]
    assert warn["spec"]["enforcement"] == "Warn"


def test_the_crds_and_the_backstop_are_part_of_the_chart(objects: Objects) -> None:
    crds = {yaml.safe_load(path.read_text())["spec"]["names"]["kind"] for path in (CHART / "crds").glob("*.yaml")}
    assert crds == {"ModelDeployment", "DataPolicy", "ClusterDataPolicy"}
    policies = of_kind(objects, "ValidatingAdmissionPolicy")
    bindings = of_kind(objects, "ValidatingAdmissionPolicyBinding")
    assert policies
    assert {binding["spec"]["policyName"] for binding in bindings.values()} == set(policies)


def test_addresses_of_keys_reach_the_controller_and_the_policy(render: Render) -> None:
    address = "https://login.example/realms/clinic/"
    objects = render(
        f"access.keys.allow[0]={address}", "access.keys.egress[0].cidr=203.0.113.7/32", "access.keys.egress[0].port=443"
    )
    (container,) = of_kind(objects, "Deployment")["modelward-controller"]["spec"]["template"]["spec"]["containers"]
    (variable,) = (one for one in container["env"] if one["name"] == "MODELWARD_ACCESS")
    settings = read_settings(variable["value"])
    assert settings.keys.allow == (address,)
    assert settings.keys.egress[0].rule()["to"] == [{"ipBlock": {"cidr": "203.0.113.7/32"}}]
    policy = of_kind(objects, "ClusterDataPolicy")["baseline"]
    assert policy["spec"]["require"]["access"] == {"jwksURIs": [address]}
    parse(policy)


def test_where_limits_are_counted_reaches_the_controller(render: Render) -> None:
    objects = render("access.rateLimits.address=rediss://user@valkey.example:6380/2")
    (container,) = of_kind(objects, "Deployment")["modelward-controller"]["spec"]["template"]["spec"]["containers"]
    (variable,) = (one for one in container["env"] if one["name"] == "MODELWARD_ACCESS")
    assert read_settings(variable["value"]).rate_limits.address == "rediss://user@valkey.example:6380/2"


def test_collectors_reach_the_controller(render: Render) -> None:
    objects = render(
        "telemetry.allow[0]=https://otel.example:4318/",
        "telemetry.egress[0].namespace=observability",
        "telemetry.egress[0].port=4318",
    )
    (container,) = of_kind(objects, "Deployment")["modelward-controller"]["spec"]["template"]["spec"]["containers"]
    (variable,) = (one for one in container["env"] if one["name"] == "MODELWARD_ACCESS")
    telemetry = read_settings(variable["value"]).telemetry
    assert telemetry.allow == ("https://otel.example:4318/",)
    assert telemetry.egress[0].namespace == "observability"


def lineage_settings(objects: list[dict[str, Any]]) -> tuple[Lineage, list[dict[str, Any]], list[dict[str, Any]]]:
    """What the controller is told about lineage; its volumes, and where they are mounted."""
    pod = of_kind(objects, "Deployment")["modelward-controller"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (variable,) = (one for one in container["env"] if one["name"] == "MODELWARD_ACCESS")
    return read_settings(variable["value"]).lineage, pod["volumes"], container["volumeMounts"]


def test_receivers_of_lineage_reach_the_controller(render: Render) -> None:
    values = ("lineage.allow[0]=https://marquez.example/", "lineage.apiKeySecretName=marquez", "lineage.namespace=east")
    settings, volumes, _ = lineage_settings(render(*values, "lineage.url=https://marquez.example"))
    assert (settings.allow, settings.url) == (("https://marquez.example/",), "https://marquez.example")
    assert (settings.namespace, settings.api_key_secret_name) == ("east", "marquez")
    assert [one["name"] for one in volumes] == ["tmp"]
    values = ("lineage.kafka.bootstrapServers=kafka:9092", "lineage.kafka.topic=lineage", "lineage.kafka.secretName=s")
    settings, *_ = lineage_settings(render(*values))
    assert settings.kafka == Kafka(bootstrap_servers="kafka:9092", topic="lineage", secret_name="s")


@pytest.mark.parametrize("claim", ["", "kept"])
def test_a_file_of_lineage_lies_on_a_volume(render: Render, claim: str) -> None:
    settings, volumes, mounts = lineage_settings(render("lineage.file.enabled=true", f"lineage.file.claimName={claim}"))
    (volume,) = (one for one in volumes if one["name"] == "lineage")
    (mount,) = (one for one in mounts if one["name"] == "lineage")
    assert settings.file.startswith(mount["mountPath"] + "/")
    assert volume.get("persistentVolumeClaim", {}).get("claimName", "") == claim
    assert ("emptyDir" in volume) is not bool(claim)


def test_authorities_survive_the_way_to_the_controller(render: Render) -> None:
    pem = Authority().pem
    objects = render(f"access.keys.authorities={pem}")
    (container,) = of_kind(objects, "Deployment")["modelward-controller"]["spec"]["template"]["spec"]["containers"]
    (variable,) = (one for one in container["env"] if one["name"] == "MODELWARD_ACCESS")
    assert read_settings(variable["value"]).keys.authorities == pem
