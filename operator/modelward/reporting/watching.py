"""What sidecars found of a model while it served: fairness, drift, re-identification and anomalies."""

from __future__ import annotations

from typing import Any

from modelward.reporting import charts
from modelward.reporting.document import Model
from modelward.reporting.html import Html, count, el, frame, join, shown, table

_MAX_ATTRIBUTES = 16


def watched(model: Model, key: str) -> Html:
    """Return what sidecars found of a model: fairness, drift, re-identification, anomalies; nothing where nothing."""
    parts: list[Html] = []
    fairness = model.fairness or {}
    for number, attribute in enumerate((fairness.get("attributes") or ())[:_MAX_ATTRIBUTES]):
        parts += _fairness(attribute, f"{key}-fair{number}", model.max_difference)
    monitoring = model.monitoring or {}
    shifts = monitoring.get("drift") or ()
    if shifts:
        rows = ((one.get("feature") or "all together", one.get("test", ""), one.get("score", "")) for one in shifts)
        parts += [
            el("h4", "Drift"),
            frame(charts.drift(shifts, f"{key}-drift"), "Drift"),
            table("Features unlike the baseline", ("Feature", "Test", "Score; 1 is the threshold"), rows, numeric=(2,)),
        ]
    told = model.reidentification
    if told:
        fields = ", ".join(map(str, told.get("fields") or ()))
        share = told.get("rowsBelowK")
        below = f"{share:.1%}" if isinstance(share, int | float) else "an unknown share"
        parts += [
            el("h4", "Re-identification"),
            el(
                "p",
                f"Of {count(told.get('rows') or 0, 'row')}, {below} are in combinations of {fields} that fewer than"
                f" k = {told.get('k')} {'people' if told.get('people') else 'rows'} share;"
                f" {count(told.get('combinations') or 0, 'combination')}, the smallest of"
                f" {told.get('smallest')}.",
            ),
        ]
    found = monitoring.get("incidents") or ()
    if found:
        told_of = (
            (
                one.get("client", ""),
                one.get("detector", ""),
                one.get("action", ""),
                f"{one.get('count', 0):,}",
                shown(one.get("last")),
            )
            for one in found
        )
        headings = ("Client", "Detector", "Action", "Times", "Last")
        parts += [el("h4", "Anomalies"), table("Anomalies of the last day", headings, told_of, numeric=(3,))]
    return join(parts)


def _fairness(attribute: dict[str, Any], key: str, most: float | None) -> list[Html]:
    field = str(attribute.get("field", ""))
    parity, odds = attribute.get("demographicParityDifference"), attribute.get("equalizedOddsDifference")
    told = [f"Demographic parity difference {_figure(parity)}, equalised odds difference {_figure(odds)}"]
    told += [f"; {most:g} is the most that is accepted" if most is not None else ""]
    rows = (
        (
            group.get("name", ""),
            f"{group.get('rows') or 0:,}",
            _figure(group.get("selectionRate")),
            f"{_figure(group.get('low'))} to {_figure(group.get('high'))}",
            _figure(group.get("truePositiveRate")),
            _figure(group.get("falsePositiveRate")),
            f"{group.get('labelled') or 0:,}",
        )
        for group in attribute.get("groups") or ()
    )
    headings = ("Group", "Rows", "Selection rate", "Interval", "True positive rate", "False positive rate", "Labelled")
    return [
        el("h4", f"Fairness by {field}"),
        el("p", *told, "."),
        frame(charts.rates(attribute, key), f"Rates by {field}"),
        table(f"Rates by {field}", headings, rows, numeric=(1, 2, 4, 5, 6)),
    ]


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "not known"
