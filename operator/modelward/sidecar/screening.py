"""Screening: is this input like what the model was made for?

Brings the request's tensors into the baseline's columns, has the detector score each row, and acts on the worst of
them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelward.detect.baseline import Baseline, BaselineError, from_bytes
from modelward.sidecar import config, log
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tensors import Tensor, TensorSpec
from modelward.sidecar.verdict import Verdict, anomalous_input, failed

DETECTOR = "Mahalanobis"
_MOST = 1e6  # a score that is told; more says no more
_DONE = {"Block": "blocked", "Sanitise": "sanitised", "Flag": "flagged"}


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a column of the baseline lies: element `offset` of each row of input `name`."""

    name: str
    offset: int


class Screen:
    """One detector against one baseline, for the inputs of one schema."""

    def __init__(self, screening: config.Screening, baseline: Baseline, declared: Mapping[str, TensorSpec]) -> None:
        self._baseline = baseline
        self._on_anomaly = screening.on_anomaly
        self._on_error = screening.on_detector_error
        self._sources = _locate(baseline, declared)
        self._names = frozenset(at.name for at in self._sources)
        # The whole of one input, in order, is the common case, and needs no copying about.
        self._whole = _whole_input(self._sources, declared)
        try:
            # Scaling, correlation and threshold in one matrix: the score of a row is the length of row @ matrix -
            # offset.
            self._matrix, self._offset = baseline.mahalanobis(screening.detectors[0].false_positive_rate)
        except BaselineError as error:
            raise config.ConfigError(f"the detector {DETECTOR}: {error}") from error
        self._affine = np.vstack([self._matrix, -self._offset])  # the same for a row with a 1 behind it

    @classmethod
    def build(
        cls, screening: config.Screening, baseline: bytes | None, declared: Mapping[str, TensorSpec] | None
    ) -> "Screen | None":
        """The screen that `screening` asks for, None if none.

        Raises:
            ConfigError: no baseline or no declared inputs to go with a detector, or they do not fit one another.
        """
        if not screening.detectors:
            return None
        if baseline is None:
            raise config.ConfigError(f"the detector {DETECTOR} needs a baseline: fit one with `modelward fit`")
        if declared is None:
            raise config.ConfigError(
                f"the detector {DETECTOR} needs the model's inputs declared in `spec.schema.inputs`"
            )
        try:
            return cls(screening, from_bytes(baseline), declared)
        except BaselineError as error:
            raise config.ConfigError(f"the baseline: {error}") from error

    def judge(self, tensors: Sequence[Tensor]) -> Verdict | None:
        """None for an ordinary request; may change the tensors' data when it is to be sanitised."""
        try:
            score = self.score(tensors)
            if score <= 1.0:  # and not the other way round: a score that is no number is no pass
                return None
            if self._on_anomaly == "Sanitise":
                self._clip(tensors)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - the policy says what a failing detector means
            log.fault("a detector failed", error)
            return failed(DETECTOR, self._on_error)
        # No score, no column: an attacker would use them to find the way in. The record has the rest.
        refusal = anomalous_input() if self._on_anomaly == "Block" else None
        name = "sanitised" if self._on_anomaly == "Sanitise" else "anomalous"
        scores = {DETECTOR: round(score, 4) if score < _MOST else _MOST}
        return Verdict(name, DETECTOR, _DONE[self._on_anomaly], refusal, scores)

    def score(self, tensors: Sequence[Tensor]) -> float:
        """The greatest score of the rows; 1.0 is the threshold."""
        if self._whole is not None:
            tensor = next(tensor for tensor in tensors if tensor.spec.name == self._whole)
            if len(tensor) == len(self._sources):
                # One row is the common case. `dot`, unlike the operators, looks at no floating-point flags, so an
                # overflow is an infinite score and no warning: that spares switching the warnings off and on again.
                row = np.array([*tensor.data, 1.0], dtype=np.float64).dot(self._affine)
                return math.sqrt(row.dot(row))
        rows = self._rows(tensors)
        with np.errstate(over="ignore", invalid="ignore"):  # the score is then infinite or none: anomalous
            distance = rows @ self._matrix - self._offset
            return math.sqrt(np.einsum("ij,ij->i", distance, distance).max())

    def _rows(self, tensors: Sequence[Tensor]) -> np.ndarray:
        if self._whole is not None:
            numbers = next(tensor.numbers() for tensor in tensors if tensor.spec.name == self._whole)
            return numbers.reshape(-1, len(self._sources))
        by_name = {tensor.spec.name: tensor for tensor in tensors}
        inputs = {name: (by_name[name].numbers(), by_name[name].spec.width) for name in self._names}
        columns = [inputs[at.name][0][at.offset :: inputs[at.name][1]] for at in self._sources]
        lengths = {len(column) for column in columns}
        if len(lengths) != 1:
            raise Refusal("schema-violation", "The inputs must have the same number of rows.")
        return np.array(columns, dtype=np.float64).T

    def _clip(self, tensors: Sequence[Tensor]) -> None:
        """Bring each value into what the baseline has seen of its column."""
        by_name = {tensor.spec.name: tensor for tensor in tensors}
        for column, at in enumerate(self._sources):
            tensor = by_name[at.name]
            low, high = float(self._baseline.summary.lower[column]), float(self._baseline.summary.upper[column])
            if tensor.spec.datatype.startswith(("INT", "UINT")):
                low, high = np.ceil(low), np.floor(high)
            window = slice(at.offset, None, tensor.spec.width)
            kind = int if tensor.spec.datatype.startswith(("INT", "UINT")) else float
            tensor.data[window] = [kind(min(max(value, low), high)) for value in tensor.data[window]]


def _locate(baseline: Baseline, declared: Mapping[str, TensorSpec]) -> list[_Source]:
    """Where each column of the baseline is found: by name, or in order when the baseline's columns have no names."""
    numeric = [spec for spec in declared.values() if spec.numeric and spec.width > 0]
    if baseline.named:
        by_name = {column: _Source(spec.name, offset) for spec in numeric for offset, column in enumerate(spec.columns)}
        missing = [name for name in baseline.columns if name not in by_name]
        if not missing:
            return [by_name[name] for name in baseline.columns]
        if any(spec.columns for spec in numeric):
            raise config.ConfigError(
                f"the baseline has columns that the schema does not name: {', '.join(missing[:5])}; "
                "set `columns` of the input in `spec.schema.inputs` to the baseline's"
            )
    width = sum(spec.width for spec in numeric)
    if width != len(baseline.columns):
        raise config.ConfigError(
            f"the baseline has {len(baseline.columns)} columns, a row of the schema's numeric inputs {width}"
        )
    return [_Source(spec.name, offset) for spec in numeric for offset in range(spec.width)]


def _whole_input(sources: Sequence[_Source], declared: Mapping[str, TensorSpec]) -> str | None:
    name = sources[0].name
    in_order = all(source == _Source(name, offset) for offset, source in enumerate(sources))
    return name if in_order and declared[name].width == len(sources) else None
