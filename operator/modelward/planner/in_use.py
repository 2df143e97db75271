"""What a model's sidecar needs to answer encrypted requests: parameters, the exported weights, and bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import WEIGHTS_KEY
from modelward.planner.references import References
from modelward.planner.upstream import protocol_of

BODY_BYTES = 32 << 20  # encrypted rows, by columns, and the keys that come with them the first time


class InUseError(Exception):
    """The weights and the parameters do not go together; the message says why."""


def weights_of(md: ModelDeployment, references: References) -> bytes | None:
    """Return the model's exported weights; None where it takes no encrypted requests, or they are not there."""
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    if in_use is None or not in_use.weights_config_map_name:
        return None
    return references.content("ConfigMap", in_use.weights_config_map_name, WEIGHTS_KEY)


def in_use_config(
    md: ModelDeployment, policies: Sequence[dict[str, Any]], references: References
) -> dict[str, Any] | None:
    """Return the part `inUse` of the sidecar's configuration; None where the model takes no encrypted requests.

    Raises:
        InUseError: the weights cannot be read, or not be scored under these parameters.
    """
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    weights = weights_of(md, references)
    if in_use is None or (weights is None and (in_use.weights_config_map_name or not in_use.statistics)):
        return None
    from modelward.encrypted.model import read  # noqa: PLC0415 - numpy, which `check` does without
    from modelward.encrypted.parameters import EncryptedError, Parameters  # noqa: PLC0415
    from modelward.encrypted.serve import Server  # noqa: PLC0415

    bits = max([_least_bits(policy) for policy in policies], default=128)
    parameters = Parameters(
        in_use.scheme, in_use.poly_modulus_degree, tuple(in_use.coeff_modulus_bits), in_use.scale_bits
    )
    try:
        exported = read(weights) if weights is not None else None
        Server(exported, md.metadata.name, parameters, bits, in_use.statistics).check()  # type: ignore[arg-type] # a schema's
    except EncryptedError as error:
        raise InUseError(f"spec.encryption.inUse: {error}") from error
    config = {
        "parameters": {
            "scheme": parameters.scheme,
            "polyModulusDegree": parameters.poly_modulus_degree,
            "coeffModulusBits": list(parameters.coeff_modulus_bits),
            "scaleBits": parameters.scale_bits,
        },
        "securityBits": bits,
        "statistics": in_use.statistics,
        "only": in_use.only,
        "rowsPerHour": in_use.rows_per_hour,
    }
    if weights is not None:
        config["weights"] = {"file": WEIGHTS_KEY, "sha256": hashlib.sha256(weights).hexdigest()}
    return config


def in_use_unsupported(md: ModelDeployment) -> Iterator[str]:
    """Give what is declared of encryption in use and cannot be honoured, with the fix."""
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    if in_use is None:
        return
    if in_use.scheme == "BFV":
        if not in_use.statistics:
            yield "spec.encryption.inUse.scheme BFV without statistics: true (BFV gives exact counts, CKKS scores)"
        if in_use.weights_config_map_name:
            yield "spec.encryption.inUse.weightsConfigMapName with the scheme BFV (a model is scored under CKKS)"
    elif not in_use.weights_config_map_name and not in_use.statistics:
        yield (
            "spec.encryption.inUse without weightsConfigMapName (the model's exported weights, which are scored by) or"
            " statistics: true (means and sums of columns, which need none)"
        )
    if protocol_of(md) != "v2":
        yield "spec.encryption.inUse with the protocol v1 (encrypted tensors are V2's)"


def _least_bits(policy: dict[str, Any]) -> int:
    require = ((policy["spec"].get("require") or {}).get("encryption") or {}).get("inUse") or {}
    return int(require.get("minSecurityBits", 128))
