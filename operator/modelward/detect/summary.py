"""What the reference data looked like, in little: enough to tell later whether data has drifted from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import UNSEEN, Array, Column

BINS = 20
MAX_SAMPLE = 512
MAX_SAMPLE_BYTES = 240_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What each of the `columns` (d) held.

    `edges[i]`: of a column of numbers, the inner edges of at most BINS bins that held about equally many of the
    reference's values, or one value each where there are few, rising; a value belongs to bin
    `searchsorted(edges, value, side="right")`. Of a categorical column, none.
    `counts[i]`: the reference rows in each bin; of a categorical column, in each category, and none in the last place,
    which is for categories that were never seen.
    `lower`, `upper` (d): the least and the greatest value. `sample` (s, d): some of the encoded rows, by chance.
    """

    columns: tuple[Column, ...]
    edges: tuple[Array, ...]
    counts: tuple[npt.NDArray[np.int64], ...]
    lower: Array
    upper: Array
    sample: Array

    def bins(self, column: int, values: Array) -> npt.NDArray[np.intp]:
        """The bin, an index into `counts[column]`, that each of the encoded `values` belongs to."""
        if self.columns[column].categories is None:
            return np.asarray(np.searchsorted(self.edges[column], values, side="right"))
        codes = np.where(values == UNSEEN, len(self.counts[column]) - 1, values)
        return np.asarray(codes, dtype=np.intp)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        return {
            "edges": np.concatenate(self.edges),
            "counts": np.concatenate(self.counts),
            "sizes": np.array([len(one) for one in self.counts]),
            "lower": self.lower,
            "upper": self.upper,
            "sample": self.sample.astype(_kind(self.sample)),
        }


def summarise(columns: tuple[Column, ...], rows: Array, rng: "np.random.Generator") -> Summary:
    """Of encoded rows (n, d), all finite."""
    edges, counts = [], []
    for index, column in enumerate(columns):
        if column.categories is None:
            edges.append(_edges(rows[:, index]))
            bins = np.searchsorted(edges[-1], rows[:, index], side="right")
            counts.append(np.bincount(bins, minlength=len(edges[-1]) + 1))
        else:
            edges.append(np.empty(0))
            counts.append(np.bincount(rows[:, index].astype(np.intp) + 1, minlength=len(column.categories) + 1))
            counts[-1] = np.roll(counts[-1], -1)
    # Whole numbers take less room: of images there are then enough rows to calibrate what asks the model more.
    most = max(20, min(MAX_SAMPLE, MAX_SAMPLE_BYTES // (rows.shape[1] * np.dtype(_kind(rows)).itemsize)))
    sample = rows if len(rows) <= most else rows[np.sort(rng.choice(len(rows), most, replace=False))]
    return Summary(columns, tuple(edges), tuple(counts), rows.min(axis=0), rows.max(axis=0), sample)


def _kind(rows: Array) -> type[np.uint8 | np.int16 | np.float64]:
    """The smallest type of number that holds all of `rows` as they are."""
    for kind in (np.uint8, np.int16):
        limits = np.iinfo(kind)
        if ((rows == np.rint(rows)) & (rows >= limits.min) & (rows <= limits.max)).all():
            return kind
    return np.float64


def _edges(values: Array) -> Array:
    few: Array = np.unique(values)
    if 2 * len(few) < BINS:  # each value has a bin of its own, a rare one too, and what lies between was never seen
        return np.unique(np.concatenate([few, np.nextafter(few, np.inf)]))  # neighbours among floats share one
    if len(few) <= BINS:
        return np.asarray(few[1:])
    inner, times = np.unique(
        np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"), return_counts=True
    )
    # So has a value that many rows share: it is an edge twice, and takes but one of the edges that it had.
    rising: Array = np.unique(np.concatenate([inner, np.nextafter(inner[times > 1], np.inf)]))
    return np.asarray(rising[rising > few[0]])  # an edge at the least value would leave the first bin empty


def read(arrays: dict[str, npt.NDArray[Any]], columns: tuple[Column, ...]) -> Summary:
    """One made again of what `Summary.arrays` gave, for rows (n, d) of these `columns`.

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    flat, counted = checked(arrays, "edges"), checked(arrays, "counts", np.int64)
    lower, upper = checked(arrays, "lower"), checked(arrays, "upper")
    sample = _sample(arrays)
    width = len(columns)
    if lower.shape != (width,) or upper.shape != (width,) or (lower > upper).any():
        raise ValueError("lower and upper")
    if sample.ndim != 2 or sample.shape[1] != width or not 1 <= len(sample) <= MAX_SAMPLE:
        raise ValueError("sample")
    edges, counts = [], []
    sizes = checked(arrays, "sizes", np.int64)
    if flat.ndim != 1 or counted.ndim != 1 or sizes.shape != (width,) or (sizes < 1).any():
        raise ValueError("counts")
    at_edge = at_count = 0
    for column, size in zip(columns, sizes.tolist(), strict=True):
        inner = size - 1 if column.categories is None else 0
        if column.categories is not None and size != len(column.categories) + 1:
            raise ValueError("counts")
        edges.append(flat[at_edge : at_edge + inner])
        counts.append(counted[at_count : at_count + size])
        at_edge, at_count = at_edge + inner, at_count + size
    rising = all((np.diff(one) > 0).all() for one in edges)
    if at_edge != len(flat) or at_count != len(counted) or not rising or (counted < 0).any():
        raise ValueError("edges and counts")
    return Summary(columns, tuple(edges), tuple(counts), lower, upper, sample)


def _sample(arrays: dict[str, npt.NDArray[Any]]) -> Array:
    kind = arrays["sample"].dtype.type if "sample" in arrays else np.float64
    if kind not in (np.uint8, np.int16, np.float64):
        raise ValueError("sample")
    sample: Array = checked(arrays, "sample", kind).astype(np.float64)
    return sample
