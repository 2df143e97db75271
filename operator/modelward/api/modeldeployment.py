"""ModelDeployment: one machine-learning model that serves, and how it must be protected.

Absence and laxness are accepted here on purpose: a manifest without encryption parses, so that a rule can say what is
missing and why. What is refused here is what has no meaning.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import (
    LABEL_PATTERN,
    Condition,
    FieldName,
    LongText,
    ObjectName,
    Part,
    Purpose,
    Quantity,
    Resource,
    ShortText,
    Timestamp,
    Url,
    cel,
)

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
Role = Literal["Identifier", "QuasiIdentifier", "Sensitive", "Feature"]
DetectorType = Literal[
    "Autoencoder", "NearestNeighbours", "Mahalanobis", "Drift", "Extraction", "Backdoor", "Evasion", "Output"
]
OnAnomaly = Literal["Block", "Sanitise", "Flag"]
Operation = Literal["Infer", "Metadata", "Explain"]
Scheme = Literal["CKKS", "BFV"]
TLSVersion = Literal["1.2", "1.3"]
ModelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ReadyPath = Annotated[str, Field(max_length=512, pattern=r"^/[!-~]*$")]


class KeyRef(Part):
    """A key of a ConfigMap or Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the object.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="The key in it.")


class EnvVarSource(Part):
    """Where an environment variable's value comes from."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.secretKeyRef) != has(self.configMapKeyRef)", "give exactly one of secretKeyRef, configMapKeyRef")
        )
    )

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap.")


class EnvVar(Part):
    """An environment variable of the model's container."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = Field(
        description="Name of the variable."
    )
    value: Annotated[str, Field(max_length=4096)] | None = Field(default=None, description="Its value, in the clear.")
    value_from: EnvVarSource | None = Field(default=None, description="Where its value comes from, instead.")


class Resources(Part):
    """Compute resources of the model's container."""

    requests: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(
        default={}, description="What the scheduler sets aside, as in a Pod."
    )
    limits: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(
        default={}, description="What the container may use at the most, as in a Pod."
    )


class VolumeClaim(Part):
    """A PersistentVolumeClaim mounted into the model's container."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim.")
    mount_path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^/[^:]*$")] = Field(
        description="Absolute path in the container."
    )
    read_only: bool = Field(default=True, description="Whether the container may only read.")


class ModelContainer(Part):
    """The model server that modelward runs. It must listen on 127.0.0.1 only: the sidecar is the way in."""

    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Image of the model server, by digest: repository@sha256:<64 hex digits>."
    )
    command: Annotated[list[LongText], Field(max_length=64)] = Field(
        default=[], description="Entry point, instead of the image's."
    )
    args: Annotated[list[LongText], Field(max_length=64)] = Field(default=[], description="Arguments.")
    env: Annotated[list[EnvVar], Field(max_length=100)] = Field(default=[], description="Environment variables.")
    port: int = Field(default=8080, ge=1024, le=65535, description="Port of the model server on the loopback address.")
    protocol: Literal["v1", "v2"] = Field(
        default="v2", description="Inference protocol: v2 is the Open Inference Protocol, v1 is KServe's first."
    )
    name: ModelName | None = Field(
        default=None, description="Name of the model in the protocol's paths; none: the name of the ModelDeployment."
    )
    ready_path: ReadyPath | None = Field(
        default=None, description="Path that answers 200 when the model is ready; none: the protocol's own."
    )
    resources: Resources | None = Field(default=None, description="Compute resources.")
    run_as_user: int | None = Field(
        default=None,
        ge=0,
        le=2_147_483_647,
        description="User id of the process; none: the image's own. A container that would be root is not started.",
    )
    volume_claims: Annotated[list[VolumeClaim], Field(max_length=8)] = Field(
        default=[], description="Volumes with the model's files."
    )
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8)] = Field(
        default=[], description="Names of Secrets with registry credentials."
    )


class TargetRef(Part):
    """A workload that runs already, in the same namespace, which modelward is to protect."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "[self.apiVersion == 'apps/v1'"
                " && self.kind in ['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet'],"
                " self.kind in ['Job', 'CronJob'] && self.apiVersion == 'batch/v1',"
                " self.kind == 'InferenceService' && self.apiVersion == 'serving.kserve.io/v1beta1',"
                " self.kind == 'SeldonDeployment' && self.apiVersion == 'machinelearning.seldon.io/v1']"
                ".exists(known, known)",
                "give a Deployment, StatefulSet, DaemonSet or ReplicaSet of apps/v1, a Job or CronJob of batch/v1, an"
                " InferenceService of serving.kserve.io/v1beta1 or a SeldonDeployment of machinelearning.seldon.io/v1",
            )
        )
    )

    api_version: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Its API version.")
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="Its kind.")
    name: ObjectName = Field(description="Its name.")
    container_name: Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)] | None = Field(
        default=None, description="The model server among its containers; none: the only one that declares a port."
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None, description="Port of the model server; none: the only one that its container declares."
    )
    protocol: Literal["v1", "v2"] = Field(
        default="v2", description="Inference protocol: v2 is the Open Inference Protocol, v1 is KServe's first."
    )
    model_name: ModelName | None = Field(
        default=None, description="Name of the model in the protocol's paths; none: the name of the workload."
    )
    ready_path: ReadyPath | None = Field(
        default=None, description="Path that answers 200 when the model is ready; none: the protocol's own."
    )
    egress: Literal["Open", "Closed"] = Field(
        default="Open",
        description="What the pods may call. Open: what they could before. Closed: name resolution only, as with"
        " spec.model.",
    )


