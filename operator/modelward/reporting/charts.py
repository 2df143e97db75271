"""Plots as SVG: incidents over time, rates of groups with their intervals, and drift against its threshold.

Each is told to screen readers in a sentence, and stands beside a table with the same figures. Kinds stand in rows of
their own and groups on lines of their own: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from modelward.reporting.document import Timeline
from modelward.reporting.html import Html, el
from modelward.reporting.sources import moment

_LABEL, _PLOT, _VALUE = 170, 430, 130
_WIDTH = _LABEL + _PLOT + _VALUE
_ROW = 48
_LINE = 26
_MAX_SCORE = 4.0


def over_time(timeline: Timeline, key: str) -> Html:
    """Return a row of bars for each kind of incident, each row by its own greatest bar."""
    spans = len(timeline.kinds[0].counts)
    step = _PLOT / spans
    marks: list[Html] = []
    for row, kind in enumerate(timeline.kinds):
        bottom = 14 + row * _ROW + 30
        top = max(kind.counts) or 1
        marks.append(el("text", kind.kind[:24], x=0, y=bottom - 4))
        marks.append(el("text", f"{sum(kind.counts):,}", x=_LABEL + _PLOT + 10, y=bottom - 4, class_="value"))
        marks.append(el("line", x1=_LABEL, x2=_LABEL + _PLOT, y1=bottom, y2=bottom, class_="axis"))
        for bar, number in enumerate(kind.counts):
            if number:
                tall = max(round(30 * number / top, 1), 2)
                x = round(_LABEL + bar * step + step * 0.1, 1)
                marks.append(el("rect", x=x, y=bottom - tall, width=round(step * 0.8, 1), height=tall, class_="bar"))
    height = 14 + len(timeline.kinds) * _ROW + 14
    begins = moment(timeline.begins)
    if begins:
        for share, anchor in ((0, "start"), (1, "end")):
            when = begins + timedelta(seconds=timeline.seconds * spans * share)
            x = _LABEL + _PLOT * share
            marks.append(
                el("text", when.strftime("%Y-%m-%d %H:%M"), x=x, y=height - 6, text_anchor=anchor, class_="tick")
            )
    told = ", ".join(f"{sum(kind.counts):,} {kind.kind}" for kind in timeline.kinds)
    return _svg(f"Incidents over time: {told}.", key, height, marks)


def rates(attribute: Mapping[str, Any], key: str) -> Html:
    """Return a line for each group of a protected attribute: its selection rate and the interval it lies in."""
    groups = attribute.get("groups") or ()
    marks = _scale(len(groups), [(0.0, "0"), (0.25, ""), (0.5, "0.5"), (0.75, ""), (1.0, "1")], 1.0)
    told = []
    for row, group in enumerate(groups):
        y = 12 + row * _LINE
        rate, low, high = (_share(group.get(name)) for name in ("selectionRate", "low", "high"))
        marks.append(el("text", str(group.get("name", ""))[:24], x=0, y=y + 4))
        if rate is None:
            marks.append(el("text", "too few", x=_LABEL + _PLOT + 10, y=y + 4, class_="value"))
            continue
        if low is not None and high is not None:
            marks.append(el("line", x1=_at(low), x2=_at(high), y1=y, y2=y, class_="interval"))
        marks.append(el("circle", cx=_at(rate), cy=y, r=5, class_="dot"))
        marks.append(el("text", f"{rate:.3f}", x=_LABEL + _PLOT + 10, y=y + 4, class_="value"))
        told.append(f"{group.get('name', '')} {rate:.3f}")
    title = f"Selection rate by {attribute.get('field', '')}: {', '.join(told) or 'no group has rows enough'}."
    return _svg(title, key, 12 + len(groups) * _LINE + 24, marks)


def drift(features: Sequence[Mapping[str, Any]], key: str) -> Html:
    """Return a bar for each feature, the worst first; the threshold, 1, is a line across. Bars end at 4."""
    marks = _scale(len(features), [(0.0, "0"), (1.0, "threshold 1"), (4.0, "4 or more")], _MAX_SCORE)
    told = []
    for row, one in enumerate(features):
        y = 12 + row * _LINE
        name, score = one.get("feature") or "all together", _number(one.get("score"))
        marks.append(el("text", str(name)[:24], x=0, y=y + 4))
        width = round(min(score, _MAX_SCORE) / _MAX_SCORE * _PLOT, 1)
        marks.append(el("rect", x=_LABEL, y=y - 7, width=width, height=14, class_="bar"))
        marks.append(
            el("text", f"{score:g} {one.get('test', '')}"[:20], x=_LABEL + _PLOT + 10, y=y + 4, class_="value")
        )
        told.append(f"{name} {score:g}")
    return _svg(f"Drift, 1 being the threshold: {', '.join(told)}.", key, 12 + len(features) * _LINE + 24, marks)


def _scale(rows: int, ticks: Sequence[tuple[float, str]], top: float) -> list[Html]:
    bottom = 12 + rows * _LINE - 8
    marks = []
    for value, label in ticks:
        x = round(_LABEL + value / top * _PLOT, 1)
        threshold = label.startswith("threshold")
        marks.append(el("line", x1=x, x2=x, y1=0, y2=bottom, class_="threshold" if threshold else "grid"))
        if label:
            anchor = "start" if value == 0 else "end" if value == top else "middle"
            marks.append(el("text", label, x=x, y=bottom + 16, text_anchor=anchor, class_="tick"))
    return marks


def _svg(title: str, key: str, height: int, marks: Sequence[Html]) -> Html:
    return el(
        "svg",
        el("title", title, id=f"{key}-title"),
        *marks,
        class_="plot",
        role="img",
        aria_labelledby=f"{key}-title",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH,
        height=height,
    )


def _at(share: float) -> float:
    return round(_LABEL + share * _PLOT, 1)


def _share(value: Any) -> float | None:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) else None


def _number(value: Any) -> float:
    return max(float(value), 0.0) if isinstance(value, int | float) else 0.0
