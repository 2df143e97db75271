"""What a field adds to how identifying rows are: the share that would be rare if it were left out.

For each combination that is known, the hashes of what is left of it without each field. Told while every combination is
kept: in a sample, what is left of two combinations seldom meets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelward.reidentification.figures import size_of
from modelward.reidentification.sample import MAX_KEPT, Kept, Sample

MAX_FIELDS: Final = 16
"""So many are told apart, for so many hashes are kept of each combination."""


class LeftOut:
    """Memory: some 40 bytes a field, for each of at most 4,096 combinations."""

    def __init__(self) -> None:
        self._hashes: dict[int, Sequence[int]] = {}

    def lacks(self, combination: int) -> bool:
        """Whether nothing is known of this combination."""
        return combination not in self._hashes

    def note(self, combination: int, without: Sequence[int]) -> None:
        """Keep the hashes of a combination without each of its fields."""
        if len(self._hashes) < 2 * MAX_KEPT:
            self._hashes[combination] = without

    def shares(self, sample: Sample, k: int, *, people: bool) -> tuple[float, ...]:
        """Return, for each field, the share of rows that would be below `k` without it; nothing: it is not known."""
        self._hashes = {each: without for each, without in self._hashes.items() if each in sample.kept}
        if sample.level or not sample.kept or len(self._hashes) < len(sample.kept):
            return ()
        found = []
        for index in range(len(next(iter(self._hashes.values())))):
            classes: dict[int, Kept] = {}
            for combination, kept in sample.kept.items():
                left = self._hashes[combination][index]
                there = classes.get(left)
                classes[left] = kept if there is None else Kept(there.rows + kept.rows, there.people | kept.people)
            few = sum(one.rows for one in classes.values() if size_of(one, people=people) < k)
            found.append(few / sample.rows)
        return tuple(found)
