from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.modeldeployment import ModelDeployment
from modelward.errand import Errand
from modelward.planner.access import Datasets, Egress
from modelward.planner.dataset import Dataset, DatasetError, read_dataset
from modelward.planner.fit_job import (
    fit_job,
    fit_network_policy,
    fit_secret,
    is_fit,
    job_name,
    not_allowed,
)
from modelward.planner.fit_request import dataset_of, fit_request
from modelward.planner.names import MANAGED_BY_LABEL
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate
from modelward.planner.sidecar import INJECT_LABEL, JOB_LABEL, MODEL_LABEL
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, stored, supported

SHA = "a" * 64
OTHER = "b" * 64
ADDRESS = "pvc://reference/wdbc/train.csv"
URL = f"https://data.clinic.example/train.csv@sha256:{SHA}"
IMAGE = "modelward-jobs@sha256:" + "c" * 64


def model(address: str = ADDRESS, inputs: list[dict[str, Any]] | None = None, lineage: str = "") -> ModelDeployment:
    manifest = supported()
    manifest["metadata"]["annotations"] = {"lineage.modelward.io/dataset": lineage} if lineage else {}
    manifest["spec"]["monitoring"]["baseline"] = {"dataset": address}
    inputs = inputs or [
        {"name": "features", "datatype": "FP64", "shape": [-1, 3], "columns": ["age", "size", "weight"]}
    ]
    manifest["spec"]["schema"] = {"inputs": inputs}
    return parsed(manifest)


def policy(*fields: dict[str, Any]) -> dict[str, Any]:
    return stored({"fields": list(fields)})


def test_what_is_read_and_by_which_digest_it_is_known() -> None:
    lineage = {"lineage.modelward.io/dataset": f"s3://clinic/wdbc.csv@sha256:{OTHER}"}
    assert read_dataset(ADDRESS, {}) == Dataset("reference", "wdbc/train.csv")
    assert read_dataset(ADDRESS, lineage).sha256 == OTHER
    assert read_dataset(f"{ADDRESS}@sha256:{SHA}", lineage).sha256 == SHA
    assert read_dataset(URL, {}) == Dataset(url="https://data.clinic.example/train.csv", sha256=SHA)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("s3://clinic/wdbc.csv", "s3: data is read from pvc://<claim>/<path> and https:// alone"),
        ("file:///etc/passwd.csv", "file: data is read from"),
        ("/data/x.csv", "no scheme: data is read from"),
        ("http://data.example/x.csv", "http: data is read from"),
        ("https://data.example/x.csv", "must be known by its digest"),
        ("pvc://claim/../../etc/x.csv", "without `..`"),
        ("pvc://claim//etc/x.csv", "without `..`"),
        ("pvc://Claim/x.csv", "write it as pvc://"),
        ("pvc://claim", "write it as pvc://"),
        ("pvc://claim/model.pkl", "must end in .csv, .npz, .parquet"),
        (f"pvc://claim/x.csv@sha256:{'A' * 64}", "64 lower-case hex digits"),
    ],
)
def test_what_is_not_read_is_told_with_the_reason(address: str, why: str) -> None:
    with pytest.raises(DatasetError, match=why.replace(".", r"\.")):
        read_dataset(address, {})


@given(st.text(max_size=80))
def test_whatever_the_address_no_path_leaves_the_volume(text: str) -> None:
    try:
        found = read_dataset(f"pvc://claim/{text}.csv", {})
    except DatasetError:
        return
    assert not found.path.startswith("/")
    assert ".." not in found.path.split("/")


def test_what_is_fitted_is_what_detectors_will_see() -> None:
    """Columns of which the model gets nothing or a text are left out, the coarser ones are treated."""
    request = fit_request(
        model(),
        [
            policy(
                {"name": "age", "treatment": "Generalise", "step": 5},
                {"name": "size", "treatment": "Drop"},
                {"name": "weight", "treatment": "Round", "digits": 1},
            )
        ],
        References(),
    )
    assert request.model == "clinic/wdbc"
    assert request.columns == ("age", "weight")
    assert request.fields == (
        {"name": "age", "treatment": "Generalise", "step": 5.0},
        {"name": "weight", "treatment": "Round", "digits": 1},
    )
    assert request.source.file == "wdbc/train.csv"


def test_a_treatment_of_a_whole_input_is_that_of_each_of_its_columns() -> None:
    request = fit_request(model(), [policy({"name": "features", "treatment": "Round", "digits": 0})], References())
    assert [field["name"] for field in request.fields] == ["age", "size", "weight"]


