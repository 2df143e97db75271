"""The report of a security test: what `modelward attack -o json` prints and a Job leaves behind.

Names are camelCase there, times RFC 3339 in UTC. Nothing in it is a value of the data that was sent, or a token. It
needs msgspec alone: whoever reads a report need not have what attacks are made with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_BYTES = 256 << 10
"""A report is smaller, or none: whoever reads one may refuse what is larger unread."""

Outcome = Literal["Withstood", "Succeeded", "Inconclusive", "Skipped"]
OUTCOMES: tuple[Outcome, ...] = ("Succeeded", "Inconclusive", "Skipped", "Withstood")
"""In the order in which one wants to read of them."""
Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")
Verdict = Literal["Passed", "Failed", "Errored"]

_Id = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9]+(?:[.-][a-z0-9]+)*$")]
_Name = Annotated[str, Meta(max_length=253)]
_Text = Annotated[str, Meta(max_length=512)]
_Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$")]
_Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class ReportError(ValueError):
    """No report of a security test; the message says why."""


class AttackReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What came of one attack.

    Attributes:
        id: its family and its name in that, such as `bypass.no-token`.
        title: what holds where the attack is withstood.
        tries: what it does, in a sentence or two.
        outcome: Inconclusive: what came back says neither; Skipped: it was not tried, and `evidence` says why.
        severity: how bad it is where it succeeds.
        measure: the figure that decided, in the unit that `evidence` names; None where there is none to measure.
        threshold: the attack succeeds where the measure is beyond it.
        requests: how many it has sent.
        evidence: what was seen: statuses, counts and shares, never a value of the data.
        fix: what in the model's manifest or its policies would withstand it; empty where nothing is to be mended.
        frameworks: what it is called elsewhere: `ATLAS-T0024.002` (MITRE ATLAS, AML.T0024.002), `OWASP-ML05` (OWASP
            Machine Learning Security Top Ten, 2023), `CWE-444`.
    """

    id: _Id
    title: _Text
    tries: _Text = ""
    outcome: Outcome
    severity: Severity
    measure: float | None = None
    threshold: float | None = None
    requests: _Count = 0
    evidence: _Text = ""
    fix: _Text = ""
    frameworks: Annotated[tuple[Annotated[str, Meta(max_length=63)], ...], Meta(max_length=16)] = ()

    @property
    def family(self) -> str:
        """What is tried in it: `bypass` of `bypass.no-token`."""
        return self.id.partition(".")[0]

    @property
    def decided(self) -> bool:
        """Whether something is known by it."""
        return self.outcome in ("Withstood", "Succeeded")

    @property
    def grave(self) -> bool:
        """Whether it has succeeded, and the model fails its test for it."""
        return self.outcome == "Succeeded" and self.severity != "low"


class SecurityTestReport(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A suite of attacks on one model, and how it ended.

    Attributes:
        target: the URL that was attacked, without whatever names or authorises a person in it.
        requests: all that were sent.
        outcome: see `verdict`.
        seed: what the attacks drew by: the same seed, data and model give the same requests.
        note: why it is Errored, or what else to know of the whole; empty where there is nothing.
    """

    api_version: Literal["modelward.io/v1alpha1"] = "modelward.io/v1alpha1"
    kind: Literal["SecurityTestReport"] = "SecurityTestReport"
    suite: Annotated[str, Meta(min_length=1, max_length=63)]
    target: Annotated[str, Meta(max_length=2048)]
    model: _Name
    started_at: _Time
    finished_at: _Time
    requests: _Count
    outcome: Verdict
    seed: _Count = 0
    note: _Text = ""
    attacks: Annotated[tuple[AttackReport, ...], Meta(max_length=128)]

    def counted(self, outcome: Outcome) -> int:
        """How many attacks ended so."""
        return sum(attack.outcome == outcome for attack in self.attacks)


def verdict(attacks: Sequence[AttackReport], *, whole: bool) -> Verdict:
    """How a suite ended.

    Failed when an attack of medium severity or worse succeeded, however little else was tried; Errored when the suite
    did not come to its end (`whole` is false) or too little was decided (`undecided`); else Passed.
    """
    if any(attack.grave for attack in attacks):
        return "Failed"
    return "Passed" if whole and not undecided(attacks) else "Errored"


def undecided(attacks: Sequence[AttackReport]) -> str:
    """What keeps a suite from having passed, for people: what was tried and not decided; empty: enough was.

    Of each family that was tried, at least half was withstood or has succeeded, and so of the whole. Else a model would
    pass whose answers nobody can compare, or that lets nobody ask often enough to attack it: refusals to nobody in
    particular, of which any sidecar has many, would make up for all that was never seen.
    """
    tried: dict[str, list[AttackReport]] = {}
    for attack in attacks:
        if attack.outcome != "Skipped":
            tried.setdefault(attack.family, []).append(attack)
    if not tried:
        return "no attack was tried"
    told = []
    for family, each in tried.items():
        open_ = [attack for attack in each if not attack.decided]
        if 2 * len(open_) > len(each):
            first = f"{open_[0].id}: {open_[0].evidence}" if open_[0].evidence else open_[0].id
            told.append(f"{len(open_)} of {len(each)} attacks of the family {family} came to no conclusion ({first})")
    return "; ".join(told)


def write(report: SecurityTestReport) -> bytes:
    """The report as JSON."""
    return msgspec.json.encode(report)


def read(raw: bytes) -> SecurityTestReport:
    """The report in `raw`, of which nothing is believed that its own attacks contradict.

    Raises:
        ReportError: it is too large, of another form, or calls Passed what is not.
    """
    if len(raw) > MAX_BYTES:
        raise ReportError(f"it has {len(raw):,} bytes, and a report has at most {MAX_BYTES:,}")
    try:
        report = msgspec.json.decode(raw, type=SecurityTestReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # ValidationError is a DecodeError
        raise ReportError(f"it is no SecurityTestReport: {error}") from None
    if report.outcome == "Passed" and verdict(report.attacks, whole=True) != "Passed":
        raise ReportError("it is called Passed, and its attacks say otherwise")
    return report


def plain(report: SecurityTestReport) -> dict[str, Any]:
    """The report as dictionaries and lists, with the names that it has in JSON."""
    document: dict[str, Any] = msgspec.to_builtins(report)
    return document
