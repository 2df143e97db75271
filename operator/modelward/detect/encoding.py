"""From a row as it stands in a table or a request to the numbers that detectors compare.

An encoded row is one number a column: the value itself, or the place of a category in the column's list (-1: a category
that the reference data does not have). `Encoding.features` makes of it what distances are taken in: numbers on a
robust scale, a category as indicators whose weight grows with its rarity (as in multiple correspondence analysis), and,
where that is wide, the principal components and how far the row is from their span. Where an encoder is given, the
parts of its embedding are scaled, and reduced, in place of the columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from modelward.detect import encoder as encoders
from modelward.detect.archive import checked
from modelward.detect.encoder import Encoder, EncoderError

Array = npt.NDArray[np.float64]

MAX_WIDTH = 200  # features; more are reduced
MAX_COMPONENTS = 64
UNSEEN = -1
_FARTHEST = 1e9  # scales; farther is cut to this, so that no square overflows
_REACH = 3.29  # standard deviations from the 5th to the 95th percentile, for a normal distribution
_CONSTANT = 1e-6  # of its value: the scale given to a column that never varies


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A column by name; `categories`: what it may hold, where it holds no numbers."""

    name: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How encoded rows of these columns become features.

    `centre` and `scale` (w) are those of the numbers and indicators, or of the parts of the `encoder`'s embedding where
    there is one; `components` (w, k): what they are reduced to, or None.
    """

    columns: tuple[Column, ...]
    centre: Array
    scale: Array
    components: Array | None
    encoder: Encoder | None = None

    @property
    def linear(self) -> bool:
        """Each feature is one column, moved and scaled."""
        return (
            self.components is None
            and self.encoder is None
            and all(column.categories is None for column in self.columns)
        )

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.centre) if self.components is None else self.components.shape[1] + 1

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps, beside the columns."""
        arrays: dict[str, npt.NDArray[Any]] = {"centre": self.centre, "scale": self.scale}
        if self.components is not None:
            arrays["components"] = self.components
        if self.encoder is not None:
            arrays["encoder"] = np.frombuffer(self.encoder.content, dtype=np.uint8)
        return arrays

    def spread(self, rows: Array) -> Array:
        """What is scaled of encoded rows (n, d): the embedding, or numbers and indicators; (n, w)."""
        return expand(self.columns, rows) if self.encoder is None else self.encoder.embed(rows)

    def features(self, rows: Array) -> Array:
        """The features (n, m) of encoded rows (n, d); finite where the row is."""
        spread = self.spread(rows)
        reach = _FARTHEST * self.scale
        standard: Array = (
            np.minimum(np.maximum(spread, self.centre - reach), self.centre + reach) - self.centre
        ) / self.scale
        if self.components is None:
            return standard
        scores = standard @ self.components
        rest = standard - scores @ self.components.T
        reduced: Array = np.hstack([scores, np.sqrt(np.square(rest).sum(axis=1, keepdims=True))])
        return reduced

    def features_of(self, row: Array) -> Array:
        """The features (m,) of one encoded row (d,)."""
        if not self.linear:
            first: Array = self.features(row[np.newaxis])[0]
            return first
        reach = _FARTHEST * self.scale
        cut = np.minimum(np.maximum(row, self.centre - reach), self.centre + reach)
        standard: Array = (cut - self.centre) / self.scale
        return standard


def expanded_width(columns: Sequence[Column]) -> int:
    """How many numbers and indicators the columns give; a categorical column has one more, for what was never seen."""
    return sum(1 if column.categories is None else len(column.categories) + 1 for column in columns)


def expand(columns: Sequence[Column], rows: Array) -> Array:
    """Numbers as they are and categories as indicators, (n, w) of (n, d)."""
    if all(column.categories is None for column in columns):
        return rows
    parts = []
    for index, column in enumerate(columns):
        values = rows[:, index : index + 1]
        if column.categories is not None:
            codes = np.append(np.arange(len(column.categories)), UNSEEN)
            values = np.where(np.isnan(values), np.nan, (values == codes).astype(np.float64))
        parts.append(values)
    return np.hstack(parts)


def fit(columns: tuple[Column, ...], rows: Array, encoder: Encoder | None = None) -> Encoding:
    """The encoding of encoded rows (n, d), all finite; an `encoder` fits the columns, as `check_fits` says."""
    spread = expand(columns, rows) if encoder is None else encoder.embed(rows)
    centre, scale = _scales(spread)
    at = 0
    for column in columns:
        if column.categories is None:
            at += 1
            continue
        part = slice(at, at + len(column.categories) + 1)
        # As if each category, the unseen one too, had been met once more: the rarer, the farther from all others.
        share = (spread[:, part].sum(axis=0) + 1) / (len(rows) + len(column.categories) + 1)
        centre[part], scale[part] = share, np.sqrt(share * (1 - share))
        at = part.stop
    plain = Encoding(columns, centre, scale, None, encoder)
    if len(centre) <= MAX_WIDTH:
        return plain
    standard = plain.features(rows)
    _, strengths, axes = np.linalg.svd(np.clip(standard, -10, 10), full_matrices=False)
    count = max(1, min(MAX_COMPONENTS, len(rows) // 4, int((strengths > 1e-9 * strengths[0]).sum())))
    signs = np.sign(axes[np.arange(count), np.abs(axes[:count]).argmax(axis=1)])  # the same on every machine
    return replace(plain, components=np.ascontiguousarray((axes[:count] * signs[:, np.newaxis]).T))


def read(arrays: dict[str, npt.NDArray[Any]], columns: tuple[Column, ...], encoder_sha256: str = "") -> Encoding:
    """What `arrays()` gave; `encoder_sha256`: the digest of the encoder that must be there, "": none.

    Raises:
        ValueError: it cannot be that.
    """
    centre, scale = checked(arrays, "centre"), checked(arrays, "scale")
    encoder = None
    if encoder_sha256 or "encoder" in arrays:
        encoder = encoders.from_bytes(checked(arrays, "encoder", np.uint8).tobytes())
        if encoder.sha256 != encoder_sha256:
            raise EncoderError("the encoder is not the one whose digest the header has")
        check_fits(encoder, columns)
    width = expanded_width(columns) if encoder is None else encoder.outputs
    if centre.shape != (width,) or scale.shape != (width,) or not (scale > 0).all():
        raise ValueError("centre and scale")
    components = checked(arrays, "components") if "components" in arrays else None
    if components is not None and not (components.ndim == 2 and components.shape[0] == width and components.size):
        raise ValueError("components")
    return Encoding(columns, centre, scale, components, encoder)


def check_fits(encoder: Encoder, columns: Sequence[Column]) -> None:
    """Raises EncoderError: the columns are not as many numbers as the encoder takes."""
    texts = [column.name for column in columns if column.categories is not None]
    if texts:
        raise EncoderError(f"an encoder takes numbers, and {', '.join(texts[:5])} holds texts: leave it out")
    if len(columns) != encoder.inputs:
        raise EncoderError(f"the encoder takes {encoder.inputs} numbers a row, and the rows have {len(columns)}")


def _scales(rows: Array) -> tuple[Array, Array]:
    """Median of each column, and its deviation as the middle nine tenths of the values tell it."""
    low, centre, high = np.quantile(rows, [0.05, 0.5, 0.95], axis=0)
    spread = np.std(rows, axis=0)
    scale = np.where(high > low, (high - low) / _REACH, spread)  # nearly all values are the same
    floor = _CONSTANT * np.maximum(np.abs(centre), 1.0)
    return centre, np.asarray(np.maximum(scale, floor), dtype=np.float64)
