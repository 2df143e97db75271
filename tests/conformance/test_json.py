"""JSONTestSuite against the body's decoder: what is no JSON is told from what is JSON and does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Schema
from tests.conformance.corpora import files


def told(content: bytes) -> str:
    with pytest.raises(Refusal) as refused:
        Schema("v2", None, "Reject").check(content)
    return refused.value.problem.slug


@pytest.mark.parametrize("path", files("json/test_parsing", "n_*.json"), ids=lambda path: path.stem)
def test_what_is_not_json_is_400(path: Path) -> None:
    assert told(path.read_bytes()) == "malformed-json"


@pytest.mark.parametrize("path", files("json/test_parsing", "y_*.json"), ids=lambda path: path.stem)
def test_what_is_json_is_only_refused_for_its_shape(path: Path) -> None:
    assert told(path.read_bytes()) == "schema-violation"


@pytest.mark.parametrize("path", files("json/test_parsing", "i_*.json"), ids=lambda path: path.stem)
def test_what_may_be_either_is_one_of_the_two(path: Path) -> None:
    assert told(path.read_bytes()) in ("malformed-json", "schema-violation")
