"""DataPolicy and ClusterDataPolicy: what a namespace, or the cluster, asks of every model it serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import (
    Condition,
    FieldName,
    LabelSelector,
    LongText,
    ObjectName,
    Part,
    Purpose,
    Resource,
    RuleId,
    ShortText,
    Timestamp,
    cel,
)
from modelward.api.modeldeployment import DetectorType, OnAnomaly, ProtectedField, RateLimit, Role, Scheme, TLSVersion

LineageAnnotation = Literal["dataset", "model", "training-run", "transformations", "consumer"]
Enforcement = Literal["Enforce", "Warn", "Audit"]


class RequireInUse(Part):
    """Homomorphic encryption that is asked for."""

    schemes: Annotated[list[Scheme], Field(max_length=2)] = Field(default=["CKKS"], description="Schemes accepted.")
    min_security_bits: Literal[128, 192, 256] = Field(default=128, description="Least security of the parameters.")


class RequireEncryption(Part):
    """Encryption that is asked for."""

    in_transit: Literal["TLS", "MutualTLS"] | None = Field(
        default=None, description="TLS is asked for; MutualTLS: of clients as well."
    )
    min_version: TLSVersion | None = Field(default=None, description="Oldest TLS version that may be accepted.")
    at_rest: bool = Field(default=False, description="Whether storage must be attested as encrypted.")
    in_use: RequireInUse | None = Field(default=None, description="Homomorphic encryption, and how strong.")


class RequireAccess(Part):
    """Access rules that are asked for."""

    allow_anonymous: bool = Field(default=False, description="Whether wildcard and anonymous subjects may be named.")
    issuers: Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=16)] = Field(
        default=[], description="The only token issuers accepted. None: any."
    )
    purposes: Annotated[list[Purpose], Field(max_length=32)] = Field(
        default=[], description="The only purposes accepted, and each rule must name one. None: any."
    )
    purpose_header: bool = Field(
        default=False,
        description="Whether the header x-modelward-purpose counts where a token has no claim `purpose`.",
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="Each access rule must limit the rate, to this at the most. None: no limit is asked."
    )


class RequireLineage(Part):
    """Lineage that is asked for."""

    annotations: Annotated[list[LineageAnnotation], Field(max_length=5)] = Field(
        default=["dataset", "model", "transformations", "consumer"],
        description="The annotations lineage.modelward.io/<name> that must be there and say something.",
    )
    digests: bool = Field(default=False, description="Whether dataset and model must be named with their sha256.")
    signed_by: Annotated[list[ShortText], Field(max_length=16)] = Field(
        default=[], description="Identities whose signature on the model's statement is accepted."
    )


class RequireMonitoring(Part):
    """Monitoring that is asked for."""

    detectors: Annotated[list[DetectorType], Field(max_length=8)] = Field(
        default=[], description="Detectors that must run."
    )
    on_anomaly: OnAnomaly | None = Field(default=None, description="What must be done with an anomaly.")
    input_ranges: bool = Field(
        default=False, description="Whether every input of numbers must declare its minimum and maximum."
    )


class RequireFairness(Part):
    """Fairness that is asked for."""

    protected: Annotated[list[ProtectedField], Field(max_length=16)] = Field(
        default=[], description="Attributes that must be watched."
    )
    max_difference: float | None = Field(
        default=None, ge=0, le=1, description="Largest difference of rates between groups that may be accepted."
    )


class RequireSecurityTest(Part):
    """Security test that is asked for."""

    max_age_days: int = Field(default=7, ge=1, le=366, description="Oldest test that counts, in days.")
    gate: bool = Field(default=False, description="Whether a model that has not passed is kept from being Ready.")


class Requirements(Part):
    """What is asked of a ModelDeployment. Each switches rules of the catalogue on."""

    encryption: RequireEncryption | None = Field(default=None, description="Encryption.")
    access: RequireAccess | None = Field(default=None, description="Access rules.")
    lineage: RequireLineage | None = Field(default=None, description="Lineage.")
    monitoring: RequireMonitoring | None = Field(default=None, description="Monitoring.")
    explanations: bool = Field(default=False, description="Explanations, with a contact and a way to contest.")
    fairness: RequireFairness | None = Field(default=None, description="Fairness.")
    security_test: RequireSecurityTest | None = Field(default=None, description="A security test.")
    minimisation: bool = Field(
        default=False, description="Whether identifiers must be treated and undeclared fields not kept."
    )
    workload: Literal["Baseline", "Restricted"] | None = Field(
        default=None,
        description="Baseline: images by digest, no secrets in the clear, no root, no way into the node. Restricted:"
        " resource limits, read-only files, no escalation and no token of the cluster as well.",
    )
    registries: Annotated[list[ShortText], Field(max_length=16)] = Field(
        default=[],
        description="The only registries (such as registry.example or registry.example/team) that images may come"
        " from. None: any.",
    )


class FieldTreatment(Part):
    """How one field is treated on its way to the model and into records (names of ISO/IEC 20889)."""

    name: FieldName = Field(description="The input or column.")
    role: Role = Field(default="Feature", description="What it says about a person.")
    treatment: Literal[
        "Keep", "Drop", "Pseudonymise", "Tokenise", "Generalise", "Mask", "Bucket", "Round", "DateShift"
    ] = Field(default="Keep", description="What is done with it.")
    step: float | None = Field(default=None, gt=0, description="Generalise: width of an interval.")
    hierarchy: ObjectName | None = Field(default=None, description="Generalise: ConfigMap with a hierarchy.")
    keep_last: int | None = Field(default=None, ge=0, le=64, description="Mask: characters left at the end.")
    edges: Annotated[list[float], Field(max_length=128)] = Field(default=[], description="Bucket: its edges, rising.")
    digits: int | None = Field(default=None, ge=-12, le=12, description="Round: digits after the point.")
    max_days: int | None = Field(default=None, ge=1, le=36525, description="DateShift: largest shift, in days.")


class KAnonymity(Part):
    """How many people each combination of quasi-identifiers must stand for."""

    k: int = Field(default=5, ge=2, le=1_000_000, description="The least number.")


class CustomRule(Part):
    """A rule of the policy owner's own, in CEL."""

    id: RuleId = Field(description="Its id, such as CUSTOM-001.")
    expression: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="CEL over object, oldObject, params, namespaceObject and request; true where the rule holds."
    )
    message: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="CEL that gives the text of the violation."
    )
    fix: LongText = Field(default="", description="How to mend it.")


