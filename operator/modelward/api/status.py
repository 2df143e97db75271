"""What modelward has seen of a ModelDeployment and done. Written by the controller alone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelward.api.base import Condition, FieldName, LongText, Part, ShortText, Timestamp


class ViolationStatus(Part):
    """A rule that the ModelDeployment breaks."""

    rule: Annotated[str, Field(max_length=32)] = Field(description="Id of the rule that is broken. Example: ENC-001.")
    policy: Annotated[str, Field(max_length=317)] = Field(
        description="The policy that asks for the rule. Example: ClusterDataPolicy/baseline."
    )
    field: Annotated[str, Field(max_length=512)] = Field(
        description="Path of the field that breaks it. Example: spec.encryption.inTransit."
    )
    message: Annotated[str, Field(max_length=1024)] = Field(description="What was found there and how to mend it.")


AttackId = Annotated[str, Field(min_length=1, max_length=63)]
Sha256 = Annotated[str, Field(max_length=64)]


class StandingTest(Part):
    """What the last run that came to something has found: it stands while those after it come to nothing."""

    outcome: Literal["Passed", "Failed"] = Field(
        description="How that run ended: nothing but a run that was not Errored stands."
    )
    finished_at: Timestamp = Field(description="When it ended (RFC 3339); by this, policies judge how old it is.")
    withstood: int = Field(default=0, ge=0, description="How many attacks the model has withstood in it.")
    succeeded: Annotated[list[AttackId], Field(max_length=32)] = Field(
        default=[], description="The attacks that succeeded in it, by their ids."
    )
    message: LongText = Field(default="", description="How to mend the first of them.")


class SecurityTestStatus(Part):
    """The last security test. Its whole report is in the ConfigMap <name>.security-test."""

    suite: Annotated[str, Field(max_length=63)] = Field(description="Name of the suite of attacks that was run.")
    finished_at: Timestamp = Field(description="When the test ended (RFC 3339).")
    outcome: Literal["Passed", "Failed", "Errored"] = Field(
        description="How it ended: Errored means that it did not come to its end, or that too few attacks were decided."
    )
    run: Sha256 = Field(default="", description="What tells this run from others.")
    subject: Sha256 = Field(
        default="",
        description="Digest of what its owner decides of what was tested: image, schema, encryption, access and"
        " monitoring. The test says nothing of a model with another one.",
    )
    tools: Sha256 = Field(
        default="",
        description="Digest of what protects and attacks it: modelward's images, and what policies ask. With another"
        " one it is tested again, and this result stands meanwhile.",
    )
    image: Annotated[str, Field(max_length=512)] = Field(default="", description="The model's image that was tested.")
    attempts: int = Field(
        default=0,
        ge=0,
        description="How many runs in a row were Errored; from the fifth on it is tried every six hours.",
    )
    requests: int = Field(default=0, ge=0, description="How many requests the attacks have sent.")
    withstood: int = Field(default=0, ge=0, description="How many attacks the model has withstood.")
    inconclusive: int = Field(default=0, ge=0, description="How many attacks were started and came to no conclusion.")
    skipped: int = Field(default=0, ge=0, description="How many attacks were not tried, as with nothing to go by.")
    succeeded: Annotated[list[AttackId], Field(max_length=32)] = Field(
        default=[], description="The attacks that succeeded, by their ids. Example: [extraction.synthetic]."
    )
    message: LongText = Field(default="", description="How to mend the first of them, or why the test was Errored.")
    stands: StandingTest | None = Field(
        default=None,
        description="Of an Errored run: the result of the last one before it, of the same subject and suite, that was"
        " not. Gates and policies go by it.",
    )


class TargetStatus(Part):
    """The workload that is protected now; it is given back when spec.targetRef names another."""

    api_version: Annotated[str, Field(max_length=253)] = Field(
        description="API version of the workload that is protected."
    )
    kind: Annotated[str, Field(max_length=63)] = Field(description="Kind of the workload that is protected.")
    name: Annotated[str, Field(max_length=253)] = Field(description="Name of the workload that is protected.")


class IncidentStatus(Part):
    """Anomalies of one client that one detector found, over all replicas."""

    client: ShortText = Field(description="Who was asking. Example: user:dr-lee.")
    issuer: Annotated[str, Field(max_length=253)] = Field(description="Name of who vouches for the client.")
    detector: ShortText = Field(description="The type of the detector that found them. Example: Ensemble.")
    action: ShortText = Field(description="What was done with the requests. Example: blocked.")
    count: int = Field(ge=0, description="How many there were in the last day, as the replicas tell.")
    first: Timestamp = Field(description="When the first one was (RFC 3339).")
    last: Timestamp = Field(description="When the last one was (RFC 3339).")
    reference: Annotated[str, Field(max_length=253)] = Field(
        description="Id of the last request, under which the access log tells the rest."
    )


class QuarantineStatus(Part):
    """A client whose requests are refused for now."""

    client: ShortText = Field(description="Who is held. Example: user:dr-lee.")
    issuer: Annotated[str, Field(max_length=253)] = Field(description="Name of who vouches for the client.")
    until: Timestamp = Field(description="When it ends by itself (RFC 3339).")
    reason: Annotated[str, Field(max_length=253)] = Field(description="The detector whose finding was one too many.")


class ReleaseStatus(Part):
    """The last release from quarantine that was carried out."""

    client: ShortText = Field(description="Who was let go, as the annotation modelward.io/release named them.")
    at: Annotated[str, Field(max_length=253)] = Field(
        description="When that was asked for, as the annotation modelward.io/release-at says."
    )


class DriftStatus(Part):
    """A feature whose values are no longer those of the baseline."""

    feature: Annotated[str, Field(max_length=253)] = Field(
        default="", description="The input or column; empty for all of them together."
    )
    test: Annotated[str, Field(max_length=253)] = Field(
        description="Name of the test of drift that found it. Example: KS."
    )
    score: float = Field(ge=0, description="How far it has gone, in two decimals; 1 is the threshold.")


class CertificateStatus(Part):
    """The certificate that the model's sidecars show."""

    source: LongText = Field(description="Who issued it, or the Secret that it comes from.")
    expires: Timestamp = Field(description="When it ends (RFC 3339); one of modelward's own is renewed before.")


