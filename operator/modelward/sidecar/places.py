"""Where a declared field lies in a request: which element of each row of which input."""

from collections.abc import Mapping
from typing import NamedTuple

from modelward.sidecar.config import ConfigError
from modelward.sidecar.tensors import TensorSpec


class Place(NamedTuple):
    """Element `offset` of every `width` of an input; `numeric`: it holds numbers."""

    input: str
    offset: int
    width: int
    numeric: bool


def place_of(what: str, field: str, declared: Mapping[str, TensorSpec]) -> Place:
    """Where a field lies; `what` it is, for the error.

    Raises:
        ConfigError: it is no column of an input, and no input of one element.
    """
    for spec in declared.values():
        if field in spec.columns:
            return Place(spec.name, list(spec.columns).index(field), spec.width, spec.numeric)
    raise ConfigError(
        f"{what} {field} is no declared column, and no input of one element: name it in `spec.schema.inputs`"
    )
