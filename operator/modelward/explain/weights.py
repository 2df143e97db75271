"""A linear model's exported weights, in the order of a baseline's columns."""

from collections.abc import Sequence

from modelward.encrypted.model import Model, read
from modelward.encrypted.parameters import EncryptedError
from modelward.explain.linear import Linear, Link

_LINKS: dict[str, Link] = {"logistic": "logistic", "logistic3": "logistic", "softmax": "softmax"}


class WeightsError(Exception):
    """Weights that explain nothing here; the message says why, and the fix."""


def linear_model(content: bytes) -> Model:
    """The linear model in a weights file, in the format that encrypted requests are scored by.

    Raises:
        WeightsError: there is none.
    """
    try:
        model = read(content)
    except EncryptedError as error:
        raise WeightsError(str(error)) from error
    if len(model.layers) != 1:
        raise WeightsError(f"a network of {len(model.layers)} layers is not linear: use PermutationSHAP")
    return model


def fitted_to(model: Model, columns: Sequence[str], as_taken: Sequence[str]) -> Linear:
    """The weights of `columns` (d), the baseline's.

    Args:
        model: as `linear_model` gave it.
        columns: the baseline's names.
        as_taken: the same in the order in which the model takes them, for weights that name no columns.

    Raises:
        WeightsError: they are not the same columns.
    """
    names = model.columns or tuple(as_taken)
    if len(names) != model.width:
        raise WeightsError(
            f"the weights are for {model.width} columns, and the baseline has {len(names)}: fit the baseline with every"
            " column that the model takes"
        )
    if sorted(names) != sorted(columns):
        unknown = [name for name in (*names, *columns) if name not in columns or name not in names]
        raise WeightsError(f"the weights and the baseline have different columns: {', '.join(unknown[:5])}")
    layer = model.layers[0]
    order = [names.index(name) for name in columns]
    return Linear(layer.weights[:, order], layer.bias, _LINKS.get(model.link, "identity"))