class MonitoringStatus(Part):
    """What the sidecars found, as they told last."""

    anomalies: int = Field(default=0, ge=0, description="All anomalies of the last day, as the replicas tell.")
    incidents: Annotated[list[IncidentStatus], Field(max_length=32)] = Field(
        default=[], description="By client and detector, those with most anomalies."
    )
    quarantined: Annotated[list[QuarantineStatus], Field(max_length=32)] = Field(
        default=[], description="Clients that are held in quarantine."
    )
    released: ReleaseStatus | None = Field(
        default=None, description="The last release from quarantine that was carried out."
    )
    drift: Annotated[list[DriftStatus], Field(max_length=32)] = Field(
        default=[], description="Features that are no longer like the baseline, the worst first."
    )


class ConsumerStatus(Part):
    """Who got answers of the model, for a purpose."""

    client: ShortText = Field(description="Who was asking. Example: user:dr-lee.")
    issuer: Annotated[str, Field(max_length=253)] = Field(description="Name of who vouches for the client.")
    purpose: Annotated[str, Field(max_length=253)] = Field(
        description="What for, as the token or the request said; empty: neither did."
    )
    first: Timestamp = Field(description="When the first answer was given (RFC 3339).")
    last: Timestamp = Field(description="When the last one was (RFC 3339).")
    requests: int = Field(ge=0, description="How many requests were answered.")


class WindowsStatus(Part):
    """What became of the windows (minutes) of serving that the sidecars tell of."""

    last: Timestamp | None = Field(default=None, description="When the last one ended (RFC 3339).")
    emitted: int = Field(default=0, ge=0, description="How many the receiver of lineage events took.")
    failed: int = Field(default=0, ge=0, description="How many it refused.")
    dropped: int = Field(default=0, ge=0, description="How many were lost before they were counted or emitted.")


