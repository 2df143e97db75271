"""Where a running sidecar's configuration comes from: signed files in the cluster, given objects on a laptop."""

import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from modelward.privacy.keys import MAX_FILE_BYTES, KeyFileError, Keys, from_bytes
from modelward.sidecar import config, signed, tls

_MAX_PASSWORD = 4096


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration with what it refers to. `context` None: plaintext; the expiry in seconds since the epoch.

    `grpc_context` is the gRPC listener's, where there is one.
    `weights`: of the model, for encrypted requests; `explained_weights`: for explanations. `keys`: what pseudonyms and
    date shifts are made with, where the configuration asks for any. `limits_password` is the one for
    `settings.access.shared_limits`. `controller`: the raw public key of who signed the configuration and may ask what
    was found; None: nobody may. `audit_keys`: files of those for whom counters are encrypted, in the order of
    `settings.audit.auditors`. `digest` is the signed configuration's, in hex; empty: there is none.
    """

    settings: config.Config
    baseline: bytes | None
    context: ssl.SSLContext | None
    certificate_expires: float | None
    keys: Keys | None = None
    limits_password: str = field(default="", repr=False)
    controller: bytes | None = None
    grpc_context: ssl.SSLContext | None = None
    weights: bytes | None = None
    explained_weights: bytes | None = None
    audit_keys: tuple[bytes, ...] = ()
    digest: str = ""


class Source(Protocol):
    """Gives setups; asked again when its fingerprint changes."""

    def load(self, running_generation: int) -> Setup:
        """The present setup; raises ConfigError."""

    def fingerprint(self) -> object:
        """Equal as long as nothing has changed."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The serving certificate's files."""

    certificate: Path
    key: Path


class SignedFiles:
    """A mounted ConfigMap (`config.json`, `config.sig`, baseline) and a mounted Secret (`tls.crt`, `tls.key`)."""

    def __init__(self, config_dir: Path, tls_dir: Path, public_key: bytes, namespace: str, name: str) -> None:
        self._config_dir = config_dir
        self._tls_dir = tls_dir
        self._certificate = Certificate(tls_dir / "tls.crt", tls_dir / "tls.key")
        self._public_key = public_key
        self._namespace = namespace
        self._name = name

    def load(self, running_generation: int) -> Setup:
        """Read, verify and check everything."""
        found = signed.read_signed(
            self._config_dir, self._tls_dir, self._public_key, self._namespace, self._name, running_generation
        )
        settings = found.settings
        return replace(
            with_tls(settings, found.baseline, self._certificate, self._keys(settings)),
            limits_password=self._password(settings),
            controller=self._public_key,
            weights=found.weights,
            explained_weights=found.explained_weights,
            audit_keys=signed.read_audit_keys(self._config_dir, settings),
            digest=found.digest,
        )

    def _keys(self, settings: config.Config) -> Keys | None:
        if settings.keys is None:
            return None
        content = signed.read_bounded(self._tls_dir / settings.keys.file, MAX_FILE_BYTES)
        signed.check_digest(settings.keys, content)
        try:
            return from_bytes(content)
        except KeyFileError as error:
            raise config.ConfigError(f"{settings.keys.file}: {error}") from error

    def _password(self, settings: config.Config) -> str:
        file = self._tls_dir / config.LIMITS_PASSWORD
        if settings.access.shared_limits is None or not file.exists():
            return ""
        try:
            return signed.read_bounded(file, _MAX_PASSWORD).decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise config.ConfigError(f"{file} is not text in UTF-8") from None

    def fingerprint(self) -> object:
        """Identity, time and size of every file. Kubernetes swaps a symlink: other files are then behind the names."""
        watched = sorted((*self._config_dir.glob("[!.]*"), *self._tls_dir.glob("[!.]*")))
        return [(path.name, _identity(path)) for path in watched]


class Given:
    """A setup that does not change while it runs."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def load(self, running_generation: int) -> Setup:  # noqa: ARG002
        """It."""
        return self._setup

    def fingerprint(self) -> object:
        """Always the same."""
        return None


def with_tls(
    settings: config.Config, baseline: bytes | None, files: Certificate | None, keys: Keys | None = None
) -> Setup:
    """A setup; without `files`, in plaintext. Raises ConfigError."""
    if files is None:
        return Setup(settings, baseline, None, None, keys)
    context = tls.server_context(settings.tls, files.certificate, files.key)
    setup = Setup(settings, baseline, context, tls.expires(files.certificate), keys)
    if settings.upstream.grpc_port is None:
        return setup
    return replace(setup, grpc_context=tls.server_context(settings.tls, files.certificate, files.key, "h2"))


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
