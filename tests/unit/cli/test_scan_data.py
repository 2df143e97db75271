from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from modelward.cli.main import cli

POLICY = """
apiVersion: modelward.io/v1alpha1
kind: DataPolicy
metadata: {name: people, namespace: ml}
spec:
  kAnonymity: {k: 3}
  fields:
  - {name: sex, role: QuasiIdentifier}
  - {name: city, role: QuasiIdentifier}
  - {name: illness, role: Sensitive}
  - {name: record, role: Feature}
  - {name: card, treatment: Drop}
"""


def modelward(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["scan-data", *(str(argument) for argument in arguments)])


def told(*arguments: str | Path, code: int = 1) -> dict:
    result = modelward(*arguments, "-o", "json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def rules(report: dict, level: str = "finding") -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for finding in report["findings"]:
        if finding["level"] == level:
            found.setdefault(finding["rule"], []).append(finding)
    return found


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def people(tmp_path: Path, lines: list[str]) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("\n".join(["sex,city,illness", *lines]))
    return path


def test_k_l_and_t_of_declared_columns(tmp_path: Path, policy: Path) -> None:
    data = people(tmp_path, ["f,Ulm,flu", "f,Ulm,flu", "f,Ulm,flu", "m,Ulm,flu", "m,Ulm,cold", "m,Bonn,flu"])
    report = told(data, "--policy", policy)
    assert report["anonymity"] == {
        "quasiIdentifiers": ["sex", "city"],
        "discovered": False,
        "k": 1,
        "asked": 3,
        "groups": 3,
        "uniqueRows": 1,
        "rowsBelow": 3,
        "uniqueRowsWithout": {"sex": 1, "city": 0},
        "kTreated": None,
        "sensitive": {"illness": {"l": 1, "t": pytest.approx(1 / 3)}},
    }
    (finding,) = rules(report)["DAT-003"]
    assert [row["line"] for row in finding["rows"]] == [5, 6, 7]
    table = modelward(data, "--policy", policy)
    assert "k 1, asked 3 (3 rows below); 3 groups; 1 rows unique" in table.output
    assert "the least generalisation that gives a k of 3: city to one group;" in table.output


def test_enough_people_in_each_group_is_exit_0_but_who_all_have_the_same_is_told(tmp_path: Path, policy: Path) -> None:
    lines = ["f,Ulm,flu", "f,Ulm,flu", "f,Ulm,cold", "m,Ulm,cold", "m,Ulm,flu", "m,Ulm,flu"]
    told(people(tmp_path, lines), "--policy", policy, code=0)
    report = told(people(tmp_path, [*lines[:3], *["m,Ulm,flu"] * 3]), "--policy", policy)
    assert list(rules(report)) == ["DAT-004"]


def test_quasi_identifiers_are_guessed_by_name_and_by_kind_where_none_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rng = np.random.default_rng(0)
    rows = [f"{rng.integers(20, 60)},{'ab'[index % 2]},{rng.normal()},{index % 7}" for index in range(100)]
    path.write_text("\n".join(["birthYear,letter,height_cm2,pixel", *rows]))
    report = told(path, code=0)
    assert report["anonymity"]["discovered"]
    assert report["anonymity"]["quasiIdentifiers"] == ["birthYear", "letter", "height_cm2"]
    assert "guessed" in rules(report, "note")["DAT-003"][0]["message"]
    assert told(path, "--quasi-identifiers", "letter", code=0)["anonymity"]["k"] == 50


CARD, IBAN, MAIL = "4111 1111 1111 1111", "DE89370400440532013000", "ann@example.org"


def test_identifiers_are_counted_and_never_shown(tmp_path: Path, policy: Path) -> None:
    path = tmp_path / "data.csv"
    rows = [
        f"{index},{CARD if index % 2 else ''},{'write to ' + MAIL + ' or ' + IBAN if index % 3 == 0 else 'no'},"
        f"{1000 + index},19{index:02d}0101"
        for index in range(30)
    ]
    path.write_text("\n".join(["record,card,remark,id,x", *rows]))
    for output in ("json", "table", "sarif"):
        result = modelward(path, "--policy", policy, "-o", output)
        assert result.exit_code == 1
        for value in (CARD, IBAN, MAIL, "4111 ", "example.org"):  # fingerprints are hex, and have 4111 at times
            assert value not in result.output
    report = told(path, "--policy", policy)
    columns = {column["name"]: column for column in report["columns"]}
    assert columns["card"]["identifiers"] == {"card": 15}
    assert columns["card"]["missing"] == 15
    assert columns["remark"]["identifiers"] == {"e-mail": 10, "iban": 10}
    assert columns["x"]["identifiers"] == {}
    card, remark = rules(report)["DAT-001"]
    assert "the policy has Drop for it" in card["fix"]
    assert "the policy" not in remark["fix"]
    # `record` is as unique as `id`, and its owner has said that it is a feature
    assert [finding["column"] for finding in rules(report)["DAT-002"]] == ["id", "x"]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three classes apart from each other; rows 3, 4 and 5 of class 0 are labelled 1."""
    rng = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], 100)
    rows = rng.normal(size=(300, 4)) + 8 * np.eye(4)[y]
    y[[3, 4, 5]] = 1
    path = tmp_path / "data.npz"
    np.savez(path, X=rows, y=y)
    return path


def test_flipped_labels_repeats_and_copies(labelled: Path, tmp_path: Path) -> None:
    report = told(labelled)
    assert {row["row"] for row in rules(report)["DAT-008"][0]["rows"]} == {3, 4, 5}
    assert list(rules(report)) == ["DAT-008"]
    with np.load(labelled) as arrays:
        rows, y = arrays["X"], arrays["y"]
    y[[3, 4, 5]] = 0
    again = np.vstack([rows, rows[:2], rows[7:8], rows[9:10] + 1e-6])
    path = tmp_path / "again.npz"
    np.savez(path, X=again, y=np.concatenate([y, y[:2], [2], y[9:10]]))
    found = rules(told(path))
    assert [row["row"] for row in found["DAT-005"][0]["rows"]] == [300, 301]
    assert [row["row"] for row in found["DAT-007"][0]["rows"]] == [7, 302]
    assert {row["row"] for row in found["DAT-006"][0]["rows"]} == {9, 303}


def test_spectral_signatures_of_given_embeddings(labelled: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    embeddings = rng.normal(size=(300, 8))
    embeddings[110:114, 5] += 20
    path = tmp_path / "embeddings.npz"
    np.savez(path, X=embeddings)
    (finding,) = rules(told(labelled, "--embeddings", path))["DAT-009"]
    assert {row["row"] for row in finding["rows"]} == {110, 111, 112, 113}
    np.savez(path, X=embeddings[:-1])
    wrong = modelward(labelled, "--embeddings", path)
    assert wrong.exit_code == 2
    assert "embeddings.npz: it has 299 rows and the data have 300. Fix: " in wrong.output


def test_rows_of_the_test_data_are_found_however_they_are_written(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 2)).round(3)
    train.write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in rows.tolist()))
    other = [*rng.normal(size=(20, 2)).tolist(), *rows[:3].tolist()]
    test.write_text("b,a\n" + "\n".join(f"{b}0,{a}" for a, b in other))
    (finding,) = rules(told(train, "--against", test))["DAT-010"]
    assert [row["line"] for row in finding["rows"]] == [2, 3, 4]
    test.write_text("a,c\n1,2\n")
    wrong = modelward(train, "--against", test)
    assert (wrong.exit_code, "test.csv: it has no column b. Fix: " in wrong.output) == (2, True)


def test_few_values_make_repeats_ordinary(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n" + "\n".join(f"{'xyz'[index % 3]},{index % 4}" for index in range(200)))
    report = told(path, "--label", "b", code=0)
    assert {"DAT-005", "DAT-007"} <= set(rules(report, "note"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "absent.csv: No such file or directory. Fix: "),
        (["data.csv", "--label", "none"], "data.csv: no column none; there are a, b"),
        (["data.csv", "--quasi-identifiers", "a,z"], "data.csv: no column z; there are a, b"),
        (["broken.csv"], "broken.csv:3: it has 1 values and the first line has 2. Fix: "),
        (["data.csv", "--policy", "data.csv"], "data.csv"),
        (["data.xlsx"], "files that end in .xlsx are not read. Fix: "),
        (["data.csv", "--embeddings", "text.csv"], "text.csv: column c is not of numbers alone. Fix: "),
    ],
)
def test_what_cannot_be_read_is_exit_2_with_the_file_and_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "data.csv": "a,b\n1,2\n3,4\n",
        "broken.csv": "a,b\n1,2\n3\n",
        "data.xlsx": "",
        "text.csv": "c\nx\ny\n",
    }.items():
        Path(name).write_text(text)
    result = modelward(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_header_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("age,\x1b[2J\n" + "\n".join(f"{index % 3},k{index}" for index in range(30)))
    result = modelward(path)
    assert result.exit_code == 1
    assert "\x1b" not in result.output


AGES = [*range(20, 40), *range(20, 40, 4)]
HIERARCHY = "".join(f"{age};{'twenties' if age < 30 else 'thirties'};*\n" for age in range(20, 40))


def ages(tmp_path: Path, policy: Path, treatment: str = "") -> Path:
    policy.write_text(
        POLICY.replace("{name: sex, role: QuasiIdentifier}", f"{{name: age, role: QuasiIdentifier{treatment}}}")
    )
    path = tmp_path / "ages.csv"
    path.write_text("age,city,illness\n" + "\n".join(f"{age},Ulm,{'flu' if age % 2 else 'cold'}" for age in AGES))
    return path


def test_the_cheapest_generalisation_goes_up_a_hierarchy(tmp_path: Path, policy: Path) -> None:
    data = ages(tmp_path, policy)
    hierarchy = tmp_path / "hierarchy.csv"
    hierarchy.write_text(HIERARCHY)
    report = told(data, "--policy", policy, "--hierarchy", f"age={hierarchy}")
    found = report["cheapestGeneralisation"]
    assert found["columns"]["age"] == {"level": 1, "of": 2, "told": "level 1 of its hierarchy"}
    assert found["columns"]["city"]["told"] == "as it is"
    assert (found["k"], found["groups"], found["suppressedRows"], found["exact"]) == (12, 2, 0, True)
    assert "age to level 1 of its hierarchy" in rules(report)["DAT-003"][0]["fix"]
    assert (
        "age: level 1 of its hierarchy (1 of 2)"
        in modelward(data, "--policy", policy, "--hierarchy", f"age={hierarchy}").output
    )


def test_numbers_without_a_hierarchy_go_to_wider_intervals(tmp_path: Path, policy: Path) -> None:
    data = ages(tmp_path, policy)
    found = told(data, "--policy", policy)["cheapestGeneralisation"]
    assert found["columns"]["age"]["told"] == "intervals of 4"
    assert found["k"] == 5
    spared = told(data, "--policy", policy, "--suppress", "0.5")["cheapestGeneralisation"]
    assert spared["loss"] < found["loss"]
    assert 0 < spared["suppressedRows"] <= len(AGES) / 2


def test_a_policy_whose_own_treatment_reaches_its_k_is_the_fix(tmp_path: Path, policy: Path) -> None:
    report = told(ages(tmp_path, policy, ", treatment: Generalise, step: 10"), "--policy", policy)
    assert report["anonymity"]["kTreated"] == 12
    assert "as the policy treats these fields, which gives a k of 12" in rules(report)["DAT-003"][0]["fix"]


def test_the_policys_own_hierarchy_is_found_beside_it(tmp_path: Path, policy: Path) -> None:
    data = ages(tmp_path, policy, ", treatment: Generalise, hierarchy: ages, level: 2")
    lines = "".join(f"    {line}\n" for line in HIERARCHY.splitlines())
    metadata = "metadata: {name: ages, namespace: modelward-system}"
    kept = f"apiVersion: v1\nkind: ConfigMap\n{metadata}\ndata:\n  hierarchy.csv: |\n"
    policy.write_text(f"{policy.read_text()}---\n{kept}{lines}")
    report = told(data, "--policy", policy)
    assert report["anonymity"]["kTreated"] == len(AGES)
    assert report["cheapestGeneralisation"]["columns"]["age"]["told"] == "level 1 of its hierarchy"


def test_values_that_a_hierarchy_has_no_line_for_are_told(tmp_path: Path, policy: Path) -> None:
    data = ages(tmp_path, policy)
    hierarchy = tmp_path / "hierarchy.csv"
    hierarchy.write_text("".join(line for line in HIERARCHY.splitlines(keepends=True) if not line.startswith("21;")))
    report = told(data, "--policy", policy, "--hierarchy", f"age={hierarchy}")
    (found,) = rules(report)["DAT-011"]
    assert (found["column"], found["count"], found["rows"]) == ("age", 1, [{"row": 1, "line": 3}])
    assert report["cheapestGeneralisation"]["k"] >= 3
    hierarchy.write_text(HIERARCHY)
    assert "DAT-011" not in rules(told(data, "--policy", policy, "--hierarchy", f"age={hierarchy}"))


def test_nothing_is_said_of_a_treatment_by_a_hierarchy_that_is_not_there(tmp_path: Path, policy: Path) -> None:
    report = told(ages(tmp_path, policy, ", treatment: Generalise, hierarchy: ages"), "--policy", policy)
    assert report["anonymity"]["kTreated"] is None
    assert "hierarchy ages of column age is not beside the policy" in report["notLookedFor"][0]


def test_a_hierarchy_that_cannot_be_used_is_named(tmp_path: Path, policy: Path) -> None:
    data = ages(tmp_path, policy)
    hierarchy = tmp_path / "hierarchy.csv"
    hierarchy.write_text("20;a\n21\n")
    message = "hierarchy.csv: line 2 has 1 cells, the first has 2"
    result = modelward(data, "--policy", policy, "--hierarchy", f"age={hierarchy}")
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_hierarchy_of_no_column_or_no_file_is_refused(tmp_path: Path, policy: Path) -> None:
    data = ages(tmp_path, policy)
    for option, message in (("age", "not COLUMN=FILE"), ("age=absent", "No such file"), (f"zip={data}", "ages.csv")):
        result = modelward(data, "--policy", policy, "--hierarchy", option)
        assert (result.exit_code, message in result.output) == (2, True), result.output
