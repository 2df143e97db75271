from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import msgspec
import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.monitoring import DetectorType
from modelward.api.validate import SchemaError, canonical, parse
from modelward.planner.access import (
    AccessSettings,
    AccessSettingsError,
    ClusterIssuer,
    Collectors,
    Egress,
    KeyFetching,
    Lineage,
    RateLimits,
    egress_rules,
    read_settings,
)
from modelward.planner.network_policy import network_policy
from modelward.planner.references import References, hierarchies_among
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.unsupported import unsupported
from modelward.sidecar.config import Config
from tests.corpus import good, policy

Manifest = dict[str, Any]
REFERENCES = References(
    config_maps={
        "clinic-jwks": {"data": {"jwks.json": '{"keys": []}'}},
        "wdbc-baseline": {"binaryData": {"baseline.npz": base64.b64encode(b"baseline").decode()}},
    },
    client_authorities="-----BEGIN CERTIFICATE-----\n",
)


def supported() -> Manifest:
    """The good manifest without what this version does not honour."""
    manifest = good()
    for field in ("explanations", "fairness", "securityTest"):
        del manifest["spec"][field]
    del manifest["spec"]["encryption"]["inUse"]
    manifest["spec"]["monitoring"]["detectors"] = [{"type": "Mahalanobis"}]
    manifest["metadata"]["namespace"] = "clinic"
    manifest["metadata"]["generation"] = 3
    return manifest


def parsed(manifest: Manifest) -> ModelDeployment:
    md = parse(manifest)
    assert isinstance(md, ModelDeployment)
    return md


def stored(spec: Manifest) -> Manifest:
    return canonical(parse(policy(spec)))


def test_the_sidecar_reads_what_the_planner_writes() -> None:
    md = parsed(supported())
    assert unsupported(md, []) == []
    config = msgspec.convert(sidecar_config(md, [], REFERENCES), Config)
    assert (config.binding.namespace, config.binding.name, config.binding.generation) == ("clinic", "wdbc", 3)


def test_a_detector_of_answers_needs_no_baseline_and_no_inputs() -> None:
    manifest = supported()
    manifest["spec"]["monitoring"] = {"detectors": [{"type": "Output"}]}
    del manifest["spec"]["schema"]
    assert unsupported(parsed(manifest), []) == []


def test_every_detector_that_can_be_declared_is_honoured() -> None:
    knobs = {"Drift": {"window": 500}, "Extraction": {"coverage": 0.5}, "Evasion": {"extraCalls": 8}}
    knobs["Backdoor"] = {"extraCalls": 32}
    manifest = supported()
    manifest["spec"]["monitoring"]["detectors"] = [
        {"type": name, **knobs.get(name, {})} for name in get_args(DetectorType)
    ]
    md = parsed(manifest)
    assert unsupported(md, []) == []
    config = msgspec.convert(sidecar_config(md, [], REFERENCES), Config)
    assert [each.type for each in config.screening.detectors] == list(get_args(DetectorType))
    assert {each.type: each.extra_calls for each in config.screening.detectors if each.extra_calls} == {
        "Evasion": 8,
        "Backdoor": 32,
    }


@pytest.mark.parametrize(
    ("detector", "told"),
    [
        ({"type": "Evasion"}, "need extraCalls"),
        ({"type": "Ensemble", "extraCalls": 8}, "it is for them alone"),
        ({"type": "Ensemble", "window": 500}, "window is for Drift alone"),
        ({"type": "Drift", "coverage": 0.5}, "coverage is for Extraction alone"),
    ],
)
def test_knobs_belong_to_their_detectors(detector: Manifest, told: str) -> None:
    manifest = supported()
    manifest["spec"]["monitoring"]["detectors"] = [detector]
    with pytest.raises(SchemaError, match=told):
        parse(manifest)


def test_what_policies_say_of_quarantine_and_values_is_brought_together() -> None:
    short = {"anomalies": 3, "seconds": 60, "durationSeconds": 60}
    policies = [stored({"quarantine": short, "recordValues": True}), stored({"quarantine": {}}), stored({})]
    document = sidecar_config(parsed(supported()), policies, REFERENCES)
    default = {"anomalies": 5, "seconds": 300, "durationSeconds": 3600}
    assert document["screening"]["quarantine"] == [short, default]
    assert document["recordValues"] is True
    msgspec.convert(document, Config)
    for fewer in ([*policies, stored({"recordValues": False})], [stored({})], []):
        assert "recordValues" not in sidecar_config(parsed(supported()), fewer, REFERENCES)


