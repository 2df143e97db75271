"""The verbs of treatments: fitting on treated data, the key holder's, and finding somebody in the records."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from modelward.cli.main import cli
from modelward.detect.baseline import from_bytes
from modelward.privacy.keys import derive
from modelward.privacy.pseudonym import pseudonyms
from modelward.privacy.tokens import Sealer

POLICY = """
apiVersion: modelward.io/v1alpha1
kind: DataPolicy
metadata: {name: p, namespace: clinic}
spec:
  fields:
  - {name: id, role: Identifier, treatment: Pseudonymise}
  - {name: a, treatment: Generalise, step: 10}
  - {name: b, treatment: Drop}
  - {name: stranger, treatment: Drop}
"""


def modelward(*arguments: str | Path, text: str = "") -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).uniform(0, 100, size=(200, 3)).tolist()
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["id,a,b,c", *(f"p{i},{','.join(map(str, row))}" for i, row in enumerate(rows))]))
    return path


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_a_baseline_is_fitted_on_treated_data(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "baseline.npz"
    fitted = modelward("fit", data, "--out", out, "--policy", written(tmp_path, POLICY), "-o", "json")
    assert fitted.exit_code == 0, fitted.output
    summary = json.loads(fitted.output)
    assert summary["columns"] == ["a", "c"]  # text and what is dropped have no place in it
    assert summary["treated"] == {"a": "Generalise"}
    baseline = from_bytes(out.read_bytes())
    assert (baseline.summary.lower[0] % 10, baseline.summary.upper[0] % 10) == (0, 0)
    assert baseline.summary.lower[1] % 10 != 0
    assert (
        "treated: a by Generalise" in modelward("fit", data, "--out", out, "--policy", tmp_path / "policy.yaml").output
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_other_files_are_treated_alike(tmp_path: Path, suffix: str) -> None:
    rows = np.random.default_rng(0).uniform(0, 100, size=(200, 3))
    rows[0, 0] = np.nan
    path = tmp_path / f"data{suffix}"
    if suffix == ".npz":
        np.savez(path, X=rows, columns=np.array(["a", "b", "c"]))
    else:
        parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        parquet.write_table(pyarrow.table(dict(zip("abc", rows.T, strict=True))), path)
    out = tmp_path / "baseline.npz"
    fitted = modelward("fit", path, "--out", out, "--policy", written(tmp_path, POLICY))
    assert fitted.exit_code == 0, fitted.output
    assert "199 rows" in fitted.output or "1 left out" in fitted.output
    assert from_bytes(out.read_bytes()).columns == ("a", "c")


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("kind: [", "policy.yaml"),
        (POLICY.replace("step: 10", "stp: 10"), "stp"),
        (POLICY.replace("step: 10", "step: 0.000000000000001"), "column a needs finite numbers"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "no DataPolicy or ClusterDataPolicy"),
    ],
)
def test_a_policy_that_cannot_be_used_is_told(data: Path, tmp_path: Path, policy: str, told: str) -> None:
    out = tmp_path / "baseline.npz"
    fitted = modelward("fit", data, "--out", out, "--policy", written(tmp_path, policy))
    assert fitted.exit_code == 2
    assert told in fitted.output
    assert not out.exists()


def test_columns_without_names_cannot_be_treated(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, X=np.random.default_rng(0).normal(size=(200, 2)))
    fitted = modelward("fit", path, "--out", tmp_path / "b.npz", "--policy", written(tmp_path, POLICY))
    assert fitted.exit_code == 2
    assert "have no names" in fitted.output


def test_a_key_holder_makes_a_key_and_undoes_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = modelward("token", "keygen", "--out", folder)
    assert made.exit_code == 0, made.output
    public = (folder / "token.pub").read_text().strip()
    assert f"tokenRecipient: {public}" in made.output
    assert (folder / "token.key").stat().st_mode & 0o777 == 0o600
    sealer = Sealer(base64.b64decode(public), "clinic", "ssn")
    given = ("token", "undo", "--key", folder / "token.key", "--namespace", "clinic", "--field", "ssn")
    assert modelward(*given, sealer("078-05-1120"), sealer("x")).output == "078-05-1120\nx\n"
    assert modelward(*given, text=f"{sealer('a')}\n\n{sealer('b')}\n").output == "a\nb\n"
    refused = modelward(*given, sealer("a"), "t1.x")
    assert (refused.exit_code, "token 2: not a token" in refused.output) == (2, True)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    modelward("token", "keygen", "--out", tmp_path)
    before = (tmp_path / "token.key").read_bytes()
    again = modelward("token", "keygen", "--out", tmp_path)
    assert again.exit_code == 2
    assert (tmp_path / "token.key").read_bytes() == before


@pytest.mark.parametrize("content", ["", "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "k").write_text(content)
    refused = modelward("token", "undo", "--key", tmp_path / "k", "--namespace", "n", "--field", "f", "t1.x")
    assert refused.exit_code == 2
    assert "not a key that `modelward token keygen` wrote" in refused.output
    missing = modelward("token", "undo", "--key", tmp_path / "none", "--namespace", "n", "--field", "f", "t1.x")
    assert (missing.exit_code, "No such file" in missing.output) == (2, True)


def test_somebody_is_found_in_records_of_both_versions(tmp_path: Path) -> None:
    keys = derive({1: bytes(32), 2: bytes(range(32))}, "clinic")
    path = tmp_path / "pseudonym.keys"
    path.write_bytes(keys.to_bytes())
    found = modelward("pseudonym", "--keys", path, "--field", "name", text="Ada Lovelace\nEve\n")
    assert found.exit_code == 0, found.output
    assert found.output.splitlines() == [" ".join(pseudonyms(keys, "name", who)) for who in ("Ada Lovelace", "Eve")]
    path.write_text("{}")
    assert (
        "not one that the modelward controller wrote"
        in modelward("pseudonym", "--keys", path, "--field", "name", text="Ada").output
    )
