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
from typing import Any

import yaml

from modelward.api.printable import printable

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
_MERGE = "<<"

_ACTION = re.compile(
    r"\{\{-?\s*(\.(Values|Release|Chart|Files|Capabilities)\b|(include|template|toYaml|if|range|end)\b)"
)
_RENDER = "This is a template, not yet a manifest: render it first, such as `helm template CHART | modelward check -`."
_FIXES = (
    ("could not find expected ':'", "A key needs a colon and a space behind it."),
    ("mapping values are not allowed", "Check the indentation, or quote the value if it holds a colon."),
    ("cannot start any token", "Indent with spaces, never tabs; quote a value that begins with @, ` or %."),
    ("did not find expected", "Check brackets, quotes and indentation here and on the lines before."),
    ("unexpected end of stream", "Close the quote that was opened here."),
    ("control characters", "Remove the control character."),
    ("not acceptable", "Remove the control character."),
)
"""What to do about the commonest errors of the parser, by a part of its message."""


class ManifestError(Exception):
    """A file that cannot be read as manifests: what, where, and how to mend it."""

    def __init__(self, source: str, line: int, what: str, fix: str) -> None:
        self.source, self.line, self.what, self.fix = printable(source), line, printable(what), printable(fix)
        where = f"{self.source}:{line}" if line else self.source
        super().__init__(f"{where}: {self.what}. {self.fix}")


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
        merge = False
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.error(event, "a key that is not a plain word", "Keys of Kubernetes objects are strings.")
            key = event.value
            if key in out:
                raise self.error(event, f"the key {key:.64} is given twice", "Keep one of the two.")
            self.lines[(*path, key)] = _line(event)
            out[key] = self.build(next(self.events), (*path, key))
            if key == _MERGE and event.implicit[0]:  # a plain <<, without quotes
                merge = True
                self._check_merge(event, out[key])
        return _merged(out) if merge else out

    def _check_merge(self, event: yaml.Event, value: Any) -> None:
        if not all(isinstance(item, dict) for item in (value if isinstance(value, list) else [value])):
            raise self.error(event, "the merge key << with something else than objects", "Merge *aliases of objects.")


def _merged(mapping: dict[str, Any]) -> dict[str, Any]:
    """Carry out the merge key `<<` as kubectl does: what is given in the mapping itself wins, then the first merged."""
    given = mapping.pop(_MERGE)
    for item in given if isinstance(given, list) else [given]:
        for key, value in item.items():
            mapping.setdefault(key, value)
    return mapping


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
        raise too_large(source)
    try:
        return list(_documents(text, source))
    except yaml.YAMLError as error:
        if (value := _json_object(text)) is not None:
            return [Document(source, value, {})]
        raise _unreadable(error, text, source) from error
    except ManifestError as error:
        if _ACTION.search(text):
            raise ManifestError(source, error.line, error.what, _RENDER) from error
        raise


def too_large(source: str) -> ManifestError:
    """Return the error for a text beyond MAX_BYTES."""
    return ManifestError(source, 0, f"larger than {MAX_BYTES // 1024 // 1024} MiB", "Split the file.")


def _documents(text: str, source: str) -> Iterator[Document]:
    events = iter(yaml.parse(text, Loader=_LOADER))
    for event in events:
        if isinstance(event, (yaml.ScalarEvent, yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            builder = _Builder(source, events)
            value = builder.build(event, ())
            if value is not None:
                yield from _objects(value, builder, event)


def _unreadable(error: yaml.YAMLError, text: str, source: str) -> ManifestError:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    position = getattr(error, "position", None)  # the reader, which looks for control characters, gives no line
    line = mark.line + 1 if mark else text.count("\n", 0, position) + 1 if isinstance(position, int) else 0
    begun = getattr(error, "context_mark", None)
    if begun and mark and begun.line != mark.line:
        what += f" (of what begins on line {begun.line + 1})"
    fix = next((fix for part, fix in _FIXES if part in what), "Mend the syntax.")
    return ManifestError(source, line, f"not readable as YAML: {what}", _RENDER if _ACTION.search(text) else fix)


def _json_object(text: str) -> dict[str, Any] | None:
    """Read what is JSON and not YAML: escaped surrogate pairs, which many programs write, are no YAML escape."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _count(value) <= MAX_VALUES else None


def _objects(value: Any, builder: _Builder, event: yaml.Event) -> Iterator[Document]:
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "a bare value"
        fix = "Begin with apiVersion and kind; write --- between several objects."
        raise builder.error(event, f"{what} where an object is wanted", fix)
    if value.get("kind") == "List":
        items = value.get("items")
        if not isinstance(items, list):
            raise builder.error(event, "a List whose items are not a list", "Put the objects under items.")
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                raise builder.error(event, f"items[{index}] is not an object", "Begin with apiVersion and kind.")
            prefix = ("items", index)
            lines = {path[2:]: line for path, line in builder.lines.items() if path[:2] == prefix}
            yield Document(builder.source, item, lines)
        return
    yield Document(builder.source, value, builder.lines)
