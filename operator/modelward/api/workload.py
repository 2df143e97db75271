"""What runs a model: the container that modelward runs, or the workload that it protects where it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import LABEL_PATTERN, LongText, ObjectName, Part, Quantity, ShortText, cel

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