class Tensor(Part):
    """One input or output of the model, in the words of the Open Inference Protocol."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.minimum) || !has(self.maximum) || self.minimum <= self.maximum", "minimum is above maximum"),
            (
                "!has(self.columns) || size(self.columns) == 0 || self.shape[size(self.shape) - 1] == -1"
                " || size(self.columns) == self.shape[size(self.shape) - 1]",
                "columns must name as many columns as the last dimension of shape",
            ),
        )
    )

    name: FieldName = Field(description="Name of the tensor.")
    datatype: Datatype = Field(description="Datatype of its elements.")
    shape: Annotated[list[Annotated[int, Field(ge=-1, le=1_000_000_000)]], Field(min_length=1, max_length=8)] = Field(
        description="Its dimensions; -1 is any, usually the batch."
    )
    columns: Annotated[list[FieldName], Field(max_length=1024)] = Field(
        default=[], description="Names of the last dimension's columns; treatments and reasons speak of them."
    )
    minimum: float | None = Field(default=None, description="Smallest value allowed, in every column.")
    maximum: float | None = Field(default=None, description="Largest value allowed, in every column.")
    role: Role | None = Field(default=None, description="What it says about a person.")


class Schema(Part):
    """What the model takes and gives. No outputs declared: any output passes."""

    inputs: Annotated[list[Tensor], Field(max_length=128)] = Field(default=[], description="The model's inputs.")
    outputs: Annotated[list[Tensor], Field(max_length=128)] = Field(default=[], description="The model's outputs.")


class InTransit(Part):
    """Encryption of the traffic to the model."""

    mode: Literal["TLS", "MutualTLS"] = Field(
        default="TLS", description="TLS: the server shows a certificate. MutualTLS: the client does as well."
    )
    min_version: TLSVersion = Field(default="1.3", description="Oldest TLS version accepted.")
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret (kubernetes.io/tls) with the serving certificate; none: modelward's own CA issues and"
        " rotates one.",
    )
    client_ca_secret_name: ObjectName | None = Field(
        default=None,
        alias="clientCASecretName",
        description="Secret with ca.crt, the authorities trusted for client certificates; none: modelward's own CA.",
    )


class AtRest(Part):
    """Encryption of what is stored. modelward cannot see it: it records who says so."""

    storage_class_names: Annotated[list[ObjectName], Field(max_length=32)] = Field(
        default=[], description="Storage classes that encrypt."
    )
    attested_by: ShortText | None = Field(
        default=None, description="Who says that those classes and the cluster's etcd are encrypted."
    )


class InUse(Part):
    """Homomorphic encryption: the model scores what it cannot read."""

    scheme: Scheme = Field(default="CKKS", description="CKKS for approximate numbers, BFV for exact counts.")
    poly_modulus_degree: int = Field(
        default=8192, ge=1024, le=32768, description="Ring dimension n, a power of two: size and security."
    )
    coeff_modulus_bits: Annotated[list[Annotated[int, Field(ge=20, le=60)]], Field(max_length=16)] = Field(
        default=[60, 40, 60], description="Bits of each prime of the coefficient modulus: the depth."
    )
    scale_bits: int = Field(default=40, ge=10, le=60, description="Bits of the scale (CKKS): the precision.")


class Encryption(Part):
    """Encryption of the model's traffic, storage and computation."""

    in_transit: InTransit | None = Field(default=None, description="Of the traffic.")
    at_rest: AtRest | None = Field(default=None, description="Of what is stored.")
    in_use: InUse | None = Field(default=None, description="Of what is computed on.")


