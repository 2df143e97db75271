"""How objects are written: YAML without anchors and in the order given, or JSON; and how sentences are joined."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import yaml


class _Plain(yaml.SafeDumper):
    """Writes no anchors: a reader of a manifest should not have to follow them."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def to_yaml(data: Any) -> str:
    """Return data as a YAML document, keys in their order."""
    text: str = yaml.dump(data, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return text


def to_json(data: Any) -> str:
    """Return data as indented JSON."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def write_to(out: Path, text: str) -> None:
    """Write a file, or say why not and exit with code 2."""
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"modelward: {out}: cannot be written: {error.strerror}. Give --out another path.", err=True)
        sys.exit(2)


def with_fix(what: str, fix: str) -> str:
    """Return what was found, and how to mend it where that is known, as sentences on one line."""
    ended = what if what.endswith((".", "?", "!")) else f"{what}."
    return f"{ended} Fix: {fix}" if fix else ended
