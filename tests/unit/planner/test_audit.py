"""What a sidecar counts for auditors, and under whose keys: policies together, and what is wrong with them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

import msgspec
import pytest

pytest.importorskip("Pyfhel")

from modelward.api.validate import canonical, parse
from modelward.audit.layout import layout_of
from modelward.audit.parameters import PARAMETERS
from modelward.audit.settings import Audit
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.planner.audit import audit_config, audit_files, key_places
from modelward.planner.config_map import config_map
from modelward.planner.references import References
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.unsupported import unsupported
from modelward.privacy.spec import Treatment
from modelward.sidecar.config import Config
from modelward.sidecar.tally import Tally
from modelward.sidecar.tensors import TensorSpec
from tests.corpus import policy
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, supported

KEYS = [ClientKeys.generate(PARAMETERS).public for _ in range(3)]
DIGESTS = [f"sha256:{envelope.digest(keys)}" for keys in KEYS]
AGE = {"name": "age", "role": "QuasiIdentifier", "treatment": "Bucket", "edges": [18, 40, 65]}


def asking(key: int = 0, *, fields: tuple[dict[str, Any], ...] = (AGE,), name: str = "p", **audit: Any) -> Any:
    asked = {"publicKeyConfigMapName": f"key-{key}", "keysDigest": DIGESTS[key], **audit}
    document = policy({"audit": asked, "fields": list(fields)})
    document["metadata"] = {"name": name, "namespace": "clinic"}
    return canonical(parse(document))


def references(**held: bytes) -> References:
    held = {f"key-{index}": keys for index, keys in enumerate(KEYS)} | held
    found = {
        ("clinic", name): {"binaryData": {"keys.bin": base64.b64encode(content).decode()}}
        for name, content in held.items()
    }
    return replace(REFERENCES, audit=found)


def model(inputs: list[dict[str, Any]] | None = None, **spec: Any) -> Any:
    manifest = supported()
    manifest["spec"] |= spec
    manifest["spec"].pop("monitoring")
    manifest["spec"]["schema"] = {
        "inputs": inputs or [{"name": "x", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "weight"]}]
    }
    return parsed(manifest)


def planned(md: Any, policies: list[Any], known: References | None = None) -> Config:
    assert unsupported(md, policies) == []
    return msgspec.convert(sidecar_config(md, policies, known or references()), Config)


def counted(md: Any, *policies: Any) -> dict[str, tuple[str, ...]]:
    audit = planned(md, list(policies)).audit
    assert audit is not None
    declared = {one.name: TensorSpec(one) for one in planned(md, list(policies)).inputs or ()}
    Tally(audit, declared)  # the sidecar finds every field
    return {one.field: one.cells for one in audit.counted} | dict.fromkeys(audit.uncounted, ())


def test_the_sidecar_reads_what_is_planned_and_finds_the_keys() -> None:
    policies = [asking(everySeconds=600), asking(1, name="q", everySeconds=60, minimumCount=20)]
    config = planned(model(), policies)
    assert config.audit is not None
    assert (config.audit.seconds, [one.policy for one in config.audit.auditors]) == (
        60,
        ["DataPolicy p", "DataPolicy q"],
    )
    assert [one.minimum for one in config.audit.auditors] == [10, 20]
    files = audit_files(policies, references())
    assert list(files) == ["audit-0.keys", "audit-1.keys"]
    for auditor, keys in zip(config.audit.auditors, KEYS, strict=False):
        assert files[auditor.file] == keys
        assert auditor.sha256 == hashlib.sha256(keys).hexdigest()
        assert f"sha256:{auditor.keys}" in DIGESTS
    made = config_map(model(), {}, lambda _: b"", files)
    assert base64.b64decode(made["binaryData"]["audit-1.keys"]) == KEYS[1]


def test_two_policies_of_one_auditor_get_one_aggregate_and_the_stricter_of_their_bounds() -> None:
    first, second = asking(periodSeconds=600, minimumWindows=50), asking(name="q", periodSeconds=300, minimumCount=30)
    audit = planned(model(), [first, second]).audit
    assert audit is not None
    (auditor,) = audit.auditors
    assert auditor.policy == "DataPolicy p, DataPolicy q"
    assert (auditor.period_seconds, auditor.minimum_windows, auditor.minimum) == (600, 50, 30)


def test_k_anonymity_is_the_least_count_where_none_is_given() -> None:
    document = asking()
    document["spec"]["kAnonymity"] = {"k": 7}
    assert msgspec.convert(sidecar_config(model(), [document], references()), Config).audit.auditors[0].minimum == 7  # type: ignore[union-attr]


def test_nobody_asks_and_nothing_is_counted() -> None:
    assert "audit" not in sidecar_config(model(), [canonical(parse(policy({})))], REFERENCES)
    assert audit_files([], REFERENCES) == {}


@pytest.mark.parametrize(
    ("field", "tensor", "cells"),
    [
        ({"treatment": "Bucket", "edges": [18, 40]}, {}, ("below 18", "[18, 40)", "40 and above", "other")),
        (
            {"treatment": "Generalise", "step": 10},
            {"minimum": 5, "maximum": 25},
            ("below 0", "[0, 10)", "[10, 20)", "20 and above", "other"),
        ),
        (
            {"treatment": "Round", "digits": -1},
            {"minimum": 0, "maximum": 14},
            ("below -5", "[-5, 5)", "5 and above", "other"),
        ),
        ({"treatment": "Generalise", "step": 10}, {}, ()),
        ({"treatment": "Generalise", "step": 0.001}, {"minimum": 0, "maximum": 100}, ()),
        ({"treatment": "Drop"}, {"minimum": 0, "maximum": 1}, ()),
        ({"treatment": "Keep"}, {}, ()),
        ({"treatment": "Keep"}, {"datatype": "BOOL"}, ("false", "true", "other")),
        (
            {"treatment": "Bucket", "edges": [18, 40.5]},
            {"datatype": "BYTES"},
            ("[18, 40.5)", "[40.5, inf)", "other"),
        ),
        ({"treatment": "Mask", "keepLast": 2}, {"datatype": "BYTES"}, ()),
    ],
)
def test_values_are_counted_as_far_as_they_are_known(
    field: dict[str, Any], tensor: dict[str, Any], cells: tuple[str, ...]
) -> None:
    md = model([{"name": "x", "datatype": "FP64", "shape": [-1, 1], "columns": ["age"], **tensor},
                {"name": "sex", "datatype": "BOOL", "shape": [-1], "role": "QuasiIdentifier"}])  # fmt: skip
    found = counted(md, asking(fields=({"name": "age", "role": "QuasiIdentifier", **field},)))
    assert found["age"] == cells
    assert found["sex"] == ("false", "true", "other")


def test_a_range_that_nobody_divides_is_sixteen_parts() -> None:
    md = model(
        [{"name": "x", "datatype": "FP64", "shape": [-1], "minimum": 0, "maximum": 32, "role": "QuasiIdentifier"}]
    )
    cells = counted(md, asking(fields=()))["x"]
    assert cells[:3] == ("below 0", "[0, 2)", "[2, 4)")
    assert cells[-3:] == ("[30, 32)", "32 and above", "other")


def test_a_column_that_no_row_element_is_is_not_counted() -> None:
    several = {
        "name": "x",
        "datatype": "FP64",
        "shape": [-1, 2, 2],
        "columns": ["age", "weight"],
        "minimum": 0,
        "maximum": 9,
    }
    flag = {"name": "y", "datatype": "BOOL", "shape": [-1], "role": "QuasiIdentifier"}
    found = counted(model([several, flag]), asking(fields=({"name": "age", "role": "QuasiIdentifier"},)))
    assert found == {"y": ("false", "true", "other"), "age": ()}


def test_protected_groups_are_counted_by_outcome() -> None:
    fairness = {"protected": [{"field": "age", "edges": [30.0]}, {"field": "weight", "groups": ["1", "2"]}]}
    found = counted(model(fairness=fairness), asking(fields=()))
    assert found["age"] == (
        "below 30: selected",
        "below 30: not selected",
        "30 and more: selected",
        "30 and more: not selected",
        "other: selected",
        "other: not selected",
        "unknown",
    )
    assert len(found["weight"]) == 7


def test_what_was_true_is_counted_where_somebody_may_tell_it_and_the_cluster_may_not_know_it() -> None:
    fairness = {"protected": [{"field": "age", "edges": [30.0]}], "maxDifference": 0.2, "minimumGroupSize": 70}
    rules = supported()["spec"]["access"]["rules"]
    told = {**supported()["spec"]["access"], "rules": [{**rules[0], "operations": ["Infer", "Feedback"]}]}
    for access, only, blocks in ((told, True, [False, True]), (told, False, [False]), (None, True, [False])):
        changes = {"access": access} if access else {}
        audit = planned(model(fairness=fairness, **changes), [asking(fields=(), only=only)]).audit
        assert audit is not None
        assert [one.truth for one in audit.counted] == blocks
        assert (audit.only, audit.max_difference, audit.minimum_group_size) == (only, 0.2, 70)
    assert planned(model(), [asking(only=False), asking(1, name="q")]).audit.only  # type: ignore[union-attr]
    assert planned(model(), [asking()]).audit.max_difference is None  # type: ignore[union-attr]


def test_counts_by_other_favourable_answers_or_another_hierarchy_are_another_layout() -> None:
    def layouts(favourable: dict[str, Any], treatment: Treatment) -> str:
        md = model(fairness={"protected": [{"field": "age", "edges": [30.0]}], "favourable": favourable})
        config = audit_config(md, [asking()], {"age": treatment}, references())
        assert config is not None
        audit = msgspec.convert(config, Audit)
        return layout_of(audit.counted, audit.uncounted).digest()

    rough = Treatment("Generalise", groups={"1": "young", "2": "old"})
    finer = Treatment("Generalise", groups={"1": "old", "2": "young"})
    made = [layouts({"atLeast": least}, by) for least in (0.5, 0.7) for by in (rough, finer)]
    assert len(set(made)) == 4
    assert made[0] == layouts({"atLeast": 0.5}, Treatment("Generalise", groups={"2": "old", "1": "young"}))


@pytest.mark.parametrize(
    ("policies", "known", "told"),
    [
        ([asking()], References(), r"ConfigMap key-0 in clinic is not there, or has no keys.bin: kubectl create"),
        ([asking()], references(**{"key-0": b"x"}), r"ConfigMap key-0 in clinic: .*cannot be keys"),
        ([asking()], references(**{"key-0": KEYS[1]}), r"holds the key sha256:.*, and keysDigest names sha256:"),
        ([asking(n, name=f"p{n}") for n in range(3)], references(), r"DataPolicy p2 .* agree on a key"),
        ([asking(fields=())], references(), r"nothing to count: give columns the role QuasiIdentifier"),
    ],
)
def test_what_cannot_be_done_is_named(policies: list[Any], known: References, told: str) -> None:
    known = replace(known, config_maps=REFERENCES.config_maps, client_authorities=REFERENCES.client_authorities)
    with pytest.raises(SidecarConfigError, match=told):
        sidecar_config(model(), policies, known)


def test_a_clients_keys_are_no_auditors() -> None:
    with pytest.raises(SidecarConfigError, match="not an auditor's keys"):
        sidecar_config(model(), [asking()], references(**{"key-0": ClientKeys.generate().public}))


def test_of_what_nobody_can_read_nothing_is_counted() -> None:
    md = model(encryption={"inTransit": {"mode": "TLS"}, "inUse": {"only": True}})
    with pytest.raises(SidecarConfigError, match=r"DataPolicy p spec.audit: nothing can be counted"):
        sidecar_config(md, [asking()], references())


def test_a_cluster_policys_key_is_in_the_system_namespace() -> None:
    cluster = canonical(parse({**policy({"audit": {"publicKeyConfigMapName": "dpo", "keysDigest": DIGESTS[0]}}),
                               "kind": "ClusterDataPolicy"}))  # fmt: skip
    assert key_places([cluster, asking()]) == [("clinic", "key-0"), ("modelward-system", "dpo")]
    with pytest.raises(SidecarConfigError, match="ConfigMap dpo in modelward-system is not there"):
        sidecar_config(model(), [cluster], references())
