"""`modelward he`: the client's side of the homomorphic path, and scoring files without a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from modelward.cli.failures import in_words
from modelward.cli.output import to_json

if TYPE_CHECKING:
    from modelward.encrypted.envelope import Answer
    from modelward.encrypted.parameters import Parameters

_KEYS = click.option(
    "--keys", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder that keygen wrote."
)
_OUT = click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where to write it.")
_FORMAT = click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="Format.")
_MAX_INPUT = 256 << 20


@click.group("he", help="Have a model score what it cannot read (homomorphic encryption).")
def command() -> None:
    """Group of the verbs; nothing here needs a cluster."""


@command.command("keygen", help="Make keys: DIR/secret for you alone, DIR/public for those who score.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write them to.")
@click.option(
    "--scheme", type=click.Choice(["CKKS", "BFV"]), default="CKKS", help="As the model's encryption.inUse.scheme."
)
@click.option("--degree", type=int, default=8192, help="As encryption.inUse.polyModulusDegree.")
@click.option("--modulus-bits", default="60,40,60", help="As encryption.inUse.coeffModulusBits, with commas.")
@click.option("--scale-bits", type=int, default=40, help="As encryption.inUse.scaleBits.")
@click.option("--columns", type=click.IntRange(0, 512), default=64, help="Most columns of a row that is sent alone.")
@click.option("--rows", type=click.IntRange(0, 16384), help="Most rows of a mean, sum or count. Default: 0; BFV: all.")
@click.option("--squares", is_flag=True, help="With relinearisation keys, which networks need.")
@_FORMAT
def keygen(
    out: Path,
    scheme: str,
    degree: int,
    modulus_bits: str,
    scale_bits: int,
    columns: int,
    rows: int | None,
    squares: bool,
    output: str,
) -> None:
    """Write a folder of keys; exit 2 rather than overwrite one."""
    with in_words(out):
        from modelward.encrypted.client import ClientKeys, named  # noqa: PLC0415

        parameters = _parameters(scheme, degree, modulus_bits, scale_bits)
        if scheme == "BFV":  # it gives no scores
            columns, rows = 0, parameters.slots if rows is None else rows
        keys = ClientKeys.generate(parameters, columns=columns, rows=rows or 0, squares=squares)
        keys.write(out)
        facts = named(keys)
    if output == "json":
        click.echo(to_json({"directory": str(out), **facts}), nl=False)
        return
    sizes = ", ".join(f"{name} {size:,} bytes" for name, size in facts["bytes"].items())
    click.echo(f"{out}/public/keys.bin: {facts['keys']} ({sizes}; {facts['securityBits']} bits of security)")
    click.echo(f"{out}/secret reads every answer: keep it where only you are.", err=True)


def _parameters(scheme: str, degree: int, modulus_bits: str, scale_bits: int) -> Parameters:
    import msgspec  # noqa: PLC0415

    from modelward.encrypted.parameters import EncryptedError, Parameters  # noqa: PLC0415

    try:
        fields = {
            "scheme": scheme,
            "polyModulusDegree": degree,
            "coeffModulusBits": [int(bits) for bits in modulus_bits.split(",")],
            "scaleBits": scale_bits,
        }
        return msgspec.convert(fields, Parameters)
    except ValueError as error:  # msgspec's are ValueErrors
        raise EncryptedError(f"these parameters cannot be: {error}") from error


@command.command("encrypt", help="Encrypt rows (csv, npz, parquet) to your own keys: a request.")
@click.argument("rows", type=click.Path(path_type=Path))
@_KEYS
@_OUT
@click.option("--model", default="model", help="Name of the model that it is for.")
@click.option(
    "--layout", type=click.Choice(["row", "columns"]), help="A ciphertext a row, or a column. Default: fewer."
)
@click.option("--columns", help="Columns to use, separated by commas, in the model's order.")
@click.option(
    "--bound-bits",
    type=click.IntRange(0, 40),
    help="No number is beyond 2^BITS; it is told. Default: 10; for counts 0.",
)
@click.option(
    "--statistic",
    type=click.Choice(["mean", "sum", "count"]),
    help="Ask for that of each column, and for no score. count: of columns of 0 and 1, exact, by BFV keys.",
)
@click.option("--body", is_flag=True, help="Write the body of a V2 `infer` request, for curl and the like.")
@click.option("--without-keys", is_flag=True, help="Leave your public keys out: the server has them.")
@_FORMAT
def encrypt(
    rows: Path,
    keys: Path,
    out: Path,
    model: str,
    layout: Any,
    columns: str | None,
    bound_bits: int | None,
    statistic: Any,
    body: bool,
    without_keys: bool,
    output: str,
) -> None:
    """Write a request; exit 2 when a row cannot be encrypted."""
    with in_words(keys):
        from modelward.detect import table  # noqa: PLC0415
        from modelward.encrypted import envelope  # noqa: PLC0415
        from modelward.encrypted.client import Client, ClientKeys, v2_body  # noqa: PLC0415

        own = ClientKeys.read(keys)
        client = Client(own)
    with in_words(rows), _progress("encrypting") as progress:
        data = table.read(_bounded(rows), rows.suffix, wanted=columns.split(",") if columns else ())
        names = data.columns or tuple(f"x{index}" for index in range(data.rows.shape[1]))
        request = client.encrypt(
            data.rows,
            names,
            model=model,
            now=int(time.time()),
            layout=layout,
            bound_bits=bound_bits,
            statistic=statistic,
            progress=progress,
        )
        keys_sent = b"" if without_keys else own.public
        if body:
            content = v2_body(request, keys_sent)
        else:
            content = envelope.bundled(request, keys_sent) if keys_sent else request
    with in_words(out):
        out.write_bytes(content)
    if output == "json":
        facts = {"request": str(out), "sha256": envelope.digest(request), "rows": len(data.rows), "bytes": len(content)}
        click.echo(to_json(facts), nl=False)
        return
    click.echo(f"{out}: {len(data.rows)} rows of {len(names)} columns, {len(content):,} bytes")


@command.command(
    "score",
    help="Score an encrypted request, or compute the statistic that it asks for: what the sidecar does, on a file.",
)
@click.argument("request_file", metavar="REQUEST", type=click.Path(path_type=Path))
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help='The model: {"coef": [...], "intercept": 0.1, "link": "identity|logistic|softmax|logistic3"} or layers. Not'
    " for means, sums and counts.",
)
@click.option(
    "--keys", "public", type=click.Path(path_type=Path), help="The client's keys.bin, where REQUEST has none."
)
@click.option("--model", default="model", help="Name of the model; the request must name it too.")
@_OUT
@_FORMAT
def score(request_file: Path, weights: Path | None, public: Path | None, model: str, out: Path, output: str) -> None:
    """Write the encrypted answer; exit 2 when the request cannot be answered."""
    with in_words(weights or request_file):
        from modelward.encrypted import envelope  # noqa: PLC0415
        from modelward.encrypted.model import read  # noqa: PLC0415
        from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415
        from modelward.encrypted.serve import Server  # noqa: PLC0415

        exported = read(_bounded(weights)) if weights else None
    with in_words(request_file):
        request, keys = envelope.unbundled(_bounded(request_file))
        keys = _bounded(public) if public else keys
        header = envelope.opened(request, envelope.Request)[0]
        if header.statistic is None and exported is None:
            raise EncryptedError("the request asks for scores: give --weights, the model's")
        if not keys:
            raise EncryptedError("the request has no keys with it: give --keys public/keys.bin")
        server = Server(exported, model, header.parameters, statistics=True)
        server.check()
        answer = server.answer(request, server.guest(keys))
    with in_words(out):
        out.write_bytes(answer)
    told = envelope.opened(answer, envelope.Answer)[0]
    if output == "json":
        by = {"statistic": told.statistic} if told.statistic else {"weights": told.weights}
        click.echo(to_json({"answer": str(out), **by, "bytes": len(answer)}), nl=False)
        return
    how = f"the {told.statistic} of each column" if told.statistic else f"scored by the weights sha256:{told.weights}"
    click.echo(f"{out}: {how}, {len(answer):,} bytes")


@command.command(
    "decrypt",
    help="Read an answer (of `he score`, or a sidecar's): a score a line, several outputs separated by commas; of a"
    " statistic a column a line, its name and the number.",
)
@click.argument("answer_file", metavar="ANSWER", type=click.Path(path_type=Path))
@_KEYS
@_FORMAT
def decrypt(answer_file: Path, keys: Path, output: str) -> None:
    """Print the scores; exit 2 when the answer is not one to a request under these keys."""
    with in_words(keys):
        from modelward.encrypted.client import Client, ClientKeys, v2_answer  # noqa: PLC0415

        client = Client(ClientKeys.read(keys))
    with in_words(answer_file):
        scores, header = client.decrypt(v2_answer(_bounded(answer_file)))
    if output == "json":
        facts = {
            "model": header.model,
            "request": f"sha256:{header.request}",
            "error": header.error + header.link_error,
        }
        if header.statistic:
            values = dict(zip(header.columns, _exact(scores[0], header), strict=True))
            facts |= {"statistic": header.statistic, "rows": header.rows, "columns": values}
        else:
            facts |= {"weights": f"sha256:{header.weights}", "scores": scores.tolist()}
        click.echo(to_json(facts), nl=False)
        return
    if header.statistic:
        for name, value in zip(header.columns, _exact(scores[0], header), strict=True):
            click.echo(f"{name},{value!r}")
        return
    for row in scores.tolist():
        click.echo(",".join(map(repr, row)))


def _exact(values: Any, header: Answer) -> list[float] | list[int]:
    """Numbers of columns; whole ones without a point where they are exact."""
    whole = header.parameters.scheme == "BFV" and header.statistic != "mean"
    return [int(value) for value in values] if whole else [float(value) for value in values]


def _bounded(path: Path) -> bytes:
    from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415

    with path.open("rb") as file:
        content = file.read(_MAX_INPUT + 1)
    if len(content) > _MAX_INPUT:
        raise EncryptedError(f"more than {_MAX_INPUT:,} bytes")
    return content


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; none where nobody watches."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)
