"""Signed statements in an OCI image layout, as one tar: how they come along when an artefact is copied from a registry.

The layout (https://github.com/opencontainers/image-spec/blob/main/image-layout.md) names manifests in `index.json`, and
those name layers by their digests. Layers of the media types of bundles and envelopes are read, whatever else there is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from modelward.lineage.reading import StatementError, member, optional, read_object

SUFFIX = ".oci.tar"
MAX_MEMBERS = 256
MAX_BLOBS = 128
_STATEMENTS = (
    "application/vnd.dev.sigstore.bundle.v0.3+json",
    "application/vnd.in-toto+json",
    "application/vnd.dsse.envelope.v1+json",
)
_BLOCK = 512
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def read_layout(content: bytes) -> list[bytes]:
    """Return the layers that hold statements.

    Raises:
        StatementError: it is no such layout, holds too much, or a blob is not what its digest says.
    """
    files = _files(content)
    found: list[bytes] = []
    waiting = [_object(files, "index.json")]
    seen: set[str] = set()
    while waiting:
        document = waiting.pop()
        for path, descriptor in _descriptors(document):
            digest = member(descriptor, "digest", str, path)
            if digest in seen:
                continue
            seen.add(digest)
            if len(seen) > MAX_BLOBS:
                raise StatementError(f"names more than {MAX_BLOBS} manifests and layers")
            if path.startswith("manifests"):
                waiting.append(read_object(_blob(files, digest)))
            elif optional(descriptor, "mediaType", str, path) in _STATEMENTS:
                found.append(_blob(files, digest))
    if not found:
        raise StatementError("holds no layer that is a signed statement")
    return found


def _descriptors(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("manifests", "layers"):
        for index, one in enumerate(optional(document, name, list)):
            if not isinstance(one, dict):
                raise StatementError(f"{name}[{index}] is not an object")
            yield f"{name}[{index}].", one


def _files(content: bytes) -> dict[str, bytes]:
    """The plain files of a tar (POSIX.1-1988 ustar) by name, in one pass.

    Extended headers are passed over, not read: the names that count are short and plain, and readers of such headers
    have hung on them (CVE-2024-6232). A tar that is compressed is refused: what one holds is then no longer than it is.
    """
    files: dict[str, bytes] = {}
    place = count = 0
    while place + _BLOCK <= len(content):
        header = content[place : place + _BLOCK]
        if not header.strip(b"\0"):
            break
        count += 1
        if count > MAX_MEMBERS:
            raise StatementError(f"holds more than {MAX_MEMBERS} files")
        size = _octal(header[124:136])
        if header[257:262] != b"ustar" or _octal(header[148:156]) != _checksum(header):
            raise StatementError("is no tar, or is a damaged or compressed one")
        start = place + _BLOCK
        if start + size > len(content):
            raise StatementError("is a tar that was cut")
        if header[156:157] in (b"0", b"\0"):
            name = header[:100].rstrip(b"\0").decode("ascii", "replace")
            files[name.removeprefix("./")] = content[start : start + size]
        place = start + -(-size // _BLOCK) * _BLOCK
    return files


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or not set(digits) <= set(b"01234567"):
        raise StatementError("is no tar, or is a damaged or compressed one")
    return int(digits, 8)


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * ord(" ") + sum(header[156:])


def _object(files: dict[str, bytes], name: str) -> dict[str, Any]:
    if name not in files:
        raise StatementError(f"has no {name}: it is no OCI image layout")
    return read_object(files[name])


def _blob(files: dict[str, bytes], digest: str) -> bytes:
    match = _DIGEST.fullmatch(digest)
    found = files.get(f"blobs/sha256/{match[1]}") if match else None
    if match is None or found is None:
        raise StatementError("names a blob that is not in it")
    if hashlib.sha256(found).hexdigest() != match[1]:
        raise StatementError(f"blobs/sha256/{match[1]} is not what its digest says")
    return found
