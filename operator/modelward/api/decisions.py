"""How a model's decisions are explained, and how equally they treat people."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import FieldName, ObjectName, Part, ShortText, Url, cel


class Explanations(Part):
    """How decisions are explained and contested (GDPR articles 13-15 and 22)."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!has(self.weightsConfigMapName) || self.method == 'LinearSHAP'",
                "weightsConfigMapName is for LinearSHAP alone",
            ),
            ("!has(self.extraCalls) || self.method == 'PermutationSHAP'", "extraCalls is for PermutationSHAP alone"),
        )
    )

    method: Literal["LinearSHAP", "PermutationSHAP"] = Field(
        default="PermutationSHAP",
        description="How reasons are computed, against the ordinary rows of monitoring.baseline. LinearSHAP: of a"
        " linear model, exactly, from its weights. PermutationSHAP: of any model, by asking it about changed rows.",
    )
    weights_config_map_name: ObjectName | None = Field(
        default=None,
        description="For LinearSHAP: ConfigMap with the linear model's exported weights under the key weights.json:"
        " coef, intercept and link, of the columns as the model gets them. Whoever may Explain can find them out.",
    )
    output: ShortText | None = Field(
        default=None,
        description="The model's output that is explained, asked for by name (V2). Not given: of those that it answers"
        " with, the one that tells most. Example: predict_proba.",
    )
    extra_calls: int | None = Field(
        default=None,
        ge=16,
        le=32_768,
        description="For PermutationSHAP: about how many rows the model may be asked to explain one; the more, the"
        " surer. It needs about 8 for each column. Not given: 2048.",
    )
    contact: ShortText | None = Field(
        default=None, description="Who answers questions on a decision. Example: dpo@clinic.example."
    )
    contest_url: Url | None = Field(
        default=None, alias="contestURL", description="Address at which a person contests a decision (GDPR article 22)."
    )


class ProtectedField(Part):
    """An attribute by which people must not be treated unequally."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!has(self.edges) || size(self.edges) == 0 || !has(self.groups) || size(self.groups) == 0"
                " || size(self.groups) == size(self.edges) + 1",
                "edges make one group more than there are edges: name them all in groups, or none",
            )
        )
    )

    field: FieldName = Field(
        description="The input or column that holds the attribute, as callers send it. It may be one that a policy"
        " drops: it is then watched, and the model does not see it. Example: age."
    )
    groups: Annotated[list[ShortText], Field(max_length=64)] = Field(
        default=[],
        description="Its groups, whose rates are compared: the values themselves, all others being `other`; with"
        " edges, names for the intervals. Example: [young, old].",
    )
    edges: Annotated[list[float], Field(max_length=63)] = Field(
        default=[],
        description="For numbers: where one group ends and the next begins, ascending; an edge belongs to the group"
        " above it. Example: [40].",
    )


class Favourable(Part):
    """Which answers are the favourable ones. Give equals or atLeast; neither: the label 1."""

    model_config = ConfigDict(
        json_schema_extra=cel(("!has(self.equals) || !has(self.atLeast)", "give one of equals and atLeast"))
    )

    output: FieldName | None = Field(
        default=None, description="The output that decides; none: the first of the answer. Example: label."
    )
    element: int = Field(
        default=0,
        ge=0,
        le=4095,
        description="Which element of a row's output decides, counted from 0. Example: 1, of the probabilities of two"
        " classes the second.",
    )
    equals: ShortText | None = Field(
        default=None, description='The favourable answer, as it is written. Example: "1" or granted.'
    )
    at_least: float | None = Field(default=None, description="The least favourable score, instead. Example: 0.5.")


class Fairness(Part):
    """How equally groups are treated: watched by the sidecar in what the model answers."""

    protected: Annotated[list[ProtectedField], Field(max_length=16)] = Field(
        default=[],
        description="Attributes by which people must not be treated unequally, each at most once.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["field"]},
    )
    favourable: Favourable = Field(
        default=Favourable(), description="Which answers are the favourable ones. Not given: the label 1."
    )
    max_difference: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Largest difference that is accepted between two groups' rates: of favourable answers, and, once"
        " callers tell by feedback what was true, of true and of false positives.",
    )
    minimum_group_size: int = Field(
        default=50,
        ge=2,
        le=1_000_000,
        description="A group's rate counts from so many rows on; smaller groups are named and not compared, and their"
        " rates are not told.",
    )
