"""Evasion: an input that was moved over a border of the model's, and lies close to it or far from its own kind.

Three signs, each from rows like the one that came:

- feature squeezing (Xu, Evans and Qi, 2018): the row with its values rounded to a few levels and, for an image,
  smoothed by a median. What a small change has brought about goes with it, and the answer goes back;
- the neighbourhood (Cao and Gong, 2017): rows at random around it. An ordinary row's neighbours are answered as it is;
- its own kind (Papernot and McDaniel, 2018, who look inside the model, as nobody outside can): the nearest ordinary
  rows, whose answers are known and cost no call.

The random rows are drawn anew for each request, so what passed once need not pass again.
"""

from copy import copy
from itertools import product
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from modelward.detect.answers import Answers, Form
from modelward.detect.encoding import Array
from modelward.detect.probing import MAX_EXTRA, ProbeError
from modelward.detect.surroundings import Surroundings

DEFAULT_EXTRA: Final = 8
LEVELS: Final = 8  # of a column
IMAGE_LEVELS: Final = 2  # of a pixel
RADIUS: Final = 0.1  # of a column's spread, of all pixels' for an image
NEIGHBOURS: Final = 8
_WINDOW = 2  # pixels
_CHUNK = 256  # rows whose distances to the reference rows are held at once
_SAME = 1e-9  # of the squares: a row that is a reference row itself


class Evasion:
    """Probes for one model: `extra` rows of what `around` says its rows may look like, for each row.

    Raises:
        ProbeError: too few rows to look at, or too many.
    """

    def __init__(self, around: Surroundings, extra: int = DEFAULT_EXTRA) -> None:
        self.around = around
        self.extra = extra
        self._squeezers = (self._rounded,) if around.image is None else (self._rounded, self._smoothed)
        least = len(self._squeezers) + 1
        if not least <= extra <= MAX_EXTRA:
            raise ProbeError(f"evasion is looked for with {least} to {MAX_EXTRA} rows more for each row, not {extra}")
        self._levels = np.quantile(around.sample, (np.arange(LEVELS) + 0.5) / LEVELS, axis=0)  # (LEVELS, d)
        self._span = np.maximum(around.upper - around.lower, np.finfo(np.float64).tiny)
        self._scale = np.where(around.spread > 0, around.spread, 1.0)
        self._reference: Array | None = None  # ordinary rows (r, d) in their spreads, once the model was asked,
        self._known: Answers | None = None  # and its answers

    @property
    def name(self) -> str:
        """The detector's type."""
        return "Evasion"

    @property
    def measured(self) -> tuple[str, ...]:
        """What each measure says when it is high, in words."""
        smoothed = ("the answer changes when the image is smoothed",) if self.around.image else ()
        return (
            "the answer changes when the values are rounded",
            *smoothed,
            "the answers to rows close by are different",
            "the ordinary rows nearest to it are answered differently",
        )

    @property
    def groups(self) -> tuple[int, ...]:
        """The rows that were asked, and those that were not."""
        return (len(self._squeezers) + 1, 1)

    def taught(self, rows: Array, given: Answers, probed: Answers) -> Self:  # noqa: ARG002 - those of rows are enough
        """The same, knowing the model's answers `given` (n) to the ordinary `rows` (n, d)."""
        taught = copy(self)
        taught._reference, taught._known = self._placed(rows), given  # noqa: SLF001 - its own
        return taught

    def probes(self, rows: Array, rng: "np.random.Generator") -> Array:
        """Rows (n * extra, d): each of `rows` squeezed in each way, and then random ones around it."""
        count, width = rows.shape
        within = self.around.fitted(rows, rows)
        probes = np.empty((count, self.extra, width))
        for index, squeeze in enumerate(self._squeezers):
            probes[:, index] = squeeze(within)
        size = (count, self.extra - len(self._squeezers), width)
        moves = rng.normal(size=size) * (RADIUS * self.around.spread)
        probes[:, len(self._squeezers) :] = within[:, np.newaxis] + moves
        return self.around.fitted(probes.reshape(-1, width), np.repeat(rows, self.extra, axis=0))

    def measures(self, rows: Array, given: Answers, probed: Answers) -> Array:
        """How far each answer is from those to the squeezed rows, the random ones, and the nearest ordinary ones.

        Args:
            rows: (n, d).
            given: the answers to them (n).
            probed: those to `probes(rows)` (n * extra).

        Returns:
            (n, measures), each from 0 to `highest`.
        """
        squeezed = len(self._squeezers)
        distances = given.distances(probed)
        return np.column_stack(
            [distances[:, :squeezed], distances[:, squeezed:].mean(axis=1), self._from_its_kind(rows, given)]
        )

    def highest(self, form: Form) -> float:
        """The farthest that two answers can be from one another."""
        return form.farthest

    def _rounded(self, rows: Array) -> Array:
        """Each value brought to the nearest of a few: of an image's, evenly spaced, of a column's, its quantiles."""
        around = self.around
        if around.image is not None:
            level = np.rint((rows - around.lower) / self._span * (IMAGE_LEVELS - 1))
            images: Array = around.lower + level / (IMAGE_LEVELS - 1) * self._span
            return images
        nearest = np.abs(rows[:, np.newaxis] - self._levels).argmin(axis=1)  # (n, d)
        columns: Array = np.take_along_axis(self._levels, nearest, axis=0)
        return columns

    def _smoothed(self, rows: Array) -> Array:
        """Each pixel the median of the window of which it is the first; the border is repeated."""
        assert self.around.image is not None  # noqa: S101 - images alone are smoothed
        height, width, channels = self.around.image
        images = rows.reshape(-1, height, width, channels)
        padded = np.pad(images, ((0, 0), (0, _WINDOW - 1), (0, _WINDOW - 1), (0, 0)), mode="edge")
        windows = [padded[:, y : y + height, x : x + width] for y, x in product(range(_WINDOW), repeat=2)]
        smooth: Array = np.median(windows, axis=0)
        return smooth.reshape(rows.shape)

    def _from_its_kind(self, rows: Array, given: Answers) -> Array:
        """How far each answer is from the nearest ordinary rows' answers, on average; (n,)."""
        if self._known is None:
            raise ProbeError("the model's answers to ordinary rows are not known yet")
        near = np.concatenate([self._nearest(rows[at : at + _CHUNK]) for at in range(0, len(rows), _CHUNK)])
        distances: Array = given.distances(self._known.at(near.reshape(-1))).mean(axis=1)
        return distances

    def _nearest(self, rows: Array) -> npt.NDArray[np.intp]:
        """The positions of the ordinary rows nearest to each of `rows`, itself left out; (n, NEIGHBOURS)."""
        assert self._reference is not None  # noqa: S101 - known with their answers
        places = self._placed(rows)
        own, theirs = (places**2).sum(axis=1)[:, np.newaxis], (self._reference**2).sum(axis=1)
        squares = own + theirs - 2 * (places @ self._reference.T)
        squares[squares <= _SAME * (own + theirs)] = np.inf
        return np.argsort(squares, axis=1, kind="stable")[:, :NEIGHBOURS]

    def _placed(self, rows: Array) -> Array:
        """Where `rows` lie, in spreads from the sample's lower bound."""
        within = np.minimum(np.maximum(rows, self.around.lower), self.around.upper)
        places: Array = (within - self.around.lower) / self._scale
        return places
