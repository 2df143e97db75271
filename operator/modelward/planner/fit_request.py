"""What the Job that fits a model's baseline is asked for: which data, which columns, treated how.

Detectors see what the model sees, so a baseline is fitted on data treated as the sidecar treats requests. A column of
which the model gets nothing, or a text (a pseudonym, a token, a masked or grouped value), has no place in a baseline of
numbers; so none of these treatments is done in the Job, and no key is given to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from modelward.api.lineage import lineage
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.schema import Tensor
from modelward.errand import FitRequest, Source
from modelward.planner.anonymity import column_names, of_data
from modelward.planner.dataset import Dataset, DatasetError, read_dataset
from modelward.planner.names import namespace_of
from modelward.planner.references import References
from modelward.planner.treatment import fields
from modelward.privacy.effective import Target, targets
from modelward.privacy.spec import Treatment

_NUMBERS = ("BOOL", "BYTES")  # which are none
_COARSE = ("Generalise", "Bucket", "Round")  # what leaves a number a number
_SETTINGS = ("step", "edges", "digits")
_MOST_BYTES = 900_000  # a Secret holds 1 MiB, and this one a certificate as well


def fitted_in_cluster(md: ModelDeployment) -> str:
    """Return the address of the data that a Job is to fit a model's baseline on; nothing where none is."""
    baseline = md.spec.monitoring.baseline if md.spec.monitoring else None
    return (baseline.dataset or "") if baseline else ""


def dataset_of(md: ModelDeployment) -> Dataset:
    """Return where that data is.

    Raises:
        DatasetError: nothing is read from there.
    """
    return read_dataset(fitted_in_cluster(md), md.metadata.annotations)


def fit_request(md: ModelDeployment, policies: Sequence[dict[str, Any]], references: References) -> FitRequest:
    """Return what is to be fitted for a model that names a data set.

    Args:
        md: the ModelDeployment.
        policies: those that govern it.
        references: the hierarchies that they name.

    Raises:
        DatasetError: the data set, or the inputs, cannot be fitted on; the message says why.
        HierarchyError: a hierarchy is not there or cannot be used.
    """
    dataset = dataset_of(md)
    treated = {
        name: msgspec.convert(treatment, Treatment) for name, treatment in fields(md, policies, references).items()
    }
    columns, how = _columns(md, treated)
    detectors = md.spec.monitoring.detectors if md.spec.monitoring else ()
    request = FitRequest(
        model=f"{namespace_of(md)}/{md.metadata.name}",
        source=Source(url=dataset.url) if dataset.url else Source(claim=dataset.claim, file=dataset.path),
        sha256=dataset.sha256,
        lineage=lineage(md.metadata.annotations).get("dataset", ""),
        columns=columns,
        fields=tuple(_field(name, treatment) for name, treatment in how.items()),
        false_positive_rate=min((one.false_positive_rate for one in detectors), default=0.01),
        anonymity=of_data(md, policies, references, columns),
    )
    if len(request.to_bytes()) > _MOST_BYTES:
        raise DatasetError(
            "the hierarchies of its quasi-identifiers are too large to be given to the Job: shorten them"
        )
    return request


def _columns(md: ModelDeployment, treated: Mapping[str, Treatment]) -> tuple[tuple[str, ...], dict[str, Treatment]]:
    """Return the columns that go into the baseline, in order, and how those are treated that are."""
    inputs = md.spec.schema_.inputs if md.spec.schema_ else []
    numbers = [tensor for tensor in inputs if tensor.datatype not in _NUMBERS]
    named = [name for tensor in numbers for name in column_names(tensor)]
    if any(not column_names(tensor) for tensor in numbers):
        if treated or len(numbers) > 1:
            raise DatasetError("name the columns of each input in spec.schema.inputs[].columns")
        return (), {}
    how: dict[str, Treatment] = {}
    for tensor in numbers:
        how |= dict(_by_column(tensor, treated))
    kept = tuple(name for name in named if name not in how or _stays_a_number(how[name]))
    if not kept:
        raise DatasetError("no column is left that is a number once it is treated")
    if len(set(kept)) != len(kept):
        raise DatasetError("two columns of spec.schema.inputs have the same name")
    odd = next((name for name in kept if "," in name or name != name.strip()), None)
    if odd is not None:
        raise DatasetError(f"the column {odd!r}: a name with a comma, or spaces around it, cannot be chosen")
    return kept, {name: how[name] for name in kept if name in how}


def _by_column(tensor: Tensor, treated: Mapping[str, Treatment]) -> list[tuple[str, Treatment]]:
    names = column_names(tensor)
    found: list[Target] = targets(treated, tensor.name, list(tensor.columns))
    return [
        (name, target.treatment)
        for target in found
        for name in (names if target.offset is None else [names[target.offset]])
    ]


def _stays_a_number(treatment: Treatment) -> bool:
    return treatment.treatment in _COARSE and treatment.groups is None


def _field(name: str, treatment: Treatment) -> dict[str, Any]:
    given = msgspec.to_builtins(treatment)
    settings = {key: list(value) if key == "edges" else value for key, value in given.items() if key in _SETTINGS}
    return {"name": name, "treatment": treatment.treatment, **settings}
