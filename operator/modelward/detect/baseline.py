"""A baseline: what ordinary rows look like, as one file that a sidecar can trust and an auditor can trace.

The threshold comes from rows that the detector had not seen: each row is scored once by a detector fitted without its
fifth of the data, and the k-th of those n scores is the threshold, k = ceil((n + 1)(1 - rate)), which keeps the rate
of false alarms for rows like them (split conformal prediction; Vovk and others, 2005). All those scores' upper part
is kept in the file, so that a deployment may ask for another rate than the fit did.

The file is an npz without pickle: `header` (JSON), `centre`, `scale`, `precision`, `lower`, `upper`, `calibration`.
"""

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from modelward.detect import mahalanobis
from modelward.detect.archive import ArchiveError, read_arrays
from modelward.detect.mahalanobis import Array, Mahalanobis

FORMAT: Final = 1
FOLDS = 5
MAX_COLUMNS = 256
MAX_FIT_ROWS = 50_000  # more are sampled: the picture does not get better, only slower
MAX_CALIBRATION = 4096
MAX_FILE_BYTES = 4 << 20
MIN_ROWS = 50
_NEAR_CONSTANT = 1e-6
_ARRAYS = ("centre", "scale", "precision", "lower", "upper", "calibration")


class BaselineError(Exception):
    """A baseline that cannot be fitted, read or used; the message says why and what would mend it."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    columns: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_COLUMNS)]
    named: bool
    calibration_rows: Annotated[int, Meta(ge=1)]
    false_positive_rate: Annotated[float, Meta(gt=0, lt=1)]
    seed: int
    rows: int
    rows_dropped: int
    data_sha256: str
    format: Literal[1] = FORMAT
    detector: Literal["Mahalanobis"] = "Mahalanobis"


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline.

    `named`: the columns' names came with the data (otherwise they are x0, x1, ...). `lower` and `upper` (d) are the
    least and the greatest value seen in each column. `calibration` holds the greatest held-back scores in rising
    order, of `calibration_rows` in all. `data_sha256` is the digest of the data file that it was fitted on.
    """

    columns: tuple[str, ...]
    named: bool
    detector: Mahalanobis
    lower: Array
    upper: Array
    calibration: Array
    calibration_rows: int
    false_positive_rate: float
    seed: int
    rows: int
    rows_dropped: int
    data_sha256: str

    def threshold(self, rate: float | None = None) -> float:
        """The distance that ordinary rows exceed with the probability `rate` (None: as fitted).

        Raises:
            BaselineError: the calibration is too small, or keeps too little, to tell.
        """
        rate = self.false_positive_rate if rate is None else rate
        rank = math.ceil((self.calibration_rows + 1) * (1 - rate))
        if rank > self.calibration_rows:
            raise BaselineError(
                f"a false positive rate of {rate:g} needs at least {math.ceil(1 / rate) - 1} rows, the baseline has "
                f"{self.calibration_rows}: fit on more rows or ask for a higher rate"
            )
        index = rank - 1 - (self.calibration_rows - len(self.calibration))
        if index < 0:
            raise BaselineError(
                f"a false positive rate of {rate:g} is higher than this baseline was calibrated for: fit it anew"
            )
        return float(self.calibration[index])

    def to_bytes(self) -> bytes:
        """The file's content; the same baseline gives the same bytes."""
        header = _Header(
            columns=self.columns,
            named=self.named,
            calibration_rows=self.calibration_rows,
            false_positive_rate=self.false_positive_rate,
            seed=self.seed,
            rows=self.rows,
            rows_dropped=self.rows_dropped,
            data_sha256=self.data_sha256,
        )
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            header=np.frombuffer(msgspec.json.encode(header), dtype=np.uint8),
            centre=self.detector.centre,
            scale=self.detector.scale,
            precision=self.detector.precision,
            lower=self.lower,
            upper=self.upper,
            calibration=self.calibration,
        )
        return buffer.getvalue()


