"""Reads the lineage annotations: what each must look like, and the strict reading of the transformations.

`lineage.modelward.io/statements` names where the signed statements about the others are: `configmap/<name>` or
`secret/<name>` of the model's namespace, several with commas between. They are signed, so the place needs no trust.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

PREFIX = "lineage.modelward.io/"
NAMES = ("dataset", "model", "training-run", "transformations", "consumer")
STATEMENTS = f"{PREFIX}statements"
MAX_PLACES = 4
MAX_BYTES = 8 * 1024
_STEP_KEYS = ("what", "how", "why")
_DIGEST = re.compile(r".+@sha256:([0-9a-f]{64})")
_PLACE = re.compile(r"(configmap|secret)/([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)")
_KINDS: dict[str, Literal["ConfigMap", "Secret"]] = {"configmap": "ConfigMap", "secret": "Secret"}


class Place(NamedTuple):
    """A ConfigMap or Secret with signed statements."""

    kind: Literal["ConfigMap", "Secret"]
    name: str


def lineage(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the lineage annotations by their short names."""
    return {name: annotations[PREFIX + name] for name in NAMES if PREFIX + name in annotations}


def readable(annotations: Mapping[str, Any]) -> dict[str, str]:
    """Return the lineage annotations that nothing is wrong with, by their short names."""
    texts = {key: value for key, value in annotations.items() if isinstance(value, str)}
    return {name: value.strip() for name, value in lineage(texts).items() if not problems({PREFIX + name: value})}


def problems(annotations: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the lineage annotations that are there, a sentence each."""
    found = []
    for name, value in lineage(annotations).items():
        problem = _problem(name, value)
        if problem:
            found.append(f"{PREFIX}{name} {problem}")
    if STATEMENTS in annotations and not places(annotations):
        found.append(
            f"{STATEMENTS} is not configmap/<name> or secret/<name>, or up to {MAX_PLACES} of them with commas between"
        )
    if cyclic(annotations):
        found.append(f"{PREFIX}model has the digest of {PREFIX}dataset, and nothing is made of itself")
    return found


def cyclic(annotations: Mapping[str, str]) -> bool:
    """Tell whether the annotations alone say that the model is its own data set."""
    return bool(digest(annotations, "model")) and digest(annotations, "model") == digest(annotations, "dataset")


def digest(annotations: Mapping[str, str], name: str) -> str:
    """Return the SHA-256 in hex that an annotation ends in; an empty text where it ends in none."""
    found = _DIGEST.fullmatch(annotations.get(PREFIX + name, "")[:MAX_BYTES])
    return found[1] if found else ""


def transformations(annotations: Mapping[str, str]) -> list[dict[str, str]] | None:
    """Return what the annotation says was done to the data; None where it is not there or cannot be read."""
    text = annotations.get(f"{PREFIX}transformations", "")
    return None if not text or _problem("transformations", text) else json.loads(text)


def places(annotations: Mapping[str, str]) -> tuple[Place, ...]:
    """Return where signed statements are; none where the annotation is not there or cannot be read."""
    parts = annotations.get(STATEMENTS, "")[:MAX_BYTES].split(",", MAX_PLACES)
    found = [_PLACE.fullmatch(part.strip()) for part in parts]
    if len(parts) > MAX_PLACES or not all(found):
        return ()
    return tuple(dict.fromkeys(Place(_KINDS[one[1]], one[2]) for one in found if one))


def _problem(name: str, value: str) -> str | None:
    if len(value.encode("utf-8", "surrogatepass")) > MAX_BYTES:  # first of all: nothing below reads more
        return f"has more than {MAX_BYTES:,} bytes"
    if not value.strip():
        return "says nothing"
    if name in ("dataset", "model") and "@sha256:" in value and not _DIGEST.fullmatch(value):
        return "does not end in @sha256: and 64 lower-case hex digits"
    return _transformations_problem(value) if name == "transformations" else None


def _transformations_problem(text: str) -> str | None:
    if "\\u" in text:
        return r"has \u escapes: write the characters themselves, so that readers see what programs see"
    try:
        # Numbers are read as floats, of which none is too long: none belongs here, and that is told of below.
        steps = json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant, parse_int=float)
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"is not JSON: {str(error)[:120]}"
    if not isinstance(steps, list) or not steps:
        return 'is not a list of at least one {"what": ..., "how": ..., "why": ...}'
    for index, step in enumerate(steps):
        if not isinstance(step, dict) or set(step) != set(_STEP_KEYS):
            return f"[{index}] is not an object with exactly what, how and why"
        for key in _STEP_KEYS:
            if not isinstance(step[key], str) or not step[key].strip():
                return f"[{index}].{key} is not a text that says something"
    return None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key is given twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
