"""Reads the files that a command names: manifests from files, folders and standard input, or the reason why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelward.api.base import GROUP
from modelward.api.manifest import MAX_BYTES, Document, ManifestError, read_documents, too_large

STANDARD_INPUT = Path("-")
_SUFFIXES = (".yaml", ".yml", ".json")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_OURS = f"{GROUP}/v".encode()


@dataclass
class Reading:
    """What the files held."""

    documents: list[Document] = field(default_factory=list)
    errors: list[ManifestError] = field(default_factory=list)
    """Files that must be readable and are not."""
    skipped: list[ManifestError] = field(default_factory=list)
    """Files that were found, cannot be read as manifests, and do not look as if they held anything of modelward's."""
    seen: set[Path] = field(default_factory=set)
    """All files that were looked at."""


def read_paths(paths: Sequence[Path]) -> list[Document]:
    """Read files, and the manifests anywhere below folders (see `read_all`).

    Raises:
        ManifestError: the first thing that cannot be read.
    """
    reading = read_all(paths)
    skipped = [error for error in reading.skipped if not error.source.endswith(".json")]
    for error in (*reading.errors, *skipped):
        raise error
    return reading.documents


def read_all(paths: Sequence[Path], *, only_manifests: bool = False, after: Reading | None = None) -> Reading:
    """Read files, standard input (`-`), and the `*.yaml`, `*.yml` and `*.json` files anywhere below folders.

    Below a folder, hidden folders and files that hold no Kubernetes object (settings of other tools) are passed over,
    and one that cannot be read is skipped unless it speaks of modelward's resources. A file that is named itself must
    be a manifest.

    Args:
        paths: the files and folders; one that is named twice is read once.
        only_manifests: treat files that are named as those found below a folder: for hooks that are given every file.
        after: what was read before; it is returned with these files added, but for those that it holds.
    """
    reading = after or Reading()
    for path in paths:
        if path != STANDARD_INPUT and os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name too long
            held = [_read_into(reading, file, found=True) for file in _below(path)]
            if not any(held):
                fix = "Name a folder that has *.yaml, *.yml or *.json files with Kubernetes objects."
                reading.errors.append(ManifestError(str(path), 0, "no manifest in this folder", fix))
        else:
            _read_into(reading, path, found=only_manifests)
    return reading


def _read_into(reading: Reading, path: Path, *, found: bool) -> bool:
    """Read one file; return whether there was something to read in it."""
    key = path if path == STANDARD_INPUT else Path(os.path.realpath(path))  # Path.resolve raises where links go round
    if key in reading.seen:
        return True
    reading.seen.add(key)
    raw = b""
    try:
        raw = _bytes(path)
        documents = _parsed(raw, _source(path))
        if found:
            documents = [document for document in documents if document.api_version and document.kind]
        else:
            _must_be_manifests(documents, _source(path))
        reading.documents.extend(documents)
    except ManifestError as error:
        (reading.skipped if found and raw and _OURS not in raw else reading.errors).append(error)
        return True
    return bool(documents)


def _source(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


def _bytes(path: Path) -> bytes:
    """The file's bytes, one more than MAX_BYTES at the most."""
    source = _source(path)
    try:
        if path == STANDARD_INPUT:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ManifestError(source, 0, "no such file", "Check the path.") from None
    except OSError as error:
        raise ManifestError(source, 0, f"not readable: {error.strerror}", "Check its permissions.") from error
    return raw


def _parsed(raw: bytes, source: str) -> list[Document]:
    if len(raw) > MAX_BYTES:
        raise too_large(source)
    if raw.startswith(_UTF16_MARKS):
        raise ManifestError(source, 0, "UTF-16, not UTF-8", "Save it as UTF-8; PowerShell: Out-File -Encoding utf8.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ManifestError(source, line, f"not UTF-8 at byte {error.start}", "Save it as UTF-8.") from error
    return read_documents(text, source)


def _must_be_manifests(documents: list[Document], source: str) -> None:
    if not documents:
        raise ManifestError(source, 0, "holds no object: it is empty, or all comment", "Name a file with manifests.")
    for document in documents:
        for name, value in (("apiVersion", document.api_version), ("kind", document.kind)):
            if not value:
                fix = "Every Kubernetes object begins with both, such as apiVersion: modelward.io/v1alpha1."
                raise ManifestError(source, document.line((name,)), f"an object without {name}", fix)


def _below(folder: Path) -> Iterator[Path]:
    """The files with a manifest's suffix anywhere below a folder, without hidden ones; links are not entered."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix in _SUFFIXES and not name.startswith(".") and path.is_file():
                yield path
