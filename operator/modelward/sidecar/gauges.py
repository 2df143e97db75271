"""What is shown of detectors: their rates, drift, and who is held; and of what is counted of rows.

Feature names are the configuration's. Counts of single groups are not shown, and combinations in the steps that the
status has: who looks each second would see what one person sent, or was answered. Where counts are kept for an
auditor nothing is shown of combinations, and drift in whole numbers.
"""

from collections.abc import Iterator

from modelward.reidentification.steps import shown
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.instruments import Instruments

_Points = Iterator[tuple[tuple[str, ...], float]]


def watch(instruments: Instruments, gateway: Gateway) -> None:
    """Show them among `instruments`, for whatever configuration `gateway` has."""

    def rates() -> _Points:
        for rate in gateway.chain.detection.rates():
            yield (rate.detector, "asked"), rate.asked
            if rate.rows:
                yield (rate.detector, "observed"), rate.observed
                yield (rate.detector, "low"), rate.low
                yield (rate.detector, "high"), rate.high

    def shifts() -> _Points:
        return gateway.chain.detection.shifts(whole=gateway.chain.kept)

    def rows() -> _Points:
        fairness = gateway.chain.fairness
        if fairness is not None:
            counted, uncounted = fairness.rows_seen()
            yield ("counted",), counted
            yield ("uncounted",), uncounted

    def combinations() -> _Points:
        counted = gateway.chain.reidentification
        if counted is not None and not counted.kept:
            found = shown(counted.figures())
            yield ("rows",), found.rows
            yield ("combinations",), found.combinations
            yield ("share_below_k",), found.below
            yield ("smallest",), found.smallest

    instruments.watch_all(
        "modelward_reidentification",
        "Rows of the last 30 days by combination of quasi-identifiers, as the model got it; this replica's, in steps.",
        ("figure",),
        combinations,
    )
    instruments.watch_all(
        "modelward_fairness_rows",
        "Rows of the last 30 days that were answered: counted by group, or of unknown group or outcome.",
        ("outcome",),
        rows,
    )
    instruments.watch_all(
        "modelward_detector_observed_rate",
        "Share of rows that a detector finds strange: asked for, observed of late, and the interval that it is in.",
        ("detector", "bound"),
        rates,
    )
    instruments.watch_all(
        "modelward_drift",
        "Distance of the last rows from the baseline, by feature (empty: all together) and test; above 1: drift.",
        ("feature", "test"),
        shifts,
    )
    instruments.watch(
        "modelward_quarantined_clients",
        "Clients whose requests are refused after anomalies.",
        lambda: len(gateway.findings.quarantines),
    )
