"""The pages of docs/reference are what the program says, and every field is explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from modelward.api.crd import KINDS, Kind, schema_of
from modelward.cli.main import VERBS, cli
from modelward.cli.markdown import api_reference, cli_reference

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


@pytest.mark.parametrize(
    ("name", "text"), [("api.md", api_reference()), ("cli.md", cli_reference(cli))], ids=["api.md", "cli.md"]
)
def test_the_page_is_current(name: str, text: str) -> None:
    assert (REFERENCE / name).read_text() == text, f"docs/reference/{name} is stale: run `make generate`"


def test_crds_prints_the_page() -> None:
    assert CliRunner().invoke(cli, ["crds", "-o", "markdown"]).stdout == api_reference()


def test_every_verb_has_a_section_and_says_what_it_does() -> None:
    page = cli_reference(cli)
    for verb, summary in VERBS.items():
        assert f"## modelward {verb}\n" in page
        assert summary.endswith(".")


def test_verbs_below_a_verb_are_shown_with_their_options() -> None:
    page = cli_reference(cli)
    for group, below, option in (
        ("audit", "word", "--from-cluster"),
        ("he", "encrypt", "--statistic"),
        ("token", "undo", "--key"),
    ):
        section = page.split(f"### modelward {group} {below}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
        assert f"$ modelward {group} {below} --help\nUsage: modelward {group} {below} " in section
        assert option in section


def _fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below a schema, in lists and maps too."""
    yield path, node
    for name, field in node.get("properties", {}).items():
        yield from _fields(field, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        inner = node.get(key)
        if isinstance(inner, dict):
            for name, field in inner.get("properties", {}).items():
                yield from _fields(field, f"{path}[].{name}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_described_in_a_sentence_with_its_default(kind: Kind) -> None:
    wrong = []
    for part in ("spec", "status"):
        for path, field in _fields(schema_of(kind)["properties"][part], part):
            description = field.get("description", "")
            if len(description) < 25 or len(description.split()) < 5:
                wrong.append(f"{path}: too short: {description!r}")
            if not description.endswith((".", "?")) or not description[:1].isupper():
                wrong.append(f"{path}: not a sentence: {description!r}")
            if "\n" in description or not description.isprintable():
                wrong.append(f"{path}: more than one line")
            if field.get("default") not in (None, "", [], {}) and "Default: " not in description:
                wrong.append(f"{path}: its default is not told")
    assert not wrong, "\n".join(wrong)


def test_the_page_of_the_resources_has_every_field() -> None:
    page = api_reference()
    for kind in KINDS:
        for part in ("spec", "status"):
            for path, _ in _fields(schema_of(kind)["properties"][part], part):
                assert path == part or f"| `{path}` |" in page
