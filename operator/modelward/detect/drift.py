"""Drift: are the rows of now still like those of the baseline?

The last `window` rows are compared with the baseline's summary each time another eighth of a window is in:

- per column of numbers, the greatest distance of the distribution functions (KS, two-sample) and the population
  stability index (PSI); per column of categories or of few values, chi-square of homogeneity;
- of all columns together, the maximum mean discrepancy (MMD; Gretton and others, 2012) of a Gaussian kernel whose
  width is the median distance, by random Fourier features (Rahimi and Recht, 2007).

What is controlled: for rows that are independent and like the baseline's, the expected number of false findings in any
`window` rows is at most `rate`. Half of it is the joint test's and half is shared by the columns' tests, each divided
by the looks at one window (Bonferroni; the thresholds thus stand fixed, and Holm would gain little where nearly all
columns keep). The baseline is a sample as well: the promise is on the average over baselines and windows, and one
baseline drawn badly is badly drawn for every window. Rows that depend on each other (one client that sends the same
again and again) are drift by this measure.

PSI is a finding above 0.1 alone, the custom's bound for a shift that matters, however surely it is there.
"""

from collections import deque
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modelward.detect.critical import chi_square_upper, kolmogorov_upper
from modelward.detect.encoding import Array
from modelward.detect.space import Features, Frame, numbers
from modelward.detect.summary import BINS, Summary

Counts = npt.NDArray[np.int64]
Test = Literal["KS", "PSI", "ChiSquare", "MMD"]

LOOKS = 8
MIN_WINDOW = 100
LEAST_PSI = 0.1
_FREQUENCIES = 64
_MARGIN = 1.1  # for what the approximation of the joint test's tail leaves out
_CHUNK = 128  # rows counted together: bounds how long one row waits
_LEAST_EXPECTED = 5.0  # rows in a bin, for chi-square to hold
_MAX_COMPARED = 1_000_000  # values with edges at a time
_LEAST_IN_PSI = 30.0  # for PSI, whose logarithms need more


class Shift(NamedTuple):
    """One test's result: 1.0 is its threshold. `column` is None for the joint one."""

    column: int | None
    test: Test
    score: float


class Drifting(NamedTuple):
    """What stands at the last look: the `shifts` above 1.0, greatest first, and since when there have been any."""

    rows: int
    shifts: tuple[Shift, ...]
    since: float | None


