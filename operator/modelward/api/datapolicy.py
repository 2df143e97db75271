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
MAX_POLICIES = 10
"""DataPolicies in a namespace: each costs the API server the whole catalogue at every change of a model."""


KeyAddress = Annotated[str, Field(max_length=1024, pattern=r"^https://[a-z0-9.:-]+/[!-~]*$")]


class RequireInUse(Part):
    """Homomorphic encryption that is asked for."""

    schemes: Annotated[list[Scheme], Field(max_length=2)] = Field(
        default=["CKKS"],
        description="Homomorphic schemes that are accepted: CKKS for scores, means and sums; BFV for exact sums and"
        " counts, and no scores.",
    )
    min_security_bits: Literal[128, 192, 256] = Field(
        default=128,
        description="Least security of the parameters, in bits, by the table of the Homomorphic Encryption Standard.",
    )


class RequireEncryption(Part):
    """Encryption that is asked for."""

    in_transit: Literal["TLS", "MutualTLS"] | None = Field(
        default=None,
        description="TLS: traffic to the model must be encrypted. MutualTLS: clients must show a certificate as"
        " well. Not given: not asked.",
    )
    min_version: TLSVersion | None = Field(
        default=None,
        description="Oldest TLS version that a model may accept. Not given: any that it can name, 1.2 at the least.",
    )
    at_rest: bool = Field(default=False, description="Whether storage must be attested as encrypted, and by whom.")
    in_use: RequireInUse | None = Field(
        default=None, description="Homomorphic encryption, by which schemes and how strong. Not given: not asked."
    )


class RequireAccess(Part):
    """Access rules that are asked for."""

    allow_anonymous: bool = Field(default=False, description="Whether wildcard and anonymous subjects may be named.")
    issuers: Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=16)] = Field(
        default=[], description="The only token issuers (claim `iss`) that a model may trust. None: any."
    )
    jwks_uris: Annotated[list[KeyAddress], Field(max_length=16)] = Field(
        default=[],
        alias="jwksURIs",
        description="The only addresses that issuers' keys may be fetched from: whole, or ending in a slash for all"
        " that is below. None: any that the installation allows. Example: [https://login.clinic.example/].",
    )
    purposes: Annotated[list[Purpose], Field(max_length=32)] = Field(
        default=[],
        description="The only purposes that access rules may name, and each rule must name one. None: any."
        " Example: [diagnosis].",
    )
    purpose_header: bool = Field(
        default=False,
        description="Whether the header x-modelward-purpose counts where a token has no claim `purpose`.",
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="Each access rule must limit the rate, to this at the most. None: no limit is asked."
    )


Signer = Annotated[
    str, Field(min_length=1, max_length=253, pattern=r"^(key:[a-z0-9]([-a-z0-9.]*[a-z0-9])?|cert:[!-~]+)$")
]


