"""The detectors of one configuration, built from its baseline and the declared inputs."""

from collections.abc import Mapping
from typing import get_args

from modelward.detect.baseline import Baseline, BaselineError, from_bytes
from modelward.sidecar import config
from modelward.sidecar.columns import Columns
from modelward.sidecar.screening import Screen
from modelward.sidecar.tensors import TensorSpec

_INPUT_TYPES = get_args(config.InputType)


class Detection:
    """What watches a model's requests. `screen`: the detectors of single rows, None if none is asked for.

    `fitted`: when the baseline was made, where it says so. `explains`: verdicts come with their reasons.

    Raises:
        ConfigError: no baseline or no declared inputs to go with a detector, or they do not fit one another.
    """

    def __init__(
        self,
        screening: config.Screening,
        content: bytes | None,
        declared: Mapping[str, TensorSpec] | None,
        *,
        explains: bool = False,
    ) -> None:
        asked = screening.detectors
        if len({each.type for each in asked}) != len(asked):
            raise config.ConfigError("a detector is asked for twice; keep one of its type")
        self.fitted = ""
        self.screen: Screen | None = None
        of_rows = [each for each in asked if each.type in _INPUT_TYPES]
        if of_rows:
            baseline = _baseline(of_rows[0].type, content)
            columns = _columns(of_rows[0].type, baseline, declared)
            self.fitted = baseline.origin.fitted
            self.screen = Screen(screening, of_rows, baseline, columns, explains=explains)

    def rates(self) -> str:
        """The detectors of single rows and the rates asked of them, as in `Ensemble=0.01 Tails=0.05`."""
        screen = self.screen
        return "" if screen is None else " ".join(map("{}={:g}".format, screen.names, screen.rates))


def _baseline(detector: str, content: bytes | None) -> Baseline:
    if content is None:
        raise config.ConfigError(f"the detector {detector} needs a baseline: fit one with `modelward fit`")
    try:
        return from_bytes(content)
    except BaselineError as error:
        raise config.ConfigError(f"the baseline: {error}") from error


def _columns(detector: str, baseline: Baseline, declared: Mapping[str, TensorSpec] | None) -> Columns:
    if declared is None:
        raise config.ConfigError(f"the detector {detector} needs the model's inputs declared in `spec.schema.inputs`")
    return Columns(baseline, declared)
