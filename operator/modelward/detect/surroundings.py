"""What ordinary rows look like to who makes rows like them: their bounds, spreads and steps, and a sample of them.

Rows are in the model's own units, not encoded: the model is asked about what is made of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelward.detect.encoding import Array
from modelward.detect.probing import ProbeError

_FARTHEST = 1e100
_CONSISTENT = 1.4826  # median absolute deviation to standard deviation, for a normal distribution


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of rows of `d` columns: a `sample` (r, d); `lower`, `upper`, `spread`, `step` (d); `fixed` (d), never changed.

    `step` is 1 where a column has whole numbers alone, 0 elsewhere. `fixed` are categories and other codes, in which
    near numbers do not mean near things. `image`: rows are images of this height, width and number of channels (the
    last axis); their pixels have bounds, spread and step in common, as a changed pixel need not be one that varies.
    """

    sample: Array
    lower: Array
    upper: Array
    spread: Array
    step: Array
    fixed: npt.NDArray[np.bool_]
    image: tuple[int, int, int] | None = None

    @classmethod
    def of(
        cls, sample: Array, *, image: tuple[int, int, int] | None = None, fixed: Sequence[int] = ()
    ) -> "Surroundings":
        """Those of `sample` (r, d), all finite; `fixed` are the positions of columns that are never changed.

        Raises:
            ProbeError: no row, or not the size of the image.
        """
        count, width = sample.shape
        if not count or not (np.abs(sample) <= _FARTHEST).all():
            raise ProbeError(
                f"there are no reference rows, or one holds a number that is none, or beyond {_FARTHEST:g}"
            )
        if image is not None and image[0] * image[1] * image[2] != width:
            raise ProbeError(
                f"an image of {image} has {image[0] * image[1] * image[2]} pixels, a reference row {width}"
            )
        lower, upper = sample.min(axis=0), sample.max(axis=0)
        deviation = _CONSISTENT * np.median(np.abs(sample - np.median(sample, axis=0)), axis=0)
        spread = sample.std(axis=0)  # which a few wild values stretch
        spread = np.where(deviation > 0, np.minimum(spread, deviation), spread)
        step = np.where((sample == np.rint(sample)).all(axis=0), 1.0, 0.0)
        if image is not None:
            lower, upper = np.full(width, lower.min()), np.full(width, upper.max())
            spread, step = np.full(width, sample.std()), np.full(width, step.min())
        held = np.zeros(width, dtype=np.bool_)
        held[list(fixed)] = True
        return cls(sample, lower, upper, spread, step, held, image)

    def fitted(self, rows: Array, origins: Array) -> Array:
        """`rows` (n, d) within the bounds, whole numbers where the data has no others, the codes those of `origins`."""
        cut = np.minimum(np.maximum(rows, self.lower), self.upper)
        whole = np.where(self.step > 0, np.rint(cut), cut)
        fitted: Array = np.where(self.fixed, origins, whole)
        return fitted
