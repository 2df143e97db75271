"""The status of a DataPolicy or ClusterDataPolicy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelward.api.base import Condition, ObjectName, Part, RuleId, Timestamp


class ActiveException(Part):
    """An exception that counts now."""

    rules: Annotated[list[RuleId], Field(max_length=64)] = Field(
        default=[], description="Ids of the rules that it excuses."
    )
    names: Annotated[list[ObjectName], Field(max_length=64)] = Field(
        default=[], description="Names of the ModelDeployments that it excuses."
    )
    namespaces: Annotated[list[ObjectName], Field(max_length=64)] = Field(
        default=[], description="Namespaces in which it excuses them."
    )
    reason: Annotated[str, Field(max_length=1024)] = Field(default="", description="Why the models are excused.")
    approved_by: Annotated[str, Field(max_length=253)] = Field(default="", description="Who answers for the exception.")
    expires: Timestamp = Field(description="When the exception ends (RFC 3339).")
    ends_soon: bool = Field(default=False, description="Whether the exception ends within 7 days.")


class PolicyStatus(Part):
    """What modelward has seen. Written by the controller alone."""

    conditions: Annotated[list[Condition], Field(max_length=32)] = Field(
        default=[],
        description="Ready: whether the policy is in force. RulesValid: whether its own rules are."
        " ExceptionsEnding, ExceptionsIdle, TooManyPolicies: there while true.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    observed_generation: int | None = Field(
        default=None,
        ge=0,
        description="Generation of the spec that this status tells of; older than metadata.generation: not yet seen.",
    )
    active_exceptions: Annotated[list[ActiveException], Field(max_length=32)] = Field(
        default=[], description="The exceptions that count now; one that has ended is no longer here."
    )
    governed: int | None = Field(default=None, ge=0, description="How many ModelDeployments the policy governs.")
    violations: int | None = Field(default=None, ge=0, description="How many violations of it there are among them.")