class PolicyException(Part):
    """A rule that need not hold for some models, for a reason and for a time."""

    rules: Annotated[list[RuleId], Field(max_length=64)] = Field(default=[], description="Which rules. None: none.")
    names: Annotated[list[ObjectName], Field(max_length=64)] = Field(
        default=[], description="Which ModelDeployments. None: none."
    )
    namespaces: Annotated[list[ObjectName], Field(max_length=64)] = Field(
        default=[], description="In which namespaces; of a ClusterDataPolicy only. None: none."
    )
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(description="Why.")
    approved_by: ShortText = Field(description="Who answers for it.")
    expires: Timestamp = Field(description="When it ends (RFC 3339).")


class PolicySpec(Part):
    """What both kinds of policy have."""

    enforcement: Enforcement = Field(
        default="Enforce", description="Enforce: refuse. Warn: let in with a warning. Audit: let in and record."
    )
    selector: LabelSelector | None = Field(
        default=None, description="Which ModelDeployments. None: all. Convenience, not a boundary: owners set labels."
    )
    classification: Literal["SpecialCategory", "Personal", "Pseudonymous", "Anonymous", "Public"] | None = Field(
        default=None, description="The most sensitive data that the models see."
    )
    require: Requirements | None = Field(default=None, description="What is asked of each ModelDeployment.")
    fields: Annotated[list[FieldTreatment], Field(max_length=128)] = Field(
        default=[],
        description="How each field is treated.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    undeclared_fields: Literal["Reject", "Drop"] = Field(
        default="Reject", description="What happens to inputs that the schema does not declare."
    )
    k_anonymity: KAnonymity | None = Field(default=None, description="Least size of a group of look-alikes.")
    on_violation: Literal["Report", "Stop"] = Field(
        default="Report", description="What happens to a running model that breaks a policy tightened since."
    )
    on_detector_error: Literal["Block", "Pass"] = Field(
        default="Block", description="What happens to a request that a detector failed on."
    )
    repair: bool = Field(default=False, description="Whether pods found without their sidecar are restarted.")
    rules: Annotated[list[CustomRule], Field(max_length=32)] = Field(
        default=[],
        description="Rules of your own.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]},
    )
    exceptions: Annotated[list[PolicyException], Field(max_length=32)] = Field(
        default=[], description="Rules that need not hold for some models, for a time."
    )


class DataPolicySpec(PolicySpec):
    """What a namespace asks of its models."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!has(self.exceptions) || self.exceptions.all(e, !has(e.namespaces) || size(e.namespaces) == 0)",
                "exceptions[].namespaces belongs to a ClusterDataPolicy: a DataPolicy governs its own namespace",
            )
        )
    )


class ClusterDataPolicySpec(PolicySpec):
    """What the cluster asks of all models."""

    namespace_selector: LabelSelector | None = Field(
        default=None, description="Which namespaces. None: all. This is the boundary that owners cannot move."
    )


class ActiveException(Part):
    """An exception that counts now."""

    rules: Annotated[list[RuleId], Field(max_length=64)] = Field(default=[], description="Which rules.")
    names: Annotated[list[ObjectName], Field(max_length=64)] = Field(default=[], description="Which ModelDeployments.")
    namespaces: Annotated[list[ObjectName], Field(max_length=64)] = Field(default=[], description="Where.")
    reason: Annotated[str, Field(max_length=1024)] = Field(default="", description="Why.")
    approved_by: Annotated[str, Field(max_length=253)] = Field(default="", description="Who answers for it.")
    expires: Timestamp = Field(description="When it ends.")
    ends_soon: bool = Field(default=False, description="Whether it ends within 7 days.")


class PolicyStatus(Part):
    """What modelward has seen. Written by the controller alone."""

    conditions: Annotated[list[Condition], Field(max_length=32)] = Field(
        default=[],
        description="Ready: whether the policy is in force. RulesValid: whether its own rules are. ExceptionsEnding,"
        " TooManyPolicies: there while true.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    observed_generation: int | None = Field(default=None, ge=0, description="Generation that this status tells of.")
    active_exceptions: Annotated[list[ActiveException], Field(max_length=32)] = Field(
        default=[], description="Exceptions that count now."
    )
    governed: int | None = Field(default=None, ge=0, description="ModelDeployments that it governs.")
    violations: int | None = Field(default=None, ge=0, description="Violations among them.")


class DataPolicy(Resource):
    """What a namespace asks of every model that serves in it."""

    kind: Literal["DataPolicy"] = "DataPolicy"
    spec: DataPolicySpec
    status: PolicyStatus | None = None


class ClusterDataPolicy(Resource):
    """What the cluster asks of every model that serves in it."""

    kind: Literal["ClusterDataPolicy"] = "ClusterDataPolicy"
    spec: ClusterDataPolicySpec
    status: PolicyStatus | None = None


Policy = DataPolicy | ClusterDataPolicy
