"""Who got a model's answers, by its access logs: read line by line, and what is kept of them bounded and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from modelward.lineage.build import Consumed
from modelward.lineage.graph import MAX_TEXT, Use
from modelward.logchain import watched
from modelward.windows import ASKING, answered

MAX_KEPT = 20_000


@dataclass
class Answered:
    """Reads a log, such as the one of a pod.

    Attributes:
        model: `namespace/name` of whose lines they are, as the log's own lines say; before they do, what it is given.
        homeless: answers of which nothing says whose they are: the log does not begin with a sidecar's first line.
        left_out: answers that there was no room for.
    """

    model: str = ""
    homeless: int = 0
    left_out: int = 0
    _uses: dict[tuple[str, str, str, str], Use] = field(default_factory=dict)

    @property
    def consumed(self) -> tuple[Consumed, ...]:
        """Who got answers, for what, when, and how many."""
        return tuple(Consumed(model, who, issuer, use) for (model, who, issuer, _), use in self._uses.items())

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Pass lines on, reading them."""
        return watched(lines, self._read)

    def _read(self, document: dict[str, Any]) -> None:
        start = document.get("start")
        if isinstance(start, dict):
            self.model = f"{_text(start, 'namespace') or 'default'}/{_text(start, 'model')}"
        elif _text(document, "request") and document.get("operation") in ASKING:
            self._count(document)

    def _count(self, record: dict[str, Any]) -> None:
        status, time = record.get("status"), _text(record, "time")
        sent = record.get("bytes_out", 0)
        if not isinstance(status, int) or not isinstance(sent, int):
            return
        if not answered(status, sent, refused=bool(record.get("reason"))):
            return
        if not self.model:
            self.homeless += 1
            return
        purpose = _text(record, "purpose")
        key = (self.model, _text(record, "subject") or "unknown", _text(record, "issuer"), purpose)
        use = self._uses.get(key)
        if use is None and len(self._uses) >= MAX_KEPT:
            self.left_out += 1
            return
        use = use or Use(purpose, time, time)
        self._uses[key] = Use(purpose, min(use.first, time), max(use.last, time), use.requests + 1)


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    return value[:MAX_TEXT] if isinstance(value, str) else ""