class StatementStatus(Part):
    """A signed statement about a model or its data."""

    subject: Annotated[str, Field(max_length=253)] = Field(description="What it is about, in its signer's words.")
    digest: Annotated[str, Field(max_length=71)] = Field(description="The subject's digest. Example: sha256:0f7c....")
    signer: ShortText = Field(description="Who signed it. Example: key:ml-platform.")


class LineageStatus(Part):
    """Who answers for where the model comes from, and where its answers went.

    The ConfigMap <name>.lineage tells of more consumers.
    """

    signed_by: Annotated[list[ShortText], Field(max_length=16)] = Field(
        default=[], description="Who answers for model and data set by a signature that a policy accepts."
    )
    statements: Annotated[list[StatementStatus], Field(max_length=32)] = Field(
        default=[], description="The signed statements that bear on model and data set."
    )
    consumers: Annotated[list[ConsumerStatus], Field(max_length=64)] = Field(
        default=[], description="Who got answers, the most recent ones."
    )
    windows: WindowsStatus | None = Field(default=None, description="What became of the windows of serving.")


class GroupStatus(Part):
    """How one group is treated. Rates are told from the minimum group size on."""

    name: ShortText = Field(description="The group, as the spec names it. Example: young.")
    rows: int = Field(ge=0, description="Rows of it that were answered, of the last 30 days.")
    selection_rate: float | None = Field(default=None, description="Share of them with a favourable answer.")
    low: float | None = Field(default=None, description="The selection rate is at least this (95 %, Wilson).")
    high: float | None = Field(default=None, description="The selection rate is at most this (95 %, Wilson).")
    true_positive_rate: float | None = Field(
        default=None, description="Share of favourable answers among rows that should have had one."
    )
    false_positive_rate: float | None = Field(
        default=None, description="Share of favourable answers among rows that should not have had one."
    )
    labelled: int = Field(default=0, ge=0, description="Rows whose truth was told by feedback.")


class AttributeStatus(Part):
    """How far apart the groups by one protected field are."""

    field: FieldName = Field(description="The protected field. Example: age.")
    groups: Annotated[list[GroupStatus], Field(max_length=65)] = Field(
        default=[], description="Its groups, in the order of the spec, and all others as `other`."
    )
    demographic_parity_difference: float | None = Field(
        default=None, description="The highest selection rate of its groups less the lowest."
    )
    demographic_parity_ratio: float | None = Field(
        default=None,
        description="The lowest selection rate of its groups over the highest; the four-fifths rule asks for 0.8.",
    )
    equalized_odds_difference: float | None = Field(
        default=None,
        description="The larger of the differences of true and of false positive rates; none without feedback.",
    )


class FairnessStatus(Part):
    """How equally groups were treated, over all replicas, as they told last."""

    since: Timestamp = Field(description="Since when rows were counted (RFC 3339); of the last 30 days at the most.")
    rows: int = Field(ge=0, description="Rows that were answered and counted.")
    labelled: int = Field(ge=0, description="Rows whose truth was told by feedback.")
    uncounted: int = Field(default=0, ge=0, description="Rows whose group or outcome could not be told.")
    attributes: Annotated[list[AttributeStatus], Field(max_length=16)] = Field(
        default=[], description="What was counted, by protected field in the order of the spec."
    )


class AuditorsWord(Part):
    """What an auditor, who alone is told counts of groups, said of them last."""

    keys: Annotated[str, Field(max_length=64)] = Field(
        description="SHA-256 of the auditor's keys, as the policy pins it."
    )
    begun: Timestamp = Field(description="From when on rows were counted (RFC 3339).")
    ended: Timestamp = Field(description="Until when rows were counted (RFC 3339).")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether groups are treated alike.")
    reason: ShortText = Field(description="Why, in a word, as of the condition Fair.")
    max_difference: float = Field(ge=0, le=1, description="The spec.fairness.maxDifference by which that was judged.")
    compared: Annotated[str, Field(max_length=64)] = Field(
        description="SHA-256 of the groups that were compared and of which answers are favourable, as declared then."
    )
    fields: Annotated[list[FieldName], Field(max_length=16)] = Field(
        default=[], description="Protected fields by which they are too far apart."
    )


