"""Who issues the webhook's certificate: the controller, or cert-manager, and never both."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelward.admission.caches import CERTIFICATE_NAME
from modelward.controller.certificates import AUTHORITY_VALIDITY, LEAF_VALIDITY
from modelward.controller.installation import WEBHOOK_SECRET
from modelward.controller.main import options
from tests.unit.chart.rendering import Objects, Render, of_kind

ENABLED = "certificates.certManager.enabled=true"
GROUP = "cert-manager.io/"


@pytest.fixture
def managed(render: Render) -> Objects:
    return render(ENABLED)


def _controller_environment(objects: Objects) -> dict[str, str]:
    (container,) = of_kind(objects, "Deployment")["modelward-controller"]["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def _rights_on_the_webhook(objects: Objects) -> list[str]:
    role = of_kind(objects, "ClusterRole")["modelward-controller"]
    (rule,) = [rule for rule in role["rules"] if "mutatingwebhookconfigurations" in rule.get("resources", ())]
    return list(rule["verbs"])


def _hours(text: str) -> timedelta:
    return timedelta(hours=int(text.removesuffix("h")))


def test_by_default_the_controller_issues_and_cert_manager_need_not_be_there(objects: Objects) -> None:
    assert not [item for item in objects if item["apiVersion"].startswith(GROUP)]
    assert "annotations" not in of_kind(objects, "MutatingWebhookConfiguration")["modelward"]["metadata"]
    assert options([], _controller_environment(objects)).webhook_certificate == "own"
    assert _rights_on_the_webhook(objects) == ["get", "patch"]


def test_with_cert_manager_the_controller_leaves_certificate_and_bundle_alone(managed: Objects) -> None:
    assert options([], _controller_environment(managed)).webhook_certificate == "external"
    assert _rights_on_the_webhook(managed) == ["get"]
    configuration = of_kind(managed, "MutatingWebhookConfiguration")["modelward"]
    assert all("caBundle" not in webhook["clientConfig"] for webhook in configuration["webhooks"])


def test_the_bundle_is_injected_from_the_certificate_that_is_served(managed: Objects) -> None:
    annotations = of_kind(managed, "MutatingWebhookConfiguration")["modelward"]["metadata"]["annotations"]
    namespace, name = annotations["cert-manager.io/inject-ca-from"].split("/")
    certificate = of_kind(managed, "Certificate")[name]
    assert certificate["metadata"]["namespace"] == namespace
    assert certificate["spec"]["secretName"] == CERTIFICATE_NAME == WEBHOOK_SECRET


def test_the_certificate_is_short_lived_and_for_the_service(managed: Objects) -> None:
    spec = of_kind(managed, "Certificate")["modelward-admission"]["spec"]
    service = of_kind(managed, "Service")["modelward-admission"]["metadata"]
    assert spec["dnsNames"] == [f"{service['name']}.{service['namespace']}.svc"]
    assert _hours(spec["duration"]) == LEAF_VALIDITY
    assert _hours(spec["renewBefore"]) * 3 == LEAF_VALIDITY
    assert spec["privateKey"]["rotationPolicy"] == "Always"
    assert "server auth" in spec["usages"]
    assert not spec.get("isCA")


def test_the_authority_that_the_chart_makes_is_renewed_without_a_gap(managed: Objects) -> None:
    issuers, certificates = of_kind(managed, "Issuer"), of_kind(managed, "Certificate")
    chosen = certificates["modelward-admission"]["spec"]["issuerRef"]
    assert (chosen["group"], chosen["kind"]) == ("cert-manager.io", "Issuer")
    authority = certificates["modelward-admission-ca"]["spec"]
    assert issuers[chosen["name"]]["spec"]["ca"]["secretName"] == authority["secretName"]
    assert authority["isCA"] is True
    assert authority["commonName"], "an authority without a name cannot be told from another"
    assert issuers[authority["issuerRef"]["name"]]["spec"] == {"selfSigned": {}}
    assert _hours(authority["duration"]) == AUTHORITY_VALIDITY
    assert _hours(authority["renewBefore"]) > LEAF_VALIDITY
    assert authority["privateKey"]["rotationPolicy"] == "Never", "a new key would leave the old leaf without trust"


def test_an_issuer_of_ones_own_is_asked_and_no_authority_made(render: Render) -> None:
    issuer = "certificates.certManager.issuer"
    objects = render(ENABLED, f"{issuer}.name=internal-ca", f"{issuer}.kind=ClusterIssuer")
    (certificate,) = of_kind(objects, "Certificate").values()
    expected: dict[str, Any] = {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": "internal-ca"}
    assert certificate["spec"]["issuerRef"] == expected
    assert not of_kind(objects, "Issuer")


def test_another_word_in_the_environment_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options([], {"MODELWARD_SIDECAR_IMAGE": "i", "MODELWARD_WEBHOOK_CERTIFICATE": "certmanager"})
    assert "own, external" in capsys.readouterr().err
