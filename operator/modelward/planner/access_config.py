"""The part `access` of the sidecar's configuration: who may vouch for callers, with their keys, and who may do what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from modelward import allowlist
from modelward.api.access import Issuer
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import JWKS_KEY
from modelward.planner.access import AccessSettings, ClusterIssuer, counts_together, fetched
from modelward.planner.names import KubeObject, namespace_of
from modelward.planner.references import References
from modelward.planner.security_test import rule_of_tester
from modelward.planner.sidecar_config_error import AddressNotAllowedError, SidecarConfigError
from modelward.planner.tested import asked_of


def access_config(
    md: ModelDeployment,
    policies: Sequence[KubeObject],
    references: References,
    settings: AccessSettings,
    replicas: int | None,
) -> dict[str, Any]:
    """Return the part `access`.

    Args:
        md: the ModelDeployment.
        policies: those that govern it.
        references: what it names, for issuers' keys.
        settings: what the installation decides about access.
        replicas: how many pods the model has, where the manifest does not say.

    Raises:
        SidecarConfigError: an issuer's keys cannot be used, or may not be fetched from there.
    """
    access = md.spec.access
    asked = [(one["spec"].get("require") or {}).get("access") or {} for one in policies]
    tester = rule_of_tester(md) if asked_of(md, policies) else None
    config = {
        "issuers": [
            _issuer(issuer, f"spec.access.issuers[{index}]", references, settings)
            for index, issuer in enumerate(access.issuers if access else ())
        ],
        # The first rule that fits counts: for the test that is its own, whatever the owner writes for everybody.
        "rules": ([tester] if tester else [])
        + [
            rule.model_dump(mode="json", by_alias=True, exclude_none=True)
            for rule in (access.rules if access else ())
            if rule.subjects and rule.operations  # a rule that names nobody, or nothing, allows nothing
        ],
        "purposeHeader": any(one.get("purposeHeader", False) for one in asked),
    }
    if any(fetched(md)):  # the sidecar holds the list itself, whatever else changes about its configuration
        config["keyFetching"] = {"allow": list(settings.keys.allow), "authorities": settings.keys.authorities}
    if counts_together(md, settings):
        config["sharedLimits"] = {
            "address": settings.rate_limits.address,
            "authorities": settings.rate_limits.authorities,
            "model": f"{namespace_of(md)}/{md.metadata.name}",
            "replicas": replicas or max(md.spec.replicas, 1),
        }
    return config


def _issuer(issuer: Issuer, path: str, references: References, settings: AccessSettings) -> dict[str, Any]:
    config: dict[str, Any] = {"name": issuer.name, "issuer": issuer.issuer, "audiences": issuer.audiences}
    if issuer.jwks_uri:
        why = allowlist.problem(issuer.jwks_uri, settings.keys.allow)
        if why:
            raise AddressNotAllowedError(f"{path}.jwksURI: {why}")
        return {**config, "jwksURI": issuer.jwks_uri}
    if issuer.service_accounts:
        return {**config, "jwks": _cluster_keys(issuer, path, settings.cluster), "cluster": True}
    name = issuer.jwks_config_map_name or ""
    document = references.content("ConfigMap", name, JWKS_KEY)
    try:
        jwks = json.loads(document or b"")
    except (ValueError, RecursionError) as error:
        raise SidecarConfigError(f"{path}.jwksConfigMapName: {JWKS_KEY} in ConfigMap {name} is not JSON") from error
    if not isinstance(jwks, dict):
        raise SidecarConfigError(f"{path}.jwksConfigMapName: {JWKS_KEY} in ConfigMap {name} is not a JSON Web Key Set")
    return {**config, "jwks": jwks}


def _cluster_keys(issuer: Issuer, path: str, cluster: ClusterIssuer | None) -> dict[str, Any]:
    if cluster is None:
        raise SidecarConfigError(
            f"{path}.serviceAccounts: the cluster does not tell who issues its service accounts' tokens"
            " (/.well-known/openid-configuration, /openid/v1/jwks)"
        )
    if issuer.issuer != cluster.issuer:
        raise SidecarConfigError(f"{path}.issuer: this cluster's own issuer is {cluster.issuer}: write that")
    if cluster.issuer in issuer.audiences:
        raise SidecarConfigError(
            f"{path}.audiences: {cluster.issuer} is the API server's own: whoever saw such a token at the model could"
            " use it there; name an audience of the model's"
        )
    return cluster.jwks
