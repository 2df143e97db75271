"""A security test as one page of HTML that asks nothing of a network."""

from __future__ import annotations

from modelward import __version__
from modelward.attack.report import OUTCOMES, AttackReport, Outcome, SecurityTestReport
from modelward.reporting.html import Html, count, el, join, section, table, time
from modelward.reporting.shell import whole

_MARKS: dict[Outcome, tuple[str, str]] = {
    "Succeeded": ("bad", "✗ succeeded"),
    "Inconclusive": ("warn", "! inconclusive"),
    "Skipped": ("quiet", "not tried"),
    "Withstood": ("good", "✓ withstood"),
}
_VERDICTS = {
    "Passed": "The model has withstood every grave attack that was tried.",
    "Failed": "At least one attack of medium severity or worse has succeeded.",
    "Errored": "The suite did not come to its end, or too little was decided: it says nothing good of the model.",
}
_FAMILIES = {
    "bypass": "Ways past who may ask",
    "input": "Inputs that the model was not made for",
    "membership": "Who was in the training data",
    "backdoor": "Backdoors",
    "evasion": "Rows turned by small changes",
    "extraction": "Copies of the model",
    "rate": "Asking without end",
}


def page(report: SecurityTestReport) -> str:
    """Return the page."""
    families = {attack.id.partition(".")[0]: None for attack in report.attacks}
    links = [el("li", el("a", _FAMILIES.get(key, key), href=f"#{key}")) for key in families]
    told = [
        ("Endpoint", report.target),
        ("Model", report.model),
        ("Suite", report.suite),
        ("From", time(report.started_at)),
        ("Until", time(report.finished_at)),
        ("Requests", f"{report.requests:,}"),
        ("Seed", str(report.seed)),
    ]
    return whole(
        f"Security test, {report.model}, {report.finished_at[:10]}",
        el("a", "Skip to the report", href="#report", class_="skip"),
        el(
            "header",
            el("p", "modelward", class_="maker"),
            el("h1", f"Security test: {report.outcome}"),
            el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in told), class_="about"),
        ),
        el("nav", el("ul", el("li", el("a", "Summary", href="#summary")), *links), aria_label="Sections"),
        el(
            "main",
            _summary(report),
            *(_family(key, [one for one in report.attacks if one.id.startswith(f"{key}.")]) for key in families),
            id="report",
        ),
        el("footer", el("p", f"Made by modelward {__version__}. Withstood says: by this attack, within this budget.")),
    )


def _summary(report: SecurityTestReport) -> Html:
    tiles = [(report.counted(outcome), outcome.lower()) for outcome in OUTCOMES]
    grave = sorted(
        (attack for attack in report.attacks if attack.outcome == "Succeeded"),
        key=lambda one: ("critical", "high", "medium", "low").index(one.severity),
    )
    rows = [(attack.title, _graveness(attack), attack.evidence, attack.fix) for attack in grave]
    return section(
        "summary",
        "Summary",
        el("p", report.note, class_="note") if report.note else None,
        el("p", _VERDICTS[report.outcome]),
        el("ul", *(el("li", el("b", f"{number:,}"), el("span", what)) for number, what in tiles), class_="tiles"),
        table("What succeeded, the gravest first", ("What does not hold", "How grave", "What was seen", "Fix"), rows)
        if rows
        else el("p", "No attack succeeded."),
    )


def _graveness(attack: AttackReport) -> Html:
    return el("span", attack.severity, class_="bad" if attack.severity in ("critical", "high") else "warn")


def _family(key: str, attacks: list[AttackReport]) -> Html:
    rows = (
        (
            join([attack.title, el("div", attack.id, class_="quiet")]),
            el("span", _MARKS[attack.outcome][1], class_=_MARKS[attack.outcome][0]),
            join([attack.tries, el("div", ", ".join(attack.frameworks), class_="quiet")]),
            join([attack.evidence, el("div", f"Fix: {attack.fix}") if attack.fix else None]),
            f"{attack.requests:,}",
        )
        for attack in attacks
    )
    name = _FAMILIES.get(key, key)
    return section(
        key,
        name,
        table(
            count(len(attacks), "attack"),
            ("What should hold", "Outcome", "Tried", "Seen", "Requests"),
            rows,
            numeric=(4,),
        ),
    )
