"""ModelDeployment: one machine-learning model that serves, and how it must be protected.

Absence and laxness are accepted here on purpose: a manifest without encryption parses, so that a rule can say what is
missing and why. What is refused here is what has no meaning.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.access import Access
from modelward.api.base import Part, Resource, cel
from modelward.api.decisions import Explanations, Fairness
from modelward.api.encryption import Encryption
from modelward.api.monitoring import Monitoring
from modelward.api.schema import Schema
from modelward.api.status import ModelDeploymentStatus
from modelward.api.workload import ModelContainer, TargetRef


class SecurityTest(Part):
    """The attack suite that the model must withstand.

    It is attacked as soon as its pods are ready, and again when its image, schema, encryption, access or monitoring
    change.
    """

    suite: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        default="baseline", description="Name of the suite of attacks that the model must withstand."
    )
    schedule: Annotated[str, Field(max_length=128)] | None = Field(
        default=None,
        description="When to repeat it, as in a CronJob, in UTC; each model up to five minutes later. Not given: when"
        " what is tested or modelward changes, and before policies call the last one too old. Example: 0 3 * * 0.",
    )
    gate: bool = Field(
        default=True,
        description="Whether the model is Ready, and takes callers, only when the last test was one of what there is"
        " now, and was passed.",
    )


class ModelDeploymentSpec(Part):
    """The model and its protection. Give exactly one of model and targetRef."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "has(self.model) != has(self.targetRef)",
                "give exactly one of spec.model (modelward runs it) and spec.targetRef (modelward protects what runs)",
            )
        )
    )

    model: ModelContainer | None = Field(
        default=None,
        description="The model server that modelward runs, with its sidecar in front. Give this or targetRef.",
    )
    target_ref: TargetRef | None = Field(
        default=None, description="The running workload that modelward protects where it is. Give this or model."
    )
    replicas: int = Field(default=1, ge=0, le=1000, description="How many pods of the model run; for spec.model only.")
    schema_: Schema | None = Field(
        default=None,
        alias="schema",
        description="What the model takes and gives: names, types, shapes, bounds, and what each says about a person.",
    )
    encryption: Encryption | None = Field(
        default=None, description="How traffic, storage and computation are encrypted."
    )
    access: Access | None = Field(
        default=None, description="Who may call the model, as whom, and for which purposes. Not given: nobody."
    )
    monitoring: Monitoring | None = Field(
        default=None, description="What screens the model's inputs and outputs for attacks and drift, and who is told."
    )
    explanations: Explanations | None = Field(
        default=None, description="How the model's decisions are explained and contested."
    )
    fairness: Fairness | None = Field(
        default=None, description="Which groups of people are compared, and how far apart they may be treated."
    )
    security_test: SecurityTest | None = Field(
        default=None,
        description="Which attacks the model must withstand before it is Ready, and how often they are repeated.",
    )


class ModelDeployment(Resource):
    """A machine-learning model that serves, with its encryption, access rules, lineage and monitoring."""

    kind: Literal["ModelDeployment"] = "ModelDeployment"
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus | None = None
