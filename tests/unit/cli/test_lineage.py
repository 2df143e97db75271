"""`modelward lineage` as a user types it: of manifests, of logs that a sidecar wrote, and of a cluster's answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from modelward.cli import lineage
from modelward.cli.kubectl import KubectlError
from modelward.cli.lineage import command
from modelward.planner.consumers import Consumed, Record, record_map
from tests.unit.lineage.signers import KEY, about, public, signed
from tests.unit.sidecar.harness import Running, infer, settings, token

EXAMPLE = Path(__file__).parents[3] / "examples/breast-cancer"
MODEL, POLICY = EXAMPLE / "model.yaml", EXAMPLE / "policy.yaml"
DATA = "sha256:fefd0594fe431ad9205a996d0fb446ec2f093a41fbee00c6df7fcc29518b15c6"


def ask(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The access log of a real sidecar, which answered alice three times and refused somebody once."""
    folder = tmp_path_factory.mktemp("log")
    document = settings(binding={"namespace": "clinic", "name": "wdbc", "generation": 1}, screening={})
    running = Running(document, folder)
    try:
        for _ in range(3):
            assert running.ask(infer()).status == 200
        assert running.ask(infer(), bearer=token(sub="mallory")).status == 403
        running.log(4)
    finally:
        running.stop()
    return running.log_path


def other_model(folder: Path, **annotations: str) -> Path:
    """The example's model under another name, with other lineage."""
    document = yaml.safe_load(MODEL.read_text())
    document["metadata"]["name"] = "other"
    for name, value in annotations.items():
        document["metadata"]["annotations"][f"lineage.modelward.io/{name}"] = value
    path = folder / "other.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_where_the_examples_model_came_from_and_who_got_its_answers(log: Path) -> None:
    done = ask("md/wdbc", "-f", MODEL, "-f", POLICY, "--log", log)
    assert done.exit_code == 0, done.stderr
    for line in (
        f"  dataset  s3://clinic-data/wdbc.csv  {DATA}",
        "    every fifth row: held out (why: to measure accuracy on rows never seen)",
        "  run      https://clinic.example/runs/wdbc-1",
        "  oncology-triage: declared by the model's owner",
    ):
        assert line in done.stdout.splitlines(), done.stdout
    (answered,) = [line for line in done.stdout.splitlines() if "alice" in line]
    assert answered.startswith("  user:alice (issuer): diagnosis, 3 requests, 2")
    assert "mallory" not in done.stdout


