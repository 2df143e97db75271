"""Judges an object against its resource's schema, as the API server would, but offline and with friendlier words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from modelward.api.base import API_VERSION, GROUP, TIME_PATTERN, Resource
from modelward.api.crd import KINDS, Kind, schema_of
from modelward.api.expression import CelError, Expression
from modelward.api.manifest import FieldPath, dotted
from modelward.api.printable import printable

KIND_BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
_RULES, _KEYS = "x-kubernetes-validations", "x-kubernetes-list-map-keys"
_MAX_PROBLEMS = 64
_FIELDS_BELOW = "an object: its fields go below it, indented"
_WANTED = {
    "model_type": _FIELDS_BELOW,
    "model_attributes_type": _FIELDS_BELOW,
    "dict_type": _FIELDS_BELOW,
    "list_type": "a list: begin each item with a dash",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false, without quotes",
}
"""What a value should have been, by the type of pydantic's error."""


@cache
def _schema(kind: str) -> dict[str, Any]:
    return schema_of(KIND_BY_NAME[kind])


@dataclass(frozen=True)
class Problem:
    """Something in an object that its schema does not allow."""

    path: FieldPath
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path) or 'the object'}: {self.message}"


class SchemaError(Exception):
    """An object that its schema does not allow, with every problem found."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class DepthError(SchemaError):
    """An object that is nested too deep to be looked at; the API server might still take it."""

    def __init__(self) -> None:
        super().__init__([Problem((), "nested too deep")])


def is_ours(data: dict[str, Any]) -> bool:
    """Tell whether an object belongs to this API group, in whatever version."""
    version = data.get("apiVersion")
    return isinstance(version, str) and version.split("/", 1)[0] == GROUP


def parse(data: dict[str, Any]) -> Resource:
    """Return the resource that an object describes, defaults applied.

    Raises:
        SchemaError: the API server would refuse it.
    """
    resource = _shaped(data)
    problems = schema_rule_problems(canonical(resource))
    if problems:
        raise SchemaError(problems)
    return resource


def stored(data: dict[str, Any]) -> dict[str, Any]:
    """Return an object as the API server stores it, its schema's own CEL rules unasked: see `schema_rule_problems`.

    Raises:
        SchemaError: a type or a bound is wrong, or a field is unknown.
    """
    return canonical(_shaped(data))


def schema_rule_problems(as_stored: dict[str, Any]) -> list[Problem]:
    """Return what its schema finds in an object as it is stored beyond types and bounds, its CEL rules above all."""
    return _schema_problems(as_stored, _rules_of(as_stored["kind"]), ())[:_MAX_PROBLEMS]


def canonical(resource: Resource) -> dict[str, Any]:
    """Return a resource as the API server stores it: camelCase, defaults applied, absent fields absent.

    Raises:
        DepthError: its metadata is nested deeper than can be written.
    """
    try:
        data = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    except ValueError:  # more than 255 levels in metadata, which may hold what it likes
        raise DepthError from None
    data["metadata"] = {key: value for key, value in data["metadata"].items() if value not in ({}, "", 0)}
    return data


def _shaped(data: dict[str, Any]) -> Resource:
    kind = KIND_BY_NAME.get(str(data.get("kind")))
    if data.get("apiVersion") != API_VERSION:
        raise SchemaError(
            [Problem(("apiVersion",), f"{_shown(data.get('apiVersion'))} is not served: write {API_VERSION}")]
        )
    if kind is None:
        known = ", ".join(KIND_BY_NAME)
        raise SchemaError(
            [Problem(("kind",), f"{_shown(data.get('kind'))} is none of {API_VERSION}: give one of {known}")]
        )
    try:
        return kind.model.model_validate({**data, "spec": _without_nulls(data.get("spec"))}, strict=True)
    except RecursionError:
        raise DepthError from None
    except ValidationError as error:
        problems = [_problem(item, _schema(kind.name)) for item in error.errors(include_url=False)[:_MAX_PROBLEMS]]
        raise SchemaError(problems) from None


def _without_nulls(value: Any) -> Any:
    """Drop fields that are null, as the API server does before it fills in defaults."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _problem(error: Any, schema: dict[str, Any]) -> Problem:
    path: FieldPath = tuple(error["loc"])
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = list(_at(schema, path[:-1]).get("properties", {}))
            near = get_close_matches(str(path[-1]), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known[:12])}"
            return Problem(path, f"unknown field; {hint}")
        case "missing":
            return Problem(path, "required, and not there")
        case "literal_error":
            return Problem(path, f"{_shown(error['input'])} is not one of {context['expected']}")
        case "string_type" if not isinstance(error["input"], (dict, list)):
            return Problem(path, f"{_shown(error['input'])} is not a string: put it in quotes")
        case kind if kind in _WANTED:
            return Problem(path, f"{_shown(error['input'])} is not {_WANTED[kind]}")
        case "string_pattern_mismatch":
            return Problem(path, f"{_shown(error['input'])} does not match {context['pattern']}")
        case _:
            message = error["msg"][:1].lower() + error["msg"][1:]
            return Problem(path, f"{message} (found {_shown(error['input'])})")


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = f'"{printable(value[:80])}"' if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _at(schema: dict[str, Any], path: FieldPath) -> dict[str, Any]:
    for step in path:
        inner = schema.get("items") if isinstance(step, int) else schema.get("properties", {}).get(step)
        schema = inner or schema.get("additionalProperties") or {}
    return schema