def _changed(change: Callable[[Manifest], Any]) -> ModelDeployment:
    manifest = supported()
    change(manifest["spec"])
    return parsed(manifest)


def test_a_model_with_mutual_tls_lets_the_controller_ask() -> None:
    """Where its owner names client authorities, modelward's own is one more, whether there are detectors or not."""
    manifest = supported()
    manifest["spec"]["encryption"]["inTransit"] = {"mode": "MutualTLS", "clientCASecretName": "clients"}
    given = {"clients": {"data": {"ca.crt": base64.b64encode(b"theirs\n").decode()}}}
    references = replace(REFERENCES, secrets=given)
    ours = REFERENCES.client_authorities
    assert sidecar_config(parsed(manifest), [], references)["tls"]["clientCA"] == f"theirs\n{ours}"
    manifest["spec"]["monitoring"]["detectors"] = []
    assert sidecar_config(parsed(manifest), [], references)["tls"]["clientCA"] == f"theirs\n{ours}"


UNSUPPORTED: list[tuple[str, Callable[[Manifest], Any]]] = [
    ("spec.encryption.inUse", lambda s: s["encryption"].update(inUse={})),
    ("LinearSHAP without weightsConfigMapName", lambda s: s.update(explanations={"method": "LinearSHAP"})),
    ("output other (no such output; declared are malignant)", lambda s: s.update(explanations={"output": "other"})),
    (
        "explanations with spec.encryption.inUse.only",
        lambda s: (
            s["encryption"].update(inUse={"only": True, "weightsConfigMapName": "w"}) or s.update(explanations={})
        ),
    ),
    (
        "explanations without spec.monitoring.baseline",
        lambda s: s.update(explanations={}, monitoring={"detectors": []}),
    ),
    ("spec.fairness.protected[0].field", lambda s: s.update(fairness={"protected": [{"field": "x", "groups": ["a"]}]})),
    ("fairness.protected[0].edges", lambda s: s.update(fairness={"protected": [{"field": "radius", "edges": [2, 1]}]})),
    ("spec.access.issuers[0].audiences", lambda s: s["access"]["issuers"][0].update(audiences=[])),
    ("baseline.dataset", lambda s: s["monitoring"].update(baseline={"dataset": "s3://x"})),
    ("without spec.monitoring.baseline", lambda s: s["monitoring"].pop("baseline")),
    ("accessLog OTLP without otlpEndpoint", lambda s: s["monitoring"].update(telemetry={"accessLog": "OTLP"})),
]


@pytest.mark.parametrize(("field", "change"), UNSUPPORTED, ids=[field for field, _ in UNSUPPORTED])
def test_what_a_model_declares_and_the_sidecar_cannot_do_is_listed(
    field: str, change: Callable[[Manifest], Any]
) -> None:
    (listed,) = unsupported(_changed(change), [])
    assert field in listed


def test_a_treatment_that_a_column_cannot_take_is_listed_with_its_fix() -> None:
    fields = [{"name": "radius", "treatment": "Pseudonymise"}]
    (listed,) = unsupported(parsed(supported()), [stored({"fields": fields})])
    assert listed == (
        "DataPolicy policy spec.fields[0] (input features.radius: Pseudonymise gives text and the column is FP64: "
        "use Drop, or coarsen it with Generalise (step), Bucket or Round)"
    )


def test_treatments_reach_the_sidecar_and_the_strictest_wins() -> None:
    md = parsed(supported())
    lax = stored({"fields": [{"name": "radius", "treatment": "Round", "digits": 2}, {"name": "patient"}]})
    strict = stored(
        {
            "fields": [
                {"name": "radius", "treatment": "Generalise", "step": 5},
                {"name": "patient", "treatment": "Pseudonymise"},
            ]
        }
    )
    assert unsupported(md, [lax, strict]) == []
    document = sidecar_config(md, [lax, strict], REFERENCES, keys=b"keys")
    assert document["fields"] == {
        "radius": {"treatment": "Generalise", "step": 5},
        "patient": {"treatment": "Pseudonymise"},
    }
    assert document["keys"] == {"file": "pseudonym.keys", "sha256": hashlib.sha256(b"keys").hexdigest()}
    assert msgspec.convert(document, Config).fields["patient"].treatment == "Pseudonymise"
    assert "keys" not in sidecar_config(md, [lax], REFERENCES, keys=b"keys")
    assert "fields" not in sidecar_config(md, [], REFERENCES, keys=b"keys")


