"""Where a running sidecar's configuration comes from: signed files in the cluster, given objects on a laptop."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modelward.sidecar import config, tls


@dataclass(frozen=True, slots=True)
class Setup:
    """A configuration with what it refers to. `context` None: plaintext; the expiry in seconds since the epoch."""

    settings: config.Config
    baseline: bytes | None
    context: ssl.SSLContext | None
    certificate_expires: float | None


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
        self._certificate = Certificate(tls_dir / "tls.crt", tls_dir / "tls.key")
        self._public_key = public_key
        self._namespace = namespace
        self._name = name

    def load(self, running_generation: int) -> Setup:
        """Read, verify and check everything."""
        settings, baseline = config.read_signed(
            self._config_dir, self._public_key, self._namespace, self._name, running_generation
        )
        return with_tls(settings, baseline, self._certificate)

    def fingerprint(self) -> object:
        """Identity, time and size of every file. Kubernetes swaps a symlink: other files are then behind the names."""
        watched = [*sorted(self._config_dir.glob("[!.]*")), self._certificate.certificate, self._certificate.key]
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


def with_tls(settings: config.Config, baseline: bytes | None, files: Certificate | None) -> Setup:
    """A setup; without `files`, in plaintext. Raises ConfigError."""
    if files is None:
        return Setup(settings, baseline, None, None)
    context = tls.server_context(settings.tls, files.certificate, files.key)
    return Setup(settings, baseline, context, tls.expires(files.certificate))


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
