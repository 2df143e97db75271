"""The live view of `modelward run`: what the sidecar has answered of late, on standard error while it is a terminal."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from modelward.sidecar.record import Record

WINDOW_SECONDS = 10.0
MAX_SEEN = 50_000  # records within the window, at most
MAX_REFUSALS = 5
MAX_ANOMALIES = 5
MAX_SEEN_PAIRS = 1000  # of a detector and a caller
_REFRESHES = 4  # a second
_SHORT = 32


class Refused(NamedTuple):
    """A request that was not answered by the model."""

    time: str
    status: int
    reason: str
    subject: str


class Anomaly(NamedTuple):
    """Requests that one detector found anomalous, of one caller: how many, and the last."""

    time: str
    detector: str
    verdict: str
    subject: str
    times: int
    score: float | None
    request: str


class Snapshot(NamedTuple):
    """What the view shows. Rates and percentiles are of the last seconds (µs), counts of the whole run."""

    rate: float
    p50: int
    p99: int
    added_p99: int
    outcomes: dict[str, int]
    verdicts: dict[str, int]
    refusals: Sequence[Refused]
    anomalies: Sequence[Anomaly] = ()


class Tally:
    """Gathers records on the event loop; a snapshot may be taken on another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._seen: deque[tuple[float, int, int]] = deque(maxlen=MAX_SEEN)
        self._outcomes: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._refusals: deque[Refused] = deque(maxlen=MAX_REFUSALS)
        self._anomalies: dict[tuple[str, str], Anomaly] = {}  # by detector and caller; the one seen last is last

    def add(self, record: Record) -> None:
        """Count a finished request."""
        self._seen.append((self._clock(), record.upstream_us + record.overhead_us, record.overhead_us))
        self._outcomes[record.reason or ("abandoned" if record.status == 499 else "answered")] += 1
        if record.verdict:
            self._verdicts[record.verdict] += 1
            if record.detector:
                self._found(record)
        if record.reason:
            self._refusals.append(Refused(record.time, record.status, record.reason, record.subject))

    def _found(self, record: Record) -> None:
        key = (record.detector, record.subject)
        before = self._anomalies.pop(key, None)
        if len(self._anomalies) >= MAX_SEEN_PAIRS:
            self._anomalies.pop(next(iter(self._anomalies)))
        self._anomalies[key] = Anomaly(
            record.time,
            record.detector,
            record.verdict,
            record.subject,
            1 + (before.times if before else 0),
            record.scores.get(record.detector),
            record.request,
        )

    def snapshot(self) -> Snapshot:
        """What there is to show now."""
        now = self._clock()
        since = now - WINDOW_SECONDS
        recent = [one for one in self._seen.copy() if one[0] >= since]
        whole = sorted(total for _, total, _ in recent)
        added = sorted(overhead for _, _, overhead in recent)
        seconds = max(min(WINDOW_SECONDS, now - self._began), 1.0)
        return Snapshot(
            rate=len(recent) / seconds,
            p50=_percentile(whole, 0.5),
            p99=_percentile(whole, 0.99),
            added_p99=_percentile(added, 0.99),
            outcomes=dict(self._outcomes.most_common(6)),
            verdicts=dict(self._verdicts.most_common(4)),
            refusals=tuple(self._refusals.copy()),
            anomalies=tuple(list(self._anomalies.values())[-MAX_ANOMALIES:]),
        )


def _percentile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0


def render(shown: Snapshot, model: str) -> RenderableType:
    """The view: a line of figures, what came of requests, and the last refusals with their reason."""
    figures = Text.assemble(
        (model, "bold"),
        f"  {shown.rate:.0f} requests/s  p50 {_milliseconds(shown.p50)}  p99 {_milliseconds(shown.p99)}",
        f"  of which the sidecar's p99 {_milliseconds(shown.added_p99)}",
    )
    counts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    counts.add_row("outcomes", _listed(shown.outcomes, "none yet"))
    counts.add_row("detectors", _listed(shown.verdicts, "nothing found"))
    parts: list[RenderableType] = [figures, counts]
    if shown.anomalies:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("last anomalies", "detector", "verdict", "times", "score", "caller", "request"):
            table.add_column(heading)
        for found in reversed(shown.anomalies):
            at = found.time.partition("T")[2][:8]
            score = "" if found.score is None else f"{found.score:.2f}"
            who = Text(found.subject[:_SHORT] or "unknown")
            table.add_row(at, found.detector, found.verdict, str(found.times), score, who, found.request)
        parts.append(table)
    if shown.refusals:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("last refusals", "status", "reason", "caller"):
            table.add_column(heading)
        for one in reversed(shown.refusals):
            at = one.time.partition("T")[2][:8]
            table.add_row(at, str(one.status), Text(one.reason), Text(one.subject[:_SHORT] or "unknown"))
        parts.append(table)
    return Group(*parts)


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f} ms"


def _listed(counts: dict[str, int], none: str) -> Text:
    return Text(", ".join(f"{name} {count}" for name, count in counts.items()) or none)


@contextmanager
def live(tally: Tally, model: str, console: Console) -> Iterator[None]:
    """Show the view until the end; what else is written to standard error appears above it."""
    with Live(
        get_renderable=lambda: render(tally.snapshot(), model),
        console=console,
        refresh_per_second=_REFRESHES,
        redirect_stdout=False,
    ):
        yield
