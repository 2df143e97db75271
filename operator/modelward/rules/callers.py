"""Subjects that access rules name and nobody can prove to be: told by `modelward check` as notes."""

from __future__ import annotations

from collections.abc import Iterator

from modelward.api.modeldeployment import ModelDeployment


def unreachable(md: ModelDeployment) -> Iterator[tuple[str, str]]:
    """Give what keeps callers out that the manifest means to let in: the field, and what is wrong with it."""
    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    mutual = in_transit is not None and in_transit.mode == "MutualTLS"
    if in_transit is not None and mutual and not in_transit.client_ca_secret_name:
        yield (
            "spec.encryption.inTransit",
            "MutualTLS without clientCASecretName trusts modelward's own authority, which issues no certificates to"
            " callers: nobody can connect until clientCASecretName names a Secret with ca.crt",
        )
    access = md.spec.access
    if access is None:
        return
    accounts = any(issuer.service_accounts for issuer in access.issuers)
    for index, rule in enumerate(access.rules):
        kinds = {subject.partition(":")[0] for subject in rule.subjects}
        where = f"spec.access.rules[{index}].subjects"
        if "serviceaccount" in kinds and not accounts:
            yield where, "serviceaccount: is for tokens of an issuer with serviceAccounts: true, and none is there"
        if "san" in kinds and not mutual:
            yield where, "san: is for client certificates, which encryption.inTransit.mode MutualTLS asks for"
        if kinds & {"user", "group"} and not access.issuers:
            yield where, "user: and group: are for tokens, and no issuer is there"
