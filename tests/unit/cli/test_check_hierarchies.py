"""`modelward check` on hierarchies: what the files hold is read, what they do not is a note."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from modelward.cli.main import cli
from tests.corpus import good, policy


def findings(folder: Path, text: str | None, level: int = 1, namespace: str = "modelward-system") -> list[Any]:
    field = {"name": "city", "treatment": "Generalise", "hierarchy": "cities", "level": level}
    kept = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cities", "namespace": namespace},
        "data": {"hierarchy.csv": text or ""},
    }
    file = folder / "all.yaml"
    file.write_text(yaml.safe_dump_all([good(), policy({"fields": [field]}), *([kept] if text is not None else [])]))
    result = CliRunner().invoke(cli, ["check", str(file), "-o", "json"])
    found = [one for one in json.loads(result.stdout)["findings"] if one["field"].endswith("hierarchy")]
    assert result.exit_code == (1 if any(one["level"] == "error" for one in found) else 0), result.output
    return found


def test_a_hierarchy_that_can_be_used_has_nothing_to_mend(tmp_path: Path) -> None:
    assert findings(tmp_path, "Ulm;DE;*\nBonn;DE;*\n", level=2) == []


@pytest.mark.parametrize(
    ("text", "level", "why"),
    [
        ("Ulm;DE\nBonn\n", 1, "cities: line 2 has 1 cells, the first has 2"),
        ("Ulm;DE\n", 3, "cities: the hierarchy has the levels 1 to 1, not 3"),
        ("Ulm;DE\nUlm;FR\n", 1, "cities: line 2 gives a value another group"),
        ("", 1, "cities: the hierarchy is empty"),
    ],
)
def test_one_that_cannot_be_used_is_an_error_where_it_is_named(tmp_path: Path, text: str, level: int, why: str) -> None:
    (found,) = findings(tmp_path, text, level)
    assert (found["level"], found["field"]) == ("error", "spec.fields[0].hierarchy")
    assert found["message"].startswith(why)
    assert found["line"] > 1
    assert "Write a value and its groups" in found["fix"]


@pytest.mark.parametrize(("text", "namespace"), [(None, ""), ("Ulm;DE\n", "clinic")])
def test_one_that_is_not_there_is_a_note(tmp_path: Path, text: str | None, namespace: str) -> None:
    (found,) = findings(tmp_path, text, namespace=namespace)
    assert found["level"] == "note"
    assert "ConfigMap modelward-system/cities with hierarchy.csv is not among these files" in found["message"]