def test_hierarchies_are_kept_in_the_system_namespace() -> None:
    md = parsed(supported())
    policies = [stored({"fields": [{"name": "patient", "treatment": "Generalise", "hierarchy": "wards", "level": 2}]})]
    config_map = {
        "kind": "ConfigMap",
        "metadata": {"name": "wards", "namespace": "modelward-system"},
        "data": {"hierarchy.csv": "w1;north;*\n"},
    }
    own = {**config_map, "metadata": {"name": "wards", "namespace": "clinic"}}
    found = replace(REFERENCES, hierarchies=hierarchies_among([config_map, own]))
    assert sidecar_config(md, policies, found)["fields"]["patient"]["groups"] == {"w1": "*"}
    with pytest.raises(
        SidecarConfigError, match=r"hierarchy wards: no ConfigMap wards with hierarchy.csv in modelward-"
    ):
        sidecar_config(md, policies, replace(REFERENCES, hierarchies=hierarchies_among([own])))
    config_map["data"] = {"hierarchy.csv": "w1;north\nw2"}
    with pytest.raises(SidecarConfigError, match=r"spec\.fields\[0\]\.hierarchy wards: .*levels 1 to 1"):
        sidecar_config(md, policies, replace(REFERENCES, hierarchies=hierarchies_among([config_map])))


def test_a_field_that_the_model_does_not_take_needs_no_treatment() -> None:
    fields = [{"name": "ssn", "treatment": "Drop"}, {"name": "radius", "treatment": "Keep"}]
    assert unsupported(parsed(supported()), [stored({"fields": fields})]) == []


def test_the_strictest_policy_decides() -> None:
    md = parsed(supported())
    lax = stored({"undeclaredFields": "Drop", "onDetectorError": "Pass"})
    assert sidecar_config(md, [lax], REFERENCES)["undeclaredFields"] == "Drop"
    both = sidecar_config(md, [lax, stored({})], REFERENCES)
    assert both["undeclaredFields"] == "Reject"
    assert both["screening"]["onDetectorError"] == "Block"


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_keys_that_cannot_be_read_are_told_with_their_place(content: str) -> None:
    config_maps = copy.deepcopy(dict(REFERENCES.config_maps))
    config_maps["clinic-jwks"] = {"data": {"jwks.json": content}}
    with pytest.raises(SidecarConfigError, match=r"issuers\[0\].jwksConfigMapName: jwks.json in ConfigMap clinic-jwks"):
        sidecar_config(parsed(supported()), [], References(config_maps, {}, "x"))


def _with_issuer(**issuer: Any) -> ModelDeployment:
    whole = {"name": "a", "issuer": "https://a.example", "audiences": ["c"], **issuer}
    return _changed(lambda spec: spec["access"].update(issuers=[whole]))


KEYS = KeyFetching(allow=("https://a.example/",), authorities="PEM", egress=(Egress(port=443, cidr="203.0.113.7/32"),))
CLUSTER = ClusterIssuer(issuer="https://kubernetes.default.svc", jwks={"keys": [{"kid": "k"}]})


def test_keys_by_url_come_with_the_list_of_the_installation() -> None:
    md = _with_issuer(jwksURI="https://a.example/keys")
    assert unsupported(md, []) == []
    config = msgspec.convert(sidecar_config(md, [], REFERENCES, access=AccessSettings(keys=KEYS)), Config)
    (issuer,) = config.access.issuers
    assert (issuer.jwks_uri, issuer.jwks, issuer.cluster) == ("https://a.example/keys", None, False)
    assert (config.access.key_fetching.allow, config.access.key_fetching.authorities) == (["https://a.example/"], "PEM")


@pytest.mark.parametrize("settings", [None, AccessSettings(keys=KEYS)])
def test_an_address_that_is_not_on_the_list_is_told_by_its_field(settings: AccessSettings | None) -> None:
    md = _with_issuer(jwksURI="https://a.example.evil.example/keys")
    with pytest.raises(SidecarConfigError, match=r"^spec\.access\.issuers\[0\]\.jwksURI: it is not among") as error:
        sidecar_config(md, [], REFERENCES, access=settings)
    assert error.value.reason == "AddressNotAllowed"


