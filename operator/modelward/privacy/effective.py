"""Which treatment each field gets when several policies speak of it, and what is wrong with what they say.

The strictest wins (`spec.Treatment.strictness`), field by field. Policies and inputs are taken as the API server stores
them: camelCase, defaults applied.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from modelward.privacy.hierarchy import HierarchyError, read_hierarchy
from modelward.privacy.spec import Treatment, mistake, strictest

Policy = dict[str, Any]
Hierarchies = Callable[[str], str | None]
"""The text of the hierarchy of this name; None where it is not there."""

NEED_KEYS = ("Pseudonymise", "DateShift")


class Mistake(NamedTuple):
    """Something that a policy asks of a model and that cannot be done: where it is asked, and how to mend it."""

    policy: Policy
    field: str
    message: str


class Choice(NamedTuple):
    """The treatment of a field, the policy that asks for it, and where and in which words."""

    treatment: Treatment
    policy: Policy
    field: str
    said: Mapping[str, Any]


class Target(NamedTuple):
    """What of a tensor is treated: a column by its offset in the last axis (None: every element), and its name."""

    offset: int | None
    field: str
    treatment: Treatment


def choices(
    policies: Sequence[Policy], inputs: Sequence[Mapping[str, Any]], hierarchies: Hierarchies
) -> dict[str, Choice]:
    """The treatment of each field that is not kept, by name.

    Args:
        policies: those that govern the model.
        inputs: its declared inputs; they tell who the subject of a DateShift is.
        hierarchies: finds a hierarchy. One that is not there groups nothing, so everything is suppressed.

    Raises:
        HierarchyError: one that is there cannot be used; the message names the field that names it.
    """
    found: dict[str, Choice] = {}
    for policy in policies:
        for index, field in enumerate(policy["spec"].get("fields", ())):
            path = f"spec.fields[{index}]"
            choice = Choice(_treatment(policy, field, path, inputs, hierarchies), policy, path, field)
            other = found.get(field["name"])
            if other is None or strictest((other.treatment, choice.treatment)) is not other.treatment:
                found[field["name"]] = choice
    return {name: choice for name, choice in found.items() if choice.treatment.treatment != "Keep"}


def targets(fields: Mapping[str, Treatment], name: str, columns: Sequence[str]) -> list[Target]:
    """What of a tensor `name` is treated: its columns, each by the stricter of its own and the tensor's treatment.

    A tensor that is dropped is one target; so is one whose columns have no names.
    """
    whole = fields.get(name)
    if not columns or (whole and whole.treatment == "Drop"):
        return [Target(None, name, whole)] if whole else []
    return [
        Target(offset, column, strictest(named))
        for offset, column in enumerate(columns)
        if (named := [one for one in (fields.get(column), whole) if one])
    ]


def mistakes(
    policies: Sequence[Policy], inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
) -> list[Mistake]:
    """What cannot be done of what the policies ask, for a model with these inputs and outputs."""
    chosen = choices(policies, inputs, lambda _: None)
    if chosen and not inputs:
        return [
            Mistake(
                one.policy, one.field, "spec.schema.inputs declares nothing, so no field can be found: declare them"
            )
            for one in chosen.values()
        ]
    fields = {name: choice.treatment for name, choice in chosen.items()}
    known = {column for tensor in inputs for column in _names(tensor)}
    found = [*_conflicts(policies, known)]
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            for target in targets(fields, tensor["name"], tensor.get("columns", ())):
                choice = chosen.get(target.field, chosen.get(tensor["name"]))
                if choice is None:
                    continue
                place = target.field if target.field == tensor["name"] else f"{tensor['name']}.{target.field}"
                wrong = mistake(target.treatment, tensor["datatype"]) or _stranger(target.treatment, known)
                if wrong:
                    found.append(Mistake(choice.policy, choice.field, f"{kind} {place}: {wrong}"))
    if inputs and all(name in fields and fields[name].treatment == "Drop" for name in (one["name"] for one in inputs)):
        last = chosen[inputs[-1]["name"]]
        found.append(Mistake(last.policy, last.field, "every input is dropped and the model would get none: keep one"))
    return found


def _stranger(treatment: Treatment, known: Iterable[str]) -> str:
    if treatment.treatment == "DateShift" and treatment.subject not in known:
        return f"DateShift by the subject {treatment.subject}, which is no input of the model: name one that is"
    return ""


def _conflicts(policies: Sequence[Policy], known: set[str]) -> Iterable[Mistake]:
    """Two policies may not seal the tokens of one field to different people: neither would get what it was promised."""
    holders: dict[str, str] = {}
    for policy in policies:
        holder = str(policy["spec"].get("tokenRecipient", ""))
        for index, field in enumerate(policy["spec"].get("fields", ())):
            name = field["name"]
            if field.get("treatment") == "Tokenise" and name in known and holders.setdefault(name, holder) != holder:
                text = f"Tokenise of {name} for another key holder than another policy's: agree on one tokenRecipient"
                yield Mistake(policy, f"spec.fields[{index}]", text)


def _treatment(
    policy: Policy, field: Mapping[str, Any], path: str, inputs: Sequence[Mapping[str, Any]], hierarchies: Hierarchies
) -> Treatment:
    kind = field.get("treatment", "Keep")
    match kind:
        case "Generalise":
            return Treatment(kind, step=field.get("step"), groups=_groups(field, path, hierarchies))
        case "Mask":
            if field.get("identifiers"):
                return Treatment(kind, identifiers=True)
            return Treatment(kind, keep_last=field.get("keepLast") or 0)
        case "Bucket":
            return Treatment(kind, edges=tuple(field.get("edges") or ()))
        case "Round":
            return Treatment(kind, digits=field.get("digits"))
        case "DateShift":
            return Treatment(kind, max_days=field.get("maxDays"), subject=_subject(policy, field, inputs))
        case "Tokenise":
            return Treatment(kind, recipient=str(policy["spec"].get("tokenRecipient", "")))
    return Treatment(kind)


def _groups(field: Mapping[str, Any], path: str, hierarchies: Hierarchies) -> dict[str, str] | None:
    name = field.get("hierarchy")
    if not name:
        return None
    try:
        text = hierarchies(name)
        if text is None:
            return {}
        return read_hierarchy(text, field.get("level") or 1)
    except HierarchyError as error:
        raise HierarchyError(f"{path}.hierarchy {name}: {error}") from error


def _subject(policy: Policy, field: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> str:
    """Whose date it is: as the field says, else the first identifier of the policy, or of the model, that is there."""
    if field.get("subject"):
        return str(field["subject"])
    known = {name for tensor in inputs for name in _names(tensor)}
    identifiers = [one["name"] for one in policy["spec"].get("fields", ()) if one.get("role") == "Identifier"]
    identifiers += [tensor["name"] for tensor in inputs if tensor.get("role") == "Identifier"]
    return next((str(name) for name in identifiers if name in known and name != field["name"]), "")


def _names(tensor: Mapping[str, Any]) -> tuple[str, ...]:
    return (tensor["name"], *tensor.get("columns", ()))
