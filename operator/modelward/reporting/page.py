"""The report as one page of HTML that asks nothing of a network: style and script within, allowed by their hashes."""

from __future__ import annotations

from collections.abc import Mapping

from modelward.lineage.graph import Edge, Graph, Node, Step, Use
from modelward.reporting.document import Attention, Lineage, Report
from modelward.reporting.entry import entry
from modelward.reporting.happenings import MAX_LISTED, certificates, exceptions, incidents, watched
from modelward.reporting.html import Html, el, join, section, table, time
from modelward.reporting.lineage_view import lineage
from modelward.reporting.overview import verdicts
from modelward.reporting.shell import whole

MANY = 200
"""Models beyond which lineage is told in words alone, and what is not on the screen is not laid out."""
_MAX_NAMED = 5
SECTIONS = {
    "summary": "Summary",
    "verdicts": "Verdicts",
    "register": "Register",
    "lineage": "Lineage",
    "incidents": "Incidents",
    "watched": "Fairness and drift",
    "certificates": "Certificates",
    "exceptions": "Exceptions",
}


def page(report: Report) -> str:
    """Return the page."""
    graph = _graph(report.lineage)
    links = [el("li", el("a", name, href=f"#{key}")) for key, name in SECTIONS.items()]
    keys = {model.full_name: f"m{number}" for number, model in enumerate(report.models)}
    draw = len(report.models) <= MANY
    return whole(
        f"Audit report, {report.scope.name}, {report.generated[:10]}",
        el("a", "Skip to the report", href="#report", class_="skip"),
        _header(report),
        el("nav", el("ul", *links), aria_label="Sections"),
        el(
            "main",
            _summary(report),
            verdicts(report, keys),
            _register(report, graph, keys, draw=draw),
            _lineage(report, graph, keys),
            incidents(report),
            watched(report, keys),
            certificates(report),
            exceptions(report),
            id="report",
        ),
        el(
            "footer",
            el(
                "p",
                f"Made by modelward {report.version} from what the {report.scope.source} told at"
                f" {report.generated}. What nobody declared is called not declared: nothing here is guessed.",
            ),
        ),
        class_=None if draw else "many",
    )


def _header(report: Report) -> Html:
    scope = report.scope
    told = [
        ("Made", time(report.generated)),
        ("Covers", f"{'cluster' if scope.source == 'cluster' else 'files'} {scope.name}"),
        ("Namespace", scope.namespace or "all"),
        ("Access logs", ", ".join(scope.logs) or "none read"),
    ]
    return el(
        "header",
        el("p", "modelward", class_="maker"),
        el("h1", "Audit report"),
        el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in told), class_="about"),
    )


def _summary(report: Report) -> Html:
    models = report.models
    ending = sum(1 for one in report.exceptions if one.days is not None and 0 <= one.days <= 30)
    tiles = [
        (len(models), "models"),
        (sum(one.condition("Ready").get("status") == "True" for one in models), "are ready"),
        (sum(not one.verdicts.count("violation", "warning", "audit") for one in models), "keep what is asked"),
        (sum(bool(one.verdicts.count("violation")) for one in models), "break an enforced rule"),
        (sum((one.monitoring or {}).get("anomalies") or 0 for one in models), "anomalies in the last day"),
        (ending, "exceptions end within 30 days"),
    ]
    grades = {"high": ("bad", "✗ high"), "medium": ("warn", "! medium"), "low": ("quiet", "low")}
    rows = [
        (one.what, el("span", grades[one.grade][1], class_=grades[one.grade][0]), _concerned(one))
        for one in report.attention[:MAX_LISTED]
    ]
    more = len(report.attention) - len(rows)
    return section(
        "summary",
        "Summary",
        *(el("p", note, class_="note") for note in report.notes),
        el("ul", *(el("li", el("b", f"{number:,}"), el("span", what)) for number, what in tiles), class_="tiles"),
        el("h3", "What needs attention"),
        table("The gravest first", ("What", "How grave", "Models"), rows)
        if rows
        else el("p", "Nothing was found that needs attention."),
        el("p", f"{more:,} more are in the report as JSON.", class_="quiet") if more > 0 else None,
    )


def _concerned(one: Attention) -> str:
    more = one.count - len(one.models[:_MAX_NAMED])
    names = ", ".join(one.models[:_MAX_NAMED]) or "all"
    return f"{names} and {more:,} more" if more > 0 and one.models else names


def _register(report: Report, graph: Graph, keys: dict[str, str], *, draw: bool) -> Html:
    entries = []
    for model in report.models:
        own = _through(graph, f"model:{model.full_name}")
        entries.append(entry(model, own, keys[model.full_name], draw=draw))
    return section(
        "register",
        "Register of processing activities",
        el(
            "p",
            "One entry a model, by the letters of GDPR article 30(1), with its verdicts, its lineage and what its"
            " sidecars found.",
        ),
        *entries,
    )


def _graph(told: Lineage) -> Graph:
    nodes = (Node(one.id, one.kind, one.names, one.issuer) for one in told.nodes)
    edges = (
        Edge(
            one.source,
            one.target,
            tuple(Step(**step) for step in one.steps),
            tuple(Use(**use) for use in one.uses),
            one.declared_by,
        )
        for one in told.edges
    )
    return Graph(tuple(nodes), tuple(edges), told.left_out)


def _through(graph: Graph, id_: str) -> Graph:
    """What a node came of, and what came of it."""
    up, down = graph.upstream(id_), graph.downstream(id_)
    return Graph(
        tuple(dict.fromkeys((*up.nodes, *down.nodes))), tuple(dict.fromkeys((*up.edges, *down.edges))), graph.left_out
    )


def _lineage(report: Report, graph: Graph, keys: Mapping[str, str]) -> Html:
    entries = {f"model:{name}": key for name, key in keys.items()}
    cycles = [el("li", " → ".join(way)) for way in report.lineage.cycles]
    rows = (
        (
            join([one.dataset, el("div", one.digest, class_="quiet") if one.digest else None]),
            f"{len(one.models):,}",
            ", ".join(one.models[:8]) + (" ..." if len(one.models) > 8 else ""),
            f"{len(one.consumers):,}",
        )
        for one in report.lineage.reach
    )
    return section(
        "lineage",
        "Lineage",
        el("p", "Lineage goes in a circle, which no data can: what is declared is wrong.", class_="note")
        if cycles
        else None,
        el("ul", *cycles) if cycles else None,
        lineage(graph, "Lineage of all models", "all", draw=True, entries=entries),
        el("h3", "Blast radius"),
        table(
            "What a breach of each dataset reaches, the widest first",
            ("Dataset", "Models", "Which", "Consumers"),
            rows,
            numeric=(1, 3),
        )
        if report.lineage.reach
        else el("p", "No dataset is declared.", class_="none"),
    )
