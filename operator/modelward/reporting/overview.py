"""The verdicts of all models side by side, and the places of each framework."""

from __future__ import annotations

from collections.abc import Mapping

from modelward.reporting.document import Model, Report
from modelward.reporting.entry import standing, truth
from modelward.reporting.html import Html, Row, cells, el, section, table
from modelward.rules.catalogue import frameworks

SHORT = {"GDPR": "GDPR", "EUAIA": "EU AI Act", "NISTAIRMF": "NIST AI RMF", "OWASP": "OWASP ML", "ATLAS": "ATLAS"}
"""What frameworks are called where there is little room."""


def verdicts(report: Report, keys: Mapping[str, str]) -> Html:
    """Return the section; `keys` are the ids of the models' entries."""
    names = {key: one.name for key, one in frameworks().items()}
    headings = ["Model", "Ready", *(el("abbr", SHORT[key], title=name) for key, name in names.items()), "In all"]
    tables = [
        el(
            "details",
            el("summary", el("h3", name)),
            el(
                "div",
                table(
                    f"{name}: models by place",
                    ("Place", "Title", "Rules", "Models pass", "Fail", "Not asked"),
                    (
                        (
                            one.place,
                            one.title,
                            ", ".join(one.rules),
                            f"{one.passing:,}",
                            el("span", f"✗ {one.failing:,}", class_="bad") if one.failing else "0",
                            f"{one.not_asked:,}",
                        )
                        for one in report.places
                        if one.framework == key
                    ),
                    numeric=(3, 4, 5),
                ),
                class_="inside",
            ),
        )
        for key, name in names.items()
    ]
    return section(
        "verdicts",
        "Verdicts by framework",
        el(
            "p",
            "Each rule of the catalogue serves places of laws and frameworks. A model passes a rule that a policy asks"
            " for and that holds; what no policy asks is not asked. This says what the configuration shows, and is no"
            " legal opinion.",
        ),
        _tools(),
        table(
            "Verdicts by model and framework: rules passed of those asked",
            headings,
            (_verdict_row(one, keys[one.full_name]) for one in report.models),
            class_="sortable",
        ),
        el("h3", "By place"),
        *tables,
    )


def _verdict_row(model: Model, key: str) -> Row:
    told: list[object] = [
        el("a", model.full_name, href=f"#{key}"),
        truth({**model.condition("Ready"), "type": "Ready"}),
    ]
    for name in frameworks():
        kinds = model.verdicts.frameworks.get(name, {})
        fails, passes = len(kinds.get("fails", ())), len(kinds.get("passes", ()))
        asked = fails + passes + len(kinds.get("excused", ())) + len(kinds.get("unseen", ()))
        mark = el("span", f"✗ {passes} of {asked}", class_="bad") if fails else f"{passes} of {asked}"
        told.append(mark if asked else el("span", "not asked", class_="quiet"))
    told.append(standing(model))
    return Row(
        el(
            "tr",
            *cells(told),
            data_model=model.full_name.lower(),
            data_findings=bool(model.verdicts.count("violation", "warning", "audit")),
        )
    )


def _tools() -> Html:
    return el(
        "div",
        el("label", "Model ", el("input", type="search", id="filter", autocomplete="off")),
        el("label", el("input", type="checkbox", id="only-findings"), " only those with findings"),
        el("span", id="shown", role="status", class_="quiet"),
        class_="tools",
        id="tools",
        role="search",
        hidden=True,
    )
