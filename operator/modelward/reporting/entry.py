"""A model's entry in the register: what article 30 asks, verdicts, lineage, what was found, and its conditions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelward.lineage.graph import Graph
from modelward.reporting.document import Measure, Model, Outcome, Recipient, Verdicts
from modelward.reporting.html import NOTHING, Html, count, el, join, shown, table
from modelward.reporting.lineage_view import lineage
from modelward.reporting.watching import watched
from modelward.rules.catalogue import frameworks

NOT_DECLARED = "not declared"
_ROLES = {
    "Identifier": "identifiers",
    "QuasiIdentifier": "quasi-identifiers",
    "Sensitive": "sensitive",
    "Feature": "no role declared, or only a feature",
}
_LEVELS = {
    "violation": el("span", "✗ violation", class_="bad"),
    "warning": el("span", "! warning", class_="warn"),
    "audit": el("span", "! audited", class_="warn"),
    "excused": el("span", "excused", class_="quiet"),
}


def entry(model: Model, graph: Graph, key: str, *, draw: bool) -> Html:
    """Return the entry, closed.

    Args:
        model: the model.
        graph: its lineage alone.
        key: makes ids on the page unique.
        draw: whether its lineage is drawn as well as told in a table.
    """
    return el(
        "details",
        el("summary", el("h3", model.full_name), standing(model)),
        el(
            "div",
            record(model),
            _verdicts(model.verdicts),
            el("h4", "Lineage"),
            _signed(model),
            lineage(graph, f"Lineage of {model.full_name}", key, draw=draw, model=model.full_name),
            watched(model, key),
            _conditions(model),
            class_="inside",
            id=key,
        ),
        class_="entry",
        data_model=model.full_name.lower(),
        data_findings=bool(model.verdicts.count("violation", "warning", "audit")),
    )


def standing(model: Model) -> Html:
    """Return whether a model keeps what is asked of it, in a word or two."""
    broken, doubtful = model.verdicts.count("violation"), model.verdicts.count("warning", "audit")
    if broken:
        return el("span", f"✗ {count(broken, 'violation')}", class_="bad")
    if doubtful:
        return el("span", f"! {count(doubtful, 'warning')}", class_="warn")
    if not model.verdicts.policies:
        return el("span", "no policy governs it", class_="warn")
    return el("span", "✓ keeps what is asked", class_="good")


def record(model: Model) -> Html:
    """Return the record of processing activities, by the letters of GDPR article 30(1)."""
    told = model.register
    rows: list[tuple[str, Any]] = [
        ("Controller (a)", told.controller),
        ("Contact (a)", told.contact),
        ("Purposes (b)", ", ".join(told.purposes)),
        ("Legal basis", told.legal_basis),
        ("Categories of data subjects (c)", told.data_subjects),
        ("Classification of the data (c)", ", ".join(told.classification)),
        (
            "Categories of personal data (c)",
            _lines(f"{_ROLES.get(one.role, one.role)}: {', '.join(one.fields)}" for one in told.categories),
        ),
        ("Recipients (d)", _recipients(told.recipients)),
        ("Telemetry (d)", _lines(told.telemetry)),
        ("Transfers to third countries (e)", told.transfers),
        ("Time limits for erasure (f)", told.retention),
        ("Inputs kept in the access log (f)", "yes, as the model got them" if told.values_recorded else "no"),
    ]
    rows.append(("Measures of security (g)", _measures(told.measures)))
    rows.append(("Where a decision is contested", told.contest))
    return el("dl", [(el("dt", name), _said(value)) for name, value in rows], class_="record")


def _said(value: Any) -> Html:
    return el("dd", value) if value else el("dd", NOT_DECLARED, class_="none")


def _lines(values: Iterable[Any]) -> Any:
    lines = [el("li", one) for one in values]
    return el("ul", *lines) if lines else None


def _measures(measures: Sequence[Measure]) -> Any:
    missing = [one.name.lower() for one in measures if not one.told]
    lines: list[Any] = [f"{one.name}: {one.told}" for one in measures if one.told]
    return _lines([*lines, *([el("span", f"{NOT_DECLARED}: {', '.join(missing)}", class_="none")] if missing else [])])


def _recipients(recipients: Iterable[Recipient]) -> Any:
    told = []
    for one in recipients:
        purposes = f" for {', '.join(one.purposes)}" if one.purposes else ""
        if one.basis == "allowed":
            told.append(f"{one.who}{purposes} (may ask)")
        elif one.basis == "declared":
            told.append(f"{one.who} (declared)")
        else:
            issuer = f", vouched for by {one.issuer}" if one.issuer else ""
            told.append(f"{one.who}{purposes} (got {count(one.requests, 'answer')}{issuer}; last {shown(one.last)})")
    return _lines(told)


def _verdicts(verdicts: Verdicts) -> Html:
    governed = f"By {', '.join(verdicts.policies)}." if verdicts.policies else "No policy governs this model."
    lines = [
        (el("dt", framework.name), el("dd", *_outcomes(verdicts.frameworks.get(name, {}))))
        for name, framework in frameworks().items()
    ]
    found = NOTHING
    if verdicts.findings:
        found = table(
            "What was found",
            ("Rule", "Level", "Where", "What was found, and how to mend it", "Asked by"),
            (
                (
                    f"{one.rule} {one.title}",
                    _LEVELS[one.level],
                    one.field,
                    join([f"{one.found}. ", el("span", one.excuse or (one.fix and f"Fix: {one.fix}"), class_="quiet")]),
                    one.policy,
                )
                for one in verdicts.findings
            ),
        )
    return join([el("h4", "Verdicts by framework"), el("p", governed), el("dl", *lines, class_="record"), found])


def _signed(model: Model) -> Html | None:
    signers = [str(one) for one in (model.lineage or {}).get("signedBy") or ()]
    return el("p", f"Model and dataset are signed for by {', '.join(signers)}.") if signers else None


def _outcomes(kinds: Mapping[Outcome, Sequence[str]]) -> Iterable[object]:
    """In words: how many rules pass, which do not, and how many are open."""
    fails = kinds.get("fails", ())
    if fails:
        yield el("span", f"✗ {len(fails)} fail: {', '.join(fails)}", class_="bad list")
        yield "; "
    yield f"{len(kinds.get('passes', ()))} pass"
    if kinds.get("excused"):
        yield f"; {', '.join(kinds['excused'])} excused"
    if kinds.get("unseen"):
        yield f"; {len(kinds['unseen'])} not seen"
    if kinds.get("notAsked"):
        yield f"; {len(kinds['notAsked'])} not asked"


def _conditions(model: Model) -> Html:
    if not model.conditions:
        return NOTHING
    lines = [
        (
            el("dt", one.get("type", "")),
            el("dd", truth(one), f" {one.get('message', '')}, since {shown(one.get('lastTransitionTime'))}"),
        )
        for one in model.conditions
    ]
    return join([el("h4", "Conditions, as the controller last told"), el("dl", *lines, class_="record")])


def truth(condition: dict[str, Any]) -> Html:
    """Return a condition's status with a mark: some are good news when true, some when false."""
    status, kind = condition.get("status"), condition.get("type")
    if status not in ("True", "False"):
        return el("span", status or "Unknown", class_="quiet")
    good = (status == "True") != (kind in ("Bypassable", "Stalled", "Reconciling"))
    return el("span", f"{'✓' if good else '✗'} {status}", class_="good" if good else "bad")
