"""What the policies ask of combinations of quasi-identifiers, in a model's requests and in the data it is fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from modelward.api.modeldeployment import ModelDeployment
from modelward.errand import Anonymity
from modelward.planner.references import References
from modelward.planner.treatment import Policy, chosen, inputs_of
from modelward.privacy.effective import Choice, targets
from modelward.privacy.roles import asked_k, asks_minimisation, quasi_identifiers, roles

_SETTINGS = ("step", "keepLast", "identifiers", "edges", "digits")
_AS_TELLING = ("Pseudonymise", "Tokenise", "DateShift")  # as the value itself: who has the same one keeps it


def of_data(
    md: ModelDeployment, policies: Sequence[Policy], references: References, columns: Sequence[str]
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
    choices = by_column(chosen(md, policies, references), inputs)
    named = [name for name in sorted(said) if name in quasi or (said[name] == "Identifier" and name in columns)]
    hierarchies = {
        name: references.hierarchy(name) or ""
        for one in named
        if one in choices and (name := choices[one].said.get("hierarchy"))
    }
    return Anonymity(k or 0, tuple(_field(one, said[one], choices.get(one)) for one in named), hierarchies)


def by_column(choices: Mapping[str, Choice], inputs: Sequence[Mapping[str, Any]]) -> dict[str, Choice]:
    """Return the choice for each field, and for each column of an input the stricter of its own and the input's."""
    found = dict(choices)
    for tensor in inputs:
        columns = tensor.get("columns", ())
        treatments = {name: choice.treatment for name, choice in choices.items()}
        for target in targets(treatments, tensor["name"], columns):
            for column in columns if target.offset is None else [target.field]:
                own, whole = choices.get(column), choices.get(tensor["name"])
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
