"""`modelward verify-log`: whether an access log is as the sidecar wrote it."""

from __future__ import annotations

import re
import sys
from typing import IO, Any

import click
import msgspec

from modelward.cli.output import to_json
from modelward.logchain import Verdict, chunks, split, verify

_SHOWN = 20


class _Anchor(click.ParamType[tuple[int, str]]):
    name = "seq=chain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, str]:
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"(\d{1,18})=([A-Za-z0-9+/]{43}=)", str(value))
        if not found:
            self.fail(f'{value} is not a number and a chain, as in 41=<the line\'s "chain">', param, ctx)
        return int(found[1]), found[2]


@click.command("verify-log", help="Try the chain of an access log: which lines were changed, moved or taken away.")
@click.argument("files", nargs=-1, required=True, type=click.File("rb"), metavar="FILE|-...")
@click.option("--whole", is_flag=True, help="Also ask that the log begins with its first line and ends with its last.")
@click.option("--anchor", "anchors", multiple=True, type=_Anchor(), help="A line noted elsewhere; must be in the log.")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="Format.")
def command(files: tuple[IO[bytes], ...], whole: bool, anchors: tuple[tuple[int, str], ...], output: str) -> None:
    """Read the files one after another, as one log; exit 1 when something does not hold, 2 when there is none."""
    try:
        verdict = verify(split(chunks(*files)), whole=whole, anchors=anchors)
    except OSError as error:
        click.echo(f"modelward: the log cannot be read: {error.strerror}", err=True)
        sys.exit(2)
    if verdict.begins_at is None:
        click.echo("modelward: not one line with a number and a chain: this is no access log of modelward", err=True)
        sys.exit(2)
    click.echo(to_json(msgspec.to_builtins(verdict)) if output == "json" else _text(verdict) + "\n", nl=False)
    sys.exit(1 if verdict.findings else 0)


def _text(verdict: Verdict) -> str:
    out = [f"line {one.line}: {one.kind}: {one.message}" for one in verdict.findings[:_SHOWN]]
    if len(verdict.findings) > _SHOWN:
        out.append(f"... and {len(verdict.findings) - _SHOWN} more (-o json has them all)")
    out += [f"note: {one}" for one in verdict.notes]
    if verdict.dropped or verdict.failed:
        out.append(f"told by the sidecar: {verdict.dropped} records dropped, {verdict.failed} not written")
    missing = sum(one.missing for one in verdict.findings)
    state = f"BROKEN: {len(verdict.findings)} findings, {missing} lines missing" if verdict.findings else "intact"
    processes = f"{verdict.processes} {'start' if verdict.processes == 1 else 'starts'}"
    return "\n".join([*out, f"{state}: {verdict.lines} lines, {verdict.records} records, {processes} of a sidecar"])
