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
    "Ensemble",
    "Mahalanobis",
    "NearestNeighbours",
    "Autoencoder",
    "IsolationForest",
    "Tails",
    "Drift",
    "Extraction",
    "Membership",
    "Output",
    "Evasion",
    "Backdoor",
]
OnAnomaly = Literal["Block", "Sanitise", "Flag"]
Operation = Literal["Infer", "Metadata", "Explain", "Feedback"]
Scheme = Literal["CKKS", "BFV"]
TLSVersion = Literal["1.2", "1.3"]
ModelName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ReadyPath = Annotated[str, Field(max_length=512, pattern=r"^/[!-~]*$")]


class KeyRef(Part):
    """A key of a ConfigMap or Secret in the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap or Secret, in the namespace of the ModelDeployment.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="The key in it whose value is meant. Example: token."
    )


class EnvVarSource(Part):
    """Where an environment variable's value comes from."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("has(self.secretKeyRef) != has(self.configMapKeyRef)", "give exactly one of secretKeyRef, configMapKeyRef")
        )
    )

    secret_key_ref: KeyRef | None = Field(
        default=None, description="A key of a Secret; the way for everything that must stay secret."
    )
    config_map_key_ref: KeyRef | None = Field(
        default=None, description="A key of a ConfigMap; for what everyone may read."
    )


class EnvVar(Part):
    """An environment variable of the model's container."""

    name: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")] = Field(
        description="Name of the variable. Example: MODEL_NAME."
    )
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None,
        description="Its value, in the clear: everyone who may read the ModelDeployment reads it. For secrets use"
        " valueFrom.",
    )
    value_from: EnvVarSource | None = Field(
        default=None, description="Where its value comes from, instead of value: a key of a Secret or of a ConfigMap."
    )


class Resources(Part):
    """Compute resources of the model's container."""

    requests: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(
        default={}, description="What the scheduler sets aside, as in a Pod. Example: {cpu: 100m, memory: 256Mi}."
    )
    limits: Annotated[dict[ShortText, Quantity], Field(max_length=16)] = Field(
        default={}, description="What the container may use at the most, as in a Pod. Example: {memory: 512Mi}."
    )


class VolumeClaim(Part):
    """A PersistentVolumeClaim mounted into the model's container."""

    claim_name: ObjectName = Field(
        description="Name of the PersistentVolumeClaim, in the namespace of the ModelDeployment."
    )
    mount_path: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^/[^:]*$")] = Field(
        description="Absolute path in the container at which it is mounted. Example: /models."
    )
    read_only: bool = Field(
        default=True,
        description="Whether the container may only read it; leave it so unless the server writes beside its model.",
    )


