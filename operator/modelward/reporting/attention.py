"""What of a report a person has to look at, the gravest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from modelward.lineage.graph import Graph
from modelward.reporting.document import Attention, Certificate, Excusal, Grade, Model
from modelward.wording import names

MAX_TOLD = 200
MAX_MODELS = 64
_SOON_DAYS = 30.0
_OWN_SOON_DAYS = 1.0  # modelward renews its own at a third of a week: with a day left, that has failed
OWN_AUTHORITY = "issued by modelward"
_GRADES: tuple[Grade, ...] = ("high", "medium", "low")
_BAD: dict[str, tuple[str, Grade, str]] = {
    "Ready": ("False", "medium", "not ready"),
    "Bypassable": ("True", "high", "can be reached past its sidecar"),
    "Encrypted": ("False", "high", "not encrypted"),
    "AccessControlled": ("False", "high", "open to anyone"),
    "LineageVerified": ("False", "high", "lineage not verified"),
    "Monitored": ("False", "medium", "not monitored as asked"),
    "Fair": ("False", "high", "groups are treated unequally"),
    "KAnonymous": ("False", "high", "requests single people out"),
    "SecurityTested": ("False", "high", "security test not passed"),
}


class _Told(NamedTuple):
    grade: Grade
    model: str
    what: str


def attention(
    models: Sequence[Model], exceptions: Sequence[Excusal], certificates: Sequence[Certificate], graph: Graph
) -> tuple[Attention, ...]:
    """Return what needs attention, the same of several models once; at most MAX_TOLD, the gravest first."""
    grouped: dict[tuple[Grade, str], list[str]] = {}
    for one in (
        *(told for model in models for told in _of_model(model)),
        *_of_exceptions(exceptions),
        *_of_certificates(certificates),
        *_of_cycles(graph),
    ):
        grouped.setdefault((one.grade, one.what), []).append(one.model)
    found = [
        Attention(grade=grade, what=what, models=tuple(name for name in names[:MAX_MODELS] if name), count=len(names))
        for (grade, what), names in grouped.items()
    ]
    found.sort(key=lambda one: (_GRADES.index(one.grade), -one.count))
    return tuple(found[:MAX_TOLD])


def ends_soon(certificate: Certificate) -> bool:
    """Tell whether somebody has to see to a certificate."""
    soon = _OWN_SOON_DAYS if certificate.source.startswith(OWN_AUTHORITY) else _SOON_DAYS
    return certificate.days is None or certificate.days < soon


def _of_model(model: Model) -> Iterator[_Told]:
    name = model.full_name
    broken = [one.rule for one in model.verdicts.findings if one.level == "violation"]
    if broken:
        yield _Told(grade="high", model=name, what=f"breaks {_listed(broken)}")
    doubtful = [one.rule for one in model.verdicts.findings if one.level in ("warning", "audit")]
    if doubtful:
        yield _Told(grade="low", model=name, what=f"breaks {_listed(doubtful)}, which is not enforced")
    for kind, (bad, grade, what) in _BAD.items():
        condition = model.condition(kind)
        if condition.get("status") == bad:
            yield _Told(grade=grade, model=name, what=f"{what}: {condition.get('reason', '')}")
    drift = (model.monitoring or {}).get("drift") or ()
    if drift:
        worst = drift[0]
        named = worst.get("feature") or "all features together"
        yield _Told(
            grade="medium",
            model=name,
            what=f"{len(drift)} feature{'s' if len(drift) > 1 else ''} drifted, most {named} ({worst.get('score')})",
        )
    held = (model.monitoring or {}).get("quarantined") or ()
    if held:
        yield _Told(grade="medium", model=name, what=f"{len(held)} client(s) in quarantine")


def _of_exceptions(exceptions: Iterable[Excusal]) -> Iterator[_Told]:
    for one in exceptions:
        if one.days is not None and 0 <= one.days <= _SOON_DAYS:
            what = f"the exception from {_listed(one.rules)} in {one.policy} ends in {one.days:g} days"
            yield _Told(grade="medium" if one.days <= 7 else "low", model=", ".join(one.models[:3]), what=what)


def _of_cycles(graph: Graph) -> Iterator[_Told]:
    for way in graph.cycles:
        names = " -> ".join(node.name[:80] for node in way[:12])
        yield _Told(grade="high", model="", what=f"lineage goes in a circle: {names}")


def _of_certificates(certificates: Iterable[Certificate]) -> Iterator[_Told]:
    for one in certificates:
        if ends_soon(one):
            ended = one.days is not None and one.days < 0
            when = "has ended" if ended else f"ends in {one.days:g} days" if one.days is not None else "has no end"
            yield _Told(grade="high" if ended else "medium", model=one.model, what=f"its certificate {when}")


def _listed(items: Sequence[str]) -> str:
    return names(items) or "nothing"
