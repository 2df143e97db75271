"""What a command says when it cannot go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from modelward.cli.kubectl import KubectlError


@contextmanager
def in_words(where: object) -> Iterator[None]:
    """Errors about `where` (a file or folder) in words, with exit code 2."""
    from modelward.detect.table import TableError  # noqa: PLC0415 - numpy is slow to import
    from modelward.encrypted.parameters import EncryptedError  # noqa: PLC0415

    try:
        yield
    except OSError as error:
        click.echo(f"modelward: {error.filename}: {error.strerror}", err=True)
    except KubectlError as error:
        click.echo(f"modelward: {error}", err=True)
    except (EncryptedError, TableError) as error:
        click.echo(f"modelward: {where}: {error}", err=True)
    else:
        return
    sys.exit(2)
