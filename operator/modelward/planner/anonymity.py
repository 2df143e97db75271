"""What the policies ask of combinations of quasi-identifiers, in a model's requests and in the data it is fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.schema import Tensor
from modelward.errand import Anonymity
from modelward.planner.names import KubeObject
from modelward.planner.references import References
from modelward.planner.treatment import chosen, inputs_of
from modelward.privacy.effective import Choice, choices, targets
from modelward.privacy.roles import asked_k, asks_minimisation, quasi_identifiers, roles
from modelward.reidentification.sample import MOST_PEOPLE


@dataclass(frozen=True)
class Asked:
    """What is asked of a model's requests.

    Attributes:
        k: each combination of quasi-identifiers must stand for so many people.
        tolerance: share of the rows that may be in smaller ones.
        fields: the columns that are quasi-identifiers and of which the model gets anything.
        subject: the column that tells whose a row is; empty: none, and rows are counted.
        unread: nobody here can read the requests.
    """

    k: int
    tolerance: float
    fields: tuple[str, ...]
    subject: str = ""
    unread: bool = False


def of_requests(md: ModelDeployment, policies: Sequence[KubeObject]) -> Asked | None:
    """Return what the policies ask of a model's requests; None where none asks for a k."""
    k = asked_k(policies)
    if k is None:
        return None
    inputs = inputs_of(md)
    said = roles(policies, inputs)
    treated = by_column(choices(policies, inputs, lambda _: None), inputs)
    columns = [name for tensor in _inputs(md) for name in column_names(tensor)]
    told = [name for name in columns if name not in treated or treated[name].treatment.treatment not in _TELLS_NOTHING]
    whose = next((name for name in columns if said.get(name) == "Identifier"), "")
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    return Asked(
        k,
        min(
            one["spec"]["kAnonymity"].get("tolerance", _TOLERANCE) for one in policies if one["spec"].get("kAnonymity")
        ),
        tuple(name for name in told if said.get(name) == "QuasiIdentifier"),
        whose if k <= MOST_PEOPLE else "",
        unread=in_use is not None and in_use.only,
    )


def reidentification_config(md: ModelDeployment, policies: Sequence[KubeObject]) -> dict[str, Any] | None:
    """Return the part `reidentification` of the sidecar's configuration; None: there is nothing to count."""
    asked = of_requests(md, policies)
    if asked is None or not asked.fields or asked.unread:
        return None
    whose = {"subject": asked.subject} if asked.subject else {}
    return {"k": asked.k, "fields": list(asked.fields), "tolerance": asked.tolerance, **whose}


def anonymity_unsupported(md: ModelDeployment, policies: Sequence[KubeObject]) -> Iterator[str]:
    """Yield quasi-identifiers that cannot be counted, with the reason and the fix."""
    said = roles(policies, inputs_of(md)) if asked_k(policies) is not None else {}
    for index, tensor in enumerate(_inputs(md)):
        if said.get(tensor.name) == "QuasiIdentifier" and not column_names(tensor):
            yield (
                f"spec.schema.inputs[{index}].columns (none, and {tensor.name} is a quasi-identifier of several"
                " elements: name them)"
            )


def _inputs(md: ModelDeployment) -> Sequence[Tensor]:
    return md.spec.schema_.inputs if md.spec.schema_ else ()


def column_names(tensor: Tensor) -> list[str]:
    """Return the names of a tensor's columns, as the sidecar knows them; none where it has several without names."""
    if tensor.columns:
        return list(tensor.columns)
    inner = tensor.shape[1:] if tensor.shape[0] == -1 else tensor.shape
    return [tensor.name] if all(axis == 1 for axis in inner) else []


_SETTINGS = ("step", "keepLast", "identifiers", "edges", "digits")
_TELLS_NOTHING = ("Drop", "Tokenise")  # two tokens of one value are different
_TOLERANCE = 0.01
_AS_TELLING = ("Pseudonymise", "Tokenise", "DateShift")  # as the value itself: who has the same one keeps it


def of_data(
    md: ModelDeployment, policies: Sequence[KubeObject], references: References, columns: Sequence[str]
) -> Anonymity | None:
    """Return what data must keep to of which `columns` go into a baseline; None where no policy asks for anything.

    Raises:
        HierarchyError: a hierarchy is not there or cannot be used.
    """
    k = asked_k(policies)
    if k is None and not asks_minimisation(policies):
        return None
    inputs = inputs_of(md)
    said = roles(policies, inputs)
    quasi = quasi_identifiers(said, inputs)
    found = by_column(chosen(md, policies, references), inputs)
    named = [name for name in sorted(said) if name in quasi or (said[name] == "Identifier" and name in columns)]
    hierarchies = {
        name: references.hierarchy(name) or ""
        for one in named
        if one in found and (name := found[one].said.get("hierarchy"))
    }
    return Anonymity(k or 0, tuple(_field(one, said[one], found.get(one)) for one in named), hierarchies)


def by_column(asked: Mapping[str, Choice], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Choice]:
    """Return the choice for each field, and for each column of an input the stricter of its own and the input's."""
    found = dict(asked)
    for tensor in inputs:
        columns = tensor.get("columns", ())
        treatments = {name: choice.treatment for name, choice in asked.items()}
        for target in targets(treatments, tensor["name"], columns):
            for column in columns if target.offset is None else [target.field]:
                own, whole = asked.get(column), asked.get(tensor["name"])
                kept = next((one for one in (own, whole) if one and one.treatment is target.treatment), None)
                if kept is not None:
                    found[column] = kept
    return found


def _field(name: str, role: str, choice: Choice | None) -> dict[str, Any]:
    """Return a field as a DataPolicy writes it. No key is given to who judges data, so nothing is done with one."""
    if choice is None or (choice.treatment.treatment in _AS_TELLING and role == "QuasiIdentifier"):
        return {"name": name, "role": role}
    if choice.treatment.treatment in _AS_TELLING:
        return {"name": name, "role": role, "treatment": "Drop"}
    settings = {key: value for key, value in msgspec.to_builtins(choice.treatment).items() if key in _SETTINGS}
    if choice.said.get("hierarchy"):
        settings = {"hierarchy": choice.said["hierarchy"], "level": choice.said.get("level") or 1}
    return {"name": name, "role": role, "treatment": choice.treatment.treatment, **settings}
