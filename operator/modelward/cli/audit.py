"""`modelward audit`: an auditor's key, and the counters that it alone opens, noised and within a budget."""

from __future__ import annotations

import base64
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from modelward.api.printable import printable
from modelward.cli.failures import in_words
from modelward.cli.kubectl import kubectl
from modelward.cli.output import to_json
from modelward.planner.aggregate import PUBLISHED_KEY, aggregate_name
from modelward.planner.audited import fairness_in, word_of
from modelward.planner.auditors_word import WORD_ANNOTATION
from modelward.planner.sidecar import CONFIG_KEY_KEY, SETTINGS_NAME, SYSTEM_NAMESPACE

if TYPE_CHECKING:
    from modelward.audit.auditor import Opened

_RATES = ("selection", "truePositive", "falsePositive")
_RATES_IN_WORDS = dict(zip(_RATES, ("favourable answers", "true positives", "false positives"), strict=True))
_DIFFERENCES = dict(zip(_RATES, ("demographicParity", "truePositives", "falsePositives"), strict=True))
_KINDS = ("", "md", "modeldeployment", "modeldeployments")
_MAX_BYTES = 1 << 20
_FORMAT = click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="Format.")


@click.group("audit", help="Open counters that sidecars encrypt to your key and nobody else can read.")
def command() -> None:
    """Group of the verbs."""


@command.command("keygen", help="Make a key: DIR/secret for you alone, DIR/public for a ConfigMap.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write it to.")
@click.option(
    "--controller-key",
    help="Base64 of the key that the controller signs with, which aggregates must be signed by: configKey of the"
    " ConfigMap modelward-sidecar in modelward-system. Default: kubectl is asked.",
)
@click.option("--releases", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Most, for ever.")
@click.option(
    "--epsilon",
    default="1.0",
    show_default=True,
    help="Of a release: how much one row may change the odds of what is told, as e to this power.",
)
@click.option("--base", type=click.IntRange(1, 1_000_000), default=5, show_default=True, help="What counts round to.")
@_FORMAT
def keygen(out: Path, controller_key: str | None, releases: int, epsilon: str, base: int, output: str) -> None:
    """Write a folder of keys; exit 2 rather than overwrite one."""
    with in_words(out):
        from modelward.audit import auditor  # noqa: PLC0415
        from modelward.encrypted.envelope import digest  # noqa: PLC0415

        keys = auditor.generate(
            out, _controller(controller_key), epsilon=_epsilon(epsilon), base=base, releases=releases
        )
        name = digest(keys.public)
    if output == "json":
        facts = {"directory": str(out), "keys": f"sha256:{name}", "bytes": len(keys.public), "releases": releases}
        click.echo(to_json(facts), nl=False)
        return
    click.echo(f"{out}/public/keys.bin: sha256:{name} ({len(keys.public):,} bytes; 128 bits of security)")
    click.echo(f"kubectl create configmap audit-key --from-file=keys.bin={out}/public/keys.bin")
    click.echo(f"{out}/secret opens every aggregate, and holds the budget: keep it where only you are.", err=True)


def _controller(given: str | None) -> str:
    from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415

    text = given or kubectl(
        "get",
        f"--namespace={SYSTEM_NAMESPACE}",
        f"configmap/{SETTINGS_NAME}",
        f"--output=jsonpath={{.data.{CONFIG_KEY_KEY}}}",
    )
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:  # binascii.Error is one
        key = b""
    if len(key) != 32:
        raise EncryptedError("the controller's key must be base64 of 32 bytes (Ed25519)")
    return key.hex()


def _epsilon(text: str) -> str:
    from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415

    whole, _, rest = text.partition(".")
    if not (whole.isdecimal() and len(whole) <= 2 and (not rest or rest.isdecimal()) and len(rest) <= 6) or not any(
        digit in "123456789" for digit in text
    ):
        raise EncryptedError("--epsilon must be a number such as 1.0, above 0 and below 100")
    return text


@command.command("open", help="Print the counters of an aggregate (a file, or md/NAME with --from-cluster).")
@click.argument("aggregate", metavar="FILE|md/NAME")
@click.option(
    "--keys", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder that keygen wrote."
)
@click.option("--from-cluster", is_flag=True, help="Ask kubectl for the aggregate that the controller gave out last.")
@click.option("-n", "--namespace", help="The model's namespace; default: kubectl's.")
@_FORMAT
def open_(aggregate: str, keys: Path, from_cluster: bool, namespace: str | None, output: str) -> None:
    """Print what may be told; exit 2 when it may not be opened. The same aggregate always tells the same."""
    with in_words(aggregate):
        from modelward.audit import auditor  # noqa: PLC0415

        content = _fetched(aggregate, keys, namespace) if from_cluster else _bounded(Path(aggregate))
        opened = auditor.opened(keys, content)
    if output == "json":
        click.echo(to_json(_document(opened)), nl=False)
        return
    click.echo(f"{opened.header.model}, {_time(opened.header.begun)} to {_time(opened.header.ended)}")
    console = Console(width=120, highlight=False, markup=False, emoji=False)  # a group may be called `[/b]`
    console.print(_table(opened))
    fairness = fairness_in(opened)
    if fairness:
        console.print(_rates(fairness))
        click.echo(f"Fair: {fairness['status']}, {fairness['reason']}: {fairness['message']}")
    click.echo(_sentence(opened), err=True)


@command.command("word", help="Print the command that tells the cluster, signed, what an aggregate says of fairness.")
@click.argument("aggregate", metavar="FILE|md/NAME")
@click.option(
    "--keys", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder that keygen wrote."
)
@click.option("--from-cluster", is_flag=True, help="Ask kubectl for the aggregate that the controller gave out last.")
@click.option("-n", "--namespace", help="The model's namespace; default: kubectl's.")
def word(aggregate: str, keys: Path, from_cluster: bool, namespace: str | None) -> None:
    """Print it, for whoever may edit the model to run: the verdict, and no figure. Exit 2 when there is none.

    Of an aggregate that was not opened before it spends a release, as `open` does.
    """
    with in_words(aggregate):
        from modelward.audit import auditor  # noqa: PLC0415
        from modelward.audit.word import spoken  # noqa: PLC0415
        from modelward.encrypted.client import ClientKeys  # noqa: PLC0415
        from modelward.encrypted.envelope import digest  # noqa: PLC0415

        content = _fetched(aggregate, keys, namespace) if from_cluster else _bounded(Path(aggregate))
        opened = auditor.opened(keys, content)
        said = word_of(opened, digest(content))
        text = spoken(said, ClientKeys.read(keys).signing)
    place, _, name = said.model.partition("/")
    object_name, where = shlex.quote(f"modeldeployments.modelward.io/{name}"), shlex.quote(f"--namespace={place}")
    click.echo(f"kubectl annotate {where} --overwrite {object_name} {WORD_ANNOTATION}={text}")
    click.echo(f"Fair: {said.status}, {said.reason}. Releases left: {opened.left}.", err=True)


def _fetched(model: str, keys: Path, namespace: str | None) -> bytes:
    from modelward.encrypted.client import PUBLIC_FILE  # noqa: PLC0415
    from modelward.encrypted.envelope import digest  # noqa: PLC0415
    from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415

    kind, _, name = model.rpartition("/")
    if kind.lower() not in _KINDS or not name or name.startswith("-"):
        raise EncryptedError("it is not md/NAME, as in md/wdbc")
    place = (f"--namespace={namespace}",) if namespace else ()
    answer = kubectl("get", *place, f"configmap/{aggregate_name(name)}", "--output=json", "--ignore-not-found")
    if not answer:
        raise EncryptedError(
            f"there is no ConfigMap {aggregate_name(name)} in {namespace or 'this namespace'}: it comes with the first"
            " window that a sidecar hands over, of a model whose policy has `audit`"
        )
    found = json.loads(answer)
    key = PUBLISHED_KEY.format(digest((keys / PUBLIC_FILE).read_bytes())[:16])
    text = (found.get("binaryData") or {}).get(key)
    if text is None:
        raise EncryptedError("no aggregate was given out yet under this key: the first one is when its period ends")
    return base64.b64decode(text)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_BYTES)


