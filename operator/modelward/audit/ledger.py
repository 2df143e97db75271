"""The releases of one key: how many there may be, which there were. What was released cannot be made undone.

A file beside the secret key, changed under a lock and replaced as a whole. A release is written down before anything is
decrypted, so that trying again and again, with whatever outcome, spends the budget too.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from modelward.encrypted.envelope import Aggregate, Digest
from modelward.encrypted.parameters import EncryptedError

LEDGER_FILE: Final = "secret/releases.json"
_LOCK_FILE: Final = "secret/releases.lock"
_MAX_BYTES: Final = 16 << 20

Rate = Annotated[str, Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6})?$")]


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One aggregate that was opened: its digest, whose it is, and the time that it covers (seconds, epoch)."""

    aggregate: Digest
    model: str
    begun: int
    ended: int


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`limit`: releases in the key's life. `epsilon` of each release, for one row; counts are rounded to `base`.

    `controller`: the raw Ed25519 public key (hex) by which an aggregate must be signed.
    """

    limit: Annotated[int, Meta(ge=1, le=10_000)]
    epsilon: Rate
    base: Annotated[int, Meta(ge=1, le=1_000_000)]
    controller: Digest
    releases: Annotated[tuple[Release, ...], Meta(max_length=10_000)] = ()

    @property
    def left(self) -> int:
        """Releases that there may still be."""
        return self.limit - len(self.releases)

    def with_release(self, digest: str, header: Aggregate) -> "Ledger":
        """The ledger with this release in it: itself, where it was released before.

        Raises:
            EncryptedError: the budget is spent, or another aggregate of the same rows was released.
        """
        for one in self.releases:
            if one.aggregate == digest:
                return self
            if one.model == header.model and one.begun < header.ended and header.begun < one.ended:
                raise EncryptedError(
                    f"another aggregate of {header.model} that covers some of this time was opened already: the"
                    " difference of the two would tell of few rows"
                )
        if self.left <= 0:
            raise EncryptedError(
                f"all {self.limit} releases of this key are spent: make a new key (audit keygen) and name it in the"
                " policy"
            )
        new = Release(digest, header.model, header.begun, header.ended)
        return msgspec.structs.replace(self, releases=(*self.releases, new))


def create(directory: Path, ledger: Ledger) -> None:
    """Write a new key's ledger. Raises OSError."""
    _write(directory, ledger)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the ledger against other processes. Raises OSError."""
    descriptor = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read(directory: Path) -> Ledger:
    """The ledger.

    Raises:
        EncryptedError: it cannot be understood.
        OSError: it is not there. Without it nothing is opened.
    """
    path = directory / LEDGER_FILE
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    try:
        if len(content) > _MAX_BYTES:
            raise EncryptedError(f"{path} is too large to be a ledger")
        return msgspec.json.decode(content, type=Ledger)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EncryptedError(f"{path} cannot be read, and without it nothing is opened: {str(error)[:200]}") from error


def spend(directory: Path, digest: str, header: Aggregate) -> Ledger:
    """Write a release down; the ledger as it is then.

    Raises:
        EncryptedError: as `Ledger.with_release`.
        OSError: it cannot be written: then nothing may be decrypted.
    """
    with locked(directory):
        before = read(directory)
        after = before.with_release(digest, header)
        if after is not before:
            _write(directory, after)
    return after


def _write(directory: Path, ledger: Ledger) -> None:
    path = directory / LEDGER_FILE
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(ledger)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name too must outlive a crash
    finally:
        os.close(folder)