class ModelContainer(Part):
    """The model server that modelward runs. It must listen on 127.0.0.1 only: the sidecar is the way in."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.grpcPort) || self.protocol == 'v2'", "grpcPort is of the protocol v2: v1 has no gRPC"),
            ("!has(self.grpcPort) || self.grpcPort != self.port", "grpcPort and port are two ports"),
            (
                "!has(self.grpcPort) || (self.port != 8444 && !(self.grpcPort in [8443, 8444, 9090]))",
                "8443, 8444 and 9090 are the sidecar's ports",
            ),
        )
    )

    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Image of the model server, by digest: repository@sha256:<64 hex digits>."
    )
    command: Annotated[list[LongText], Field(max_length=64)] = Field(
        default=[],
        description="Entry point of the container, instead of the image's. Example: [mlserver, start, /models].",
    )
    args: Annotated[list[LongText], Field(max_length=64)] = Field(
        default=[], description="Arguments of the entry point, instead of the image's."
    )
    env: Annotated[list[EnvVar], Field(max_length=100)] = Field(
        default=[], description="Environment variables of the container, each with a value or with where it comes from."
    )
    port: int = Field(
        default=8080,
        ge=1024,
        le=65535,
        description="Port on which the model server listens, on the loopback address. The sidecar takes its place"
        " to the outside.",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=1024,
        le=65535,
        description="Port on which the model server speaks the Open Inference Protocol over gRPC, on the loopback"
        " address as well; none: gRPC is not served. The sidecar serves it on 8444, with the same checks.",
    )
    protocol: Literal["v1", "v2"] = Field(
        default="v2",
        description="Inference protocol that the server speaks: v2 is the Open Inference Protocol, v1 is KServe's"
        " first.",
    )
    name: ModelName | None = Field(
        default=None, description="Name of the model in the protocol's paths; none: the name of the ModelDeployment."
    )
    ready_path: ReadyPath | None = Field(
        default=None, description="Path that answers 200 when the model is ready; none: the protocol's own."
    )
    resources: Resources | None = Field(
        default=None, description="Compute resources of the container: requests and limits, as in a Pod."
    )
    run_as_user: int | None = Field(
        default=None,
        ge=0,
        le=2_147_483_647,
        description="User id of the process; none: the image's own. A container that would be root is not started.",
    )
    volume_claims: Annotated[list[VolumeClaim], Field(max_length=8)] = Field(
        default=[], description="PersistentVolumeClaims with the model's files, mounted into the container."
    )
    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8)] = Field(
        default=[], description="Names of Secrets with the credentials of the image's registry."
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

    api_version: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="API version of the workload. Example: apps/v1."
    )
    kind: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="Kind of the workload. Example: Deployment."
    )
    name: ObjectName = Field(description="Name of the workload, in the namespace of the ModelDeployment.")
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

    name: FieldName = Field(description="Name of the tensor as requests give it. Example: features.")
    datatype: Datatype = Field(
        description="Datatype of its elements, in the words of the Open Inference Protocol. Example: FP64."
    )
    shape: Annotated[list[Annotated[int, Field(ge=-1, le=1_000_000_000)]], Field(min_length=1, max_length=8)] = Field(
        description="Its dimensions; -1 is any, usually the batch. Example: [-1, 30]."
    )
    columns: Annotated[list[FieldName], Field(max_length=1024)] = Field(
        default=[],
        description="Names of the last dimension's columns; treatments and reasons speak of them. Example: [age,"
        " weight].",
    )
    minimum: float | None = Field(
        default=None,
        description="Smallest value allowed, in every column; a request with a smaller one is refused. Not given: any.",
    )
    maximum: float | None = Field(
        default=None,
        description="Largest value allowed, in every column; a request with a larger one is refused. Not given: any.",
    )
    role: Role | None = Field(
        default=None,
        description="What it says about a person: Identifier names one, QuasiIdentifier does with others,"
        " Sensitive must not leak.",
    )


class Schema(Part):
    """What the model takes and gives. No outputs declared: any output passes."""

    inputs: Annotated[list[Tensor], Field(max_length=128)] = Field(
        default=[],
        description="The model's inputs, which each request is checked against. The policy's undeclaredFields"
        " says what becomes of others.",
    )
    outputs: Annotated[list[Tensor], Field(max_length=128)] = Field(
        default=[], description="The model's outputs; none declared: any output passes."
    )


class InTransit(Part):
    """Encryption of the traffic to the model."""

    mode: Literal["TLS", "MutualTLS"] = Field(
        default="TLS", description="TLS: the server shows a certificate. MutualTLS: the client does as well."
    )
    min_version: TLSVersion = Field(default="1.3", description="Oldest TLS version that is accepted from clients.")
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
        default=[], description="Storage classes that encrypt what is written to them. Example: [encrypted-ssd]."
    )
    attested_by: ShortText | None = Field(
        default=None,
        description="Who says that those classes and the cluster's etcd are encrypted. Example: platform team.",
    )


class InUse(Part):
    """Homomorphic encryption: the model scores what it cannot read."""

    scheme: Scheme = Field(
        default="CKKS", description="CKKS for scores, means and sums; BFV for exact sums and counts, and no scores."
    )
    poly_modulus_degree: int = Field(
        default=8192, ge=1024, le=32768, description="Ring dimension n, a power of two: size and security."
    )
    coeff_modulus_bits: Annotated[list[Annotated[int, Field(ge=20, le=60)]], Field(max_length=16)] = Field(
        default=[60, 40, 60], description="Bits of each prime of the coefficient modulus: the depth."
    )
    scale_bits: int = Field(
        default=40, ge=10, le=60, description="Bits of the scale (CKKS): the precision of the result against the depth."
    )
    weights_config_map_name: ObjectName | None = Field(
        default=None,
        description="ConfigMap with the model's exported weights under the key weights.json: coef, intercept and link,"
        " or layers. Encrypted requests are scored by them, and do not reach the model's container.",
    )
    statistics: bool = Field(
        default=False,
        description="Whether callers get means, sums and (BFV) exact counts of columns that they encrypted, which need"
        " no weights.",
    )
    only: bool = Field(default=False, description="Whether requests that are not encrypted are refused.")
    rows_per_hour: int = Field(
        default=10_000,
        ge=0,
        le=1_000_000_000,
        description="Encrypted rows that one caller may have scored in an hour; they cannot be screened, and as many"
        " scores as a linear model has weights give it away. 0: as many as they like.",
    )


class Encryption(Part):
    """Encryption of the model's traffic, storage and computation."""

    in_transit: InTransit | None = Field(
        default=None,
        description="Encryption of the traffic to the model, which the sidecar ends. Example: {mode: TLS,"
        ' minVersion: "1.3"}.',
    )
    at_rest: AtRest | None = Field(
        default=None,
        description="Encryption of what is stored: the model's files and the cluster's secrets, as somebody"
        " attests it.",
    )
    in_use: InUse | None = Field(
        default=None,
        description="Encryption of what is computed on: homomorphic, so that the model scores what it cannot read.",
    )


