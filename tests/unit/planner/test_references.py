from __future__ import annotations

import base64

import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import references_of
from modelward.planner.references import References


def model(**spec: object) -> ModelDeployment:
    return ModelDeployment.model_validate(
        {
            "apiVersion": "modelward.io/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": {"name": "wdbc", "namespace": "clinic"},
            "spec": {"model": {"image": "x", "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "weights", "key": "token"}}},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "site", "key": "region"}}},
            ], "imagePullSecrets": ["registry"]}, **spec},
        }
    )  # fmt: skip


def test_every_field_that_names_an_object() -> None:
    md = model(
        encryption={"inTransit": {"mode": "MutualTLS", "secretName": "own", "clientCASecretName": "partners"}},
        access={"issuers": [{"name": "a", "issuer": "b", "jwksConfigMapName": "keys"}]},
        monitoring={"baseline": {"secretName": "normal"}},
    )
    found = [(one.kind, one.name, one.key, one.field) for one in references_of(md)]
    assert found == [
        ("Secret", "own", "tls.crt", "spec.encryption.inTransit.secretName"),
        ("Secret", "own", "tls.key", "spec.encryption.inTransit.secretName"),
        ("Secret", "partners", "ca.crt", "spec.encryption.inTransit.clientCASecretName"),
        ("ConfigMap", "keys", "jwks.json", "spec.access.issuers[0].jwksConfigMapName"),
        ("Secret", "normal", "baseline.npz", "spec.monitoring.baseline.secretName"),
        ("Secret", "weights", "token", "spec.model.env[0].valueFrom.secretKeyRef"),
        ("ConfigMap", "site", "region", "spec.model.env[1].valueFrom.configMapKeyRef"),
        ("Secret", "registry", "", "spec.model.imagePullSecrets[0]"),
    ]


def test_what_is_missing_is_named_with_its_field() -> None:
    objects = [
        {"kind": "Secret", "metadata": {"name": "weights", "namespace": "clinic"}, "data": {"other": ""}},
        {"kind": "ConfigMap", "metadata": {"name": "site", "namespace": "elsewhere"}, "data": {"region": "north"}},
        {"kind": "Secret", "metadata": {"name": "registry", "namespace": "clinic"}},
        {"kind": "ConfigMap", "metadata": "broken"},
    ]
    found = References.among(objects, "clinic")
    missing = found.missing(references_of(model()))
    assert [found.lack(one) for one in missing] == [
        "spec.model.env[0].valueFrom.secretKeyRef names Secret weights, which has no key token",
        "spec.model.env[1].valueFrom.configMapKeyRef names ConfigMap site, which is not there",
    ]


@pytest.mark.parametrize(
    ("item", "content"),
    [
        ({"data": {"k": "text"}}, b"text"),
        ({"binaryData": {"k": base64.b64encode(b"\x00\xff").decode()}}, b"\x00\xff"),
        ({"binaryData": {"k": "not base64!"}}, None),
        ({"data": None}, None),
        ({}, None),
    ],
)
def test_content_of_a_config_map(item: dict[str, object], content: bytes | None) -> None:
    assert References(config_maps={"c": item}).content("ConfigMap", "c", "k") == content


def test_content_of_a_secret() -> None:
    secrets = {"s": {"data": {"k": base64.b64encode(b"one").decode()}, "stringData": {"plain": "two"}}}
    found = References(secrets=secrets)
    assert found.content("Secret", "s", "k") == b"one"
    assert found.content("Secret", "s", "plain") == b"two"
    assert found.content("Secret", "absent", "k") is None