def test_how_far_a_data_set_went(tmp_path: Path, log: Path) -> None:
    there = json.loads(ask("md/wdbc", "-f", MODEL, "-o", "json").stdout)
    (made,) = [one["id"] for one in there["nodes"] if one["kind"] == "artefact"]
    own = {"dataset": f"oci://copy@{made}", "model": f"oci://small@sha256:{'d' * 64}", "training-run": "https://runs/2"}
    distilled = other_model(tmp_path, **own)
    done = ask("--digest", DATA, "-f", MODEL, "-f", distilled, "--log", log, "-o", "json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["direction"] == "downstream"
    assert "https://runs/2" in [one["names"][0] for one in document["nodes"] if one["kind"] == "run"]
    assert [one["names"][0] for one in document["nodes"] if one["kind"] == "model"] == ["clinic/other", "clinic/wdbc"]
    (use,) = [use for one in document["edges"] for use in one.get("uses", ()) if one["target"].endswith("user:alice")]
    assert (use["purpose"], use["requests"]) == ("diagnosis", 3)


def test_who_was_answered_by_what(log: Path) -> None:
    done = ask("user:alice", "-f", MODEL, "--log", log)
    lines = done.stdout.splitlines()
    assert lines[0] == "consumer user:alice (issuer)"
    assert lines[lines.index("was answered by:") + 1].startswith("  clinic/wdbc: diagnosis, 3 requests, 2")
    assert f"  dataset  s3://clinic-data/wdbc.csv  {DATA}" in lines
    assert "oncology-triage" not in done.stdout


def test_fields_that_a_policy_treats_are_told(tmp_path: Path) -> None:
    policy = yaml.safe_load(POLICY.read_text())
    policy["spec"]["fields"] = [{"name": "features", "role": "Sensitive", "treatment": "Round", "digits": 2}]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    done = ask("md/wdbc", "-f", MODEL, "-f", tmp_path / "policy.yaml")
    told = "  features: rounded to 2 digits, by DataPolicy/clinic/clinic (why: Sensitive of SpecialCategory data)"
    assert told in done.stdout.splitlines()


def test_a_log_that_was_changed_is_said(tmp_path: Path, log: Path) -> None:
    changed = tmp_path / "access.log"
    changed.write_bytes(log.read_bytes().replace(b"user:alice", b"user:alicf", 1))
    done = ask("md/wdbc", "-f", MODEL, "--log", changed)
    assert done.exit_code == 1
    assert "is not as the sidecar wrote it (line " in done.stderr
    assert "oncology-triage" in done.stdout
    document = json.loads(ask("md/wdbc", "-f", MODEL, "--log", changed, "-o", "json").stdout)
    assert "may be false" in document["findings"][0]


def test_a_log_without_its_first_line_is_the_one_models_or_nobodys(tmp_path: Path, log: Path) -> None:
    cut = tmp_path / "access.log"
    cut.write_bytes(b"\n".join(log.read_bytes().split(b"\n")[1:]))
    assert "user:alice" in ask("md/wdbc", "-f", MODEL, "--log", cut).stdout
    done = ask("md/wdbc", "-f", MODEL, "-f", other_model(tmp_path), "--log", cut)
    assert (done.exit_code, "user:alice" in done.stdout) == (0, False)
    assert "3 answers are not counted, since its lines do not say of which model" in done.stderr


def test_lineage_that_goes_round_is_named(tmp_path: Path) -> None:
    made = json.loads(ask("md/wdbc", "-f", MODEL, "-o", "json").stdout)
    (artefact,) = [one for one in made["nodes"] if one["kind"] == "artefact"]
    round_about = other_model(tmp_path, dataset=f"x@{artefact['id']}", model=f"y@{DATA}")
    done = ask("md/wdbc", "-f", MODEL, "-f", round_about)
    assert done.exit_code == 1
    assert "finding: cyclic lineage: " in done.stderr
    assert "answers went to:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("md/nobody", "-f", MODEL), "no model md/nobody; models that are known: clinic/wdbc"),
        (("--digest", "sha256:12", "-f", MODEL), "sha256:12 is no digest"),
        (("--digest", "e" * 64, "-f", MODEL), "nothing that is known here has the digest"),
        (("-f", MODEL), "give a NAME"),
        (("md/wdbc", "--digest", DATA, "-f", MODEL), "one of the two"),
        (("md/wdbc", "-f", EXAMPLE / "absent.yaml"), "no such file"),
        (("md/wdbc", "-f", MODEL, "--log", MODEL), "is no access log of modelward"),
        (("md/wdbc", "-n", "shop", "-f", MODEL), "no model md/wdbc in namespace shop"),
    ],
)
def test_what_cannot_be_answered_is_exit_2(arguments: tuple[Any, ...], told: str) -> None:
    done = ask(*arguments)
    assert (done.exit_code, told in done.stderr) == (2, True), done.stderr


def test_what_another_models_owner_says_of_an_artefact_is_told_as_theirs(tmp_path: Path) -> None:
    other = yaml.safe_load(MODEL.read_text())
    other["metadata"] |= {"name": "other", "namespace": "elsewhere"}
    other["metadata"]["annotations"]["lineage.modelward.io/dataset"] = f"s3://elsewhere/rows.csv@sha256:{'e' * 64}"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    done = ask("md/wdbc", "-n", "clinic", "-f", MODEL, "-f", tmp_path)
    named = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("  dataset")}
    assert named["s3://elsewhere/rows.csv"].endswith("  declared by elsewhere/other")
    (run,) = [line for line in done.stdout.splitlines() if line.startswith("  run ")]
    assert run.endswith("  declared by elsewhere/other as well"), "and what it came of is in it"
    assert "declared" not in named["s3://clinic-data/wdbc.csv"]
    edges = json.loads(ask("md/wdbc", "-n", "clinic", "-f", MODEL, "-f", tmp_path, "-o", "json").stdout)["edges"]
    by = {edge["source"]: edge["declaredBy"] for edge in edges if edge["source"].startswith("sha256:")}
    assert by[f"sha256:{'e' * 64}"] == ["elsewhere/other"]


