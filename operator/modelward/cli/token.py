"""`modelward token`: the key of who may undo reversible tokens, and undoing them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable
from pathlib import Path

import click

KEY_FILE, PUBLIC_FILE = "token.key", "token.pub"


@click.group("token", help="Make the key that tokens are sealed to, and undo tokens with it.")
def command() -> None:
    """Group of the verbs of a key holder; nothing here needs a cluster."""


@command.command("keygen", help="Make a key pair: token.key for the key holder alone, token.pub for policies.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write it to.")
def keygen(out: Path) -> None:
    """Write a pair, and print what belongs into a policy; exit 2 rather than overwrite a key."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415

    key = X25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = out / KEY_FILE
        file.touch(mode=0o600, exist_ok=False)  # without it, what was sealed to it is lost: never overwritten
        file.write_bytes(pem)
        (out / PUBLIC_FILE).write_text(public + "\n", encoding="ascii")
    except OSError as error:
        click.echo(f"modelward: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    click.echo(f"tokenRecipient: {public}")
    click.echo(f"{file} undoes every token sealed to it: keep it out of the cluster.", err=True)


@command.command("undo", help="Print what tokens were made of: those given, or one a line on standard input.")
@click.argument("tokens", nargs=-1)
@click.option("--key", type=click.Path(path_type=Path), required=True, help="The key holder's token.key.")
@click.option("--namespace", required=True, help="Namespace of the model that the tokens come from.")
@click.option("--field", required=True, help="Field that the tokens stand for.")
def undo(tokens: tuple[str, ...], key: Path, namespace: str, field: str) -> None:
    """Print a value a line; exit 2 at the first token that cannot be undone, with its number."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415

    from modelward.privacy.tokens import Opener, TokenError  # noqa: PLC0415

    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except OSError as error:
        click.echo(f"modelward: {key}: {error.strerror}", err=True)
        sys.exit(2)
    except (ValueError, TypeError):
        private = None
    if not isinstance(private, X25519PrivateKey):
        click.echo(f"modelward: {key}: not a key that `modelward token keygen` wrote", err=True)
        sys.exit(2)
    opener = Opener(private)
    for number, token in enumerate(tokens or _lines(sys.stdin), 1):
        try:
            click.echo(opener(token, namespace, field))
        except TokenError as error:
            click.echo(f"modelward: token {number}: {error}", err=True)
            sys.exit(2)


def _lines(stream: Iterable[str]) -> Iterable[str]:
    return (line.strip() for line in stream if line.strip())