def fit(
    rows: Array,
    columns: Sequence[str] | None = None,
    *,
    false_positive_rate: float = 0.01,
    seed: int = 0,
    data: bytes = b"",
) -> Baseline:
    """Fit a baseline on `rows` (n, d); rows with a missing or infinite value are left out.

    `data` are the bytes of the file that the rows came from, for the lineage digest. The same arguments give the same
    baseline.

    Raises:
        BaselineError: too few rows, a column without values, scores that do not vary.
    """
    names = tuple(columns) if columns is not None else tuple(f"x{index}" for index in range(rows.shape[1]))
    usable = _usable_rows(rows, names)
    if len(usable) > MAX_FIT_ROWS:
        chosen = np.random.default_rng(seed).choice(len(usable), MAX_FIT_ROWS, replace=False)
        usable = usable[np.sort(chosen)]
    scores = _held_back_scores(usable, seed)
    # Relative to the scores themselves: a detector that calls all rows alike tells nothing (and has once passed
    # unnoticed).
    if scores.std() <= _NEAR_CONSTANT * max(float(scores.mean()), 1e-300):
        raise BaselineError(
            "the scores of all rows are nearly the same, so none could be called unusual: the data does not vary"
        )
    baseline = Baseline(
        columns=names,
        named=columns is not None,
        detector=mahalanobis.fit(usable),
        lower=usable.min(axis=0),
        upper=usable.max(axis=0),
        calibration=np.sort(scores)[-MAX_CALIBRATION:],
        calibration_rows=len(scores),
        false_positive_rate=false_positive_rate,
        seed=seed,
        rows=len(rows),
        rows_dropped=int(len(rows) - np.isfinite(rows).all(axis=1).sum()),
        data_sha256=hashlib.sha256(data).hexdigest(),
    )
    baseline.threshold()
    return baseline


def _usable_rows(rows: Array, names: tuple[str, ...]) -> Array:
    if not 1 <= len(names) <= MAX_COLUMNS or len(set(names)) != len(names):
        raise BaselineError(f"a baseline has 1 to {MAX_COLUMNS} columns with different names; these are {len(names)}")
    if len(names) != rows.shape[1]:
        raise BaselineError(f"{len(names)} columns are named and the rows have {rows.shape[1]}")
    finite = np.isfinite(rows)
    empty = [name for index, name in enumerate(names) if not finite[:, index].any()]
    if len(rows) and empty:
        raise BaselineError(f"no row has a number in {', '.join(empty[:5])}: leave it out with --columns")
    usable = rows[finite.all(axis=1)]
    least = max(MIN_ROWS, 3 * len(names))
    if len(usable) < least:
        raise BaselineError(
            f"{len(names)} columns need at least {least} rows without missing values; {len(usable)} of {len(rows)} are"
        )
    return usable


def _held_back_scores(rows: Array, seed: int) -> Array:
    """The distance of each row from a detector fitted without its fold."""
    fold = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
    scores = np.empty(len(rows))
    for held_back in range(FOLDS):
        scores[fold == held_back] = mahalanobis.fit(rows[fold != held_back]).distances(rows[fold == held_back])
    return scores


def from_bytes(content: bytes) -> Baseline:
    """Read a baseline file, trusting nothing in it.

    Raises:
        BaselineError: it is not a baseline, is damaged, too large, or of another version.
    """
    if len(content) > MAX_FILE_BYTES:
        raise BaselineError(f"the file has {len(content)} bytes, a baseline has at most {MAX_FILE_BYTES}")
    try:
        arrays = read_arrays(content, MAX_FILE_BYTES)
        parts = {name: arrays[name] for name in _ARRAYS}
        header = msgspec.json.decode(arrays["header"].tobytes(), type=_Header)
    except ArchiveError as error:
        raise BaselineError(f"the file is not a baseline: {error}") from error
    except (KeyError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BaselineError(
            f"the file is not a baseline of format {FORMAT} as `modelward fit` writes it: fit it anew"
        ) from error
    return _checked(header, parts)


def _checked(header: _Header, arrays: dict[str, Array]) -> Baseline:
    width = len(header.columns)
    shapes = dict.fromkeys(("centre", "scale", "lower", "upper"), (width,)) | {"precision": (width, width)}
    wrong = {name for name, array in arrays.items() if array.dtype != np.float64 or not np.isfinite(array).all()}
    wrong |= {name for name, shape in shapes.items() if arrays[name].shape != shape}
    if arrays["calibration"].ndim != 1 or not 1 <= len(arrays["calibration"]) <= header.calibration_rows:
        wrong.add("calibration")
    if not wrong and not ((arrays["scale"] > 0).all() and _is_positive_definite(arrays["precision"])):
        wrong |= {"scale", "precision"}
    if wrong:
        raise BaselineError(f"the baseline's {', '.join(sorted(wrong))} cannot be right: fit it anew")
    return Baseline(
        columns=header.columns,
        named=header.named,
        detector=Mahalanobis(arrays["centre"], arrays["scale"], arrays["precision"]),
        lower=arrays["lower"],
        upper=arrays["upper"],
        calibration=arrays["calibration"],
        calibration_rows=header.calibration_rows,
        false_positive_rate=header.false_positive_rate,
        seed=header.seed,
        rows=header.rows,
        rows_dropped=header.rows_dropped,
        data_sha256=header.data_sha256,
    )


def _is_positive_definite(matrix: Array) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True
