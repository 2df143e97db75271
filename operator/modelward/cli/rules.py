"""`modelward rules`: the catalogue, what each rule asks and why, and what it serves in law and frameworks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from modelward.cli.output import to_json, to_yaml
from modelward.cli.rules_page import rules_page, shown, switched_on_by
from modelward.rules.catalogue import FAMILIES, Fixture, Rule, catalogue, frameworks, place_title


@click.command("rules", help="List the rules of the catalogue, or show some whole: modelward rules ENC-001.")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--framework", help="Only rules that serve this place or framework, such as GDPR-25, EUAIA or ATLAS.")
@click.option("--family", type=click.Choice(list(FAMILIES), case_sensitive=False), help="Only rules of this family.")
@click.option("--severity", type=click.Choice(["high", "medium", "low"]), help="Only rules of this severity.")
@click.option("--enforced-at", type=click.Choice(["admission", "readiness"]), help="Only rules enforced there.")
@click.option("-o", "output", type=click.Choice(["table", "json", "markdown"]), default="table", help="Format.")
def command(
    ids: tuple[str, ...],
    framework: str | None,
    family: str | None,
    severity: str | None,
    enforced_at: str | None,
    output: str,
) -> None:
    """List the rules that were asked for; exit 2 where there is none."""
    _reject_unknown(ids, framework)
    chosen = [
        rule
        for rule in catalogue()
        if (not ids or rule.id in map(str.upper, ids))
        and (framework is None or _serves(rule, framework))
        and family in (None, rule.family)
        and severity in (None, rule.severity)
        and enforced_at in (None, rule.enforced_at)
    ]
    if not chosen:
        _fail("no rule is all of that; ask for less at once")
    if output == "json":
        click.echo(to_json([_plain(rule) for rule in chosen]), nl=False)
    elif output == "markdown":
        click.echo(rules_page(chosen), nl=False)
    elif ids:
        click.echo("\n".join(map(_whole, chosen)), nl=False)
    else:
        Console().print(_table(chosen))


def _fail(text: str) -> None:
    click.echo(f"modelward: {text}", err=True)
    sys.exit(2)


def _reject_unknown(ids: Sequence[str], framework: str | None) -> None:
    known = {rule.id for rule in catalogue()}
    for rule_id in ids:
        if rule_id.upper() not in known:
            family = [rule for rule in sorted(known) if rule.startswith(rule_id.upper()[:3])]
            _fail(
                f"there is no rule {rule_id}. {'There are ' + ', '.join(family) if family else 'See modelward rules'}"
            )
    if framework is not None and not any(_serves(rule, framework) for rule in catalogue()):
        _fail(f"no rule serves {framework}. Frameworks: {', '.join(sorted(frameworks()))}")


def _serves(rule: Rule, framework: str) -> bool:
    wanted = f"{framework.upper().rstrip('-')}-"
    return any(f"{place.upper()}-".startswith(wanted) for place in rule.frameworks)


def _plain(rule: Rule) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(rule)
    return {**plain, "family": rule.family, "frameworks": {place: place_title(place) for place in rule.frameworks}}


def _table(rules: Sequence[Rule]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Rule", "Severity", "Enforced at", "Switched on by", "What holds", "Places"):
        table.add_column(column, overflow="fold")
    for rule in rules:
        table.add_row(
            rule.id, rule.severity, rule.enforced_at, switched_on_by(rule), rule.title, " ".join(rule.frameworks)
        )
    return table


def _whole(rule: Rule) -> str:
    lines = [
        f"{rule.id}  {rule.title}",
        f"Severity     {rule.severity}, enforced at {rule.enforced_at}",
        f"Switched on  {switched_on_by(rule)}" + ("" if rule.when == "true" else f", when {rule.when}"),
        f"Field        {rule.field}",
        f"Why          {rule.reason}",
        f"Holds when   {rule.expression}",
        f"Fix          {rule.fix}",
        "Serves",
        *(f"  {place}: {place_title(place)}" for place in rule.frameworks),
        "Keeps it",
        *_example(rule.fixtures.passes),
        "Breaks it",
        *_example(rule.fixtures.fails),
        "",
    ]
    return "\n".join(lines)


def _example(fixture: Fixture) -> list[str]:
    text = to_yaml(shown(fixture))
    return [f"  {line}" for line in text.splitlines()]
