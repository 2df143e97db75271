"""`modelward pseudonym`: under which pseudonyms somebody is in the records, for those who must find them."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("pseudonym", help="Print the pseudonyms of values: one value a line on standard input.")
@click.option(
    "--keys", type=click.Path(path_type=Path), required=True, help="pseudonym.keys of the Secret <model>-serving."
)
@click.option("--field", required=True, help="Field that the values belong to.")
def command(keys: Path, field: str) -> None:
    """Print, a line a value, its pseudonym under each version that is still read, the one in use first.

    Values are read from standard input, not from the command line, which every user of a machine may see.
    """
    from modelward.privacy.keys import KeyFileError, from_bytes  # noqa: PLC0415 - slow to import
    from modelward.privacy.pseudonym import pseudonyms  # noqa: PLC0415
    from modelward.privacy.sanitise import text  # noqa: PLC0415
    from modelward.privacy.values import TreatmentError  # noqa: PLC0415

    try:
        read = from_bytes(keys.read_bytes())
    except OSError as error:
        click.echo(f"modelward: {keys}: {error.strerror}", err=True)
        sys.exit(2)
    except KeyFileError as error:
        click.echo(f"modelward: {keys}: {error}", err=True)
        sys.exit(2)
    for number, line in enumerate(sys.stdin, 1):
        try:
            click.echo(" ".join(pseudonyms(read, field, text(line.rstrip("\r\n")))))
        except TreatmentError as error:
            click.echo(f"modelward: line {number} {error}", err=True)
            sys.exit(2)
