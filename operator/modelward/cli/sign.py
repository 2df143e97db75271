"""`modelward sign`: signed statements about models and data sets, which `require.lineage.signedBy` asks for."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelward.api.lineage import PREFIX, digest, problems, transformations
from modelward.lineage.reading import MAX_BYTES
from modelward.lineage.statement import MAX_FILES, Resource

if TYPE_CHECKING:
    from modelward.lineage.signing import PrivateKey

_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
"""Of a folder, what model-signing leaves out unless told otherwise."""
_MAX_STEPS_BYTES = 8 * 1024


class _SignError(Exception):
    """Why nothing is signed."""


@click.command("sign")
@click.argument("path", metavar="DATA", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--key", metavar="FILE", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Private key, PEM."
)
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The signed statement; a name that ends in .sigstore.json is read in the cluster.",
)
@click.option(
    "--from", "sources", metavar="ADDRESS@sha256:HEX", multiple=True, help="What it was made of; may be given again."
)
@click.option(
    "--transformations",
    "steps",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help='JSON list of {"what", "how", "why"}: what was done on the way.',
)
def command(path: Path, key: Path, out: Path, sources: tuple[str, ...], steps: Path | None) -> None:
    """Sign a statement about a model or a data set, a file or a folder.

    It tells what DATA consists of, as OpenSSF model-signing does (`model_signing verify key` reads it). With --from or
    --transformations it tells instead where DATA comes from. The digest that the annotation has to end in is printed.
    """
    path = path.resolve()  # `.` has a name as well
    try:
        files = list(_files(path, out))
        click.echo(f"{path.name}@sha256:{_sign(path, files, key, out, sources, steps)}")
    except _SignError as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"modelward: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)


def _sign(path: Path, files: list[Resource], key: Path, out: Path, sources: tuple[str, ...], steps: Path | None) -> str:
    from modelward.lineage import signing  # noqa: PLC0415 - cryptography, slow to import
    from modelward.lineage.trust import TrustError  # noqa: PLC0415

    statement = signing.files_statement(path.name, files, () if path.is_file() else _IGNORED)
    whole = files[0].sha256 if path.is_file() else statement["subject"][0]["digest"]["sha256"]
    if sources or steps:
        made_of = [_source(one) for one in sources] if sources else None
        statement = signing.lineage_statement(Resource(path.name, whole), made_of, _steps(steps) if steps else None)
    try:
        private = _private_key(key)
        bundle = signing.bundle(statement, private)
    except TrustError as error:
        raise _SignError(f"{key}: the key {error}") from error
    if len(bundle) > MAX_BYTES:
        raise _SignError(
            f"{path} has so many files that its statement would be {len(bundle):,} bytes, and {MAX_BYTES:,} are read:"
            " sign an archive of it, or with --from, which names no files"
        )
    out.write_text(bundle + "\n", encoding="utf-8")
    return str(whole)


def _private_key(file: Path) -> PrivateKey:
    from modelward.lineage.signing import read_private_key  # noqa: PLC0415

    content = file.read_bytes()
    try:
        password = None
        if b"ENCRYPTED" in content:
            password = click.prompt(f"Password of {file}", hide_input=True, err=True).encode()
        return read_private_key(content, password)
    except (ValueError, TypeError) as error:
        raise _SignError(f"{file}: not a private key in PEM that signs statements, or another password") from error


def _files(path: Path, out: Path) -> Iterator[Resource]:
    """The files that something consists of, as model-signing names them."""
    if path.is_file():
        yield Resource(".", _sha256(path))
        return
    if path.resolve() in out.resolve().parents:
        raise _SignError(f"{out} lies in {path}, which is signed whole: give --out another folder")
    count = 0
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if inner.parts[0] in _IGNORED or (file.is_dir() and not file.is_symlink()):
            continue
        if file.is_symlink() or not file.is_file():
            raise _SignError(f"{file} is not a plain file: a link may lead elsewhere tomorrow")
        count += 1
        if count > MAX_FILES:
            raise _SignError(f"{path} holds more than {MAX_FILES:,} files: sign an archive of it")
        yield Resource(inner.as_posix(), _sha256(file))
    if not count:
        raise _SignError(f"{path} holds no file")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _source(text: str) -> Resource:
    sha256 = digest({f"{PREFIX}dataset": text}, "dataset")
    if not sha256:
        raise _SignError(f"--from {text} does not end in @sha256: and 64 lower-case hex digits")
    return Resource(text.rpartition("@")[0], sha256)


def _steps(file: Path) -> list[dict[str, str]]:
    text = file.read_bytes()[: _MAX_STEPS_BYTES + 1].decode(errors="replace")
    annotation = {f"{PREFIX}transformations": text}
    wrong = problems(annotation)
    if wrong:
        raise _SignError(f"{file} {wrong[0].partition(' ')[2]}")
    return transformations(annotation) or []