class Issuer(Part):
    """Who issues the tokens (JWT, RFC 7519) that callers show."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.jwksURI) != has(self.jwksConfigMapName)", "give exactly one of jwksURI, jwksConfigMapName")
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="A name for logs and messages.")
    issuer: Annotated[str, Field(min_length=1, max_length=512)] = Field(description="The claim `iss`, exactly.")
    audiences: Annotated[list[ShortText], Field(max_length=8)] = Field(
        default=[], description="A token's claim `aud` must hold one of them."
    )
    jwks_uri: Url | None = Field(default=None, alias="jwksURI", description="Where its keys (JWKS, RFC 7517) are.")
    jwks_config_map_name: ObjectName | None = Field(
        default=None, description="ConfigMap with its keys, under the key jwks.json."
    )


class RateLimit(Part):
    """How often one subject may call."""

    requests: int = Field(ge=1, le=1_000_000, description="Requests allowed in the period.")
    seconds: int = Field(default=60, ge=1, le=86_400, description="Length of the period, in seconds.")


class AccessRule(Part):
    """Who may do what, and what for. A request passes when any rule lets it."""

    subjects: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=64)] = Field(
        default=[], description="user:<sub>, group:<name>, serviceaccount:<namespace>/<name>, san:<name>."
    )
    operations: Annotated[list[Operation], Field(max_length=3)] = Field(
        default=["Infer", "Metadata"], description="What they may do."
    )
    purposes: Annotated[list[Purpose], Field(max_length=16)] = Field(
        default=[], description="The purposes they may name; a request for another is refused. None: no purpose asked."
    )
    rate_limit: RateLimit | None = Field(default=None, description="How often, for each subject.")


class Access(Part):
    """Who may call the model."""

    issuers: Annotated[list[Issuer], Field(max_length=16)] = Field(default=[], description="Trusted token issuers.")
    rules: Annotated[list[AccessRule], Field(max_length=64)] = Field(default=[], description="Access rules.")


class Baseline(Part):
    """What normal inputs look like: a file made by `modelward fit`, or the data to fit one on."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "[has(self.configMapName), has(self.secretName), has(self.dataset)].filter(given, given).size() == 1",
                "give exactly one of configMapName, secretName, dataset",
            )
        )
    )

    config_map_name: ObjectName | None = Field(
        default=None, description="ConfigMap that holds it under the key baseline.npz (binaryData)."
    )
    secret_name: ObjectName | None = Field(default=None, description="Secret that holds it under the key baseline.npz.")
    dataset: LongText | None = Field(default=None, description="Reference data to fit it on, in a Job.")


class Detector(Part):
    """One detector of anomalies or attacks."""

    type: DetectorType = Field(description="Its kind.")
    false_positive_rate: float = Field(
        default=0.01, ge=0.00001, le=0.5, description="Share of normal requests it may take for strange."
    )


class Telemetry(Part):
    """Where records of requests go."""

    otlp_endpoint: Url | None = Field(default=None, description="OpenTelemetry collector (OTLP over HTTP).")
    lineage_endpoint: Url | None = Field(default=None, description="OpenLineage receiver.")
    access_log: Literal["Stdout", "OTLP"] = Field(default="Stdout", description="Where the access log goes.")


class Monitoring(Part):
    """What watches the model's inputs and outputs."""

    baseline: Baseline | None = Field(default=None, description="What normal inputs look like.")
    detectors: Annotated[list[Detector], Field(max_length=16)] = Field(default=[], description="The detectors.")
    on_anomaly: OnAnomaly = Field(
        default="Block", description="Block: answer 403. Sanitise: clip to the baseline. Flag: forward and mark."
    )
    telemetry: Telemetry | None = Field(default=None, description="Where records go.")


class Explanations(Part):
    """How decisions are explained and contested (GDPR articles 13-15 and 22)."""

    method: Literal["LinearSHAP", "PermutationSHAP"] = Field(default="PermutationSHAP", description="How.")
    contact: ShortText | None = Field(default=None, description="Who answers questions on a decision.")
    contest_url: Url | None = Field(default=None, alias="contestURL", description="Where a decision is contested.")