def test_drawings_hold_what_others_wrote_as_text(tmp_path: Path) -> None:
    evil = other_model(tmp_path, consumer='x"]; evil [label="<script>alert(1)</script>\\')
    dot = ask("md/other", "-f", evil, "-o", "dot").stdout
    assert dot.startswith("digraph lineage {\n")
    assert '\\"]; evil [label=\\"<script>' in dot
    assert '"model:clinic/other" -> ' in dot
    mermaid = ask("md/other", "-f", evil, "-o", "mermaid").stdout
    assert mermaid.startswith("flowchart LR\n")
    assert "<script>" not in mermaid
    assert "x#34;#93;#59; evil #91;label=#34;#60;script#62;" in mermaid


class Cluster:
    """Answers as kubectl would, of the example's model and policy, and of what the controller keeps."""

    def __init__(self, *, consumers: int = 1, forbidden: tuple[str, ...] = ()) -> None:
        model = yaml.safe_load(MODEL.read_text())
        model["metadata"]["uid"] = "u"
        seen = {"issuer": "clinic", "purpose": "diagnosis", "first": "2026-11-01T00:00:00Z"}
        listed = [
            {"client": f"user:{number}", "last": "2026-11-02T00:00:00Z", "requests": 9, **seen}
            for number in range(consumers)
        ]
        made = next(value for key, value in model["metadata"]["annotations"].items() if key.endswith("/model"))
        signed = {"subject": "wdbc", "digest": made.rpartition("@")[2], "signer": "key:ml-platform"}
        model["status"] = {
            "policies": ["DataPolicy/clinic/clinic"],
            "lineage": {"consumers": listed, "statements": [signed], "signedBy": ["key:ml-platform"]},
        }
        more = Consumed("user:old", "clinic", "audit", "2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z", 4)
        self.answers = {
            "modeldeployments.modelward.io": {"items": [model]},
            "datapolicies.modelward.io": {"items": [yaml.safe_load(POLICY.read_text())]},
            "clusterdatapolicies.modelward.io": {"items": []},
            "configmap": record_map(model, Record((more,), forgotten=2)),
        }
        self.forbidden = forbidden
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str) -> str:
        self.asked.append(arguments)
        if any(one in arguments for one in self.forbidden):
            raise KubectlError(f"kubectl get: {arguments[1]} is forbidden")
        return json.dumps(self.answers[arguments[1]])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def use(**options: Any) -> Cluster:
        made = Cluster(**options)
        monkeypatch.setattr(lineage, "kubectl", made)
        return made

    return use


def test_of_a_cluster_with_who_signed(cluster: Any) -> None:
    asked = cluster()
    done = ask("md/wdbc", "-n", "clinic")
    assert done.exit_code == 0, done.stderr
    (artefact,) = [line for line in done.stdout.splitlines() if line.startswith("  artefact")]
    assert artefact.endswith("signed by key:ml-platform")
    line = "  user:0 (clinic): diagnosis, 9 requests, 2026-11-01T00:00:00Z to 2026-11-02T00:00:00Z"
    assert line in done.stdout.splitlines()
    assert not [one for one in asked.asked if "configmap" in one or "secrets" in one]


def test_more_consumers_than_the_status_holds_are_looked_up(cluster: Any) -> None:
    asked = cluster(consumers=64)
    done = ask("md/wdbc", "-n", "clinic")
    assert "user:old (clinic): audit, 4 requests" in done.stdout
    assert "2 consumers or answers are counted and not named" in done.stderr
    (looked_up,) = [one for one in asked.asked if "configmap" in one]
    assert looked_up[2] == "wdbc.lineage"


def test_a_config_map_that_is_not_the_controllers_names_no_consumer(cluster: Any) -> None:
    asked = cluster(consumers=64)
    del asked.answers["configmap"]["metadata"]["labels"]
    done = ask("md/wdbc", "-n", "clinic")
    assert "user:0 (clinic)" in done.stdout
    assert "user:old" not in done.stdout


def test_clients_of_the_same_name_are_told_apart_by_who_vouches_for_them(cluster: Any) -> None:
    asked = cluster(consumers=2)
    first, second = asked.answers["modeldeployments.modelward.io"]["items"][0]["status"]["lineage"]["consumers"]
    second |= {"client": first["client"], "issuer": "lab"}
    lines = ask("user:0").stdout.splitlines()
    assert lines[:2] == ["consumer user:0 (clinic)", "consumer user:0 (lab)"]
    answered = [line.partition(": ")[0] for line in lines if "9 requests" in line]
    assert answered == ["  clinic/wdbc to user:0 (clinic)", "  clinic/wdbc to user:0 (lab)"]


