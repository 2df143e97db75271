from __future__ import annotations

import hashlib
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


def test_categories_and_their_reasons(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f};{rng.choice(['red', 'green'])}" for _ in range(200)]
    data, out, rows = tmp_path / "data.csv", tmp_path / "b.npz", tmp_path / "rows.csv"
    data.write_text("\n".join(["size;colour", *lines]))
    assert modelward("fit", data, "--out", out).exit_code == 0
    rows.write_text("colour;size\nred;0.1\nblue;0.1\n;0.1\n")
    red, blue, none = (json.loads(line) for line in modelward("score", out, rows).output.splitlines())
    assert (red["anomalous"], blue["anomalous"], none["score"]) == (False, True, None)
    assert blue["reasons"][0] == "colour has a value that the reference data does not have"
    rows.write_text("colour;size\nred;big\n")
    assert "row 2, column size: not a number" in modelward("score", out, rows).output


def test_a_window_of_traffic_is_fitted_on(tmp_path: Path) -> None:
    log, out = tmp_path / "access.jsonl", tmp_path / "b.npz"
    records: list[dict[str, object]] = [
        {"time": "t", "request": f"r{i}", "rows": 1, "status": 200, "values": {"x": row, "kind": ["a"]}}
        for i, row in enumerate(ROWS.tolist())
    ]
    records += [{"time": "t", "request": "odd", "rows": 1, "verdict": "anomalous", "values": {"x": [9e9, 0, 0]}}]
    records += [{"time": "t", "start": {"model": "m"}}, {"time": "t", "request": "r", "rows": 9, "values": "too large"}]
    log.write_text("\n".join(map(json.dumps, records)))
    fitted = modelward("fit", log, "--out", out, "--columns", "a,b,c,kind", "-o", "json")
    assert fitted.exit_code == 0, fitted.output
    summary = json.loads(fitted.output)
    assert (summary["rows"], summary["columns"]) == (200, ["a", "b", "c", "kind"])
    log.write_text("\n".join(json.dumps({**each, "values": None}) for each in records))
    refused = modelward("fit", log, "--out", out)
    assert (refused.exit_code, "`recordValues: true`" in refused.output) == (2, True)
    log.write_text("{")
    assert "line 1 is no record" in modelward("fit", log, "--out", out).output


def test_feedback_moves_the_threshold_and_says_so(data: Path, tmp_path: Path) -> None:
    out, reported = tmp_path / "b.npz", tmp_path / "benign.jsonl"
    given = ("fit", data, "--out", out, "--columns", "a,b,c")
    before = json.loads(modelward(*given, "-o", "json").output)["thresholds"]
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    scores = {"scores": {"Ensemble": 1.5}, "rates": {"Ensemble": 0.01}}
    rows = [{"request": f"r{i}", "time": "", **scores} for i in range(9)]
    reported.write_text(json.dumps({"baseline": f"sha256:{digest}", "rows": rows, "format": 1}))
    after = json.loads(modelward(*given, "--feedback", reported, "-o", "json").output)
    assert after["thresholdsBeforeFeedback"] == before
    assert after["thresholds"]["Ensemble"] == pytest.approx(1.5 * before["Ensemble"])
    assert after["thresholds"]["Tails"] == before["Tails"]
    told = modelward(*given, "--feedback", reported)
    assert f"threshold of Ensemble: {before['Ensemble']:.4g}, with feedback" in told.output
    assert "another baseline" not in told.output
    assert "another baseline" in modelward(*given, "--seed", "3", "--feedback", reported).output
    dated = modelward(*given, "--fitted", "2026-03-01T09:00:00Z", "--feedback", reported).output
    assert "another baseline than this data, seed and options give" in dated
    reported.write_text("{}")
    refused = modelward(*given, "--feedback", reported)
    assert (refused.exit_code, "no feedback" in refused.output) == (2, True)


def test_rows_are_compared_as_an_encoder_embeds_them(data: Path, tmp_path: Path) -> None:
    out, network, rows = tmp_path / "baseline.npz", tmp_path / "encoder.npz", tmp_path / "rows.csv"
    header = np.frombuffer(json.dumps({"activations": ["identity"]}).encode(), dtype=np.uint8)
    np.savez(network, header=header, weights0=np.array([[1.0, 0], [0, 1], [0, 0]]), bias0=np.zeros(2))
    given = ("fit", data, "--out", out, "--columns", "a,b,c", "--encoder", network)
    digest = hashlib.sha256(network.read_bytes()).hexdigest()
    assert f"embedded in 2 parts by sha256:{digest}" in modelward(*given).output
    assert json.loads(modelward(*given, "-o", "json").output)["encoderSha256"] == digest
    rows.write_text("a,b,c\n0,0,0\n0,1000,0\n0,0,1e9\n")
    ordinary, strange, unseen = (json.loads(line) for line in modelward("score", out, rows).output.splitlines())
    assert (ordinary["anomalous"], strange["anomalous"], unseen["anomalous"]) == (False, True, False)
    assert strange["reasons"][0].startswith("part 1 of the embedding is ")
    assert strange["reasons"][0].endswith("nearer with a lower b")
    refused = modelward("fit", data, "--out", tmp_path / "no.npz", "--columns", "a,b", "--encoder", network)
    told = f"modelward: {network}: the encoder takes 3 numbers a row, and the rows have 2"
    assert (refused.exit_code, refused.output.strip()) == (2, told)
    network.write_bytes(network.read_bytes()[:-20])
    refused = modelward(*given)
    assert (refused.exit_code, f"{network}: the file is not an encoder" in refused.output) == (2, True)
    refused = modelward("fit", data, "--out", out, "--encoder", tmp_path / "none.npz")
    assert (refused.exit_code, "none.npz: No such file" in refused.output) == (2, True)


def test_npz_without_names(tmp_path: Path) -> None:
    source, out = tmp_path / "data.npz", tmp_path / "baseline.npz"
    np.savez(source, X=ROWS, y=np.zeros(200))
    assert modelward("fit", source, "--out", out).exit_code == 0
    scored = modelward("score", out, source, "--false-positive-rate", "0.2")  # rows that it knows look more ordinary
    assert 5 < sum(json.loads(line)["anomalous"] for line in scored.output.splitlines()) < 60


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["data.csv"], "column id: not a number, and 200 different texts are too many to be categories (at most 64)"),
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
