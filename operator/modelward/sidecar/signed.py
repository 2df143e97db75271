"""The proof that the controller wrote a configuration for this very model, and the files that it names.

`config.sig` beside `config.json` holds the base64 Ed25519 signature over its exact bytes. Whoever may edit ConfigMaps
in the namespace can therefore change the file and cannot make a sidecar take it.
"""

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelward.audit.settings import Auditor
from modelward.sidecar.config import (
    MAX_CONFIG_BYTES,
    BaselineFile,
    Binding,
    Config,
    ConfigError,
    KeyFile,
    WeightsFile,
    parse,
)

_MAX_BASELINE_BYTES = 1 << 20
_MAX_AUDIT_KEYS_BYTES = 1 << 18


def verify(document: bytes, signature: bytes, public_key: bytes) -> None:
    """Check the base64 Ed25519 `signature` over `document` by the raw 32-byte `public_key`.

    Raises:
        ConfigError: the signature or the key is malformed, or the signature does not fit.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            base64.b64decode(signature.strip(), validate=True), document
        )
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise ConfigError(
            "the configuration's signature does not verify with the key given by --config-key: "
            "only the modelward controller may write it; restart the controller to have it written anew"
        ) from error


def check_binding(binding: Binding, namespace: str, name: str, running_generation: int) -> None:
    """Refuse a configuration made for another model, or one older than what runs (a replay).

    Raises:
        ConfigError: says which of the two it is.
    """
    if (binding.namespace, binding.name) != (namespace, name):
        raise ConfigError(
            f"the configuration is bound to {binding.namespace}/{binding.name}, this sidecar serves {namespace}/{name}"
        )
    if binding.generation < running_generation:
        raise ConfigError(
            f"the configuration is of generation {binding.generation}, generation {running_generation} runs already"
        )


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of `path`, at most `limit`.

    Raises:
        ConfigError: the file is missing, unreadable or larger.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > limit:
        raise ConfigError(f"{path} has more than {limit} bytes")
    return content


class Signed(NamedTuple):
    """A configuration and the files that it names: the baseline, and weights of encrypted requests and explanations.

    `digest` is the configuration's own, of its bytes.
    """

    settings: Config
    baseline: bytes | None
    weights: bytes | None
    explained_weights: bytes | None
    digest: str


def read_signed(
    directory: Path, secrets: Path, public_key: bytes, namespace: str, name: str, running_generation: int
) -> Signed:
    """What is in `directory`, once signature, binding and digests hold.

    A baseline that came from a Secret is read from `secrets`.

    Raises:
        ConfigError: any of them does not.
    """
    document = read_bounded(directory / "config.json", MAX_CONFIG_BYTES)
    verify(document, read_bounded(directory / "config.sig", 1024), public_key)
    config = parse(document)
    check_binding(config.binding, namespace, name, running_generation)
    baseline, content = config.screening.baseline, None
    if baseline is not None:
        content = read_bounded((secrets if baseline.secret else directory) / baseline.file, _MAX_BASELINE_BYTES)
        check_digest(baseline, content)
    weights = _weights(directory, config.in_use.weights if config.in_use else None)
    explained = _weights(directory, config.explanations.weights if config.explanations else None)
    return Signed(config, content, weights, explained, hashlib.sha256(document).hexdigest())


def _weights(directory: Path, named: WeightsFile | None) -> bytes | None:
    if named is None:
        return None
    content = read_bounded(directory / named.file, MAX_CONFIG_BYTES)
    check_digest(named, content)
    return content


def read_audit_keys(directory: Path, settings: Config) -> tuple[bytes, ...]:
    """The auditors' keys in `directory`, once their digests hold. Raises ConfigError."""
    keys = []
    for auditor in settings.audit.auditors if settings.audit else ():
        content = read_bounded(directory / auditor.file, _MAX_AUDIT_KEYS_BYTES)
        check_digest(auditor, content)
        keys.append(content)
    return tuple(keys)


def check_digest(named: BaselineFile | KeyFile | WeightsFile | Auditor, content: bytes) -> None:
    """Raise ConfigError when `content` is not the file that the configuration names."""
    digest = hashlib.sha256(content).hexdigest()
    if not hmac.compare_digest(digest, named.sha256):
        raise ConfigError(f"{named.file} has the digest sha256:{digest}, the configuration names sha256:{named.sha256}")
