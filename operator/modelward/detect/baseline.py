"""A baseline: what ordinary rows look like, as one file that a sidecar can trust and an auditor can trace.

The file is an npz without pickle: `header` (JSON) and plain arrays, named by what they belong to: `encoding.*`,
`summary.*`, `ensemble.*`, `calibration.<detector>`, `<detector>.*`. docs/reference/baseline.md describes each.
"""

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from modelward.detect import encoding, ensemble, summary
from modelward.detect.archive import ArchiveError, checked, prefixed, read_arrays
from modelward.detect.calibration import MAX_KEPT, BaselineError, Calibration
from modelward.detect.detectors import ENSEMBLE, KINDS, Detector, Single
from modelward.detect.encoding import Array, Column, Encoding
from modelward.detect.ensemble import Ensemble
from modelward.detect.mahalanobis import Mahalanobis
from modelward.detect.summary import Summary

if TYPE_CHECKING:
    from modelward.detect.scorer import Scorer

FORMAT: Final = 2
MAX_COLUMNS = 2048
MAX_FILE_BYTES = 4 << 20

__all__ = ["FORMAT", "MAX_COLUMNS", "MAX_FILE_BYTES", "Baseline", "BaselineError", "Origin", "from_bytes"]

Text = Annotated[str, Meta(max_length=4096)]


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """Where a baseline comes from.

    `data_sha256`: the digest of the data file; `encoder_sha256`: of the encoder's, if there is one. `lineage`: what
    is said of where the data came from. `treatments`: of the columns that were treated before the fit, how. `fitted`:
    when, if it was to be told (RFC 3339). `rows` were given, `rows_dropped` of them had a missing value. `gave_up`: in
    words, what the data did not allow. `benign`: flagged requests that were counted as ordinary afterwards.
    """

    data_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] = hashlib.sha256().hexdigest()
    encoder_sha256: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$")] = ""
    lineage: Text = ""
    treatments: dict[Text, Text] = {}
    fitted: Text = ""
    seed: int = 0
    rows: int = 0
    rows_dropped: int = 0
    gave_up: tuple[Text, ...] = ()
    benign: int = 0


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    columns: Annotated[tuple[Column, ...], Meta(min_length=1, max_length=MAX_COLUMNS)]
    named: bool
    detectors: Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    calibration_rows: dict[str, Annotated[int, Meta(ge=1)]]
    false_positive_rate: Annotated[float, Meta(gt=0, lt=1)]
    origin: Origin
    format: Literal[2] = FORMAT


