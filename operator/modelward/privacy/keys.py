"""Keys of pseudonyms and date shifts: one master a version, one key a namespace, one key a domain.

    master (random, in the system namespace alone)
      -> HKDF(namespace)          what a sidecar is given
           -> HKDF(purpose, field)   what a treatment uses

Each step is HKDF-SHA-256 (RFC 5869): from a key below nobody finds the one above or the one beside it. So pseudonyms
of two namespaces, or of two fields, cannot be linked, and a namespace's key tells nothing about another's.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from msgspec import Meta

KEY_BYTES = 32
MAX_VERSION = 99  # two digits in a pseudonym
MAX_LIVE = 8
MAX_FILE_BYTES = 4096
_SALT = b"modelward.io/privacy/1"

Purpose = Literal["pseudonym", "date-shift", "combination"]


class KeyFileError(Exception):
    """Keys that cannot be used; the message says why, and holds none of them."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    namespace: Annotated[str, Meta(min_length=1, max_length=63)]
    versions: Annotated[dict[str, bytes], Meta(min_length=1, max_length=MAX_LIVE)]
    format: Literal[1] = 1


class Keys:
    """The keys of one namespace, by version; the highest is the one in use. It has no representation of its keys."""

    __slots__ = ("_versions", "current", "namespace")

    def __init__(self, namespace: str, versions: Mapping[int, bytes]) -> None:
        if not versions or len(versions) > MAX_LIVE:
            raise KeyFileError(f"a namespace has 1 to {MAX_LIVE} live versions of its key, not {len(versions)}")
        if any(not 1 <= version <= MAX_VERSION for version in versions):
            raise KeyFileError(f"versions of keys are numbered 1 to {MAX_VERSION}")
        if any(len(key) != KEY_BYTES for key in versions.values()):
            raise KeyFileError(f"a key has {KEY_BYTES} bytes")
        self.namespace = namespace
        self.current = max(versions)
        self._versions = dict(versions)

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that can still be read, the one in use first."""
        return tuple(sorted(self._versions, reverse=True))

    def domain(self, purpose: Purpose, field: str, version: int | None = None) -> bytes:
        """The key of one purpose and field. Raises KeyError for a version that is not there."""
        key = self._versions[self.current if version is None else version]
        return HKDFExpand(SHA256(), KEY_BYTES, b"%b\0%b" % (purpose.encode(), field.encode())).derive(key)

    def to_bytes(self) -> bytes:
        """The file that a sidecar reads; the same keys give the same bytes."""
        versions = {str(version): key for version, key in sorted(self._versions.items())}
        return msgspec.json.encode(_File(self.namespace, versions))


def derive(masters: Mapping[int, bytes], namespace: str) -> Keys:
    """The keys of `namespace` under these masters, by version.

    Raises:
        KeyFileError: a master is not 32 bytes, or a version is out of range.
    """
    if any(len(master) != KEY_BYTES for master in masters.values()):
        raise KeyFileError(f"a master key has {KEY_BYTES} bytes")
    info = b"namespace\0" + namespace.encode()
    return Keys(
        namespace,
        {version: HKDF(SHA256(), KEY_BYTES, _SALT, info).derive(master) for version, master in masters.items()},
    )


def from_bytes(content: bytes) -> Keys:
    """Read what `Keys.to_bytes` wrote, trusting nothing in it.

    Raises:
        KeyFileError: it is something else.
    """
    try:
        if len(content) > MAX_FILE_BYTES:
            raise KeyFileError(f"a key file has at most {MAX_FILE_BYTES} bytes")
        file = msgspec.json.decode(content, type=_File)
        versions = {int(version): key for version, key in file.versions.items() if version.isdecimal()}
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        versions, file = {}, None
    if file is None or len(versions) != len(file.versions):
        raise KeyFileError(
            "the file with the pseudonyms' keys is not one that the modelward controller wrote"
        ) from None
    return Keys(file.namespace, versions)
