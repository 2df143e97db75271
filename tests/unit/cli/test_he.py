"""The four verbs of the homomorphic path, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from modelward.cli.he import command

pytest.importorskip("Pyfhel")
ROWS = "a,b\n1.5,-2\n0.25,3\n"
WEIGHTS = {"coef": [2.0, -1.0], "intercept": 0.5, "link": "identity"}


def he(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("he")
    (folder / "rows.csv").write_text(ROWS)
    (folder / "weights.json").write_text(json.dumps(WEIGHTS))
    made = he("keygen", "--out", folder / "keys", "--columns", 2, "-o", "json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["securityBits"] == 128
    return folder


def test_from_keys_to_scores(folder: Path) -> None:
    for step in (
        ("encrypt", "--keys", folder / "keys", folder / "rows.csv", "--out", folder / "request.bin"),
        ("score", "--weights", folder / "weights.json", folder / "request.bin", "--out", folder / "answer.bin"),
    ):
        done = he(*step)
        assert done.exit_code == 0, done.stderr
    read = he("decrypt", "--keys", folder / "keys", folder / "answer.bin")
    assert np.allclose([float(line) for line in read.stdout.split()], [5.5, -2.0], atol=1e-6)
    facts = json.loads(he("decrypt", "--keys", folder / "keys", folder / "answer.bin", "-o", "json").stdout)
    assert facts["error"] < 1e-6
    assert np.allclose(np.ravel(facts["scores"]), [5.5, -2.0], atol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "statistic", "printed"),
    [("CKKS", "mean", None), ("BFV", "count", "a,3\nb,1\n"), ("BFV", "sum", "a,3\nb,1\n"), ("BFV", "mean", "a,1.0")],
)
def test_a_statistic_of_columns(tmp_path: Path, scheme: str, statistic: str, printed: str | None) -> None:
    rows, request, answer = tmp_path / "rows.csv", tmp_path / "request.bin", tmp_path / "answer.bin"
    rows.write_text("a,b\n1,0\n1,1\n1,0\n")
    reach = ("--rows", 4) if scheme == "CKKS" else ()
    told = ""
    for step in (
        ("keygen", "--out", tmp_path / "keys", "--scheme", scheme, *reach),
        ("encrypt", "--keys", tmp_path / "keys", rows, "--statistic", statistic, "--out", request),
        ("score", request, "--out", answer),
    ):
        done = he(*step)
        assert done.exit_code == 0, done.stderr
        told = done.stdout
    assert f"the {statistic} of each column" in told
    read = he("decrypt", "--keys", tmp_path / "keys", answer)
    facts = json.loads(he("decrypt", "--keys", tmp_path / "keys", answer, "-o", "json").stdout)
    assert (facts["statistic"], facts["rows"], list(facts["columns"])) == (statistic, 3, ["a", "b"])
    if printed is None:
        assert np.allclose(list(facts["columns"].values()), [1, 1 / 3], atol=facts["error"])
        assert read.stdout.startswith("a,")
    else:
        assert (read.stdout.startswith(printed), facts["error"]) == (True, 0)


def test_keys_may_come_apart(folder: Path) -> None:
    request, answer = folder / "r2.bin", folder / "a2.bin"
    he("encrypt", "--keys", folder / "keys", folder / "rows.csv", "--out", request, "--without-keys")
    without = he("score", "--weights", folder / "weights.json", request, "--out", answer)
    assert (without.exit_code, "no keys with it" in without.stderr) == (2, True)
    public = folder / "keys/public/keys.bin"
    assert he("score", "--weights", folder / "weights.json", request, "--keys", public, "--out", answer).exit_code == 0


def test_the_body_of_a_request_and_what_is_no_answer(folder: Path) -> None:
    body, problem = folder / "body.json", folder / "problem.json"
    he("encrypt", "--keys", folder / "keys", folder / "rows.csv", "--out", body, "--body")
    assert [one["name"] for one in json.loads(body.read_bytes())["inputs"]] == ["request", "keys"]
    problem.write_text(json.dumps({"title": "Your public keys are not known here", "detail": "Send them along."}))
    read = he("decrypt", "--keys", folder / "keys", problem)
    assert (read.exit_code, "Send them along" in read.stderr) == (2, True)
    assert he("decrypt", "--keys", folder / "keys", body).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("keygen", "--out", "K"), "there already"),
        (("keygen", "--out", "other", "--degree", "4096"), "add up to 160"),
        (("keygen", "--out", "other", "--modulus-bits", "60,x"), "cannot be"),
        (("encrypt", "--keys", "absent", "rows.csv", "--out", "x"), "No such file"),
        (("encrypt", "--keys", "K", "absent.csv", "--out", "x"), "No such file"),
        (("encrypt", "--keys", "K", "rows.csv", "--columns", "z", "--out", "x"), "no column z"),
        (("encrypt", "--keys", "K", "rows.csv", "--bound-bits", "0", "--out", "x"), "beyond 2^0"),
        (("score", "--weights", "rows.csv", "rows.csv", "--out", "x"), "weights cannot be read"),
        (("encrypt", "--keys", "K", "rows.csv", "--statistic", "count", "--out", "x"), "keys with --scheme BFV"),
        (("keygen", "--out", "other", "--scheme", "BFV", "--modulus-bits", "40,40"), "exact counts at"),
        (("score", "--weights", "weights.json", "rows.csv", "--out", "x"), "cannot be request"),
        (("decrypt", "--keys", "K", "rows.csv"), "cannot be answer"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    places = {"K": folder / "keys", "x": folder / "x", "other": folder / "other", "absent": folder / "absent"}
    given = [places.get(one, folder / one if "." in one else one) for one in arguments]
    done = he(*given)
    assert done.exit_code == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "x").exists()