class ReidentificationStatus(Part):
    """How identifying the combinations of quasi-identifiers in requests are, over all replicas, as they told last."""

    since: Timestamp = Field(description="Since when rows were counted (RFC 3339); of the last 30 days at the most.")
    rows: int = Field(ge=0, description="Rows that the model was asked about.")
    k: int = Field(ge=2, description="How many people each combination must stand for, by the policies.")
    fields: Annotated[list[FieldName], Field(max_length=64)] = Field(
        default=[], description="The quasi-identifiers, as the model gets them; the first of them where they are many."
    )
    people: bool = Field(
        default=False, description="Whether people are counted, by an input that identifies them; else rows are."
    )
    combinations: int = Field(
        ge=0,
        description="How many combinations there are, in steps of five at least: 1 stands for a few, fewer than five."
        " Estimated above 2,048 of them.",
    )
    rows_below_k: float = Field(ge=0, le=1, description="Share of the rows whose combination has fewer than k.")
    smallest: int = Field(
        ge=0, description="Size of the smallest known combination; 1 stands for a few, fewer than five."
    )
    uncounted: int = Field(default=0, ge=0, description="Rows of requests too large to be counted; 1 stands for a few.")


class ModelDeploymentStatus(Part):
    """What modelward has seen and done. Written by the controller alone."""

    conditions: Annotated[list[Condition], Field(max_length=32)] = Field(
        default=[],
        description="Ready, PolicyCompliant, Encrypted, AccessControlled, LineageVerified, Monitored, Fair,"
        " KAnonymous, SecurityTested.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    observed_generation: int | None = Field(
        default=None,
        ge=0,
        description="Generation of the spec that this status tells of; older than metadata.generation: not yet seen.",
    )
    endpoint: LongText | None = Field(
        default=None, description="Address at which the model is called, inside the cluster."
    )
    certificate: CertificateStatus | None = Field(
        default=None, description="The certificate that its sidecars show. Not given: there is none."
    )
    replicas: int | None = Field(default=None, ge=0, description="How many pods of the model there are.")
    ready_replicas: int | None = Field(default=None, ge=0, description="How many of its pods are ready to answer.")
    selector: LongText | None = Field(
        default=None, description="Label selector of its pods, which autoscalers read through the scale subresource."
    )
    policies: Annotated[list[ShortText], Field(max_length=64)] = Field(
        default=[], description="The policies that govern it. Example: ClusterDataPolicy/baseline."
    )
    violations: Annotated[list[ViolationStatus], Field(max_length=64)] = Field(
        default=[],
        description="Rules that it breaks, of policies that warn or audit or were tightened since it was let in.",
    )
    last_security_test: SecurityTestStatus | None = Field(
        default=None, description="The last security test: which, when, and how it ended."
    )
    target: TargetStatus | None = Field(
        default=None,
        description="The workload that is protected now; it is given back when spec.targetRef names another.",
    )
    monitoring: MonitoringStatus | None = Field(
        default=None, description="What the model's detectors found, as its sidecars told last."
    )
    reidentification: ReidentificationStatus | None = Field(
        default=None, description="How identifying the rows in requests are. None: no policy asks for a k."
    )
    fairness: FairnessStatus | None = Field(
        default=None, description="How equally groups of people were treated, as its sidecars told last."
    )
    auditors_words: Annotated[list[AuditorsWord], Field(max_length=4)] | None = Field(
        default=None,
        description="What auditors said last of how groups were treated, in the annotation modelward.io/auditors-word."
        " Those that stand no longer are remembered for three months, so that none that is older takes their place.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["keys"]},
    )
    lineage: LineageStatus | None = Field(
        default=None, description="Who answers for where the model comes from, and who got its answers."
    )