def _ruled(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Return what of a schema leads to its CEL rules, formats and keys: most fields have none of them, and need not be
    walked through.
    """
    out = {name: schema[name] for name in (_RULES, _KEYS) if name in schema}
    if schema.get("format") == "date-time":
        out["format"] = schema["format"]
    if "x-kubernetes-int-or-string" in schema:
        out["pattern"] = schema["pattern"]
    inner = {name: _ruled(value) for name, value in schema.get("properties", {}).items()}
    if properties := {name: value for name, value in inner.items() if value}:
        out["properties"] = properties
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict) and (ruled := _ruled(schema[name])):
            out[name] = ruled
    return out or None


@cache
def _rules_of(kind: str) -> dict[str, Any]:
    return _ruled(_schema(kind)) or {}


def _schema_problems(value: Any, schema: dict[str, Any], path: FieldPath) -> list[Problem]:
    """What a schema asks beyond the models' types, innermost last: its CEL rules, formats, keys that are there once."""
    problems = []
    for rule in schema.get(_RULES, ()):
        try:
            holds = Expression.compiled(rule["rule"]).holds({"self": value})
        except CelError:
            holds = False
        if not holds:
            problems.append(Problem(path, rule["message"]))
    if isinstance(value, dict):
        for key, inner in schema.get("properties", {}).items():
            if key in value:
                problems += _schema_problems(value[key], inner, (*path, key))
        for key in value if "additionalProperties" in schema else ():
            problems += _schema_problems(value[key], schema["additionalProperties"], (*path, key))
    elif isinstance(value, list):
        problems += _repeated(value, schema.get(_KEYS, ()), path)
        for index, item in enumerate(value if "items" in schema else ()):
            problems += _schema_problems(item, schema["items"], (*path, index))
    elif isinstance(value, str):
        if "format" in schema and not _is_time(value):
            problems.append(Problem(path, f"{_shown(value)} is not a time: write it as 2027-03-31T00:00:00Z"))
        if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
            problems.append(Problem(path, f"{_shown(value)} is not a quantity: write it as 500m, 2 or 1.5Gi"))
    return problems


def _repeated(items: list[Any], keys: Sequence[str], path: FieldPath) -> Iterator[Problem]:
    """Items of a list-map whose keys an item before them has."""
    seen = set()
    for index, item in enumerate(items if keys else ()):
        values = tuple(item.get(key) for key in keys)
        if values in seen:
            named = ", ".join(f"{key} {_shown(value)}" for key, value in zip(keys, values, strict=True))
            yield Problem((*path, index), f"a second one with {named}: keep one of them")
        seen.add(values)


def _is_time(text: str) -> bool:
    if not re.fullmatch(TIME_PATTERN, text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