CITIES = {"metadata": {"name": "cities"}, "data": {"hierarchy.csv": "Ulm;DE\nBonn;DE\n"}}
PEOPLE = [
    {"name": "features", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "size"], "role": "QuasiIdentifier"},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
    {"name": "patient", "datatype": "INT64", "shape": [-1], "role": "Identifier"},
]


def test_the_data_must_keep_to_what_the_policies_ask_of_quasi_identifiers() -> None:
    fields = (
        {"name": "age", "treatment": "Generalise", "step": 5},
        {"name": "city", "role": "QuasiIdentifier", "treatment": "Generalise", "hierarchy": "cities", "level": 1},
        {"name": "street", "role": "QuasiIdentifier", "treatment": "Pseudonymise"},
    )
    policies = [policy(*fields), stored({"kAnonymity": {"k": 3}}), stored({"kAnonymity": {"k": 7}})]
    references = References(hierarchies={"cities": CITIES})
    found = fit_request(model(inputs=PEOPLE), policies, references).anonymity
    assert found is not None
    assert found.k == 7
    assert found.fields == (
        {"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 5.0},
        {"name": "city", "role": "QuasiIdentifier", "treatment": "Generalise", "hierarchy": "cities", "level": 1},
        {"name": "patient", "role": "Identifier"},
        {"name": "size", "role": "QuasiIdentifier"},
        {"name": "street", "role": "QuasiIdentifier"},
    )
    assert found.hierarchies == {"cities": CITIES["data"]["hierarchy.csv"]}


def test_nothing_is_asked_of_the_data_where_no_policy_does() -> None:
    assert fit_request(model(inputs=PEOPLE), [policy()], References()).anonymity is None
    minimised = fit_request(model(inputs=PEOPLE), [stored({"require": {"minimisation": True}})], References()).anonymity
    assert minimised is not None
    assert minimised.k == 0


def test_hierarchies_that_no_secret_would_hold_are_refused() -> None:
    text = "".join(f"{n:06}{'x' * 200};DE\n" for n in range(5000))
    large = References(hierarchies={"cities": {"data": {"hierarchy.csv": text}}})
    field = {"name": "city", "role": "QuasiIdentifier", "treatment": "Generalise", "hierarchy": "cities", "level": 1}
    with pytest.raises(DatasetError, match="hierarchies of its quasi-identifiers are too large"):
        fit_request(model(inputs=PEOPLE), [policy(field), stored({"kAnonymity": {"k": 3}})], large)


def test_a_treatment_with_a_key_leaves_the_column_out_and_no_key_is_given() -> None:
    inputs = [
        {"name": "patient", "datatype": "BYTES", "shape": [-1]},
        {"name": "born", "datatype": "INT64", "shape": [-1]},
        {"name": "size", "datatype": "FP64", "shape": [-1]},
    ]
    fields = (
        {"name": "patient", "role": "Identifier", "treatment": "Pseudonymise"},
        {"name": "born", "treatment": "DateShift", "maxDays": 30, "subject": "patient"},
    )
    request = fit_request(model(inputs=inputs), [policy(*fields)], References())
    assert request.columns == ("size",)
    assert request.fields == ()


@pytest.mark.parametrize(
    ("inputs", "fields", "why"),
    [
        (
            [{"name": "f", "datatype": "FP64", "shape": [-1, 3]}],
            [{"name": "f", "treatment": "Round", "digits": 1}],
            "name",
        ),
        ([{"name": "f", "datatype": "FP64", "shape": [-1]}], [{"name": "f", "treatment": "Drop"}], "no column is left"),
        ([{"name": "a,b", "datatype": "FP64", "shape": [-1]}], [], "a name with a comma"),
    ],
)
def test_inputs_that_cannot_be_fitted_on_are_told(inputs: list[Any], fields: list[Any], why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        fit_request(model(inputs=inputs), [policy(*fields)] if fields else [], References())


def test_columns_without_names_are_the_datas_own() -> None:
    request = fit_request(model(inputs=[{"name": "f", "datatype": "FP32", "shape": [-1, 9]}]), [], References())
    assert (request.columns, request.fields) == ((), ())


def test_another_data_set_policy_or_column_is_another_job_and_nothing_else_is() -> None:
    def name(md: ModelDeployment, *policies: dict[str, Any]) -> str:
        return job_name("wdbc", fit_request(md, policies, References()))

    one = model()
    busier = one.model_copy(update={"spec": one.spec.model_copy(update={"replicas": 7})})
    assert name(one) == name(model()) == name(busier)
    rounded = policy({"name": "age", "treatment": "Round", "digits": 1})
    three = [{"name": "features", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "size"]}]
    others = [name(model(ADDRESS + f"@sha256:{SHA}")), name(one, rounded), name(model(inputs=three))]
    others.append(name(model(ADDRESS.replace("reference", "another"))))  # the same path on another volume
    assert len({name(one), *others}) == 5
    assert all(len(found) <= 63 for found in others)


def made(md: ModelDeployment) -> dict[str, Any]:
    return fit_job(md, fit_request(md, [], References()), dataset_of(md), IMAGE, "a2V5")


def test_the_job_is_the_controllers_and_its_pod_is_no_models() -> None:
    job = made(model())
    assert job["metadata"]["labels"].keys() >= {MANAGED_BY_LABEL, MODEL_LABEL}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels[JOB_LABEL] == "fit"
    assert not labels.keys() & {MODEL_LABEL, MANAGED_BY_LABEL, INJECT_LABEL}


def test_the_job_ends_by_itself_and_its_pod_is_restricted_and_has_no_token() -> None:
    spec = made(model())["spec"]
    assert spec["activeDeadlineSeconds"] <= 900
    assert spec["ttlSecondsAfterFinished"] <= 3600
    assert spec["backoffLimit"] <= 1
    pod = spec["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert "memory" in container["resources"]["limits"]


def test_the_volume_is_mounted_for_reading_alone() -> None:
    pod = made(model())["spec"]["template"]["spec"]
    (claim,) = [one["persistentVolumeClaim"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert claim == {"claimName": "reference", "readOnly": True}
    (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "data"]
    assert mount["readOnly"] is True
    fetched = made(model(URL))["spec"]["template"]["spec"]
    assert not [one for one in fetched["volumes"] if "persistentVolumeClaim" in one]


def test_its_pod_gets_out_only_where_its_data_is_fetched_from_and_in_comes_the_controller_alone() -> None:
    way = Egress(port=443, cidr="203.0.113.7/32")
    datasets = Datasets(allow=("https://data.clinic.example/",), egress=(way,))

    def spec(md: ModelDeployment) -> dict[str, Any]:
        return fit_network_policy(md, fit_request(md, [], References()), datasets)["spec"]

    closed, fetches = spec(model()), spec(model(URL))
    assert closed["egress"] == []
    assert way.rule() in fetches["egress"]
    for one in (closed, fetches):
        assert one["policyTypes"] == ["Egress", "Ingress"]
        (ingress,) = one["ingress"]
        (peer,) = ingress["from"]
        assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/component": "controller"}
        assert one["podSelector"]["matchLabels"] == made(model())["spec"]["template"]["metadata"]["labels"]


def test_where_data_may_be_fetched_from_is_the_installations_to_say() -> None:
    dataset = dataset_of(model(URL))
    assert "datasets.allow" in not_allowed(dataset, Datasets())
    assert not not_allowed(dataset, Datasets(allow=("https://data.clinic.example/",)))
    assert not not_allowed(dataset_of(model()), Datasets())


def test_the_job_reads_what_the_planner_writes() -> None:
    md = model(URL)
    request = fit_request(md, [], References())
    datasets = Datasets(allow=("https://data.clinic.example/",), authorities="PEM")
    secret = fit_secret(md, request, ServingCertificate(b"chain", b"key", b""), datasets)
    errand = msgspec.json.decode(base64.b64decode(secret["data"]["errand.json"]), type=Errand)
    assert errand == Errand(request, datasets.allow, "PEM")
    assert errand.request.digest == request.digest


def test_only_what_fits_and_nothing_else_needs_no_sidecar() -> None:
    template = made(model())["spec"]["template"]
    pod: dict[str, Any] = json.loads(json.dumps(template))
    assert is_fit(pod, IMAGE)
    assert not is_fit(pod, "modelward-jobs:other")
    for change in (
        {"initContainers": [{"name": "x"}]},
        {"ephemeralContainers": [{"name": "x"}]},
        {"hostNetwork": True},
        {"containers": [*pod["spec"]["containers"], {"name": "y"}]},
        {"containers": [{**pod["spec"]["containers"][0], "command": ["sh"]}]},
    ):
        assert not is_fit({**pod, "spec": {**pod["spec"], **change}}, IMAGE), change
    assert not is_fit({**pod, "metadata": {"labels": {}}}, IMAGE)


def test_the_sidecar_gets_what_was_fitted_from_its_secret_and_nothing_before() -> None:
    md = model()
    with pytest.raises(SidecarConfigError, match="no baseline has been fitted on it yet"):
        sidecar_config(md, [], REFERENCES)
    fitted = References(REFERENCES.config_maps, client_authorities="x", fitted=b"baseline")
    assert sidecar_config(md, [], fitted)["screening"]["baseline"] == {
        "file": "baseline.npz",
        "secret": True,
        "sha256": hashlib.sha256(b"baseline").hexdigest(),
    }
