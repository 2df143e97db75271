"""Judges events by OpenLineage's published schemas, and facets by those that they name, modelward's own among them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from openlineage.client.serde import Serde
from referencing import Registry, Resource

from tests.conformance.corpora import files

SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
OWN = Path(__file__).parents[2] / "docs" / "reference" / "lineage"
FORMATS = FormatChecker(formats=["uuid"])


@FORMATS.checks("date-time", raises=ValueError)
def is_moment(value: Any) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri", raises=ValueError)
def is_uri(value: Any) -> bool:
    return not isinstance(value, str) or bool(urlsplit(value).scheme)


@cache
def schemas() -> Registry[Any]:
    texts = [path.read_text() for path in (*files("openlineage", "*.json"), *OWN.glob("*.json"))]
    documents = [json.loads(text) for text in texts]
    return Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in documents])


@cache
def validator(url: str) -> Draft202012Validator:
    schemas().resolver().lookup(url)  # one that is not published there is no schema
    return Draft202012Validator({"$ref": url}, registry=schemas(), format_checker=FORMATS)


def facets(value: Any) -> Iterator[dict[str, Any]]:
    """Everything within an event that says by which schema it is made."""
    if isinstance(value, dict):
        if "_schemaURL" in value:
            yield value
        for item in value.values():
            yield from facets(item)
    elif isinstance(value, list):
        for item in value:
            yield from facets(item)


def problems(event: Any) -> list[str]:
    """What is wrong with an event of the client's, as it goes over the wire."""
    return judged(json.loads(Serde.to_json(event)))


def judged(document: Any) -> list[str]:
    """What is wrong with an event as a receiver gets it."""
    found = [error.message for error in validator(document["schemaURL"]).iter_errors(document)]
    found += [error.message for error in validator(SPEC).iter_errors(document)]
    for facet in facets(document):
        found += [
            f"{facet['_schemaURL']}: {error.message}" for error in validator(facet["_schemaURL"]).iter_errors(facet)
        ]
    return found