def test_the_clusters_own_issuer_has_the_clusters_keys() -> None:
    md = _with_issuer(issuer="https://kubernetes.default.svc", serviceAccounts=True)
    config = msgspec.convert(sidecar_config(md, [], REFERENCES, access=AccessSettings(cluster=CLUSTER)), Config)
    (issuer,) = config.access.issuers
    assert (issuer.cluster, issuer.jwks, issuer.jwks_uri) == (True, CLUSTER.jwks, "")
    with pytest.raises(SidecarConfigError, match=r"serviceAccounts: the cluster does not tell"):
        sidecar_config(md, [], REFERENCES, access=AccessSettings())


def test_another_issuer_does_not_become_the_clusters_by_saying_so() -> None:
    md = _with_issuer(issuer="https://evil.example", serviceAccounts=True)
    with pytest.raises(SidecarConfigError, match=r"issuers\[0\]\.issuer: this cluster's own issuer is https://kube"):
        sidecar_config(md, [], REFERENCES, access=AccessSettings(cluster=CLUSTER))
    known = _changed(lambda spec: spec["access"]["issuers"][0].update(issuer="https://kubernetes.default.svc"))
    config = msgspec.convert(sidecar_config(known, [], REFERENCES, access=AccessSettings(cluster=CLUSTER)), Config)
    assert not config.access.issuers[0].cluster  # its keys are the owner's choice, whatever its name


def test_tokens_for_the_api_server_are_not_asked_for() -> None:
    own = "https://kubernetes.default.svc"
    md = _with_issuer(issuer=own, audiences=["triage", own], serviceAccounts=True)
    with pytest.raises(SidecarConfigError, match=r"issuers\[0\]\.audiences: https://kube.* is the API server's own"):
        sidecar_config(md, [], REFERENCES, access=AccessSettings(cluster=CLUSTER))


def test_the_way_out_is_opened_for_those_who_need_it_alone() -> None:
    settings = AccessSettings(keys=KEYS)
    assert egress_rules(parsed(supported()), settings) == []
    assert egress_rules(_with_issuer(jwksURI="https://a.example/keys"), settings) == [
        {"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    ]
    policy = network_policy(_with_issuer(jwksURI="https://a.example/keys"), (), [{"to": ["x"]}])
    assert policy["spec"]["egress"][1:] == [{"to": ["x"]}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "access: "),
        ('{"keyz": {}}', "keyz"),
        ('{"keys": {"allow": ["http://a.example/"]}}', r"access\.keys\.allow\[0\]: only https:// is connected to"),
        ('{"keys": {"allow": ["https://a@b.example/"]}}', r"access\.keys\.allow\[0\]: write it plainly"),
        ('{"telemetry": {"allow": ["grpc://a.example/"]}}', r"telemetry\.allow\[0\]: only https:// is connected to"),
        ('{"telemetry": {"egress": [{"port": 443}]}}', r"telemetry\.egress\[0\]: give exactly one"),
        ('{"lineage": {"allow": ["kafka://a.example/"]}}', r"lineage\.allow\[0\]: only https:// is connected to"),
        ('{"lineage": {"url": "https://u:p@a.example"}}', r"lineage\.url: write it plainly"),
        (
            '{"lineage": {"url": "https://a.example", "file": "/x"}}',
            r"lineage: give at most one of url, file and kafka",
        ),
        ('{"lineage": {"file": "s3://bucket/x"}}', r"lineage\.file: give the whole path"),
        ('{"lineage": {"kafka": {"bootstrapServers": "k:1"}}}', r"lineage\.kafka\.topic: give a topic's name"),
        ('{"keys": {"egress": [{"port": 443}]}}', r"access\.keys\.egress\[0\]: give exactly one of cidr and namespace"),
        ('{"rateLimits": {"address": "http://x"}}', r"access\.rateLimits\.address: give redis://"),
        ('{"rateLimits": {"address": "redis://:secret@x:1"}}', r"access\.rateLimits\.address: give redis://"),
        ('{"rateLimits": {"address": "redis://a:secret@x:1"}}', r"access\.rateLimits\.address: give redis://"),
        ('{"rateLimits": {"egress": [{"port": 1}]}}', r"access\.rateLimits\.egress\[0\]"),
        ('{"keys": {"egress": [{"port": 0, "cidr": "10.0.0.0/8"}]}}', r"port"),
    ],
)
def test_settings_that_cannot_be_used_are_told_by_their_value(text: str, said: str) -> None:
    with pytest.raises(AccessSettingsError, match=said):
        read_settings(text)


