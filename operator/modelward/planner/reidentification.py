"""How identifying a model's requests are, over all its replicas: what sidecars counted, added up, and the condition.

KAnonymous is False where more of the rows than the policy tolerates are in combinations of fewer than k, and not True
where more rows than tolerated were not counted. See `modelward.reidentification.verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from modelward.api.printable import printable
from modelward.planner.anonymity import Asked
from modelward.reidentification.figures import Figures, figures, share
from modelward.reidentification.sample import Sample
from modelward.reidentification.steps import FEWEST, held, in_steps, moved, share_in_steps
from modelward.reidentification.steps import shown as in_steps_of
from modelward.reidentification.told import Combinations, Judged
from modelward.reidentification.verdict import least_rows, verdict
from modelward.wording import names

Told = tuple[Any, str, str]
"""Status, reason and message of a condition."""

_OURS = ("TooFewRows", "WithinTolerance", "ReidentificationRisk")
_HELPS = 0.9  # of the share: a field without which more than that is left is not to blame
_NAMED = 5
_LISTED = 64
_MAX_COUNT = 1 << 53
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Combined:
    """What the replicas of a model have counted together.

    Attributes:
        since: when the first of them began, or 30 days ago.
        k: what is asked.
        fields: the quasi-identifiers; `people`: an identifier tells people apart.
        figures: what that gives.
        suppressed: fields with values that their hierarchy has no line for, and in how many rows.
        uncounted: rows of requests that were too large.
        without: for each field, the share that would be below k without it, as the replica with most rows sees it.
    """

    since: datetime
    k: int
    fields: tuple[str, ...]
    people: bool
    figures: Figures
    suppressed: tuple[tuple[str, int], ...] = ()
    uncounted: int = 0
    without: tuple[float, ...] = ()


def combined(told: Iterable[Combinations | None]) -> Combined | None:
    """Add up what sidecars tell; of those that count different things, as while a policy changes, those with most rows.

    None: nobody tells anything.
    """
    alike: dict[tuple[str, int, tuple[str, ...], bool], tuple[Sample, list[Combinations]]] = {}
    for one in told:
        if one is None:
            continue
        try:
            sample = Sample.unpack(one.sample)
        except ValueError:
            continue
        together, ones = alike.setdefault((one.key, one.k, one.fields, one.people), (Sample(), []))
        together.merge(sample)
        ones.append(one)
    if not alike:
        return None
    (_, k, fields, people), (sample, ones) = max(alike.items(), key=lambda item: (item[1][0].rows, item[0]))
    lacking: dict[str, int] = {}
    for one in ones:
        for each in one.suppressed:
            if each.field in fields:
                lacking[each.field] = lacking.get(each.field, 0) + each.rows
    return Combined(
        min((_moment(one.since) for one in ones), default=_FIRST),
        k,
        fields,
        people,
        figures(sample, k, people=people),
        tuple(sorted(lacking.items())),
        sum(one.uncounted for one in ones),
        max(ones, key=lambda one: one.sample.rows).without,
    )


def steady(before: Combined | None, now: Combined | None) -> Combined | None:
    """Return `now` with each figure as it was `before` where nobody would see the difference.

    So a status is not written with every row; and who makes one figure move sees none of the others anew.
    """
    if before is None or now is None:
        return now or before
    if (before.since, before.k, before.fields, before.people) != (now.since, now.k, now.fields, now.people):
        return now
    if not before.figures.rows:  # nothing was told of anybody
        return before if before == now else now
    lacked = dict(before.suppressed)
    found = replace(
        now,
        figures=_steady(before.figures, now.figures),
        suppressed=tuple((name, held(lacked.get(name, 0), rows)) for name, rows in now.suppressed),
        uncounted=held(before.uncounted, now.uncounted),
        without=now.without if _few_moved(before.figures, now.figures) else before.without,
    )
    return before if found == before else found


def _steady(was: Figures, now: Figures) -> Figures:
    rows = held(was.rows, now.rows)
    few = now if _few_moved(was, now) else was
    return replace(
        now,
        rows=rows,
        combinations=held(was.combinations, now.combinations),
        smallest=held(was.smallest, now.smallest),
        below=share(few.below * few.rows, rows),
        low=share(few.low * few.rows, rows),
        high=share(few.high * few.rows, rows),
        sizes=few.sizes,
    )


def _few_moved(was: Figures, now: Figures) -> bool:
    """Whether the rows in small combinations are so many more, or fewer, that it is told."""
    return moved(round(was.below * was.rows), round(now.below * now.rows))


def k_anonymous(
    asked: Asked | None, seen: Combined | None, now: datetime, before: Mapping[str, Any] | None = None
) -> Told:
    """Return the condition KAnonymous.

    Args:
        asked: by the policies; None: nothing.
        seen: what was counted; None: nothing was told since the controller began.
        now: the time.
        before: the condition as it was told last, which stands until there is something to tell.
    """
    if asked is None:
        return "Unknown", "NotAsked", "no policy asks for a k (`kAnonymity`)"
    if asked.unread:
        return "Unknown", "NotReadable", "requests are encrypted: nobody here can read a combination"
    if not asked.fields:
        return (
            "Unknown",
            "NoQuasiIdentifier",
            f"a policy asks for a k of {asked.k}, and the model gets no quasi-identifier: where it does, declare"
            " `role: QuasiIdentifier` in spec.schema.inputs or in the policy's fields",
        )
    least = least_rows(asked.k)
    if seen is None or (seen.k, seen.fields) != (asked.k, asked.fields) or seen.figures.rows < least:
        if before and before.get("reason") in _OURS and before.get("status") != "Unknown":
            return before["status"], before["reason"], before["message"]
        rows = in_steps(seen.figures.rows) if seen else 0
        lacking = _lacking(seen) if seen else ""
        return "Unknown", "TooFewRows", f"{rows:,} of at least {least:,} rows that are needed to tell{lacking}"
    return _judged(asked, seen, now, before or {})


def _judged(asked: Asked, seen: Combined, now: datetime, before: Mapping[str, Any]) -> Told:
    found, was_broken = seen.figures, before.get("reason") == "ReidentificationRisk"
    told = f"{_sentence(seen)}; tolerated: {_percent(asked.tolerance)}{_lacking(seen)}"
    seconds = (now - seen.since).total_seconds()
    match verdict(found, seen.k, asked.tolerance, seconds, seen.uncounted, was_broken=was_broken):
        case "Within":
            return "True", "WithinTolerance", told
        case "Uncounted":
            why = "Fix: send at most 4,096 rows in a request, so that all are counted"
        case "Risk":
            fix = "`modelward scan-data DATA --policy FILE` names the cheapest way on data like these"
            return "False", "ReidentificationRisk", f"{told}. Fix: generalise {_first(seen)} in the policy; {fix}"
        case "Young":
            why = "The counts are young: more rows, or a day, will tell"
        case _:
            why = "It is too near to tell"
    return "Unknown", "TooFewRows", f"{told}. {why}"


def k_anonymous_by_pod(
    asked: Asked | None,
    judged: Sequence[Judged],
    policies: Sequence[str],
    before: Mapping[str, Any] | None = None,
    pods: int = 0,
    unasked: int = 0,
) -> Told:
    """Return the condition KAnonymous where figures are for auditors alone, and each sidecar judges its own rows.

    Rows that keep to k by themselves keep to it together. Those that do not may do so together: nobody here adds them.

    Args:
        asked: by the policies; None: nothing.
        judged: what each sidecar said last.
        policies: whose auditors the figures are for.
        before: the condition as it was told last.
        pods: how many sidecars were asked; of those that said nothing nobody knows whether their rows keep to it.
        unasked: how many more there are.
    """
    if asked is None or asked.unread or not asked.fields:
        return k_anonymous(asked, None, _FIRST)
    alike = [one.verdict for one in judged if (one.k, one.fields) == (asked.k, asked.fields)]
    kept = f"; figures are kept for the auditor of {names(policies, _NAMED)} (spec.audit.only)"
    within = f"each sidecar says of its own rows that they keep to a k of {asked.k}{kept}"
    risk = (
        f"its sidecar says that more rows than tolerated share their combination with fewer than {asked.k - 1} others"
        f"{kept}. Fix: generalise a quasi-identifier in the policy: `modelward scan-data DATA --policy FILE` names the"
        " cheapest way"
    )
    if not alike and before and before.get("message") in (within, risk):
        return before["status"], before["reason"], before["message"]
    lacking = unasked > 0 or pods > len(alike)
    if alike and not lacking and all(one == "Within" for one in alike):
        return "True", "WithinTolerance", within
    if alike == ["Risk"] and not lacking:
        return "False", "ReidentificationRisk", risk
    if alike and lacking:
        why = f"{len(alike)} of {pods + unasked} sidecars have said whether their own rows keep to it"
        why += f" (more than {pods} of a model are not asked)" if unasked else ""
    elif "Risk" in alike:
        why = "a sidecar's own rows do not keep to it, and whether those of all do nobody here adds up"
    else:
        why = "no sidecar has counted enough yet: each tells once a period"
    return "Unknown", "KeptForAuditor", f"{why}{kept}"


def reidentification_status(seen: Combined) -> dict[str, Any]:
    """Return `status.reidentification`."""
    found = in_steps_of(seen.figures)
    return {
        "since": seen.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "rows": min(found.rows, _MAX_COUNT),
        "k": seen.k,
        "fields": [printable(name)[:128] for name in seen.fields[:_LISTED]],
        "people": seen.people,
        "combinations": min(found.combinations, _MAX_COUNT),
        "rowsBelowK": round(found.below, 6),
        "smallest": min(found.smallest, _MAX_COUNT),
        "uncounted": min(in_steps(seen.uncounted), _MAX_COUNT),
    }


def _sentence(seen: Combined) -> str:
    found, unit = in_steps_of(seen.figures), "people" if seen.people else "rows"
    together = names((printable(name)[:64] for name in seen.fields), _NAMED)
    about = "" if found.exact else f" (95 %: {_percent(found.low)} to {_percent(found.high)})"
    sizes = ", ".join(f"{_number(count)} of {_size(size)}" for size, count in found.sizes[:_NAMED])
    more = ", …" if len(found.sizes) > _NAMED else ""
    small = f"; small combinations, of {unit}: {sizes}{more}" if sizes else ""
    many = f"{'' if found.exact else 'about '}{_number(found.combinations)}"
    return (
        f"{_percent(found.below)}{about} of {found.rows:,} rows share {together} with fewer than {seen.k - 1} others,"
        f" as the model gets them; {many} combinations{small}"
    )


def _first(seen: Combined) -> str:
    """The field that makes most rows rare, where one does."""
    least = min(zip(seen.without, seen.fields, strict=False), default=None)
    if least is None or least[0] > _HELPS * seen.figures.below:
        return "the fields further"
    left = _percent(share_in_steps(least[0], seen.figures.rows))
    return f"{printable(least[1])[:64]} first (without it {left} would be left)"


def _lacking(seen: Combined) -> str:
    fields = [f"{printable(name)[:64]} in {_number(in_steps(rows))} rows" for name, rows in seen.suppressed[:_NAMED]]
    values = f"; values that the field's hierarchy has no line for: {', '.join(fields)}" if fields else ""
    more = _number(in_steps(seen.uncounted))
    return values + (f"; {more} more rows were not counted" if seen.uncounted else "")


def _number(count: int) -> str:
    """A count in steps, in words where it is too few to be told."""
    return f"{count:,}" if count != 1 else "a few"


def _size(size: int) -> str:
    """The size of a combination in steps."""
    return f"fewer than {FEWEST}" if size < FEWEST else f"{size} or more"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else _FIRST
    except (ValueError, OverflowError):
        return _FIRST