class RequireLineage(Part):
    """Lineage that is asked for."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "!has(self.signedBy) || size(self.signedBy) == 0 || has(self.trustConfigMapName)",
                "signedBy needs trustConfigMapName: the ConfigMap of modelward-system with the signers' public keys or"
                " authorities",
            ),
        )
    )

    annotations: Annotated[list[LineageAnnotation], Field(max_length=5)] = Field(
        default=["dataset", "model", "transformations", "consumer"],
        description="The annotations lineage.modelward.io/<name> that must be there and say something.",
    )
    digests: bool = Field(
        default=False, description="Whether the annotations dataset and model must end in @sha256:<64 hex digits>."
    )
    signed_by: Annotated[list[Signer], Field(max_length=16)] = Field(
        default=[],
        description="Who may answer for a model and its data set, by a signed statement about the digest of each:"
        " key:<name>, the public key <name>.pub of trustConfigMapName; cert:<name>, a URI, e-mail address or DNS name"
        " in a certificate of its authorities.pem. One of them must, for each of the two. None: no signature is asked"
        " for. Example: [key:ml-platform].",
    )
    trust_config_map_name: ObjectName | None = Field(
        default=None,
        description="ConfigMap of modelward-system with the public keys (<name>.pub, PEM) and the authorities"
        " (authorities.pem) that signedBy speaks of.",
    )
    certificate_time: Literal["Now", "Issued"] = Field(
        default="Now",
        description="When a signer's certificate has to be valid. Now: when it ends, what it signed has to be signed"
        " anew, or is no longer served. Issued: when it was issued, so that signatures outlive it; whoever gets hold of"
        " its key later can then sign as well. Default: Now.",
    )


class RequireMonitoring(Part):
    """Monitoring that is asked for."""

    detectors: Annotated[list[DetectorType], Field(max_length=16)] = Field(
        default=[], description="Detectors that must run, by type. Example: [Mahalanobis, Drift]."
    )
    on_anomaly: OnAnomaly | None = Field(
        default=None, description="What must be done with a strange request. Not given: the owner of the model chooses."
    )
    input_ranges: bool = Field(
        default=False, description="Whether every input of numbers must declare its minimum and maximum."
    )
    baseline_max_age_days: int | None = Field(
        default=None,
        ge=1,
        le=3660,
        description="Oldest baseline that counts, in days: with an older one a model's condition Monitored is False."
        " Not given: any.",
    )


class RequireFairness(Part):
    """Fairness that is asked for."""

    protected: Annotated[list[ProtectedField], Field(max_length=16)] = Field(
        default=[], description="Attributes that must be declared and watched. Example: [{field: age}]."
    )
    max_difference: float | None = Field(
        default=None, ge=0, le=1, description="Largest difference of rates between groups that may be accepted."
    )


class RequireSecurityTest(Part):
    """Security test that is asked for."""

    max_age_days: int = Field(default=7, ge=1, le=366, description="Oldest security test that counts, in days.")
    gate: bool = Field(default=False, description="Whether a model that has not passed is kept from being Ready.")


class Requirements(Part):
    """What is asked of a ModelDeployment. Each switches rules of the catalogue on."""

    encryption: RequireEncryption | None = Field(
        default=None, description="Encryption in transit, at rest and in use. Switches the ENC and HEC rules on."
    )
    access: RequireAccess | None = Field(
        default=None,
        description="Access rules: who vouches for callers, and which purposes there are. Switches the ACC rules on.",
    )
    lineage: RequireLineage | None = Field(
        default=None,
        description="Lineage: where data and model come from and who uses the scores. Switches the LIN rules on.",
    )
    monitoring: RequireMonitoring | None = Field(
        default=None,
        description="Monitoring: which detectors run and what is done with an anomaly. Switches the MON rules on.",
    )
    explanations: bool = Field(
        default=False, description="Whether decisions must be explained, with a contact and a way to contest them."
    )
    fairness: RequireFairness | None = Field(
        default=None, description="Fairness: which attributes must be watched. Switches the FAI rules on."
    )
    security_test: RequireSecurityTest | None = Field(
        default=None,
        description="A security test: how old it may be and whether it gates Ready. Switches the TST rules on.",
    )
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

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "self.treatment != 'Generalise' || has(self.step) != has(self.hierarchy)",
                "Generalise needs step (the width of an interval) or hierarchy (a ConfigMap), and not both",
            ),
            (
                "self.treatment != 'Bucket' || (has(self.edges) && size(self.edges) > 0)",
                "Bucket needs edges, rising numbers",
            ),
            ("self.treatment != 'Round' || has(self.digits)", "Round needs digits, as many as stay after the point"),
            ("self.treatment != 'DateShift' || has(self.maxDays)", "DateShift needs maxDays, the largest shift"),
        )
    )

    name: FieldName = Field(description="The input or column that is treated. Example: age.")
    role: Role = Field(
        default="Feature",
        description="What it says about a person: Identifier names one, QuasiIdentifier does with others,"
        " Sensitive must not leak.",
    )
    treatment: Literal[
        "Keep", "Drop", "Pseudonymise", "Tokenise", "Generalise", "Mask", "Bucket", "Round", "DateShift"
    ] = Field(
        default="Keep",
        description="What is done with it on its way to the model and into records; some treatments have a"
        " setting below.",
    )
    step: float | None = Field(
        default=None,
        gt=0,
        description="For Generalise: width of an interval. Example: 5 makes 43 the interval from 40 to 45.",
    )
    hierarchy: ObjectName | None = Field(
        default=None,
        description="For Generalise: name of a ConfigMap in modelward-system with a hierarchy of values under"
        " hierarchy.csv: a value and its groups a line, the finest first, separated by `;`.",
    )
    level: int = Field(
        default=1, ge=1, le=16, description="For Generalise: which level of the hierarchy; 1 is the finest."
    )
    keep_last: int | None = Field(
        default=None, ge=0, le=64, description="For Mask: how many characters at the end stay readable. Example: 4."
    )
    identifiers: bool = Field(
        default=False,
        description="For Mask: of free text, mask only what is recognised as an identifier (cards, IBANs, e-mail"
        " and IP addresses, national and telephone numbers), or as an age or a postcode by the words beside it, each by"
        " its kind, as in [e-mail]; the rest stays.",
    )
    edges: Annotated[list[float], Field(max_length=128)] = Field(
        default=[], description="For Bucket: the edges between buckets, rising. Example: [18, 40, 65]."
    )
    digits: int | None = Field(
        default=None,
        ge=-12,
        le=12,
        description="For Round: digits after the point; negative ones round before it. Example: -1 makes 43 into 40.",
    )
    max_days: int | None = Field(default=None, ge=1, le=36525, description="For DateShift: the largest shift, in days.")
    subject: FieldName | None = Field(
        default=None,
        description="For DateShift: the field that tells whose date it is. Not given: the first field, or else input,"
        " with the role Identifier.",
    )


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
