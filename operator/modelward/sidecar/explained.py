"""What a configuration makes of explanations: the method, the words for each column, the outputs that stay out."""

from collections.abc import Mapping, Sequence

import numpy as np

from modelward.detect.baseline import Baseline
from modelward.explain.methods import ByWalks, ByWeights, Method, MethodError
from modelward.explain.reasons import LEAST_TOLD, Teller
from modelward.explain.weights import WeightsError, fitted_to, linear_model
from modelward.privacy.effective import targets
from modelward.privacy.spec import KEEP, Treatment
from modelward.sidecar import config
from modelward.sidecar.columns import Columns


def method_of(
    asked: config.Explanations,
    weights: bytes | None,
    fitted: Baseline,
    columns: Columns,
    dropped: np.ndarray,
) -> Method:
    """What explains by this configuration. `dropped`: which of the `columns` (d) the model never gets.

    Raises:
        MethodError, WeightsError: it cannot be used with this model.
    """
    sample = fitted.summary.sample
    if asked.method == "PermutationSHAP":
        return ByWalks(sample, dropped, asked.extra_calls)
    texts = [column.name for column in fitted.encoding.columns if column.categories is not None]
    if texts:
        raise MethodError(f"LinearSHAP is of columns of numbers, and {texts[0]} holds texts: use PermutationSHAP")
    if weights is None:
        raise WeightsError("LinearSHAP needs the model's exported weights")
    return ByWeights(fitted_to(linear_model(weights), columns.names, columns.as_taken), sample, dropped)


def treated_outputs(settings: config.Config) -> frozenset[str]:
    """The outputs that are treated, whole or in a column; of those that are not declared, any that a field names."""
    fields = settings.fields.keys()
    in_part = [each.name for each in settings.outputs or () if not fields.isdisjoint(each.columns)]
    return frozenset((*fields, *in_part))


def treatments_by_column(settings: config.Config) -> dict[str, Treatment]:
    """The treatment of each treated column, by its name."""
    return {
        tensor.columns[target.offset] if target.offset is not None else target.field: target.treatment
        for tensor in settings.inputs or ()
        for target in targets(settings.fields, tensor.name, tensor.columns)
    }


def tellers_of(
    fitted: Baseline,
    names: Sequence[str],
    treatments: Mapping[str, Treatment],
    hidden: Sequence[str],
    shown: np.ndarray,
) -> list[Teller]:
    """What words each of the columns that are `shown` (their positions). `hidden`: whose values are not told."""
    usual, kept_back = np.median(fitted.summary.sample, axis=0), frozenset(hidden)
    made = []
    for index in shown.tolist():
        name, categories = names[index], fitted.encoding.columns[index].categories
        treatment = treatments.get(name, KEEP)
        rare = _rare(fitted.summary.sample[:, index], len(categories or ()))
        made.append(Teller(name, categories, float(usual[index]), treatment, hidden=name in kept_back, rare=rare))
    return made


def _rare(codes: np.ndarray, categories: int) -> frozenset[int]:
    """Which of so many categories few rows have, by the rows' codes (n,)."""
    found, counts = np.unique(codes, return_counts=True)
    return frozenset(range(categories)).difference(found[counts >= LEAST_TOLD].tolist())