class ProtectedField(Part):
    """An attribute by which people must not be treated unequally."""

    field: FieldName = Field(description="The input or column.")
    groups: Annotated[list[ShortText], Field(max_length=64)] = Field(default=[], description="Its groups.")


class Fairness(Part):
    """How equally groups are treated."""

    protected: Annotated[list[ProtectedField], Field(max_length=16)] = Field(
        default=[], description="Protected attributes."
    )
    max_difference: float = Field(
        default=0.1, ge=0, le=1, description="Largest difference of rates between groups that is accepted."
    )


class SecurityTest(Part):
    """The attack suite that the model must withstand."""

    suite: Annotated[str, Field(min_length=1, max_length=63)] = Field(default="baseline", description="Which attacks.")
    schedule: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="When to repeat it, as in a CronJob."
    )
    gate: bool = Field(default=True, description="Whether the model is Ready only when the test passed.")


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

    model: ModelContainer | None = Field(default=None, description="The model server that modelward runs.")
    target_ref: TargetRef | None = Field(default=None, description="The running workload that modelward protects.")
    replicas: int = Field(default=1, ge=0, le=1000, description="How many pods; for spec.model only.")
    schema_: Schema | None = Field(default=None, alias="schema", description="What the model takes and gives.")
    encryption: Encryption | None = Field(default=None, description="Encryption in transit, at rest and in use.")
    access: Access | None = Field(default=None, description="Who may call the model.")
    monitoring: Monitoring | None = Field(default=None, description="What watches it.")
    explanations: Explanations | None = Field(default=None, description="How its decisions are explained.")
    fairness: Fairness | None = Field(default=None, description="How equally it treats groups.")
    security_test: SecurityTest | None = Field(default=None, description="How its security is tested.")


class ViolationStatus(Part):
    """A rule that the ModelDeployment breaks."""

    rule: Annotated[str, Field(max_length=32)] = Field(description="Id of the rule.")
    policy: Annotated[str, Field(max_length=317)] = Field(description="The policy that asks.")
    field: Annotated[str, Field(max_length=512)] = Field(description="Where.")
    message: Annotated[str, Field(max_length=1024)] = Field(description="What was found and how to mend it.")


class SecurityTestStatus(Part):
    """The last security test."""

    suite: Annotated[str, Field(max_length=63)] = Field(description="Which attacks.")
    finished_at: Timestamp = Field(description="When it ended.")
    outcome: Literal["Passed", "Failed", "Errored"] = Field(description="How it ended.")


class TargetStatus(Part):
    """The workload that is protected now; it is given back when spec.targetRef names another."""

    api_version: Annotated[str, Field(max_length=253)] = Field(description="Its API version.")
    kind: Annotated[str, Field(max_length=63)] = Field(description="Its kind.")
    name: Annotated[str, Field(max_length=253)] = Field(description="Its name.")


class ModelDeploymentStatus(Part):
    """What modelward has seen and done. Written by the controller alone."""

    conditions: Annotated[list[Condition], Field(max_length=32)] = Field(
        default=[],
        description="Ready, PolicyCompliant, Encrypted, AccessControlled, LineageVerified, Monitored, SecurityTested.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    observed_generation: int | None = Field(default=None, ge=0, description="Generation that this status tells of.")
    endpoint: LongText | None = Field(default=None, description="Address at which the model is called.")
    replicas: int | None = Field(default=None, ge=0, description="Pods there are.")
    ready_replicas: int | None = Field(default=None, ge=0, description="Pods that are ready.")
    selector: LongText | None = Field(default=None, description="Label selector of the pods, for autoscalers.")
    policies: Annotated[list[ShortText], Field(max_length=64)] = Field(
        default=[], description="Policies that govern it."
    )
    violations: Annotated[list[ViolationStatus], Field(max_length=64)] = Field(
        default=[], description="Rules that it breaks."
    )
    last_security_test: SecurityTestStatus | None = Field(default=None, description="The last security test.")
    target: TargetStatus | None = Field(default=None, description="The workload that is protected.")


class ModelDeployment(Resource):
    """A machine-learning model that serves, with its encryption, access rules, lineage and monitoring."""

    kind: Literal["ModelDeployment"] = "ModelDeployment"
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus | None = None
