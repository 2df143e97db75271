"""Reads manifests: YAML as kubectl reads it, with the line of every value, and nothing a hostile file can blow up.

Built on the parser's events and not on its objects, for three reasons: a path's line is needed in messages; PyYAML
turns what looks like a date into a date where Kubernetes keeps a string; and depth, size and alias expansion can be
bounded while reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 200_000

FieldPath = tuple[str | int, ...]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = {"!", *(f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "map"))}
_NULL = {"", "~", "null", "Null", "NULL"}
_TRUE = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"}
_FALSE = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")


class ManifestError(Exception):
    """A file that cannot be read as manifests: what, where, and how to mend it."""

    def __init__(self, source: str, line: int, what: str, fix: str) -> None:
        super().__init__(f"{source}:{line}: {what}. {fix}" if line else f"{source}: {what}. {fix}")
        self.source, self.line, self.what, self.fix = source, line, what, fix


@dataclass
class Document:
    """One object of a manifest file."""

    source: str
    data: dict[str, Any]
    lines: dict[FieldPath, int] = field(repr=False)

    def line(self, path: FieldPath) -> int:
        """Return the line (from 1) of a path, or of its nearest parent that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    @property
    def kind(self) -> str:
        """The object's kind, or an empty string."""
        kind = self.data.get("kind")
        return kind if isinstance(kind, str) else ""

    @property
    def api_version(self) -> str:
        """The object's API version, or an empty string."""
        version = self.data.get("apiVersion")
        return version if isinstance(version, str) else ""

    @property
    def name(self) -> str:
        """The object's name, or an empty string."""
        metadata = self.data.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return name if isinstance(name, str) else ""


def dotted(path: FieldPath) -> str:
    """Write a path as Kubernetes does: `spec.access.rules[0].subjects`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 0


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if event.tag == "tag:yaml.org,2002:str" or not event.implicit[0]:
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Builder:
    """Builds values from parser events, within bounds."""

    def __init__(self, source: str, events: Iterator[yaml.Event]) -> None:
        self.source = source
        self.events = events
        self.values = 0
        self.anchors: dict[str, Any] = {}
        self.lines: dict[FieldPath, int] = {}

    def error(self, event: yaml.Event, what: str, fix: str) -> ManifestError:
        return ManifestError(self.source, _line(event), what, fix)

    def build(self, event: yaml.Event, path: FieldPath) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.error(event, f"more than {MAX_VALUES:,} values", "Split the file.")
        if len(path) > MAX_DEPTH:
            raise self.error(event, f"nested deeper than {MAX_DEPTH} levels", "No Kubernetes object needs that.")
        self.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _TAGS:
            raise self.error(event, f"the tag {tag!s:.40} is not Kubernetes YAML", "Remove the tag.")
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self.anchors[anchor] = value
        return value

    def _alias(self, event: yaml.AliasEvent) -> Any:
        if event.anchor not in self.anchors:
            raise self.error(event, f"the alias *{event.anchor} has no anchor before it", "Write the value out.")
        value = self.anchors[event.anchor]
        self.values += _count(value)
        if self.values > MAX_VALUES:
            raise self.error(event, f"aliases expand to more than {MAX_VALUES:,} values", "Write the values out.")
        return value

    def _sequence(self, path: FieldPath) -> list[Any]:
        out: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            out.append(self.build(event, (*path, len(out))))
        return out

    def _mapping(self, path: FieldPath) -> dict[str, Any]:
        out: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.error(event, "a key that is not a plain word", "Keys of Kubernetes objects are strings.")
            key = event.value
            if key in out:
                raise self.error(event, f"the key {key:.64} is given twice", "Keep one of the two.")
            self.lines[(*path, key)] = _line(event)
            out[key] = self.build(next(self.events), (*path, key))
        return out


def _count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(_count(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(_count(item) for item in value)
    return 1


def read_documents(text: str, source: str) -> list[Document]:
    """Read all objects of a YAML or JSON text; `List` objects are taken apart.

    Args:
        text: the manifest.
        source: what messages call it, usually the file's name.

    Raises:
        ManifestError: it is not YAML, not made of objects, or over a bound.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ManifestError(source, 0, f"larger than {MAX_BYTES // 1024 // 1024} MiB", "Split the file.")
    documents: list[Document] = []
    try:
        events = iter(yaml.parse(text, Loader=_LOADER))
        for event in events:
            if isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                builder = _Builder(source, events)
                value = builder.build(event, ())
                if value is not None:
                    documents.extend(_objects(value, builder, event))
    except yaml.YAMLError as error:
        if (value := _json_object(text)) is not None:
            return [Document(source, value, {})]
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        line = mark.line + 1 if mark else 0
        raise ManifestError(source, line, f"not readable as YAML: {what}", "Mend the syntax.") from error
    return documents


def _json_object(text: str) -> dict[str, Any] | None:
    """Read what is JSON and not YAML: escaped surrogate pairs, which many programs write, are no YAML escape."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _count(value) <= MAX_VALUES else None


def _objects(value: Any, builder: _Builder, event: yaml.Event) -> Iterator[Document]:
    if not isinstance(value, dict):
        raise builder.error(
            event, f"a {type(value).__name__} where an object is wanted", "Begin with apiVersion, kind."
        )
    if value.get("kind") == "List" and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            if not isinstance(item, dict):
                raise builder.error(event, f"items[{index}] is not an object", "Begin with apiVersion and kind.")
            prefix = ("items", index)
            lines = {path[2:]: line for path, line in builder.lines.items() if path[:2] == prefix}
            yield Document(builder.source, item, lines)
        return
    yield Document(builder.source, value, builder.lines)


def read_file(path: Path) -> list[Document]:
    """Read all objects of a file.

    Raises:
        ManifestError: the file is not there, not readable, or not a manifest.
    """
    source = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ManifestError(source, 0, "no such file", "Check the path.") from None
    except OSError as error:
        raise ManifestError(source, 0, f"not readable: {error.strerror}", "Check its permissions.") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(source, 0, f"not UTF-8 at byte {error.start}", "Save it as UTF-8.") from error
    return read_documents(text, source)


def read_paths(paths: list[Path]) -> list[Document]:
    """Read files, and the `*.yaml`, `*.yml` and `*.json` files anywhere below folders.

    Below a folder, files that hold no Kubernetes object (settings of other tools) are passed over; a file that is
    named itself must be readable.

    Raises:
        ManifestError: see `read_file`; also for a folder without a manifest.
    """
    documents: list[Document] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix in (".yaml", ".yml", ".json"))
            below = [document for file in found for document in _manifests_only(file)]
            if not below:
                raise ManifestError(str(path), 0, "no manifest in this folder", "Name a folder with *.yaml files.")
            documents.extend(below)
        else:
            documents.extend(read_file(path))
    return documents


def _manifests_only(path: Path) -> list[Document]:
    try:
        documents = read_file(path)
    except ManifestError:
        if path.suffix == ".json":
            return []
        raise
    return [document for document in documents if document.api_version and document.kind]