@dataclass(frozen=True, slots=True)
class Baseline:
    """A fitted baseline.

    `named`: the columns' names came with the data (otherwise they are x0, x1, ...). `detectors` by type, in order;
    `ensemble` takes the scores of all of them together. `calibration`: of each detector, and of the ensemble under
    its name. Where only some detectors were asked for, the others are missing from `detectors`, and from there alone.
    """

    encoding: Encoding
    named: bool
    detectors: Mapping[str, Detector]
    ensemble: Ensemble
    calibration: Mapping[str, Calibration]
    summary: Summary
    false_positive_rate: float
    origin: Origin

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.encoding.columns)

    @property
    def types(self) -> tuple[str, ...]:
        """The types of detectors that it can be asked for."""
        return tuple(self.calibration)

    @property
    def distance(self) -> Mahalanobis | None:
        """The detector Mahalanobis, which also tells which columns are strange; None if it is not there."""
        single = self.detectors.get("Mahalanobis")
        found = single.of if isinstance(single, Single) else None
        return found if isinstance(found, Mahalanobis) else None

    def threshold(self, detector: str = ENSEMBLE, rate: float | None = None) -> float:
        """The score of `detector` that ordinary rows exceed with the probability `rate` (None: as fitted).

        Raises:
            BaselineError: it has no such detector, or its calibration is too small, or keeps too little, to tell.
        """
        if detector not in self.calibration:
            raise BaselineError(
                f"it has no detector {detector}, only {', '.join(self.types)}: fit it anew with that one"
            )
        rate = self.false_positive_rate if rate is None else rate
        return self.calibration[detector].threshold(rate)

    def scorer(self, asked: Sequence[tuple[str, float | None]] = ((ENSEMBLE, None),)) -> "Scorer":
        """What scores rows by these detectors at these rates of false alarms (None: as fitted).

        Raises:
            BaselineError: it cannot tell that rate, or has no such detector.
        """
        from modelward.detect.scorer import Scorer  # noqa: PLC0415 - it is made of baselines

        return Scorer(self, asked)

    def with_benign(self, scores: Mapping[str, list[float]]) -> "Baseline":
        """The same, calibrated anew: rows that were flagged and are ordinary have these `scores`, by detector."""
        calibration = {name: each.added(scores.get(name, [])) for name, each in self.calibration.items()}
        count = max((len(each) for each in scores.values()), default=0)
        origin = msgspec.structs.replace(self.origin, benign=self.origin.benign + count)
        return replace(self, calibration=calibration, origin=origin)

    def mahalanobis(self, rate: float | None = None) -> tuple[Array, Array]:
        """The detector Mahalanobis alone, as one matrix (d, m) and one offset (m,): the fast path.

        The score of a row (d,), 1.0 the threshold, is the length of `row @ matrix - offset`.

        Raises:
            BaselineError: the baseline has no such detector, cannot tell that rate, or its columns are not all numbers,
                are reduced or are embedded.
        """
        threshold = self.threshold("Mahalanobis", rate)
        detector = self.distance
        if detector is None or not self.encoding.linear:
            raise BaselineError("its columns are not all numbers, or are reduced or embedded: no matter of one matrix")
        matrix = np.linalg.cholesky(detector.precision) / detector.scale[:, np.newaxis] / threshold
        offset = detector.centre @ matrix
        scaled = matrix / self.encoding.scale[:, np.newaxis]
        return np.ascontiguousarray(scaled), offset + self.encoding.centre @ scaled

    def to_bytes(self) -> bytes:
        """The file's content; the same baseline gives the same bytes.

        Raises:
            ValueError: only some of its detectors were read.
        """
        if self.types != (*self.detectors, ENSEMBLE):
            raise ValueError("only some of the baseline's detectors were read: the others would be lost")
        header = _Header(
            columns=self.encoding.columns,
            named=self.named,
            detectors=tuple(self.detectors),
            calibration_rows={name: each.count for name, each in self.calibration.items()},
            false_positive_rate=self.false_positive_rate,
            origin=self.origin,
        )
        arrays: dict[str, npt.NDArray[Any]] = {
            "header": np.frombuffer(msgspec.json.encode(header), dtype=np.uint8),
        }
        parts: dict[str, Any] = {"encoding": self.encoding, "summary": self.summary, "ensemble": self.ensemble}
        for prefix, part in (parts | dict(self.detectors)).items():
            arrays |= {f"{prefix}.{name}": array for name, array in part.arrays().items()}
        arrays |= {f"calibration.{name}": each.greatest for name, each in self.calibration.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()


def from_bytes(content: bytes, only: Collection[str] | None = None) -> Baseline:
    """Read a baseline file, trusting nothing in it.

    `only`: the types of detectors that it will be asked for (None: all). The others are not made; Mahalanobis is in any
    case, since it tells which columns are strange.

    Raises:
        BaselineError: it is not a baseline, is damaged, too large, or of another version.
    """
    if len(content) > MAX_FILE_BYTES:
        raise BaselineError(f"the file has {len(content)} bytes, a baseline has at most {MAX_FILE_BYTES}")
    try:
        arrays = read_arrays(content, 2 * MAX_FILE_BYTES)
        header = msgspec.json.decode(arrays["header"].tobytes(), type=_Header)
    except ArchiveError as error:
        raise BaselineError(f"the file is not a baseline: {error}") from error
    except (KeyError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise BaselineError(
            f"the file is not a baseline of format {FORMAT} as `modelward fit` writes it: fit it anew"
        ) from error
    names = [column.name for column in header.columns]
    if len(set(names)) != len(names) or not set(header.detectors) <= set(KINDS):
        raise BaselineError("the baseline's columns or detectors are not what this version knows: fit it anew")
    try:
        return _assembled(header, arrays, set(header.detectors) | {ENSEMBLE} if only is None else set(only))
    except _PartError as error:
        raise BaselineError(f"the baseline's {error} cannot be right: fit it anew") from error


class _PartError(Exception):
    """A part whose arrays cannot be right."""


def _assembled(header: _Header, arrays: dict[str, npt.NDArray[Any]], asked: set[str]) -> Baseline:
    parts = ensemble.parts_of(header.detectors)
    made = asked | {"Mahalanobis"} | (set(parts) if ENSEMBLE in asked else set())
    part = "encoding"
    try:
        encoded = encoding.read(prefixed(arrays, part), header.columns, header.origin.encoder_sha256)
        part = "summary"
        summarised = summary.read(prefixed(arrays, part), header.columns)
        detectors = {}
        for part in header.detectors:
            if part in made:
                detectors[part] = KINDS[part].read(prefixed(arrays, part), encoded.width)
        part = "ensemble"
        origin = np.zeros(encoded.width)
        views = sum(len(detectors[name].view(origin)) for name in parts) if ENSEMBLE in asked else None
        together = ensemble.read(prefixed(arrays, part), parts, views)
        part = "calibration"
        calibration = {
            name: _calibration(arrays, name, header.calibration_rows.get(name, 0))
            for name in (*header.detectors, ENSEMBLE)
        }
    except ValueError as error:
        raise _PartError(f"{part} ({error})") from error
    return Baseline(
        encoding=encoded,
        named=header.named,
        detectors=detectors,
        ensemble=together,
        calibration=calibration,
        summary=summarised,
        false_positive_rate=header.false_positive_rate,
        origin=header.origin,
    )


def _calibration(arrays: dict[str, npt.NDArray[Any]], name: str, count: int) -> Calibration:
    greatest = checked(arrays, f"calibration.{name}")
    if greatest.ndim != 1 or not 1 <= len(greatest) <= min(count, MAX_KEPT) or (np.diff(greatest) < 0).any():
        raise ValueError(f"of {name}")
    if greatest[-1] <= 0:
        raise ValueError(f"of {name}")
    return Calibration(greatest, count)
