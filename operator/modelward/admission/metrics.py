"""Counters in the Prometheus text format."""

from __future__ import annotations

from collections import Counter


class Metrics:
    """What the admission server counts."""

    def __init__(self) -> None:
        self.reviews: Counter[tuple[str, str]] = Counter()
        """Reviews by (kind, outcome): allowed, denied, malformed, unavailable, failed."""
        self.review_seconds = 0.0
        """Time spent on decisions."""
        self.events: Counter[str] = Counter()
        """Events by outcome: written, failed, dropped."""

    def render(self) -> str:
        """Write all counters."""
        lines = [
            "# HELP modelward_admission_reviews_total Reviews answered, by kind of object and outcome.",
            "# TYPE modelward_admission_reviews_total counter",
            *(
                f'modelward_admission_reviews_total{{kind="{kind}",outcome="{outcome}"}} {count}'
                for (kind, outcome), count in sorted(self.reviews.items())
            ),
            "# HELP modelward_admission_decision_seconds_total Time spent on decisions.",
            "# TYPE modelward_admission_decision_seconds_total counter",
            f"modelward_admission_decision_seconds_total {self.review_seconds:.6f}",
            "# HELP modelward_admission_events_total Events about refusals and warnings, by outcome.",
            "# TYPE modelward_admission_events_total counter",
            *(
                f'modelward_admission_events_total{{outcome="{outcome}"}} {self.events[outcome]}'
                for outcome in ("dropped", "failed", "written")
            ),
        ]
        return "\n".join(lines) + "\n"
