"""Screening: is this input like what the model was made for?

Brings the request's tensors into the baseline's columns, has the detectors score each row, and acts on the strangest.
"""

import math
import struct
from collections.abc import Callable, Sequence

import numpy as np

from modelward.detect.baseline import Baseline, BaselineError
from modelward.detect.encoding import Array
from modelward.sidecar import config, log
from modelward.sidecar.columns import Columns
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tensors import Tensor
from modelward.sidecar.verdict import Verdict, anomalous_input, failed

FAST = "Mahalanobis"
MAX_SANITISED = 64  # strange rows of one request that are brought back, at some 4 ms each; of more it is blocked
_MOST = 1e6  # a score that is told; more says no more


class Screen:
    """The detectors of single rows that one configuration asks for.

    `explains`: a verdict comes with its reasons. `seen` and `found` count the rows that were scored, and those of them
    that each detector found strange.

    Raises:
        ConfigError: the baseline has no such detector, or cannot tell its rate.
    """

    def __init__(
        self,
        screening: config.Screening,
        asked: Sequence[config.Detector],
        baseline: Baseline,
        columns: Columns,
        *,
        explains: bool = False,
    ) -> None:
        self._explains = explains
        self._on_anomaly = screening.on_anomaly
        self._on_error = screening.on_detector_error
        self._columns = columns
        self.names = tuple(each.type for each in asked)
        try:
            self._scorer = baseline.scorer([(each.type, each.false_positive_rate) for each in asked])
        except BaselineError as error:
            raise config.ConfigError(f"the detectors {', '.join(self.names)}: {error}") from error
        self.rates = tuple(each.false_positive_rate or baseline.false_positive_rate for each in asked)
        self.seen = 0
        self.found = [0] * len(asked)
        self._one = _fast(baseline, asked, columns)

    def judge(self, tensors: Sequence[Tensor], *, counted: bool = True) -> Verdict | None:
        """None for an ordinary request; may change the tensors' data when it is to be sanitised.

        `counted`: its rows are of those of which it is told how many are strange.
        """
        try:
            if self._one is not None:
                score = self._one(tensors)
                if score is not None and score <= 1.0:  # and not the other way round: no number is no pass
                    self.seen += counted
                    return None
            return self._judge_all(tensors, counted=counted)
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - the policy says what a failing detector means
            log.fault("a detector failed", error)
            return failed(self.names[0], self._on_error)

    def _judge_all(self, tensors: Sequence[Tensor], *, counted: bool) -> Verdict | None:
        rows = self._columns.rows(tensors)
        scores = self.scores(rows)
        strange = ~(scores <= 1.0)
        if counted:
            self.seen += len(rows)
        if not strange.any():
            return None
        if counted:
            for index, count in enumerate(strange.sum(axis=1).tolist()):
                self.found[index] += count
        told = np.minimum(np.nan_to_num(scores, nan=_MOST), _MOST)
        worst = int(told.max(axis=0).argmax())
        strangest = told[:, worst]
        by_detector = dict(zip(self.names, strangest.round(4).tolist(), strict=True))
        detector = self.names[int(strangest.argmax())]
        reasons = self._scorer.explain(rows[worst]) if self._explains else ()
        many = np.count_nonzero(strange.any(axis=0)) > MAX_SANITISED
        match "Block" if many and self._on_anomaly == "Sanitise" else self._on_anomaly:
            case "Block":
                return Verdict("anomalous", detector, "blocked", anomalous_input(), by_detector, reasons)
            case "Sanitise":
                self._columns.put(tensors, self._scorer.project(rows))
                return Verdict("sanitised", detector, "sanitised", None, by_detector, reasons)
            case "Flag":
                return Verdict("anomalous", detector, "flagged", None, by_detector, reasons)

    def counted(self) -> tuple[int, list[int]]:
        """What `seen` and `found` have come to since the last call."""
        counted = self.seen, self.found
        self.seen, self.found = 0, [0] * len(self.names)
        return counted

    def same(self, other: "Screen") -> bool:
        """Whether it asks the same of the same detectors."""
        return (self.names, self.rates) == (other.names, other.rates)

    def scores(self, rows: Array) -> Array:
        """The scores (k, n) of encoded rows (n, d), by the detectors in order; 1.0 is the threshold."""
        with np.errstate(over="ignore", invalid="ignore"):  # the score is then infinite or none: anomalous
            return self._scorer.scores(rows)


def _fast(
    baseline: Baseline, asked: Sequence[config.Detector], columns: Columns
) -> Callable[[Sequence[Tensor]], float | None] | None:
    """Mahalanobis alone, over one input: the score of a request of one row. None for others."""
    if [each.type for each in asked] != [FAST] or columns.whole is None or not baseline.encoding.linear:
        return None
    # Scaling, correlation and threshold in one matrix, the same for a row with a 1 behind it: the score is a length.
    matrix, offset = baseline.mahalanobis(asked[0].false_positive_rate)
    affine = np.vstack([matrix, -offset])
    width, whole = len(columns), columns.whole
    # Packed into memory of its own, a list becomes an array in a quarter of the time that numpy takes.
    row = np.ones(width + 1)
    memory = row.data
    pack = struct.Struct(f"{width}d").pack_into

    def score(tensors: Sequence[Tensor]) -> float | None:
        tensor = next(tensor for tensor in tensors if tensor.spec.name == whole)
        if len(tensor) != width:
            return None
        # `dot`, unlike the operators, looks at no floating-point flags, so an overflow is an infinite score and no
        # warning: that spares switching the warnings off and on again.
        pack(memory, 0, *tensor.data)
        apart = row.dot(affine)
        return math.sqrt(apart.dot(apart))

    return score