def test_what_may_not_be_read_is_noted(cluster: Any) -> None:
    cluster(forbidden=("--all-namespaces", "clusterdatapolicies.modelward.io"))
    done = ask("md/wdbc", "-n", "clinic")
    assert done.exit_code == 0, done.stderr
    assert "only the models of namespace clinic could be read" in done.stderr
    assert "clusterdatapolicies could not be read" in done.stderr
    alone = ask("md/wdbc")
    assert (alone.exit_code, "forbidden" in alone.stderr) == (2, True)


RAW = f"sha256:{'c' * 64}"


def sealed(cluster: Cluster) -> dict[str, Any]:
    """Has the policy ask for signatures, and the statement that tells what the model was made of in a Secret."""
    (model,) = cluster.answers["modeldeployments.modelward.io"]["items"]
    model["metadata"]["annotations"]["lineage.modelward.io/statements"] = "secret/kept"
    (asking,) = cluster.answers["datapolicies.modelward.io"]["items"]
    asked = {"digests": True, "signedBy": ["key:ml"], "trustConfigMapName": "signers"}
    asking["spec"].setdefault("require", {})["lineage"] = asked
    model["status"]["policies"] = [f"DataPolicy/{asking['metadata']['namespace']}/{asking['metadata']['name']}"]
    digest = model["metadata"]["annotations"]["lineage.modelward.io/model"].rpartition(":")[2]
    cluster.answers["configmap"] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "signers", "namespace": "modelward-system"},
        "data": {"ml.pub": public(KEY).decode()},
    }
    statement = signed(about(digest, sources=[DATA.removeprefix("sha256:"), "c" * 64]))
    held = {"m.json": statement, "password": b"s3cret"}
    kept = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "kept", "namespace": "clinic"},
        "data": {key: base64.b64encode(content).decode() for key, content in held.items()},
    }
    cluster.answers["secret"] = kept
    return kept


def test_no_secret_is_asked_for_unless_that_is_said(cluster: Any) -> None:
    asked = cluster()
    sealed(asked)
    done = ask("md/wdbc", "-n", "clinic")
    assert done.exit_code == 0, done.stderr
    assert not [one for one in asked.asked if one[1].startswith("secret")]
    assert "signed statements are in Secret kept of clinic, which is read with --secrets alone" in done.stderr
    assert RAW not in done.stdout


def test_the_secret_that_a_model_names_is_read_by_its_name_where_that_is_said(cluster: Any) -> None:
    asked = cluster()
    sealed(asked)
    done = ask("md/wdbc", "-n", "clinic", "--secrets")
    assert done.exit_code == 0, done.stderr
    (get,) = [one for one in asked.asked if one[1].startswith("secret")]
    assert get[:5] == ("get", "secret", "kept", "--namespace", "clinic")
    assert RAW in done.stdout, "what the statement alone names is among the sources"
    assert "--secrets" not in done.stderr
    assert "s3cret" not in done.output
    assert base64.b64encode(b"s3cret").decode() not in done.output


def test_a_secret_that_may_not_be_read_or_is_not_there_is_noted(cluster: Any) -> None:
    asked = cluster(forbidden=("secret",))
    sealed(asked)
    done = ask("md/wdbc", "-n", "clinic", "--secrets")
    assert done.exit_code == 0, done.stderr
    assert "Secret kept of clinic could not be read: " in done.stderr
    assert RAW not in done.stdout


def test_no_secret_is_read_for_a_policy_that_asks_for_no_signature(cluster: Any) -> None:
    asked = cluster()
    sealed(asked)
    del asked.answers["datapolicies.modelward.io"]["items"][0]["spec"]["require"]["lineage"]
    done = ask("md/wdbc", "-n", "clinic", "--secrets")
    assert done.exit_code == 0, done.stderr
    assert not [one for one in asked.asked if one[1].startswith("secret")]


def test_statements_in_a_secret_among_the_files(tmp_path: Path, cluster: Any) -> None:
    made = cluster()
    kept = sealed(made)
    path = tmp_path / "all.yaml"
    (model,) = made.answers["modeldeployments.modelward.io"]["items"]
    (asking,) = made.answers["datapolicies.modelward.io"]["items"]
    del model["status"]
    path.write_text(yaml.safe_dump_all([model, asking, kept, made.answers["configmap"]]))
    done = ask("md/wdbc", "-f", path)
    assert RAW in done.stdout, done.stderr
