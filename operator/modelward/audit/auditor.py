"""The auditor's side: a key, and what it opens: rounded, noised, and no oftener than its ledger allows.

Nothing exact leaves here. Who may ask for decryptions of sums that others make can learn counts of single rows by
differences, and, where a decryption may fail or be off by the ciphertext's own noise, the secret key itself (Li,
Micciancio: On the Security of Homomorphic Encryption on Approximate Numbers, 2021, for CKKS; Cheon and others: Attacks
Against the IND-CPA-D Security of Exact FHE Schemes, 2024, and Checri and others: On the practical CPA-D security of
"exact" and threshold FHE schemes, 2024, for BFV). So an aggregate must be signed by the controller, its noise must be
that of fresh ciphertexts, and of one that is no sum of counters a single bit is told, which the budget bounds as well.
"""

import hashlib
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from modelward.audit import ledger as ledgers
from modelward.audit.aggregate import public_key
from modelward.audit.layout import Layout, LayoutError, compared, read_layout
from modelward.audit.ledger import Ledger
from modelward.audit.noise import KEY_BYTES, Stream, bound, rounded, two_sided_geometric
from modelward.audit.parameters import LEAST_NOISE_BUDGET, LEVEL, MAX_ROWS, PARAMETERS
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys, check_private
from modelward.encrypted.context import Decryptor
from modelward.encrypted.envelope import Aggregate
from modelward.encrypted.parameters import EncryptedError
from modelward.fairness.counts import AttributeCounts, GroupCounts

_NOISE_KEY: Final = "secret/noise.key"
_COMPARED: Final = 4  # counts, of two groups
_NO_SUM: Final = "it is no sum of what sidecars count: a sidecar has put something else in"
DEFAULT_EPSILON: Final = "1.0"
DEFAULT_BASE: Final = 5
DEFAULT_RELEASES: Final = 100


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell and its count as it may be told; None: fewer than `minimum`."""

    block: str
    cell: str
    count: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What an aggregate tells.

    Attributes:
        header: whose it is and what it covers.
        cells: all of them, in the layout's order.
        uncounted: fields that were asked for and whose values are not known beforehand.
        scale: the noise of a cell: a standard deviation, before rounding.
        base: counts are rounded to its multiples.
        epsilon: of the whole release, for one row.
        left: releases that the key has left.
        attributes: of each protected field the groups and how they were answered, as near as counts are told: those
            left out of `cells` for being small are in a group's sum all the same.
        unknown: rows whose group or outcome is not known, by any of these fields.
        share: epsilon of one cell.
        compared: names the groups that are compared and what counts as favourable, as `layout.compared` does.
        controller: the key (hex) that it is signed by.
    """

    header: Aggregate
    cells: tuple[Cell, ...]
    uncounted: tuple[str, ...]
    scale: float
    base: int
    epsilon: str
    left: int
    attributes: tuple[AttributeCounts, ...]
    unknown: int
    share: Fraction
    compared: str = ""
    controller: str = ""

    def off(self, doubt: float) -> int:
        """By how much the counts of two groups may all be off, but with a probability of `doubt`."""
        return bound(self.share, doubt / _COMPARED, self.base)


def generate(
    directory: Path,
    controller: str,
    *,
    epsilon: str = DEFAULT_EPSILON,
    base: int = DEFAULT_BASE,
    releases: int = DEFAULT_RELEASES,
) -> ClientKeys:
    """Make an auditor's keys in a folder; `controller` (hex) is the key by which aggregates will be signed.

    Raises:
        EncryptedError: there are keys already, or Pyfhel is missing.
        OSError: it cannot be written.
    """
    keys = ClientKeys.generate(PARAMETERS)
    keys.write(directory)
    path = directory / _NOISE_KEY
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
    ledgers.create(directory, Ledger(releases, epsilon, base, controller))
    return keys


