"""What a policy asks of a ModelDeployment: each part switches rules of the catalogue on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.access import RateLimit
from modelward.api.base import (
    ObjectName,
    Part,
    Purpose,
    ShortText,
    cel,
)
from modelward.api.decisions import ProtectedField
from modelward.api.encryption import Scheme, TLSVersion
from modelward.api.monitoring import DetectorType, OnAnomaly

LineageAnnotation = Literal["dataset", "model", "training-run", "transformations", "consumer"]
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
