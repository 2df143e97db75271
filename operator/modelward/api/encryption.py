"""How a model's traffic, storage and computation are encrypted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelward.api.base import ObjectName, Part, ShortText

Scheme = Literal["CKKS", "BFV"]
TLSVersion = Literal["1.2", "1.3"]


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
