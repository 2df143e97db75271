"""What each field says about a person, brought together from the policies and the model's own declaration."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

ROLES: Final = ("Feature", "Sensitive", "QuasiIdentifier", "Identifier")
"""The later, the more has to be done: of two declarations the later one holds."""


def roles(policies: Iterable[Mapping[str, Any]], inputs: Iterable[Mapping[str, Any]] = ()) -> dict[str, str]:
    """The role of each field and column by name, as far as one is declared.

    A field that is treated was not declared a mere feature, though that is the default. What a whole input is, each of
    its columns is as well.
    """
    found: dict[str, str] = {}

    def declare(name: str, role: str) -> None:
        found[name] = max(role, found.get(name, role), key=ROLES.index)

    for policy in policies:
        for field in policy["spec"].get("fields", ()):
            role = field.get("role", ROLES[0])
            if role != ROLES[0] or field.get("treatment", "Keep") == "Keep":
                declare(field["name"], role)
    for tensor in inputs:
        if tensor.get("role"):
            declare(tensor["name"], tensor["role"])
        for column in tensor.get("columns", ()):
            if tensor["name"] in found:
                declare(column, found[tensor["name"]])
    return found


def quasi_identifiers(found: Mapping[str, str], inputs: Sequence[Mapping[str, Any]] = ()) -> tuple[str, ...]:
    """The names of those columns that are quasi-identifiers; an input that has columns is not one itself."""
    tables = {tensor["name"] for tensor in inputs if tensor.get("columns")}
    return tuple(name for name, role in found.items() if role == "QuasiIdentifier" and name not in tables)


def asked_k(policies: Iterable[Mapping[str, Any]]) -> int | None:
    """The greatest k that a policy asks for."""
    asked = [one["spec"]["kAnonymity"]["k"] for one in policies if one["spec"].get("kAnonymity")]
    return max(asked, default=None)


def asks_minimisation(policies: Iterable[Mapping[str, Any]]) -> bool:
    """Whether one of them asks that identifiers are treated."""
    return any((one["spec"].get("require") or {}).get("minimisation") for one in policies)