LIMITS = AccessSettings(
    rate_limits=RateLimits(address="redis://valkey.modelward-system.svc", egress=(Egress(port=6379, namespace="m"),))
)


def _limited() -> ModelDeployment:
    limit = {"requests": 10, "seconds": 60}
    return _changed(lambda spec: (spec["access"]["rules"][0].update(rateLimit=limit), spec.update(replicas=3)))


def test_limits_are_shared_by_those_who_have_one_where_there_is_a_server() -> None:
    config = msgspec.convert(sidecar_config(_limited(), [], REFERENCES, access=LIMITS), Config)
    shared = config.access.shared_limits
    assert shared is not None
    assert (shared.address, shared.model, shared.replicas) == ("redis://valkey.modelward-system.svc", "clinic/wdbc", 3)
    assert "sharedLimits" not in sidecar_config(_limited(), [], REFERENCES)["access"]
    assert egress_rules(_limited(), LIMITS)[0]["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "m"}}}
    ]
    free = _changed(lambda spec: [rule.pop("rateLimit", None) for rule in spec["access"]["rules"]])
    assert "sharedLimits" not in sidecar_config(free, [], REFERENCES, access=LIMITS)["access"]
    assert egress_rules(free, LIMITS) == []


def test_settings_are_empty_where_none_are_given() -> None:
    assert read_settings("") == read_settings("{}") == AccessSettings()


COLLECTORS = Collectors(
    allow=("https://otel.example:4318/",), authorities="PEM", egress=(Egress(port=4318, namespace="observability"),)
)


def _with_telemetry(**telemetry: str) -> ModelDeployment:
    return _changed(lambda spec: spec["monitoring"].update(telemetry=telemetry))


def test_a_collector_comes_with_the_list_of_the_installation() -> None:
    md = _with_telemetry(otlpEndpoint="https://otel.example:4318", accessLog="OTLP")
    assert unsupported(md, []) == []
    settings = AccessSettings(telemetry=COLLECTORS)
    config = msgspec.convert(sidecar_config(md, [], REFERENCES, access=settings), Config)
    assert config.telemetry is not None
    assert (config.telemetry.endpoint, config.telemetry.access_log) == ("https://otel.example:4318", "OTLP")
    assert (config.telemetry.allow, config.telemetry.authorities) == (["https://otel.example:4318/"], "PEM")
    assert (
        msgspec.convert(sidecar_config(parsed(supported()), [], REFERENCES, access=settings), Config).telemetry is None
    )


@pytest.mark.parametrize("endpoint", ["http://169.254.169.254", "https://otel.example:4318.evil.example"])
def test_a_collector_that_is_not_on_the_list_is_told_by_its_field(endpoint: str) -> None:
    with pytest.raises(SidecarConfigError, match=r"^spec\.monitoring\.telemetry\.otlpEndpoint: ") as error:
        sidecar_config(
            _with_telemetry(otlpEndpoint=endpoint), [], REFERENCES, access=AccessSettings(telemetry=COLLECTORS)
        )
    assert error.value.reason == "AddressNotAllowed"


def test_the_way_to_the_collector_is_opened_for_those_who_send_alone() -> None:
    settings = AccessSettings(keys=KEYS, telemetry=COLLECTORS)
    assert egress_rules(parsed(supported()), settings) == []
    assert egress_rules(_with_telemetry(otlpEndpoint="https://otel.example:4318"), settings) == [
        Egress(port=4318, namespace="observability").rule()
    ]


@pytest.mark.parametrize(
    "endpoint",
    ["https://other.example", "https://marquez.example.attacker.example", "https://marquez.example@x.example"],
)
def test_lineage_goes_only_where_the_installation_allows(endpoint: str) -> None:
    settings = AccessSettings(lineage=Lineage(allow=("https://marquez.example/",)))
    allowed = _with_telemetry(lineageEndpoint="https://marquez.example")
    assert unsupported(allowed, []) == []
    assert "telemetry" not in sidecar_config(allowed, [], REFERENCES, access=settings), "the controller sends, not it"
    with pytest.raises(SidecarConfigError, match=r"^spec\.monitoring\.telemetry\.lineageEndpoint: ") as error:
        sidecar_config(_with_telemetry(lineageEndpoint=endpoint), [], REFERENCES, access=settings)
    assert error.value.reason == "AddressNotAllowed"