class Drift:
    """Drift against one summary.

    `features` makes encoded rows comparable for the joint test, as for `Frame.of`.

    Memory: LOOKS + 4 histograms (d x at least BINS, 8 bytes) and _CHUNK rows. After a restart the window fills anew:
    there is no verdict before `window` rows.
    """

    def __init__(self, summary: Summary, window: int = 1000, rate: float = 0.01, features: Features = numbers) -> None:
        if window < MIN_WINDOW or not 0 < rate < 1:
            raise ValueError(f"a window has at least {MIN_WINDOW} rows, a rate is between 0 and 1: {window}, {rate}")
        self._block = -(-window // LOOKS)  # rows between looks
        self._rows = self._block * LOOKS  # at each look
        self._chunk = np.empty((min(_CHUNK, self._block), len(summary.columns)))
        self._filled = 0  # rows of the chunk
        self._joint = _Joint(summary, self._rows, rate / (2 * LOOKS), features)
        self._columns = _Columns(summary, self._rows, rate / (2 * LOOKS))
        self._met = 0  # rows of the block, with their counts and their sum for the joint test
        self._counts, self._embedded = self._columns.none(), self._joint.none()
        self._past: deque[tuple[Counts, Array]] = deque(maxlen=LOOKS)
        self._shifts: tuple[Shift, ...] = ()
        self._since: float | None = None
        self.unusable = 0  # rows that hold something that is no number

    def add(self, row: Array) -> None:
        """One more encoded row (d,)."""
        self._chunk[self._filled] = row
        self._filled += 1
        if self._filled == min(len(self._chunk), self._block - self._met):
            self._count()

    def scores(self) -> tuple[Shift, ...]:
        """Each test's score at the last look; none before the first."""
        return self._shifts

    def verdict(self, now: float) -> Drifting:
        """How it stands; `now` is kept as the beginning of what is found first."""
        found = tuple(sorted((shift for shift in self._shifts if shift.score > 1.0), key=lambda shift: -shift.score))
        self._since = (now if self._since is None else self._since) if found else None
        return Drifting(self._rows if self._shifts else 0, found, self._since)

    def _count(self) -> None:
        rows = self._chunk[: self._filled]
        usable = np.isfinite(rows).all(axis=1)
        if not usable.all():
            rows = rows[usable]
            self.unusable += self._filled - len(rows)
        self._filled = 0
        self._met += len(rows)
        self._counts += self._columns.count(rows)
        self._embedded += self._joint.embed(rows).sum(axis=0)
        if self._met == self._block:
            self._past.append((self._counts, self._embedded))
            self._met, self._counts, self._embedded = 0, self._columns.none(), self._joint.none()
            if len(self._past) == LOOKS:
                self._look()

    def _look(self) -> None:
        counts = np.sum([block[0] for block in self._past], axis=0)
        mean = np.sum([block[1] for block in self._past], axis=0) / self._rows
        self._shifts = (*self._columns.shifts(counts), self._joint.shift(mean))


class _Columns:
    """The tests of each column by itself; their family makes a false finding with at most `level` at one look."""

    def __init__(self, summary: Summary, window: int, level: float) -> None:
        self._summary = summary
        sizes = np.array([len(counts) for counts in summary.counts])
        self._counts = np.zeros((len(sizes), max(BINS, sizes.max())))
        self._edges = np.full((len(sizes), BINS - 1), np.inf)
        for column, (counts, edges) in enumerate(zip(summary.counts, summary.edges, strict=True)):
            self._counts[column, : len(counts)] = counts
            self._edges[column, : len(edges)] = edges
        self._categorical = [at for at, column in enumerate(summary.columns) if column.categories is not None]
        discrete = (self._counts > 0).sum(axis=1) < BINS // 2  # few values, or nearly all of one: no curve, but shares
        discrete[self._categorical] = True
        self._discrete, self._numeric = np.flatnonzero(discrete).tolist(), np.flatnonzero(~discrete)
        self._window, self._rows = window, int(self._counts[0].sum())
        level /= len(self._discrete) + 2 * len(self._numeric)
        self._chi_square = [np.inf, *(chi_square_upper(degrees, level) for degrees in range(1, self._counts.shape[1]))]
        self._kolmogorov = kolmogorov_upper(window, self._rows, level)
        # Chi-square has the tail of PSI where bins are not small: neighbours are taken together until they are not.
        self._merged = next(size for size in (1, 2, 4) if size == 4 or window * size >= _LEAST_IN_PSI * BINS)
        self._theirs = self._merge(self._counts)
        degrees = np.maximum((self._theirs > 0).sum(axis=1) - 1, 1)
        spread = 1 / window + 1 / self._rows
        self._psi = np.array([max(LEAST_PSI, spread * self._chi_square[count]) for count in degrees])

    def none(self) -> Counts:
        """No row in any bin."""
        return np.zeros(self._counts.shape, dtype=np.int64)

    def count(self, rows: Array) -> Counts:
        """How many of the encoded rows (n, d) are in each bin: (d, bins)."""
        counts = self.none()
        chunk = max(1, _MAX_COMPARED // (_CHUNK * BINS))  # columns at a time: bounds the memory
        for start in range(0, len(counts), chunk):
            part = slice(start, start + chunk)
            above = np.count_nonzero(rows[:, part, np.newaxis] >= self._edges[part], axis=0)
            counts[part, 0] = len(rows) - above[:, 0]
            counts[part, 1 : BINS - 1] = above[:, :-1] - above[:, 1:]
            counts[part, BINS - 1] = above[:, -1]
        for column in self._categorical:
            last = len(self._summary.counts[column]) - 1
            bins = np.minimum(self._summary.bins(column, rows[:, column]), last)
            counts[column] = np.bincount(bins, minlength=len(self._counts[column]))
        return counts

    def _merge(self, counts: Array | Counts) -> Array:
        """Bins of the columns of numbers, some neighbours together."""
        merged: Array = counts[self._numeric, :BINS].reshape(-1, BINS // self._merged, self._merged).sum(axis=2) * 1.0
        return merged

    def shifts(self, counts: Counts) -> list[Shift]:
        """Each test's result for the counts of a whole window."""
        ours, theirs = counts[self._numeric] / self._window, self._counts[self._numeric] / self._rows
        apart = np.abs(np.cumsum(ours - theirs, axis=1)).max(axis=1, initial=0.0) / self._kolmogorov
        # Half a row in each bin: an empty one makes no infinity. Bins that are there in neither do not count.
        merged = self._merge(counts)
        smooth, smoothed = (merged + 0.5) / self._window, (self._theirs + 0.5) / self._rows
        parts = np.where(merged + self._theirs > 0, (smooth - smoothed) * np.log(smooth / smoothed), 0.0)
        index = parts.sum(axis=1) / self._psi
        found = []
        for at, column in enumerate(self._numeric.tolist()):
            found += [Shift(column, "KS", float(apart[at])), Shift(column, "PSI", float(index[at]))]
        found.extend(
            Shift(column, "ChiSquare", self._homogeneity(counts[column], self._counts[column]))
            for column in self._discrete
        )
        return found

    def _homogeneity(self, ours: Counts, theirs: Array) -> float:
        """Chi-square of the two samples over its threshold; bins with too few rows are taken together.

        By the likelihood ratio, whose tail holds where Pearson's sum is too heavy: a value of a few rows in a window.
        """
        both = ours + theirs
        few = both * (self._window / (self._window + self._rows)) < _LEAST_EXPECTED
        few |= both * (self._rows / (self._window + self._rows)) < _LEAST_EXPECTED
        window = np.append(ours[~few], ours[few].sum())
        reference = np.append(theirs[~few], theirs[few].sum())
        total = window + reference
        window, reference, total = window[total > 0], reference[total > 0], total[total > 0]
        if len(total) < 2:
            return 0.0
        information = 0.0
        for sample, size in ((window, self._window), (reference, self._rows)):
            met = sample > 0
            expected = total[met] * (size / (self._window + self._rows))
            information += float((sample[met] * np.log(sample[met] / expected)).sum())
        return 2 * information / self._chi_square[len(total) - 1]


class _Joint:
    """MMD between a window and the reference; a false finding with at most `level` at one look.

    The squared distance of the two means is, for many rows, a sum of chi-squares weighted by the eigenvalues of the
    features' covariance; its tail is that of the chi-square with the same three cumulants (Hall, 1983; Buckley and
    Eagleson, 1988).
    """

    def __init__(self, summary: Summary, window: int, level: float, features: Features) -> None:
        self._frame = Frame.of(summary, features)
        reference = self._frame.standard(summary.sample)
        rng = np.random.default_rng(0)
        one, other = (reference[rng.integers(len(reference), size=500)] for _ in range(2))
        width = float(np.median(np.sqrt(((one - other) ** 2).sum(axis=1)))) or 1.0
        self._frequencies = rng.normal(size=(reference.shape[1], _FREQUENCIES)) / width
        embedded = self._embed(reference)
        self._mean = embedded.mean(axis=0)
        strengths = np.linalg.eigvalsh(np.cov(embedded, rowvar=False))
        second, third = (strengths**2).sum(), (strengths**3).sum()
        degrees = float(second**3 / third**2) if third > 0 else 1.0
        bound = strengths.sum() + np.sqrt(second / degrees) * (chi_square_upper(degrees, level) - degrees)
        self._threshold = max(_MARGIN * float(bound) * (1 / window + 1 / len(reference)), 1e-9)

    def none(self) -> Array:
        """The sum of no rows' features."""
        return np.zeros(2 * _FREQUENCIES)

    def embed(self, rows: Array) -> Array:
        """The kernel's features of encoded rows (n, d): (n, 2 * _FREQUENCIES)."""
        return self._embed(self._frame.standard(rows))

    def _embed(self, standard: Array) -> Array:
        angles = standard @ self._frequencies
        both: npt.NDArray[np.float64] = np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(_FREQUENCIES)
        return both

    def shift(self, mean: Array) -> Shift:
        apart = mean - self._mean
        return Shift(None, "MMD", float(apart @ apart) / self._threshold)