def opened(directory: Path, content: bytes) -> Opened:
    """Open an aggregate with the keys in a folder, and write down that it was.

    Raises:
        EncryptedError: it is not for this key or not the controller's, it is damaged, or may not be opened (any more).
        OSError: a file of the keys is missing, or cannot be written.
    """
    header, parts = envelope.opened(content, Aggregate)
    rules = ledgers.read(directory)
    digest = envelope.check_signature(content, rules.controller)
    keys = ClientKeys.read(directory)
    if header.keys != envelope.digest(keys.public):
        raise EncryptedError(f"it is encrypted to other keys, sha256:{header.keys}")
    if len(parts) != 2:
        raise EncryptedError("an aggregate has two parts: layout and ciphertext")
    try:
        layout = read_layout(parts[0])
    except LayoutError as error:
        raise EncryptedError(str(error)) from error
    if hashlib.sha256(parts[0]).hexdigest() != header.layout:  # of its bytes: it may be of an earlier version
        raise EncryptedError("its layout is another than it names")
    noise = _noise_key(directory / _NOISE_KEY)
    decryptor = Decryptor(PARAMETERS, keys.secret, public_key(keys.public))
    rules = ledgers.spend(directory, digest, header)
    counts = _decrypted(decryptor, parts[1], layout, header.windows)
    share = Fraction(rules.epsilon) / len(layout.blocks)
    stream = Stream(noise, bytes.fromhex(digest))
    names = [(block.name, cell) for block in layout.blocks for cell in block.cells]
    told = [rounded(count + two_sided_geometric(stream, share), rules.base) for count in counts]
    cells = tuple(
        Cell(block, cell, count if count >= header.minimum else None)
        for (block, cell), count in zip(names, told, strict=True)
    )
    attributes, unknown = _compared(layout, told)
    return Opened(
        header,
        cells,
        layout.uncounted,
        _deviation(share),
        rules.base,
        rules.epsilon,
        rules.left,
        attributes,
        unknown,
        share,
        compared(layout.blocks),
        rules.controller,
    )


def _compared(layout: Layout, told: Sequence[int]) -> tuple[tuple[AttributeCounts, ...], int]:
    """Protected fields with the counts of their groups, of what is told alone; and the rows that no group has."""
    start, unknown = 0, 0
    answered: dict[str, dict[str, tuple[int, int]]] = {}
    true: dict[str, dict[str, tuple[int, int, int, int]]] = {}
    for block in layout.blocks:
        counts = told[start : start + len(block.cells)]
        start += len(block.cells)
        if block.truth:
            fours = zip(counts[:-1:4], counts[1::4], counts[2::4], counts[3::4], strict=True)
            true[block.field] = dict(zip(block.groups, fours, strict=True))
        elif block.outcome:
            answered[block.field] = dict(zip(block.groups, zip(counts[:-1:2], counts[1::2], strict=True), strict=True))
            unknown = max(unknown, counts[-1])
    attributes = []
    for field, groups in answered.items():
        found = []
        for name, (selected, other) in groups.items():
            right, wrong, missed, rejected = true.get(field, {}).get(name, (0, 0, 0, 0))
            found.append(GroupCounts(name, selected + other, selected, right + missed, right, wrong + rejected, wrong))
        attributes.append(AttributeCounts(field, tuple(found)))
    return tuple(attributes), unknown


def _noise_key(path: Path) -> bytes:
    """The key of the noise, which whoever has it can take off again.

    Raises:
        EncryptedError: others can read it, or it is none.
        OSError: it is missing.
    """
    check_private(path)
    with path.open("rb") as file:
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise EncryptedError(f"{path} is no key of {KEY_BYTES} bytes: restore it, for no other gives the same noise")
    return key


def _decrypted(decryptor: Decryptor, ciphertext: bytes, layout: Layout, windows: int) -> list[int]:
    """The counts.

    Raises:
        EncryptedError: it is no sum of so many windows. Which test it failed is not told: that would be an answer.
    """
    try:
        budget = decryptor.noise_budget(ciphertext, LEVEL)
        counts: list[int] = decryptor.decrypt_integers(ciphertext, LEVEL).tolist()
    except EncryptedError as error:
        raise EncryptedError(_NO_SUM) from error
    used, start = layout.size, 0
    sums: dict[bool, set[int]] = {}
    for block in layout.blocks:
        sums.setdefault(block.truth, set()).add(sum(counts[start : start + len(block.cells)]))
        start += len(block.cells)
    sound = (
        budget >= LEAST_NOISE_BUDGET
        and all(len(alike) == 1 for alike in sums.values())
        and all(0 <= count <= windows * MAX_ROWS for count in counts[:used])
        and not any(counts[used:])
    )
    if not sound:
        raise EncryptedError(_NO_SUM)
    return counts[:used]


def _deviation(epsilon: Fraction) -> float:
    """The standard deviation of two-sided geometric noise: sqrt(2 a) / (1 - a), with a = exp(-epsilon)."""
    ratio = math.exp(-float(epsilon))
    return math.sqrt(2 * ratio) / (1 - ratio)
