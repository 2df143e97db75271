"""DataPolicy and ClusterDataPolicy: what a namespace, or the cluster, asks of every model it serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import (
    LabelSelector,
    LongText,
    ObjectName,
    Part,
    Resource,
    RuleId,
    ShortText,
    Timestamp,
    cel,
)
from modelward.api.policystatus import PolicyStatus
from modelward.api.requirements import Requirements
from modelward.api.treatment import FieldTreatment

Enforcement = Literal["Enforce", "Warn", "Audit"]
MAX_POLICIES = 10
"""DataPolicies in a namespace: each costs the API server the whole catalogue at every change of a model."""


class LegalBasis(Part):
    """On what ground the governed models may process personal data (GDPR)."""

    article6: Literal[
        "Consent", "Contract", "LegalObligation", "VitalInterests", "PublicTask", "LegitimateInterests"
    ] = Field(description="Which of the grounds of article 6 (1).")
    article9: (
        Literal[
            "ExplicitConsent",
            "EmploymentAndSocialSecurity",
            "VitalInterests",
            "NotForProfitBody",
            "ManifestlyPublic",
            "LegalClaims",
            "SubstantialPublicInterest",
            "HealthCare",
            "PublicHealth",
            "ArchivingResearchStatistics",
        ]
        | None
    ) = Field(default=None, description="Which of the exceptions of article 9 (2), for special categories of data.")
    note: LongText = Field(
        default="", description="In words, such as the law or the contract. Example: Hospital Act, section 12."
    )


class KAnonymity(Part):
    """How many people each combination of quasi-identifiers must stand for."""

    k: int = Field(
        default=5, ge=2, le=1_000_000, description="The least number of people that each combination must stand for."
    )
    tolerance: float = Field(
        default=0.01,
        ge=0,
        le=0.5,
        description="Share of the rows in requests that may be in smaller combinations, before the condition KAnonymous"
        " is False. Data that a baseline is fitted on must have none.",
    )


class Quarantine(Part):
    """When a client is refused altogether, and for how long."""

    anomalies: int = Field(
        default=5, ge=1, le=1000, description="So many anomalous requests of one client within the period are too many."
    )
    seconds: int = Field(default=300, ge=1, le=86_400, description="Length of that period, in seconds.")
    duration_seconds: int = Field(
        default=3600,
        ge=1,
        le=2_592_000,
        description="How long every request of the client is refused, in seconds, unless it is released before: by the"
        " annotation modelward.io/release: <client> on the ModelDeployment.",
    )


class AuditorKey(Part):
    """Counters that sidecars encrypt to an auditor's public key: nobody else can read them, and no single window."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("self.periodSeconds >= self.everySeconds", "periodSeconds must be everySeconds at the least")
        )
    )

    public_key_config_map_name: ObjectName = Field(
        description="Name of the ConfigMap that holds, under keys.bin, the public key that `modelward audit keygen`"
        " wrote: in the policy's namespace, for a ClusterDataPolicy in modelward-system."
    )
    keys_digest: Annotated[str, Field(max_length=71, pattern="^sha256:[0-9a-f]{64}$")] = Field(
        description="What `modelward audit keygen` called the key: who may write the ConfigMap cannot put another key"
        " in its place. Example: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08."
    )
    only: bool = Field(
        default=True,
        description="Whether counts by protected group and by quasi-identifier leave a sidecar in no other way than"
        " encrypted to this key. The controller then adds what it cannot read: status, events and metrics hold no count"
        " and no rate of a group, `Fair` is Unknown (KeptForAuditor) until the auditor gives a word. Of"
        " k-anonymity each sidecar tells once a period whether its own rows keep to it. false: status.fairness and"
        " status.reidentification tell them to whoever may read the model. Of several policies true counts.",
    )
    every_seconds: int = Field(
        default=300,
        ge=10,
        le=86_400,
        description="Length of a window, in seconds: so often each sidecar encrypts what it has counted. Of several"
        " policies the shortest counts.",
    )
    period_seconds: int = Field(
        default=86_400,
        ge=60,
        le=2_678_400,
        description="Length of a period, in seconds: an aggregate is given out when it covers as much.",
    )
    minimum_windows: int = Field(
        default=12,
        ge=2,
        le=10_000,
        description="So many windows, of all pods together, must be in an aggregate before it is given out.",
    )
    minimum_count: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Counts below it are not told when an aggregate is opened. Not given: kAnonymity.k, or 10.",
    )