class Issuer(Part):
    """Who issues the tokens (JWT, RFC 7519) that callers show."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "[has(self.jwksURI), has(self.jwksConfigMapName), has(self.serviceAccounts) && self.serviceAccounts]"
                ".filter(given, given).size() == 1",
                "give exactly one of jwksURI, jwksConfigMapName, serviceAccounts",
            )
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        description="A name for it in logs and messages. Example: clinic."
    )
    issuer: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="The claim `iss` of its tokens, exactly. Example: https://login.clinic.example."
    )
    audiences: Annotated[list[ShortText], Field(max_length=8)] = Field(
        default=[],
        description="A token's claim `aud` must hold one of them. Without any, a token for anything would do: the"
        " model is not Ready then. Example: [wdbc].",
    )
    jwks_uri: Url | None = Field(
        default=None,
        alias="jwksURI",
        description="Where its public keys (JWKS, RFC 7517) are fetched: an https:// address that the installation"
        " allows. Give this, jwksConfigMapName or serviceAccounts.",
    )
    jwks_config_map_name: ObjectName | None = Field(
        default=None, description="ConfigMap with its public keys (JWKS) under the key jwks.json."
    )
    service_accounts: bool = Field(
        default=False,
        description="Whether it is this cluster's own issuer, of service accounts' tokens: its keys are known then, and"
        " it alone may name subjects serviceaccount:<namespace>/<name>.",
    )


class RateLimit(Part):
    """How often one subject may call."""

    requests: int = Field(
        ge=1,
        le=1_000_000,
        description="Requests that one subject may make in the period; the next one is answered 429.",
    )
    seconds: int = Field(
        default=60, ge=1, le=86_400, description="Length of the period over which requests are counted, in seconds."
    )


class AccessRule(Part):
    """Who may do what, and what for. A request passes when any rule lets it."""

    subjects: Annotated[list[Annotated[str, Field(min_length=1, max_length=253)]], Field(max_length=64)] = Field(
        default=[],
        description="Who may call: user:<claim sub>, group:<one of the claim groups>,"
        " serviceaccount:<namespace>/<name> or san:<name in the client's certificate>. Example:"
        " [group:oncologists].",
    )
    operations: Annotated[list[Operation], Field(max_length=4)] = Field(
        default=["Infer", "Metadata"],
        description="What they may do: Infer asks for predictions, Metadata for the model's description, Explain"
        " for reasons, Feedback tells what answers should have been.",
    )
    purposes: Annotated[list[Purpose], Field(max_length=16)] = Field(
        default=[], description="The purposes they may name; a request for another is refused. None: no purpose asked."
    )
    rate_limit: RateLimit | None = Field(
        default=None, description="How often each of the subjects may call. Not given: as often as they like."
    )


class Access(Part):
    """Who may call the model."""

    issuers: Annotated[list[Issuer], Field(max_length=16)] = Field(
        default=[], description="Trusted issuers of tokens (JWT); a token of any other is refused."
    )
    rules: Annotated[list[AccessRule], Field(max_length=64)] = Field(
        default=[],
        description="Who may do what and what for; a request passes when any rule lets it. None: nobody may call.",
    )


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
        default=None,
        description="ConfigMap that holds it under the key baseline.npz (binaryData), as `modelward fit` made it.",
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret that holds it under the key baseline.npz, where reference data must not be seen by"
        " everyone.",
    )
    dataset: LongText | None = Field(
        default=None,
        description="Address of the data that a Job fits it on: pvc://<claim>/<path> or https://..., ending in"
        " .csv, .npz or .parquet, then @sha256:<64 hex digits>; without a digest that of the lineage annotation dataset"
        " holds. Example: pvc://reference/train.csv.",
    )


class Detector(Part):
    """One detector of anomalies or attacks."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.window) || self.type == 'Drift'", "window is for Drift alone"),
            ("!has(self.coverage) || self.type == 'Extraction'", "coverage is for Extraction alone"),
            (
                "has(self.extraCalls) == (self.type in ['Evasion', 'Backdoor'])",
                "Evasion and Backdoor need extraCalls, how often they may ask the model again; it is for them alone",
            ),
        )
    )

    type: DetectorType = Field(
        description="What it looks for and how. Ensemble, Mahalanobis, NearestNeighbours, Autoencoder, IsolationForest"
        " and Tails: rows unlike the baseline. Drift: rows that become others over time. Extraction: a client that"
        " copies the model. Membership: one that asks around one row. Output: answers without confidence, or always the"
        " same. Evasion, Backdoor: rows that were bent to be judged otherwise, and triggers; they ask the model again."
        " Example: Ensemble."
    )
    false_positive_rate: float = Field(
        default=0.01,
        ge=0.00001,
        le=0.5,
        description="Share of normal requests that it may take for strange; its threshold is set by it.",
    )
    window: int | None = Field(
        default=None,
        ge=100,
        le=100_000,
        description="For Drift: so many rows are compared with the baseline. Not given: 1000.",
    )
    coverage: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="For Extraction: the share of the baseline's reference rows whose surroundings one client may ask"
        " about in a day: a budget for whoever asks like everybody else. Not given: no budget. Example: 0.5.",
    )
    extra_calls: int | None = Field(
        default=None,
        ge=3,
        le=64,
        description="For Evasion and Backdoor: about how many rows they ask the model besides each row of a request."
        " Each costs the model what a row of a request costs. Example: 8 for Evasion, 32 for Backdoor.",
    )


