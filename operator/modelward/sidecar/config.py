"""The sidecar's configuration, `config.json`, as strict structs; `modelward.sidecar.signed` proves who wrote it.

Unknown fields are refused: a setting that this version does not know must not be silently ignored.
"""

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from modelward.audit.settings import Audit
from modelward.encrypted.parameters import Parameters as EncryptedParameters
from modelward.encrypted.parameters import SecurityBits
from modelward.explain.limits import USUAL_ROWS
from modelward.privacy.spec import Treatment

MAX_CONFIG_BYTES = 1 << 20  # a ConfigMap's own limit
LIMITS_PASSWORD = "limits-password"  # noqa: S105 - a file's name

Text = Annotated[str, Meta(max_length=1024)]
Positive = Annotated[int, Meta(ge=1, le=1 << 31)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Port = Annotated[int, Meta(ge=1, le=65535)]
Operation = Literal["Infer", "Metadata", "Explain", "Feedback"]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip


class ConfigError(Exception):
    """A configuration that is not taken; the message says what is wrong and how to mend it."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every part: immutable, camelCase in the file, no unknown fields."""


class Binding(Section, frozen=True):
    """Whose configuration this is. `generation` is the ModelDeployment's."""

    namespace: Text
    name: Text
    generation: Annotated[int, Meta(ge=0)]


class Upstream(Section, frozen=True):
    """The model server, on the pod's loopback. `model`: its name in paths. `ready_path`: 200 once it is loaded.

    `grpc_port`: where it speaks the protocol V2 over gRPC, which is then served as well.
    """

    port: Port
    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    protocol: Literal["v1", "v2"] = "v2"
    host: Text = "127.0.0.1"
    ready_path: Annotated[str, Meta(pattern=r"^/[\x21-\x7e]*$", max_length=256)] = "/v2/health/ready"
    grpc_port: Port | None = None


class Tls(Section, frozen=True):
    """What a client must speak. `client_ca` is a PEM bundle; with MutualTLS it is required."""

    mode: Literal["TLS", "MutualTLS"] = "TLS"
    min_version: Literal["1.2", "1.3"] = "1.3"
    client_ca: str = msgspec.field(name="clientCA", default="")


class Issuer(Section, frozen=True):
    """Who may vouch for callers: the exact `iss`, the accepted audiences, and its public keys (RFC 7517).

    The keys stand in `jwks`, or are fetched from `jwks_uri`: exactly one of the two. `cluster`: it is the issuer of the
    cluster that the sidecar runs in, the only one that may name service accounts.
    """

    name: Text
    issuer: Annotated[str, Meta(min_length=1, max_length=1024)]
    audiences: Annotated[list[Text], Meta(min_length=1, max_length=32)]
    jwks: dict[str, Any] | None = None
    jwks_uri: Text = msgspec.field(name="jwksURI", default="")
    cluster: bool = False


class KeyFetching(Section, frozen=True):
    """Where keys may be fetched from (see `modelward.allowlist`), and whom to trust there: PEM, empty: public CAs."""

    allow: Annotated[list[Text], Meta(max_length=64)] = []
    authorities: Annotated[str, Meta(max_length=256 << 10)] = ""


class RateLimit(Section, frozen=True):
    """At most `requests` in any window of `seconds`, for each caller under the rule.

    Counted in each replica by itself, or by all together (`Access.shared_limits`).
    """

    requests: Annotated[int, Meta(ge=1, le=1_000_000)]
    seconds: Annotated[int, Meta(ge=1, le=86_400)]


class Rule(Section, frozen=True):
    """Allows the subjects the operations, for the purposes if any are named."""

    subjects: Annotated[list[Text], Meta(min_length=1, max_length=256)]
    operations: Annotated[list[Operation], Meta(min_length=1, max_length=4)]
    purposes: Annotated[list[Text], Meta(max_length=64)] = []
    rate_limit: RateLimit | None = None


class SharedLimits(Section, frozen=True):
    """Where the replicas of a model count its rate limits together.

    `address` is redis://[user@]host:port[/database], or rediss:// for TLS, where `authorities` (PEM; empty: public CAs)
    are trusted. `model`: what the counts are kept under. `replicas`: how many share a limit when the server is away.
    The password, if there is one, is in the file `LIMITS_PASSWORD` beside the serving certificate.
    """

    address: Text
    model: Text
    authorities: Annotated[str, Meta(max_length=256 << 10)] = ""
    replicas: Annotated[int, Meta(ge=1, le=100_000)] = 1


class Access(Section, frozen=True):
    """Callers and what they may do. An empty list of rules allows nothing."""

    issuers: Annotated[list[Issuer], Meta(max_length=16)] = []
    rules: Annotated[list[Rule], Meta(max_length=128)] = []
    purpose_header: bool = False
    clock_skew_seconds: Annotated[int, Meta(ge=0, le=300)] = 30
    key_fetching: KeyFetching = KeyFetching()
    shared_limits: SharedLimits | None = None


class TensorDeclaration(Section, frozen=True):
    """A declared tensor. -1 in `shape` is any length; the first axis counts rows when it is -1."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    datatype: Datatype
    shape: Annotated[list[Annotated[int, Meta(ge=-1, le=1 << 31)]], Meta(min_length=1, max_length=8)]
    columns: Annotated[list[Text], Meta(max_length=4096)] = []
    minimum: float | None = None
    maximum: float | None = None


class BaselineFile(Section, frozen=True):
    """Where the baseline is, and its digest: the signature covers it through this.

    It lies beside `config.json`, or, where it came from a Secret (`secret`), beside the serving certificate.
    """

    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    secret: bool = False


class KeyFile(Section, frozen=True):
    """Where the namespace's keys of pseudonyms are, beside the serving certificate, and the file's digest."""

    file: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


InputType = Literal["Ensemble", "Mahalanobis", "NearestNeighbours", "Autoencoder", "IsolationForest", "Tails"]
WatchType = Literal["Drift", "Extraction", "Membership", "Output"]
ProbeType = Literal["Evasion", "Backdoor"]
INPUT_TYPES: tuple[str, ...] = get_args(InputType)
WATCH_TYPES: tuple[str, ...] = get_args(WatchType)
PROBE_TYPES: tuple[str, ...] = get_args(ProbeType)
OnAnomaly = Literal["Block", "Sanitise", "Flag"]


class Detector(Section, frozen=True):
    """A detector and the share of ordinary rows that it may flag (None: as the baseline was fitted).

    `window`: of Drift, in rows. `coverage`: of Extraction, the share of the baseline's reference that a client may
    cover in a day (None: all of it). `extra_calls`: of Evasion and Backdoor, how many rows the model may be asked
    besides each row of a request.
    """

    type: InputType | WatchType | ProbeType
    false_positive_rate: Annotated[float, Meta(gt=0, lt=1)] | None = None
    window: Annotated[int, Meta(ge=100, le=100_000)] = 1000
    coverage: Annotated[float, Meta(gt=0, le=1)] | None = None
    extra_calls: Annotated[int, Meta(ge=0, le=64)] = 0


class Quarantine(Section, frozen=True):
    """A client is refused for `duration_seconds` after so many `anomalies` within `seconds`."""

    anomalies: Annotated[int, Meta(ge=1, le=1000)]
    seconds: Annotated[int, Meta(ge=1, le=86_400)]
    duration_seconds: Annotated[int, Meta(ge=1, le=2_592_000)]


class Screening(Section, frozen=True):
    """How requests are screened. No detectors: not at all. Each of `quarantine` counts by itself."""

    baseline: BaselineFile | None = None
    detectors: Annotated[list[Detector], Meta(max_length=16)] = []
    on_anomaly: OnAnomaly = "Block"
    on_detector_error: Literal["Block", "Pass"] = "Block"
    quarantine: Annotated[list[Quarantine], Meta(max_length=64)] = []


class ProtectedField(Section, frozen=True):
    """An input or column whose groups are counted; see `modelward.fairness.groups`."""

    field: Text
    groups: Annotated[list[Text], Meta(max_length=64)] = []
    edges: Annotated[list[float], Meta(max_length=63)] = []


class Favourable(Section, frozen=True):
    """Which answers are favourable: element `element` of each row of `output` (empty: the first)."""

    output: Text = ""
    element: Annotated[int, Meta(ge=0, le=4095)] = 0
    equals: Text | None = None
    at_least: float | None = None


class Fairness(Section, frozen=True):
    """What is counted of how groups are treated."""

    protected: Annotated[list[ProtectedField], Meta(min_length=1, max_length=16)]
    favourable: Favourable = Favourable()


class Reidentification(Section, frozen=True):
    """What is counted of combinations: `fields` are the columns of which the model gets something of a person.

    `k` of k-anonymity. `subject`: the column that tells whose a row is; empty: none, and rows are counted. `tolerance`:
    share of the rows that may be in smaller combinations.
    """

    k: Annotated[int, Meta(ge=2, le=1_000_000)]
    fields: Annotated[list[Text], Meta(min_length=1, max_length=4096)]
    subject: Text = ""
    tolerance: Annotated[float, Meta(ge=0, le=1)] = 0.01


class WeightsFile(Section, frozen=True):
    """The model's exported weights beside the configuration, and their digest."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    file: Literal["weights.json", "explained-weights.json"] = "weights.json"


class InUse(Section, frozen=True):
    """Requests under homomorphic encryption: by which parameters, weights and processes. `only`: no others are taken.

    Scores need `weights`; `statistics`, whether means, sums and counts of columns are given, need none. `rows_per_hour`
    is for each caller, 0: as many as they like. `memory_bytes` is a process's address space.
    """

    parameters: EncryptedParameters
    weights: WeightsFile | None = None
    statistics: bool = False
    security_bits: SecurityBits = 128
    only: bool = False
    rows_per_hour: Annotated[int, Meta(ge=0, le=1 << 31)] = 0
    workers: Annotated[int, Meta(ge=1, le=8)] = 1
    memory_bytes: Annotated[int, Meta(ge=128 << 20, le=1 << 40)] = 512 << 20
    seconds: Seconds = 10.0
    kept_key_bytes: Annotated[int, Meta(ge=0, le=1 << 31)] = 32 << 20


class Explanations(Section, frozen=True):
    """How `explain` is answered. `weights`: the linear model's; LinearSHAP has them and no other method.

    `output`: the model's output that is explained (V2), "": the one that tells most. `extra_calls`: how many rows the
    model may be asked to explain one. `hidden`: fields whose values are not told in words.
    """

    method: Literal["LinearSHAP", "PermutationSHAP"] = "PermutationSHAP"
    weights: WeightsFile | None = None
    output: Text = ""
    extra_calls: Annotated[int, Meta(ge=16, le=32_768)] = USUAL_ROWS
    hidden: Annotated[list[Text], Meta(max_length=4096)] = []
    contact: Text = ""
    contest_url: Text = msgspec.field(name="contestURL", default="")


class Telemetry(Section, frozen=True):
    """An OpenTelemetry collector (OTLP over HTTP), and whether the access log goes there as well.

    `endpoint` is what `/v1/traces` is appended to; `allow` and `authorities` as in `KeyFetching`.
    """

    endpoint: Text
    allow: Annotated[list[Text], Meta(max_length=64)] = []
    authorities: Annotated[str, Meta(max_length=256 << 10)] = ""
    access_log: Literal["Stdout", "OTLP"] = "Stdout"


class Limits(Section, frozen=True):
    """Everything is bounded; these are the bounds. Bytes, counts, and seconds."""

    header_bytes: Positive = 16 << 10
    headers: Positive = 64
    body_bytes: Positive = 4 << 20
    buffered_bytes: Positive = 64 << 20
    response_bytes: Positive = 16 << 20
    connections: Positive = 10_240
    upstream_connections: Positive = 64
    upstream_queue: Positive = 512
    head_seconds: Seconds = 10
    body_seconds: Seconds = 30
    idle_seconds: Seconds = 75
    write_seconds: Seconds = 30
    connect_seconds: Seconds = 2
    upstream_seconds: Seconds = 30
    stream_seconds: Seconds = 900
    drain_seconds: Seconds = 25


class Config(Section, frozen=True):
    """The whole of `config.json`.

    `inputs` None: none are declared, and bodies are checked for structure alone. `outputs` None: any output passes.
    `fields`: the treatment of each input, output and column that is not kept as it is, by name. `record_values`: the
    access log keeps the declared inputs, as the model got them.
    """

    binding: Binding
    upstream: Upstream
    tls: Tls = Tls()
    access: Access = Access()
    inputs: Annotated[list[TensorDeclaration], Meta(max_length=128)] | None = None
    outputs: Annotated[list[TensorDeclaration], Meta(max_length=128)] | None = None
    undeclared_fields: Literal["Reject", "Drop"] = "Reject"
    fields: Annotated[dict[Text, Treatment], Meta(max_length=2048)] = {}
    keys: KeyFile | None = None
    screening: Screening = Screening()
    fairness: Fairness | None = None
    reidentification: Reidentification | None = None
    record_values: bool = False
    in_use: InUse | None = None
    explanations: Explanations | None = None
    audit: Audit | None = None
    telemetry: Telemetry | None = None
    limits: Limits = Limits()


def parse(document: bytes) -> Config:
    """Read `config.json`.

    Raises:
        ConfigError: it is too large, not JSON, or not in the shape of `Config`.
    """
    if len(document) > MAX_CONFIG_BYTES:
        raise ConfigError(f"the configuration has {len(document)} bytes; at most {MAX_CONFIG_BYTES} are read")
    try:
        return msgspec.json.decode(document, type=Config)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The decoder quotes what it cannot use, however long that is.
        raise ConfigError(f"the configuration cannot be read: {str(error)[:512]}") from error