def _table(opened: Opened) -> Table:
    table = Table()
    for name in ("of", "cell"):
        table.add_column(name, overflow="fold")
    table.add_column("rows", justify="right")
    before = ""
    for cell in opened.cells:
        shown = f"{cell.count:,}" if cell.count is not None else f"under {opened.header.minimum}"
        if before and cell.block != before:
            table.add_section()
        table.add_row(printable(cell.block) if cell.block != before else "", printable(cell.cell), shown)
        before = cell.block
    return table


def _rates(fairness: dict[str, Any]) -> Table:
    """Rates of the groups that are large enough, and how far apart they are, each with where it may lie (95 %)."""
    table = Table()
    for name in ("by", "group"):
        table.add_column(name, overflow="fold")
    told = [one for one in _RATES if any(one in group for each in fairness["attributes"] for group in each["groups"])]
    shown = dict.fromkeys((*_RATES[:1], *told))  # what was true is mostly told by nobody
    for one in shown:
        table.add_column(_RATES_IN_WORDS[one], justify="right")
    few = f"under {fairness['minimumGroupSize']}"
    for number, attribute in enumerate(fairness["attributes"]):
        if number:
            table.add_section()
        for first, group in enumerate(attribute["groups"]):
            rates = [_lying(group[one], "rate") if one in group else "" for one in shown]
            field = "" if first else printable(attribute["field"])
            table.add_row(field, printable(group["name"]), rates[0] or few, *rates[1:])
        apart = [
            _lying(attribute[one], "difference") if one in attribute else ""
            for one in (_DIFFERENCES[rate] for rate in shown)
        ]
        table.add_row("", f"difference (accepted: {fairness['maxDifference']:g})", *apart)
    return table


def _lying(figure: dict[str, Any], name: str) -> str:
    return f"{figure[name]:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _sentence(opened: Opened) -> str:
    header = opened.header
    missing = (
        f" Not counted, for want of known values: {', '.join(map(printable, opened.uncounted))}."
        if opened.uncounted
        else ""
    )
    return (
        f"{header.windows} windows of {header.pods} pods, for {header.policy}. Each count has noise of a standard"
        f" deviation of {opened.scale:.1f} (epsilon {opened.epsilon} a row, over the whole table) and is rounded to"
        f" {opened.base}.{missing} Releases left: {opened.left}."
    )


def _document(opened: Opened) -> dict[str, Any]:
    header = opened.header
    return {
        "model": header.model,
        "policy": header.policy,
        "from": _time(header.begun),
        "to": _time(header.ended),
        "windows": header.windows,
        "pods": header.pods,
        "minimum": header.minimum,
        "noise": {"epsilon": opened.epsilon, "standardDeviation": opened.scale, "base": opened.base},
        "counts": [{"of": one.block, "cell": one.cell, "rows": one.count} for one in opened.cells],
        "fairness": fairness_in(opened),
        "uncounted": list(opened.uncounted),
        "releasesLeft": opened.left,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
