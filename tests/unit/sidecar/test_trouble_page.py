"""`docs/explanation/trouble.md`: each row names a test, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "explanation" / "trouble.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| trouble"))
]
NAMED = re.compile(r"`((?:unit/sidecar|unit/controller|integration)/\w+\.py)::(\w+)`")


@cache
def _tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_trouble_names_tests_that_exist(row: list[str]) -> None:
    assert len(row) == 3
    assert row[1]
    named = NAMED.findall(row[2])
    assert named, "no test is named"
    assert NAMED.sub("", row[2]).strip() == "", "something else stands among the tests"
    assert [name for file, name in named if not (name.startswith("test_") and name in _tests(file))] == []


def test_each_test_is_named_once() -> None:
    named = [name for row in ROWS for name in NAMED.findall(row[2])]
    assert len(named) == len(set(named))


def test_the_list_is_whole() -> None:
    """What must not be missing, by a word of its row."""
    text = "\n".join(row[0].lower() for row in ROWS)
    for word in ("dead", "slow", "full", "resets", "garbage", "slow-loris", "10,000 idle", "at the limit", "over it",
                 "certificates", "keys rotated", "sigterm under load", "configuration changed", "bad",
                 "reached without it"):  # fmt: skip
        assert word in text, word
