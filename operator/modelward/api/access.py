"""Who may call a model, as whom, what for and how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import ObjectName, Part, Purpose, ShortText, Url, cel

Operation = Literal["Infer", "Metadata", "Explain", "Feedback"]


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
