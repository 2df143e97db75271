"""Counters, gauges and histograms, and their text form for Prometheus.

Written by hand: the event loop is the only writer, so there is nothing to lock; a client library would cost the
process some megabytes and each request some microseconds. No label ever carries anything of a caller or a value:
label values come from tables in the code.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

# Seconds. Overhead is tens of microseconds, the model's own time milliseconds to seconds.
BUCKETS = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)


class Sample(NamedTuple):
    """A metric at one moment: its points with their labels or, of a histogram, counts by bucket and the sum."""

    name: str
    text: str
    kind: str
    points: list[tuple[dict[str, str], float]]
    buckets: tuple[list[int], float] = ([], 0.0)


class Counter:
    """Counts, by label values. Series named by `known` are there from the start, at zero."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...] = (), known: Iterable[tuple[str, ...]] = ()
    ) -> None:
        self.name = name
        self.text = text
        self._labels = labels
        self._values: dict[tuple[str, ...], float] = dict.fromkeys(known or ([()] if not labels else []), 0)

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add to the series of these label values."""
        self._values[labels] = self._values.get(labels, 0) + amount

    def value(self, *labels: str) -> float:
        """What the series has counted."""
        return self._values.get(labels, 0)

    def sample(self) -> Sample:
        """What it has counted."""
        points = [(dict(zip(self._labels, values, strict=True)), count) for values, count in self._values.items()]
        return Sample(self.name, self.text, "counter", points)

    def lines(self) -> Iterator[str]:
        """The exposition."""
        yield f"# HELP {self.name} {self.text}\n# TYPE {self.name} counter\n"
        for values, count in self._values.items():
            pairs = ",".join(f'{label}="{value}"' for label, value in zip(self._labels, values, strict=True))
            yield f"{self.name}{{{pairs}}} {count}\n" if pairs else f"{self.name} {count}\n"


class Gauge:
    """A value that is asked for when it is read; None leaves the series out."""

    def __init__(self, name: str, text: str, read: Callable[[], float | None], kind: str = "gauge") -> None:
        self.name = name
        self.text = text
        self._read = read
        self._kind = kind

    def sample(self) -> Sample:
        """Its value now."""
        value = self._read()
        return Sample(self.name, self.text, self._kind, [] if value is None else [({}, value)])

    def lines(self) -> Iterator[str]:
        """The exposition."""
        value = self._read()
        if value is not None:
            yield f"# HELP {self.name} {self.text}\n# TYPE {self.name} {self._kind}\n{self.name} {value}\n"


class Gauges:
    """Values by label values, which come from the configuration and the code; asked for when they are read."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], read: Callable[[], Iterable[tuple[tuple[str, ...], float]]]
    ) -> None:
        self.name = name
        self.text = text
        self._labels = labels
        self._read = read

    def sample(self) -> Sample:
        """Their values now."""
        points = [(dict(zip(self._labels, values, strict=True)), value) for values, value in self._read()]
        return Sample(self.name, self.text, "gauge", points)

    def lines(self) -> Iterator[str]:
        """The exposition; none without values."""
        points = self.sample().points
        if points:
            yield f"# HELP {self.name} {self.text}\n# TYPE {self.name} gauge\n"
        for labels, value in points:
            pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            yield f"{self.name}{{{pairs}}} {value}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Histogram:
    """Durations in seconds, in the buckets `BUCKETS`."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def sample(self) -> Sample:
        """What it has counted."""
        return Sample(self.name, self.text, "histogram", [], (list(self._counts), self._sum))

    def lines(self) -> Iterator[str]:
        """The exposition, buckets cumulative as the format asks."""
        yield f"# HELP {self.name} {self.text}\n# TYPE {self.name} histogram\n"
        total = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{bound}"}} {total}\n'
        yield f"{self.name}_sum {self._sum}\n{self.name}_count {total}\n"


Metric = Counter | Gauge | Gauges | Histogram


def exposition(metrics: Iterable[Metric]) -> bytes:
    """The text format 0.0.4."""
    return "".join(line for metric in metrics for line in metric.lines()).encode()
