"""Counts rows by group and by treated value, for an auditor: a number for each cell of the layout, and nothing else.

Which cells a row belongs to is told while its request goes through; it is counted once it was answered, and once more
when somebody tells what the answer should have been.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from modelward.audit.layout import OTHER, UNKNOWN, Layout, layout_of
from modelward.audit.parameters import MAX_ROWS
from modelward.audit.settings import Audit
from modelward.sidecar.places import Place, place_of
from modelward.sidecar.tensors import Tensor, TensorSpec

MAX_REQUEST_ROWS = 4096
"""Rows of a request that are looked at; those of a larger one are counted as what is not known."""


_TRUTHS = 4  # cells of a group: selected rightly, wrongly, not selected wrongly, rightly


class Rows:
    """Groups of a request's rows, for each block: an index a row; None: it cannot be told."""

    __slots__ = ("count", "groups")

    def __init__(self, count: int, blocks: int) -> None:
        self.count = count
        self.groups: list[Sequence[int] | None] = [None] * blocks


class _Block(NamedTuple):
    """A field: where it lies, its groups, the first of its cells, and the one for what is not known."""

    place: Place
    find: Callable[[Any], int]
    outcome: bool
    base: int
    unknown: int


class Tally:
    """The counters of one window.

    Raises:
        ConfigError: a field is not among the inputs.
    """

    def __init__(self, settings: Audit, declared: Mapping[str, TensorSpec]) -> None:
        self.layout: Layout = layout_of(settings.counted, settings.uncounted)
        self._blocks: list[_Block] = []
        self._truths: list[tuple[int, int]] = []  # of each protected field in order: its first cell, the unknown one
        base = 0
        for counted in settings.counted:
            if counted.truth:
                self._truths.append((base, base + len(counted.cells) - 1))
                base += len(counted.cells)
                continue
            place = place_of("the field to be counted", counted.field, declared)
            unknown = base + counted.cells.index(UNKNOWN if counted.outcome else OTHER)
            self._blocks.append(_Block(place, counted.finder(), counted.outcome, base, unknown))
            base += len(counted.cells)
        numbered = list(enumerate(self._blocks))
        self._looked_at = {when: [one for one in numbered if one[1].outcome is when] for when in (True, False)}
        self._counts = [0] * self.layout.size
        self.rows = 0
        self.learned = 0
        self.missed = 0

    def begin(self, tensors: Sequence[Tensor]) -> Rows:
        """Look at a request's rows before they are treated: which groups they are of."""
        rows = Rows(max((tensor.rows for tensor in tensors), default=0), len(self._blocks))
        self._look(rows, tensors, outcome=True)
        return rows

    def treated(self, rows: Rows, tensors: Sequence[Tensor]) -> None:
        """Look at them once more, as the model gets them."""
        self._look(rows, tensors, outcome=False)

    def _look(self, rows: Rows, tensors: Sequence[Tensor], *, outcome: bool) -> None:
        if rows.count > MAX_REQUEST_ROWS:
            return
        lists = {tensor.spec.name: tensor.data for tensor in tensors}
        for index, block in self._looked_at[outcome]:
            place, find = block.place, block.find
            data = lists.get(place.input, ())
            if len(data) != rows.count * place.width:
                continue
            if rows.count == 1:  # as callers mostly send
                rows.groups[index] = (find(data[place.offset]),)
            else:
                rows.groups[index] = [find(value) for value in data[place.offset :: place.width]]

    def count(self, rows: Rows, favourable: Sequence[bool] | None) -> None:
        """Count rows that were answered; `favourable` None: it is not known how."""
        if self.rows + rows.count > MAX_ROWS:  # as many as can be added exactly
            self.missed += rows.count
            return
        self.rows += rows.count
        counts = self._counts
        for block, groups in zip(self._blocks, rows.groups, strict=True):
            base = block.base
            if groups is None or (block.outcome and favourable is None):
                counts[block.unknown] += rows.count
            elif not block.outcome:
                for group in groups:
                    counts[base + group] += 1
            else:
                for group, selected in zip(groups, favourable or (), strict=True):
                    counts[base + 2 * group + (not selected)] += 1

    def learn(self, groups: Sequence[int | None], *, selected: bool, truth: bool) -> None:
        """Count what the answer to a row should have been.

        Args:
            groups: of the row by each protected field, in order; None: it was not told.
            selected: whether it was answered favourably.
            truth: whether it should have been.
        """
        if self.learned >= MAX_ROWS:
            self.missed += bool(self._truths)
            return
        self.learned += bool(self._truths)
        kind = (0 if truth else 1) if selected else (2 if truth else 3)
        for (base, unknown), group in zip(self._truths, groups, strict=False):
            self._counts[unknown if group is None else base + _TRUTHS * group + kind] += 1

    def taken(self) -> list[int]:
        """The counters, which begin anew."""
        counts, self._counts, self.rows, self.learned = self._counts, [0] * len(self._counts), 0, 0
        return counts
