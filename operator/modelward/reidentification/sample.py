"""How many rows, and how many people, share each combination: a sample of bounded size, which merges exactly.

A combination is a keyed hash of 64 bits. Those below 2^(64 - level) are kept, each with the exact number of its rows.
Where they become too many the level rises, and about half of them go. Which are kept depends on the hash alone, so they
are a uniform sample of the distinct combinations however often each comes (Gibbons, «Distinct sampling», VLDB 2001):
at level 0 it is all of them, above it figures are estimates. Samples of several streams merge into the very sample of
all the streams together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

MAX_KEPT: Final = 2048
HASH_BITS: Final = 64
PEOPLE_BITS: Final = 64
MOST_PEOPLE: Final = 128
"""So many people of a combination can be told apart; a greater k is judged by rows."""
_MISTAKEN: Final = 0.05
_MOST_ROWS: Final = (1 << 32) - 1  # of a combination, when it is told


class Kept(NamedTuple):
    """A combination: its rows, and the bits that its people have set."""

    rows: int
    people: int


class Packed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sample as it is stored and told. `hashes` (8 bytes each), `counts` (4) and `people` (8) are little-endian.

    `rows` are all that were counted, in the sample or not.
    """

    level: Annotated[int, Meta(ge=0, le=HASH_BITS)]
    rows: Annotated[int, Meta(ge=0, le=1 << 53)]
    hashes: Annotated[bytes, Meta(max_length=8 * MAX_KEPT)] = b""
    counts: Annotated[bytes, Meta(max_length=4 * MAX_KEPT)] = b""
    people: Annotated[bytes, Meta(max_length=8 * MAX_KEPT)] = b""


class Sample:
    """The sample. Memory: some 250 bytes for each of at most `MAX_KEPT` combinations.

    Attributes:
        level: combinations are kept with the probability 2^-level.
        rows: all that were counted.
        kept: by hash.
    """

    __slots__ = ("_end", "kept", "level", "rows")

    def __init__(self) -> None:
        self.level = 0
        self.rows = 0
        self.kept: dict[int, Kept] = {}
        self._end = 1 << HASH_BITS

    def add(self, combination: int, people: int, rows: int = 1) -> None:
        """Count rows of a combination (its hash); `people`: the bits of whom they are of."""
        self.rows += rows
        self._keep(combination, rows, people)

    def merge(self, other: Sample) -> None:
        """Count what another sample has counted."""
        self._rise(other.level)
        self.rows += other.rows
        for combination, kept in other.kept.items():
            self._keep(combination, kept.rows, kept.people)

    def pack(self) -> Packed:
        """Return it as it is told."""
        found = sorted(self.kept.items())
        count = len(found)
        return Packed(
            self.level,
            min(self.rows, 1 << 53),
            struct.pack(f"<{count}Q", *(combination for combination, _ in found)),
            struct.pack(f"<{count}I", *(min(kept.rows, _MOST_ROWS) for _, kept in found)),
            struct.pack(f"<{count}Q", *(kept.people for _, kept in found)),
        )

    @classmethod
    def unpack(cls, packed: Packed) -> Sample:
        """Return the sample that was packed.

        Raises:
            ValueError: it is none.
        """
        count = len(packed.hashes) // 8
        if len(packed.hashes) != 8 * count or len(packed.counts) != 4 * count or len(packed.people) != 8 * count:
            raise ValueError("its parts are not of one length")
        sample = cls()
        sample._rise(packed.level)
        parts = (struct.unpack(f"<{count}{kind}", part) for kind, part in _parts(packed))
        for combination, rows, people in zip(*parts, strict=True):
            sample._keep(combination, rows, people)
        sample.rows = max(packed.rows, sum(kept.rows for kept in sample.kept.values()))
        return sample

    def _keep(self, combination: int, rows: int, people: int) -> None:
        if combination >= self._end:
            return
        found = self.kept.get(combination)
        if found is not None:
            self.kept[combination] = Kept(found.rows + rows, found.people | people)
            return
        self.kept[combination] = Kept(rows, people)
        while len(self.kept) > MAX_KEPT:
            self._rise(self.level + 1)

    def _rise(self, level: int) -> None:
        if level > self.level:
            self.level, self._end = level, 1 << (HASH_BITS - level)
            self.kept = {combination: kept for combination, kept in self.kept.items() if combination < self._end}


def bit_of(person: int) -> int:
    """Return the bit that a person (their hash) sets in each combination that they have."""
    return 1 << (person % PEOPLE_BITS)


def people_of(bits: int) -> int:
    """Return how many people at least have set these bits: more than there are once in twenty times at the most.

    Linear counting (Whang et al., 1990) says how many there are on average, and of ten that set ten bits says twelve.
    For who counts up to k that is the wrong side, so this is the least number of which so many bits come from more than
    one combination in twenty: up to 19 it is the bits themselves, which are never more than the people.
    """
    return _least_people()[bits.bit_count()]


@cache
def _least_people() -> tuple[int, ...]:
    """For each number of bits, the least number of people who set so many or more with a chance above `_MISTAKEN`."""
    least, people = [0], 0
    chances = [1.0] + [0.0] * PEOPLE_BITS  # of so many bits
    while len(least) <= PEOPLE_BITS:
        people += 1
        chances = [0.0] + [
            (chances[bits] * bits + chances[bits - 1] * (PEOPLE_BITS - bits + 1)) / PEOPLE_BITS
            for bits in range(1, PEOPLE_BITS + 1)
        ]
        while len(least) <= PEOPLE_BITS and sum(chances[len(least) :]) > _MISTAKEN:
            least.append(people)
    return tuple(least)


def _parts(packed: Packed) -> Iterator[tuple[str, bytes]]:
    yield "Q", packed.hashes
    yield "I", packed.counts
    yield "Q", packed.people
