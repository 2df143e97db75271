"""What every custom resource shares: bounded types, naming, and the place where CEL rules hang.

Bounds are not decoration. The API server estimates the worst cost of a CEL rule from `maxItems`, `maxLength` and
`maxProperties`; an unbounded field makes the estimate infinite and the CRD is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "modelward.io"
VERSION = "v1alpha1"
API_VERSION: Literal["modelward.io/v1alpha1"] = "modelward.io/v1alpha1"

MAX_NAME = 50  # leaves room for our own suffixes within a label's 63 characters
LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME_PATTERN)]
FieldName = Annotated[str, Field(min_length=1, max_length=128)]
ShortText = Annotated[str, Field(min_length=1, max_length=253)]
LongText = Annotated[str, Field(max_length=1024)]
Url = Annotated[str, Field(max_length=1024, pattern=r"^https?://[^\s]+$")]
Purpose = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
RuleId = Annotated[str, Field(max_length=32, pattern=r"^[A-Z][A-Z0-9]{1,15}-[0-9]{3}$")]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63)]
TIME_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
"""A date-time of RFC 3339 as CEL reads it: the format alone lets `t`, `z` and an hour 25 in, and CEL fails on them."""
Timestamp = Annotated[
    str,
    Field(max_length=64),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": TIME_PATTERN}),
]
Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "maxLength": 32,
            "pattern": QUANTITY_PATTERN,
        },
    ),
]


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """Return the schema extra that puts CEL cross-field rules on a model.

    Args:
        rules: pairs of (expression over `self`, message for the person whose manifest fails it).
    """
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


class Part(BaseModel):
    """A part of a resource: camelCase outside, snake_case inside, immutable, and strict about unknown fields."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class LabelSelector(Part):
    """Chooses objects by their labels."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=16)] = Field(
        default={},
        description="Every label listed must be there with this very value. Empty: every object. Example: {team:"
        " oncology}.",
    )


class Condition(Part):
    """A standard Kubernetes condition."""

    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, Field(max_length=316)] = Field(
        description="What is told of, in CamelCase. Example: PolicyCompliant."
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether it holds; Unknown while it cannot be told."
    )
    reason: Annotated[str, Field(max_length=1024)] = Field(
        description="Why, as one word in CamelCase for programs. Example: ReferenceMissing."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(
        description="Why, as a sentence for people, with what to do about it."
    )
    last_transition_time: Timestamp = Field(description="When the status last changed from one value to another.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that this tells of."
    )


def _empty_for_null(value: Any) -> Any:
    return {} if value is None else value  # `labels:` with nothing behind it is common and means none


StringMap = Annotated[dict[str, str], BeforeValidator(_empty_for_null)]


class ObjectMeta(BaseModel):
    """The part of an object's metadata that modelward reads; the rest is kept as it is."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    generation: int = 0
    labels: StringMap = {}
    annotations: StringMap = {}
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Resource(BaseModel):
    """A custom resource as it comes from the API server or a file."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    api_version: Literal["modelward.io/v1alpha1"] = API_VERSION
    metadata: ObjectMeta
