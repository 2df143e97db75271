"""The cheapest full-domain generalisation that makes a table k-anonymous: each column as a whole to one of its levels.

The levels of all columns span a lattice. Going up in it merges classes and never splits one, so that a node which is
k-anonymous settles all nodes above it, and one which is not all below. The search climbs from the cheapest open node
to the top and halves that path, as Flash does (Kohlmayer et al., 2012), and leaves out what cannot be cheaper than the
best found, so that its answer is the cheapest of all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from modelward.privacy.anonymity import Array, Codes, classes

MAX_NODES: Final = 1_000_000
MAX_TRIED: Final = 3000
_MAX_WORK = 300_000_000  # classes to be merged, in all tries together: a minute or two
_MIN_TRIED = 100
_CLIMB = 1e-9  # of loss, for each level: of nodes that lose as much, the lower one is taken

Node = tuple[int, ...]


class LatticeError(ValueError):
    """Levels that cannot be searched; the message says why, and what would mend it."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """How a column can be generalised: `levels[i]` (v,) the group of each of its v values; level 0, each its own."""

    levels: tuple[Codes, ...]

    def losses(self, counts: Codes) -> Array:
        """What each level costs, from 0 to 1: of the column's other values, how many a row can no longer be told from.

        The mean over rows, `counts` (v,) having each value (Iyengar's loss metric, 2002).
        """
        present = counts > 0
        others = max(int(present.sum()) - 1, 1)
        lost = []
        for groups in self.levels:
            together = np.bincount(groups, weights=present)[groups] - 1
            lost.append(float((together * counts).sum() / (others * max(counts.sum(), 1))))
        return np.array(lost)


@dataclass(frozen=True, slots=True)
class Generalisation:
    """A node of the lattice.

    Attributes:
        levels: of each column.
        loss: from 0, nothing is lost, to 1: the mean over columns.
        k: the size of its smallest class among the rows that stay; `classes`: how many there are.
        suppressed: rows of smaller classes, which have to be taken out.
        tried: how many nodes were; `cheapest`: none is cheaper, since the search was not cut short.
    """

    levels: Node
    loss: float
    k: int
    classes: int
    suppressed: int
    tried: int
    cheapest: bool


def ladder(levels: Sequence[Codes], count: int) -> Ladder:
    """A ladder of these levels (v,) above a column's `count` values themselves, with one group of all on top.

    Raises:
        LatticeError: a level splits what the one below it has in one group.
    """
    found = [np.arange(count, dtype=np.int64)]
    for number, level in enumerate(levels, 1):
        below = found[-1]
        pairs = np.unique(np.stack([below, level], axis=1), axis=0)
        if len(pairs) != len(np.unique(below)):
            raise LatticeError(f"level {number} splits a group of level {number - 1}: a level may only merge groups")
        found.append(level)
    if len(np.unique(found[-1])) > 1:
        found.append(np.zeros(count, dtype=np.int64))
    return Ladder(tuple(found))


def cheapest(columns: Sequence[Codes], ladders: Sequence[Ladder], k: int, *, spare: int = 0) -> Generalisation | None:
    """The generalisation of these columns (n,) with least loss in which all rows but `spare` are in classes of `k`.

    None where there is none: fewer than `k` rows.

    Raises:
        LatticeError: the lattice is too large.
    """
    count = len(columns[0])
    shape = tuple(len(each.levels) for each in ladders)
    if np.prod(shape, dtype=np.float64) > MAX_NODES:
        raise LatticeError(f"more than {MAX_NODES:,} ways to combine levels: declare fewer columns or levels")
    search = _Search(columns, ladders, count, k, spare)
    top = tuple(length - 1 for length in shape)
    if not search.passes(top):
        return None
    while search.open.any() and search.tried < search.budget:
        path = search.path()
        low, high = 0, len(path) - 1
        while low <= high:
            middle = (low + high) // 2
            if search.passes(path[middle]):
                high = middle - 1
            else:
                low = middle + 1
    return search.result()


class _Search:
    """`open`: nodes that are not settled, and cheaper than the best found."""

    def __init__(self, columns: Sequence[Codes], ladders: Sequence[Ladder], count: int, k: int, spare: int) -> None:
        whole = classes(columns, count)
        _, first = np.unique(whole.of, return_index=True)
        self._values = [column[first] for column in columns]  # of each class there is: rows that are the same once
        self._weights = whole.sizes
        self._ladders = ladders
        self._k, self._spare = k, spare
        self._losses: list[Array] = []
        self.loss: Array = np.zeros(())  # of each node
        for column, each in zip(columns, ladders, strict=True):
            losses = each.losses(np.bincount(column, minlength=len(each.levels[0])).astype(np.int64))
            self._losses.append(losses)
            self.loss = self.loss[..., np.newaxis] + losses / len(ladders) + _CLIMB * np.arange(len(losses))
        self.open: npt.NDArray[np.bool_] = np.ones(self.loss.shape, dtype=bool)
        self.tried = 0
        self.budget = min(MAX_TRIED, max(_MIN_TRIED, _MAX_WORK // len(self._weights)))
        self._best: Node | None = None

    def path(self) -> list[Node]:
        """From the cheapest open node upwards, the cheapest open step each time."""
        lowest = np.where(self.open, self.loss, np.inf).argmin()
        node = tuple(int(level) for level in np.unravel_index(lowest, self.open.shape))
        found = [node]
        while True:
            above = [(*node[:at], node[at] + 1, *node[at + 1 :]) for at in range(len(node))]
            above = [one for one in above if all(map(int.__lt__, one, self.open.shape)) and self.open[one]]
            if not above:
                return found
            node = min(above, key=lambda one: float(self.loss[one]))
            found.append(node)

    def passes(self, node: Node) -> bool:
        """Try a node, and close what that settles."""
        self.tried += 1
        sizes = self._sizes(node)
        good = int(sizes[sizes < self._k].sum()) <= self._spare and bool((sizes >= self._k).any())
        if not good:
            self.open[tuple(slice(0, level + 1) for level in node)] = False
            return False
        self.open[tuple(slice(level, None) for level in node)] = False
        if self._best is None or self.loss[node] < self.loss[self._best]:
            self._best = node
            self.open &= self.loss < self.loss[node]
        return True

    def result(self) -> Generalisation | None:
        """The best found."""
        if self._best is None:
            return None
        sizes = self._sizes(self._best)
        kept = sizes[sizes >= self._k]
        return Generalisation(
            self._best,
            float(np.mean([losses[level] for losses, level in zip(self._losses, self._best, strict=True)])),
            int(kept.min()),
            len(kept),
            int(sizes.sum() - kept.sum()),
            self.tried,
            not self.open.any(),
        )

    def _sizes(self, node: Node) -> Codes:
        groups = [
            each.levels[level][values] for each, level, values in zip(self._ladders, node, self._values, strict=True)
        ]
        found = classes(groups, len(self._weights))
        return np.bincount(found.of, weights=self._weights).astype(np.int64)