class Telemetry(Part):
    """Where records of requests go."""

    otlp_endpoint: Url | None = Field(
        default=None,
        description="OpenTelemetry collector that metrics and records go to (OTLP over HTTP). Not given: none.",
    )
    lineage_endpoint: Url | None = Field(
        default=None, description="Receiver of OpenLineage events: who asked what, when and why. Not given: none."
    )
    access_log: Literal["Stdout", "OTLP"] = Field(
        default="Stdout",
        description="Where the access log goes, a line a request: the container's output, or the collector.",
    )


class Monitoring(Part):
    """What watches the model's inputs and outputs."""

    baseline: Baseline | None = Field(
        default=None, description="What normal inputs look like; detectors compare requests with it."
    )
    detectors: Annotated[list[Detector], Field(max_length=16)] = Field(
        default=[],
        description="The detectors that watch the model, each type at most once. Example: [{type: Ensemble}].",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    on_anomaly: OnAnomaly = Field(
        default="Block",
        description="What is done with a strange request. Block: answer 403. Sanitise: bring its rows into what the"
        " baseline knows; what is not about a row's values is blocked. Flag: forward and mark. Of several detectors'"
        " verdicts the worst counts. Drift is told of alone.",
    )
    telemetry: Telemetry | None = Field(
        default=None, description="Where records of requests, metrics and lineage go, besides the sidecar's own log."
    )


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


class SecurityTest(Part):
    """The attack suite that the model must withstand."""

    suite: Annotated[str, Field(min_length=1, max_length=63)] = Field(
        default="baseline", description="Name of the suite of attacks that the model must withstand."
    )
    schedule: Annotated[str, Field(max_length=128)] | None = Field(
        default=None,
        description="When to repeat it, as in a CronJob. Not given: it is not repeated. Example: 0 3 * * 0.",
    )
    gate: bool = Field(default=True, description="Whether the model is Ready only when the last test was passed.")


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


class SecurityTestStatus(Part):
    """The last security test."""

    suite: Annotated[str, Field(max_length=63)] = Field(description="Name of the suite of attacks that was run.")
    finished_at: Timestamp = Field(description="When the test ended (RFC 3339).")
    outcome: Literal["Passed", "Failed", "Errored"] = Field(
        description="How it ended: Errored means that it could not be run to its end."
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
    combinations: int = Field(ge=0, description="How many combinations there are; estimated above 2,048 of them.")
    rows_below_k: float = Field(ge=0, le=1, description="Share of the rows whose combination has fewer than k.")
    smallest: int = Field(ge=0, description="The size of the smallest combination that is known of.")
    uncounted: int = Field(default=0, ge=0, description="Rows of requests that were too large to be counted.")


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
    lineage: LineageStatus | None = Field(
        default=None, description="Who answers for where the model comes from, and who got its answers."
    )


class ModelDeployment(Resource):
    """A machine-learning model that serves, with its encryption, access rules, lineage and monitoring."""

    kind: Literal["ModelDeployment"] = "ModelDeployment"
    spec: ModelDeploymentSpec
    status: ModelDeploymentStatus | None = None
