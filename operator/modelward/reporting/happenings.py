"""What happened and what is about to: incidents over time, what is watched, certificates and exceptions that end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from modelward.reporting import charts
from modelward.reporting.document import Report
from modelward.reporting.entry import truth
from modelward.reporting.html import Html, count, el, join, section, shown_time, table, time
from modelward.reporting.sources import moment

MAX_LISTED = 100


def incidents(report: Report) -> Html:
    """Return the section on incidents."""
    if not report.incidents:
        return section("incidents", "Incidents over time", el("p", "None is told of."))
    line = report.timeline
    begins = moment(line.begins)
    spans = [
        (
            shown_time(begins + timedelta(seconds=line.seconds * bar)) if begins else str(bar),
            *(f"{kind.counts[bar]:,}" for kind in line.kinds),
        )
        for bar in range(len(line.kinds[0].counts) if line.kinds else 0)
        if any(kind.counts[bar] for kind in line.kinds)
    ]
    basis = "when they happened, by the access log" if line.exact else "the last time that each was seen"
    rows = (
        (time(one.last), one.kind, one.model, one.who or "", f"{one.count:,}", one.message)
        for one in report.incidents[:MAX_LISTED]
    )
    more = len(report.incidents) - MAX_LISTED
    return section(
        "incidents",
        "Incidents over time",
        el("p", f"By {basis}, in spans of {_length(line.seconds)}. Each row has a scale of its own."),
        el(
            "div",
            charts.over_time(line, "time") if line.kinds else None,
            class_="frame",
            tabindex="0",
            role="region",
            aria_label="Incidents over time",
        ),
        el(
            "details",
            el("summary", "The same as a table"),
            table(
                "Incidents by span",
                ("From", *(kind.kind for kind in line.kinds)),
                spans,
                numeric=range(1, len(line.kinds) + 1),
            ),
        ),
        table("The last incidents", ("Last", "What", "Model", "Who", "Times", "More"), rows, numeric=(4,)),
        el("p", f"{more:,} more are in the report as JSON.", class_="quiet") if more > 0 else None,
    )


def _length(seconds: int) -> str:
    return count(seconds // 86_400, "day") if seconds >= 86_400 else count(seconds // 3600, "hour")


def watched(report: Report, keys: Mapping[str, str]) -> Html:
    """Return the section on fairness and drift; `keys` are the ids of the models' entries."""
    rows = []
    for model in report.models:
        told = [model.condition(kind) for kind in ("Monitored", "Fair", "KAnonymous", "LineageVerified")]
        shifts = (model.monitoring or {}).get("drift") or ()
        worst = max(
            (one.get("demographicParityDifference") or 0 for one in (model.fairness or {}).get("attributes") or ()),
            default=None,
        )
        if any(told) or shifts or worst is not None:
            rows.append(
                (
                    el("a", model.full_name, href=f"#{keys[model.full_name]}"),
                    *(truth(one) if one else el("span", "not told", class_="quiet") for one in told),
                    "not watched" if worst is None else f"{worst:.3f}",
                    len(shifts),
                )
            )
    if not rows:
        return section("watched", "Fairness and drift", el("p", "No sidecar has told of any."))
    return section(
        "watched",
        "Fairness and drift",
        el("p", "Plots and rates of each group and feature are in the model's entry."),
        table(
            "What is watched while models serve",
            ("Model", "Monitored", "Fair", "K-anonymous", "Lineage verified", "Parity difference", "Features drifted"),
            rows,
            class_="sortable",
            numeric=(5, 6),
        ),
    )


def certificates(report: Report) -> Html:
    """Return the section on certificates."""
    rows = (
        (one.model, one.source, time(one.expires), "unknown" if one.days is None else f"{one.days:g}")
        for one in report.certificates[:MAX_LISTED]
    )
    more = len(report.certificates) - MAX_LISTED
    return section(
        "certificates",
        "Certificates",
        table(
            "Serving certificates, the first to end first", ("Model", "From", "Ends", "Days left"), rows, numeric=(3,)
        )
        if report.certificates
        else el("p", "No certificate is told of."),
        el("p", f"{more:,} more, which end later, are in the report as JSON.", class_="quiet") if more > 0 else None,
    )


def exceptions(report: Report) -> Html:
    """Return the section on exceptions."""
    rows = (
        (
            ", ".join(one.rules),
            ", ".join(one.models) + (f" in {', '.join(one.namespaces)}" if one.namespaces else ""),
            one.policy,
            join([one.reason, el("div", f"approved by {one.approved_by}", class_="quiet")]),
            time(one.expires),
            _days(one.days),
        )
        for one in report.exceptions[:MAX_LISTED]
    )
    headings = ("Rules", "Models", "Policy", "Why", "Ends", "Days left")
    return section(
        "exceptions",
        "Exceptions",
        table("Exceptions from rules, the first to end first", headings, rows, numeric=(5,))
        if report.exceptions
        else el("p", "No policy makes an exception."),
    )


def _days(days: float | None) -> Html:
    if days is None:
        return el("span", "unreadable", class_="bad")
    if days < 0:
        return el("span", "ended", class_="quiet")
    return el("span", f"! {days:g}", class_="warn") if days <= 7 else Html(f"{days:g}")
