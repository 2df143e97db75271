"""What of a model's status becomes an Event, and when it is no news any more."""

import pytest

from modelward.planner.status_news import News, status_news


def status(kind: str, truth: str, reason: str, message: str = "said") -> dict[str, list[dict[str, str]]]:
    return {"conditions": [{"type": kind, "status": truth, "reason": reason, "message": message}]}


@pytest.mark.parametrize(
    ("kind", "truth", "reason", "news"),
    [
        ("Ready", "True", "Serving", News("Normal", "Ready", "said")),
        ("Ready", "False", "Bypassable", News("Warning", "Bypassable", "said")),
        ("Ready", "False", "PodsNotReady", None),
        ("Ready", "False", "SidecarMissing", None),
        ("PolicyCompliant", "False", "PolicyViolation", News("Warning", "PolicyViolation", "said")),
        ("PolicyCompliant", "True", "Compliant", None),
        ("Stalled", "True", "ReferenceMissing", News("Warning", "ReferenceMissing", "said")),
        ("Stalled", "True", "PolicyViolation", None),
        ("Monitored", "False", "Drifted", News("Warning", "Drifted", "said", heard=True)),
        ("Monitored", "True", "AnomaliesSeen", None),
        ("Fair", "False", "DifferenceTooLarge", News("Warning", "UnfairOutcome", "said", "UnfairOutcome", heard=True)),
        ("Fair", "True", "WithinLimit", None),
        (
            "KAnonymous",
            "False",
            "ReidentificationRisk",
            News("Warning", "ReidentificationRisk", "said", "ReidentificationRisk", heard=True),
        ),
    ],
)
def test_a_reason_is_news_once(kind: str, truth: str, reason: str, news: News | None) -> None:
    now = status(kind, truth, reason)
    assert status_news({}, now) == ([] if news is None else [news])
    assert status_news(status(kind, "Unknown", "Other"), now) == ([] if news is None else [news])
    assert status_news(now, now) == []


def test_other_rules_that_are_broken_are_news_and_other_figures_are_not() -> None:
    first, second = (status("PolicyCompliant", "False", "PolicyViolation", text) for text in ("ENC-001", "ENC-002"))
    assert [news.message for news in status_news(first, second)] == ["ENC-002"]
    first, second = (status("Fair", "False", "DifferenceTooLarge", text) for text in ("0.2", "0.3"))
    assert status_news(first, second) == []
