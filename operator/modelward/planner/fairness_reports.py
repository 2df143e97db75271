"""What sidecars tell of groups, added up over all replicas; and labels that reached another replica than they are for.

What a process counted that is no more, or is silent for a moment, is kept as it told it last, for as long as the
manifest stays as it is: a restart takes nothing away. The memory is the controller's, and begins anew with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from pydantic import ValidationError

from modelward.api.decisions import Fairness
from modelward.fairness.counts import GroupCounts, added
from modelward.fairness.groups import group_names
from modelward.fairness.labels import MAX_KEPT, Labels, Told, run_of
from modelward.fairness.rates import Share
from modelward.incidents import Report
from modelward.planner.fairness import fair
from modelward.planner.group_counts import Counted, Part, held

_VISIBLE = 0.005  # of a rate; smaller changes alone are not written
_GROWTH = 1.1
_MAX_BYTES = 512 << 10  # of labels in one request
_AROUND = 80  # bytes around the truths of one
_FIRST = "1970-01-01T00:00:00Z"
_KEPT_SECONDS = 30 * 86_400.0
_MAX_KEPT = 64  # processes that are no more


def counted(
    raw: Mapping[str, Any], told: Mapping[str, Report | str], before: Counted | None, now: float
) -> Counted | None:
    """Add up what the pods of a model tell of the groups that its manifest declares.

    Args:
        raw: the ModelDeployment as the API server has it.
        told: what each pod told, or why it did not.
        before: what was counted at the last look.
        now: seconds since the epoch.

    Returns:
        The figures of `before` where nobody would see the change: so that a status is not written with every row.
        None: nothing is declared, or nothing was told yet.
    """
    declared = declared_by(raw)
    if declared is None:
        return None
    generation = (raw.get("metadata") or {}).get("generation", 0)
    parts = _parts(told, before.parts if before is not None and before.generation == generation else (), now)
    if not parts:
        return before
    reports = [part.report for part in parts]
    attributes = tuple(
        added((each for report in reports for each in report.attributes), one.field, group_names(one.groups, one.edges))
        for one in declared.protected
    )
    since = min((report.since for report in reports if _is_time(report.since)), default=_FIRST)
    uncounted = sum(report.uncounted for report in reports)
    new = held(before, Counted(since, attributes, declared.minimum_group_size, uncounted, parts, generation))
    if before is None or not _same_to_see(before, new, declared):
        return new
    return replace(before, parts=parts, generation=generation)


def _parts(told: Mapping[str, Report | str], before: Sequence[Part], now: float) -> tuple[Part, ...]:
    """What is told now, and what was told last by processes that tell nothing now."""
    here = [Part(pod, now, one.fairness) for pod, one in told.items() if isinstance(one, Report) and one.fairness]
    telling = {(one.pod, one.report.run) for one in here}
    kept = [one for one in before if (one.pod, one.report.run) not in telling and now - one.last < _KEPT_SECONDS]
    kept.sort(key=lambda one: one.last)
    # Of those the counts alone are kept: labels that they had for others are somebody's to tell again.
    bare = (one._replace(report=msgspec.structs.replace(one.report, elsewhere=())) for one in kept[-_MAX_KEPT:])
    return (*here, *bare)


def to_pass_on(told: Mapping[str, Report | str]) -> dict[str, Labels]:
    """Return what each pod is to be brought of the labels that others keep for it, as much as goes into one request.

    Of a pod that tells nothing just now the labels wait, with whoever keeps them.
    """
    reports = {pod: one.fairness for pod, one in told.items() if isinstance(one, Report) and one.fairness is not None}
    pod_of = {report.run: pod for pod, report in reports.items() if report.run}
    brought: dict[str, list[Told]] = {}
    for report in reports.values():
        for each in report.elsewhere:
            pod = pod_of.get(run_of(each.request))
            if pod is not None:
                brought.setdefault(pod, []).append(each)
    return {pod: Labels(told=_fitting(labels)) for pod, labels in brought.items()}


def to_let_go(told: Mapping[str, Report | str], brought: Iterable[Labels]) -> dict[str, Labels]:
    """Return what each pod need not keep any more, once `brought` has reached whom it was for."""
    reports = {pod: one.fairness for pod, one in told.items() if isinstance(one, Report) and one.fairness is not None}
    runs = {report.run for report in reports.values()}
    reached = {each.request for labels in brought for each in labels.told}
    gone: dict[str, Labels] = {}
    for pod, report in reports.items():
        kept = [each.request for each in report.elsewhere]
        delivered = tuple(request for request in kept if request in reached)
        # While some pod is silent, nobody knows whose they are.
        lost = tuple(request for request in kept if run_of(request) not in runs) if len(reports) == len(told) else ()
        if delivered or lost:
            gone[pod] = Labels(delivered=delivered, lost=lost)
    return gone


def _fitting(labels: Sequence[Told]) -> tuple[Told, ...]:
    chosen, size = [], 0
    for each in labels[:MAX_KEPT]:
        size += len(each.truths) + _AROUND
        if size > _MAX_BYTES:
            break
        chosen.append(each)
    return tuple(chosen)


def declared_by(raw: Mapping[str, Any]) -> Fairness | None:
    """Return what a manifest declares; None: no attribute is protected."""
    try:
        declared = Fairness.model_validate((raw.get("spec") or {}).get("fairness") or {})
    except ValidationError:
        return None
    return declared if declared.protected else None


def _same_to_see(before: Counted, now: Counted, declared: Fairness) -> bool:
    names = [(one.field, group.name) for one in before.attributes for group in one.groups]
    if before.minimum != now.minimum or names != [
        (one.field, group.name) for one in now.attributes for group in one.groups
    ]:
        return False
    old, new = fair(declared, before), fair(declared, now)
    if old[:2] != new[:2] or before.since != now.since or now.uncounted > before.uncounted * _GROWTH:
        return False
    was = [figure for one in before.attributes for group in one.groups for figure in _figures(group)]
    is_ = [figure for one in now.attributes for group in one.groups for figure in _figures(group)]
    return all(map(_alike, was, is_))


def _is_time(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").year >= 1970 and len(text) == len(_FIRST)  # noqa: DTZ007
    except ValueError:
        return False


def _figures(group: GroupCounts) -> list[Share]:
    return [group.selection, group.true_positive, group.false_positive]


def _alike(was: Share, is_: Share) -> bool:
    if not was.rows or not is_.rows:
        return was == is_
    return was.rows <= is_.rows <= was.rows * _GROWTH and abs(was.rate - is_.rate) < _VISIBLE
