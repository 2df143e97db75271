from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from modelward.cli.main import cli

ROWS = np.random.default_rng(0).normal(size=(200, 3)) * [1, 10, 100]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    lines = ["id,a,b,c", *(f"p{i},{','.join(map(str, row))}" for i, row in enumerate(ROWS.tolist()))]
    path.write_text("\n".join(lines))
    return path


def modelward(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_fit_and_score(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "baseline.npz"
    fitted = modelward("fit", data, "--out", out, "--columns", "a,b,c", "--false-positive-rate", "0.02")
    assert fitted.exit_code == 0, fitted.output
    assert "200 rows, 3 columns, false positive rate 0.02" in fitted.output
    rows = tmp_path / "rows.csv"
    rows.write_text("c,b,a\n0,0,0\n0,1000,0\n,0,0\n")
    scored = modelward("score", out, rows)
    assert scored.exit_code == 1
    ordinary, strange, missing = (json.loads(line) for line in scored.output.splitlines())
    assert ordinary == {"row": 0, "score": pytest.approx(ordinary["score"]), "anomalous": False, "reasons": []}
    assert ordinary["score"] < 1 < strange["score"]
    assert (strange["row"], strange["anomalous"]) == (1, True)
    assert strange["reasons"][0].startswith("b is ")
    assert (missing["score"], missing["anomalous"], missing["reasons"]) == (None, True, ["c is missing or not finite"])


def test_scoring_ordinary_rows_is_exit_0_with_or_without_a_header(data: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "baseline.npz", tmp_path / "rows.csv"
    modelward("fit", data, "--out", out, "--columns", "a,b,c")
    rows.write_text("0,0,0\n")
    assert modelward("score", out, rows).exit_code == 0
    rows.write_text("a,b,c\n0,0,0\n")
    assert modelward("score", out, rows).exit_code == 0


def test_the_summary_as_json(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "baseline.npz"
    summary = json.loads(modelward("fit", data, "--out", out, "--columns", "a,b", "-o", "json").output)
    assert (summary["columns"], summary["rows"], summary["rowsDropped"]) == (["a", "b"], 200, 0)
    assert len(summary["dataSha256"]) == 64


def test_npz_without_names(tmp_path: Path) -> None:
    source, out = tmp_path / "data.npz", tmp_path / "baseline.npz"
    np.savez(source, X=ROWS, y=np.zeros(200))
    assert modelward("fit", source, "--out", out).exit_code == 0
    scored = modelward("score", out, source, "--false-positive-rate", "0.2")  # rows that it knows look more ordinary
    assert 5 < sum(json.loads(line)["anomalous"] for line in scored.output.splitlines()) < 60


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data.csv"], "column id: not a number; choose the columns of numbers with --columns"),
        (["data.csv", "--columns", "a,z"], "no column z; there are id, a, b, c"),
        (["data.csv", "--columns", "a", "--false-positive-rate", "0.001"], "at least 999 rows"),
        (["missing.csv"], "No such file"),
        (["few.csv"], "at least 30 rows"),
        (["rubbish.npz"], "npz"),
    ],
)
def test_data_that_cannot_be_used_are_exit_2_with_the_fix(
    data: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(data.parent)
    Path("few.csv").write_text("1,2\n3,4\n")
    Path("rubbish.npz").write_bytes(b"rubbish")
    result = modelward("fit", *arguments, "--out", "baseline.npz")
    assert result.exit_code == 2
    assert told in result.output
    assert arguments[0] in result.output
    assert not Path("baseline.npz").exists()


@pytest.mark.parametrize(
    ("rows", "told"),
    [("a,b\n1,2\n", "no column c"), ("1,2\n", "no column"), ("a,b,c\n1,x,2\n", "not a number"), (None, "No such file")],
)
def test_rows_that_cannot_be_scored_are_exit_2(data: Path, tmp_path: Path, rows: str | None, told: str) -> None:
    out, path = tmp_path / "baseline.npz", tmp_path / "rows.csv"
    modelward("fit", data, "--out", out, "--columns", "a,b,c")
    if rows is not None:
        path.write_text(rows)
    result = modelward("score", out, path)
    assert result.exit_code == 2
    assert told in result.output
    data.write_bytes(b"rubbish")
    assert "not a baseline" in modelward("score", data, path).output