class CustomRule(Part):
    """A rule of the policy owner's own, in CEL."""

    id: RuleId = Field(description="Its id, by which violations and exceptions name it. Example: CUSTOM-001.")
    expression: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="CEL over object, oldObject, params, namespaceObject and request; true where the rule holds."
        " Example: object.spec.replicas >= 2."
    )
    message: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="CEL that gives the text of a violation. Example: \"'only ' + string(object.spec.replicas) + '"
        " replica'\"."
    )
    fix: LongText = Field(default="", description="How to mend a violation, for the person whose model it is.")


class PolicyException(Part):
    """A rule that need not hold for some models, for a reason and for a time."""

    rules: Annotated[list[RuleId], Field(max_length=64)] = Field(
        default=[], description="Ids of the rules that need not hold. None: none is excused. Example: [ENC-003]."
    )
    names: Annotated[list[ObjectName], Field(max_length=64)] = Field(
        default=[], description="Names of the ModelDeployments that are excused. None: none is."
    )
    namespaces: Annotated[list[ObjectName], Field(max_length=64)] = Field(
        default=[], description="Namespaces in which they are excused; of a ClusterDataPolicy only. None: in none."
    )
    reason: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        description="Why they are excused, for whoever audits it."
    )
    approved_by: ShortText = Field(description="Who answers for the exception. Example: ciso@clinic.example.")
    expires: Timestamp = Field(description="When the exception ends (RFC 3339). Example: 2027-03-31T00:00:00Z.")


class PolicySpec(Part):
    """What both kinds of policy have."""

    enforcement: Enforcement = Field(
        default="Enforce",
        description="What is done with a ModelDeployment that breaks a rule. Enforce: refuse. Warn: let in with a"
        " warning. Audit: let in and record.",
    )
    selector: LabelSelector | None = Field(
        default=None, description="Which ModelDeployments. None: all. Convenience, not a boundary: owners set labels."
    )
    classification: Literal["SpecialCategory", "Personal", "Pseudonymous", "Anonymous", "Public"] | None = Field(
        default=None,
        description="The most sensitive data that the governed models see; SpecialCategory is that of GDPR article 9.",
    )
    legal_basis: LegalBasis | None = Field(
        default=None,
        description="On what ground data is processed, for the register and for lineage events; it is checked by people"
        " alone.",
    )
    require: Requirements | None = Field(
        default=None,
        description="What is asked of each governed ModelDeployment; each part switches rules of the catalogue on.",
    )
    fields: Annotated[list[FieldTreatment], Field(max_length=128)] = Field(
        default=[],
        description="How each input or column is treated on its way to the model and into records. One not listed"
        " passes as it is.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    token_recipient: Annotated[str, Field(min_length=44, max_length=44)] | None = Field(
        default=None,
        description="For Tokenise: base64 of the X25519 public key of the one who may undo tokens, as `modelward token"
        " keygen` prints it. Not given: tokens are not allowed.",
    )
    undeclared_fields: Literal["Reject", "Drop"] = Field(
        default="Reject",
        description="What happens to inputs that the model's schema does not declare: the request is refused, or"
        " they are left out.",
    )
    k_anonymity: KAnonymity | None = Field(
        default=None,
        description="How many people each combination of quasi-identifiers must stand for. Not given: not asked.",
    )
    on_violation: Literal["Report", "Stop"] = Field(
        default="Report",
        description="What happens to a running model that breaks a policy tightened since. Report: it is told of."
        " Stop: its pods are stopped.",
    )
    on_detector_error: Literal["Block", "Pass"] = Field(
        default="Block",
        description="What happens to a request that a detector failed on. Block: it is refused. Pass: it is"
        " forwarded unscreened.",
    )
    quarantine: Quarantine | None = Field(
        default=None,
        description="When a client whose requests are anomalous again and again is refused altogether. Not given:"
        " never. Of several policies each counts.",
    )
    audit: AuditorKey | None = Field(
        default=None,
        description="Whether sidecars count quasi-identifiers and how protected groups are answered, encrypted to an"
        " auditor's key. Not given: no. At most two keys count for one model.",
    )
    record_values: bool | None = Field(
        default=None,
        description="Whether the access log keeps the inputs of each request, as the model got them: treated as the"
        " policies say. Not given: as the other policies say, and not where none does; false in any of them counts.",
    )
    repair: bool = Field(
        default=False,
        description="Whether running pods that are found without their sidecar are restarted, so that they get it.",
    )
    rules: Annotated[list[CustomRule], Field(max_length=32)] = Field(
        default=[],
        description="Rules of your own in CEL, besides those of the catalogue.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"]},
    )
    exceptions: Annotated[list[PolicyException], Field(max_length=32)] = Field(
        default=[], description="Rules that need not hold for some models, for a reason and for a time."
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
