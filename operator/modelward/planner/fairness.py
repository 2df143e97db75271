"""Fairness over all replicas of a model: what its sidecars counted, added up, and the condition Fair.

False: two groups' rates are farther apart than the manifest accepts, and chance alone does not explain a difference
(the interval of 95 %, for all pairs of groups at once, does not hold zero). True: no rates are farther apart. Unknown:
too few rows to tell. A group's rate counts from `minimumGroupSize` rows on, and is not told before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from modelward.api.decisions import Fairness
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.printable import printable
from modelward.fairness.counts import AttributeCounts, GroupCounts, added
from modelward.fairness.groups import group_names
from modelward.fairness.labels import MAX_KEPT, Labels, Told, run_of
from modelward.fairness.rates import Share, Spread, ratio, spread, wilson
from modelward.incidents import Report

Condition = tuple[Any, str, str]
"""Status, reason and message of a condition."""

_VISIBLE = 0.005  # of a rate; smaller changes alone are not written
_GROWTH = 1.1
_NAMED = 3
_OURS = ("TooFewRows", "WithinLimit", "DifferenceTooLarge")
_MAX_BYTES = 512 << 10  # of labels in one request
_AROUND = 80  # bytes around the truths of one
_MOST_ROWS = 1 << 53
_FIRST = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Counted:
    """What the sidecars of a model have counted together, since `since` (RFC 3339).

    `minimum` is the group size from which on rates count. `uncounted`: rows whose group or outcome could not be told.
    """

    since: str
    attributes: tuple[AttributeCounts, ...]
    minimum: int
    uncounted: int = 0

    @property
    def differences(self) -> Iterator[tuple[str, str, float]]:
        """Each difference that can be told: its field, what the rates are of, and how large it is."""
        for one in apart(self):
            for name, found in one.each:
                yield one.field, name, found.difference


class Apart(NamedTuple):
    """How far apart the groups by one field are: in selection, true and false positives; None: it cannot be told."""

    field: str
    selection: Spread | None
    true_positive: Spread | None
    false_positive: Spread | None

    @property
    def each(self) -> Iterator[tuple[str, Spread]]:
        """Those that can be told, in words."""
        names = ("favourable answers", "true positives", "false positives")
        for name, found in zip(names, (self.selection, self.true_positive, self.false_positive), strict=True):
            if found is not None:
                yield name, found

    @property
    def equalized_odds(self) -> float | None:
        """The larger difference of true and of false positive rates; None where one of them cannot be told."""
        if self.true_positive is None or self.false_positive is None:
            return None
        return max(self.true_positive.difference, self.false_positive.difference)


# --- what the sidecar is to count


def fairness_config(md: ModelDeployment) -> dict[str, Any] | None:
    """Return the part `fairness` of the sidecar's configuration; None: no attribute is protected."""
    fairness = md.spec.fairness
    if fairness is None or not fairness.protected:
        return None
    document: dict[str, Any] = fairness.model_dump(
        mode="json", by_alias=True, exclude_none=True, include={"protected", "favourable"}
    )
    return document


def fairness_unsupported(md: ModelDeployment) -> Iterator[str]:
    """Yield what of spec.fairness cannot be counted, with the reason and the fix."""
    fairness = md.spec.fairness
    if fairness is None or not fairness.protected:
        return
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    if in_use is not None and in_use.only:
        yield "spec.fairness with spec.encryption.inUse.only (no group can be read of what nobody can read)"
    inputs = md.spec.schema_.inputs if md.spec.schema_ else []
    numbers = {
        name: tensor.datatype not in ("BOOL", "BYTES")
        for tensor in inputs
        for name in (tensor.columns or ([tensor.name] if set(tensor.shape[1:]) <= {1} else []))
    }
    for index, one in enumerate(fairness.protected):
        path = f"spec.fairness.protected[{index}]"
        if one.field not in numbers:
            yield f"{path}.field ({one.field} is no column of spec.schema.inputs, no input of one element: declare it)"
        elif one.edges and not numbers[one.field]:
            yield f"{path}.edges ({one.field} holds no numbers)"
        if list(one.edges) != sorted(set(one.edges)):
            yield f"{path}.edges (they must ascend)"
        if len(group_names(one.groups, one.edges)) < 2:
            yield f"{path}.groups (there is one group, and nothing to compare it with: name its values, or edges)"
    outputs = md.spec.schema_.outputs if md.spec.schema_ else []
    wanted = fairness.favourable.output
    if wanted and outputs and wanted not in {tensor.name for tensor in outputs}:
        yield f"spec.fairness.favourable.output ({wanted} is not among spec.schema.outputs)"


# --- what the sidecars have counted


def counted(raw: Mapping[str, Any], told: Mapping[str, Report | str], before: Counted | None) -> Counted | None:
    """Add up what the pods of a model tell of the groups that its manifest declares.

    Returns:
        `before` where nobody tells anything, where some are silent and the others know less than was known, and where
        nobody would see the change: so that a status is not written with every row. None: nothing is declared, or
        nothing was told yet.
    """
    declared = declared_by(raw)
    if declared is None:
        return None
    reports = [one.fairness for one in told.values() if isinstance(one, Report) and one.fairness is not None]
    if not reports:
        return before
    attributes = tuple(
        added(
            (each for report in reports for each in report.attributes),
            one.field,
            group_names(one.groups, one.edges),
        )
        for one in declared.protected
    )
    times = [report.since for report in reports if _is_time(report.since)]
    uncounted = sum(report.uncounted for report in reports)
    new = Counted(min(times, default=_FIRST), attributes, declared.minimum_group_size, uncounted)
    if before is None:
        return new
    silent = any(isinstance(one, str) for one in told.values())
    return before if (silent and _rows(new) < _rows(before)) or _same_to_see(before, new, declared) else new


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


def apart(seen: Counted) -> list[Apart]:
    """Return how far apart the groups by each field are."""
    return [
        Apart(
            one.field,
            spread({group.name: group.selection for group in one.groups}, seen.minimum),
            spread({group.name: group.true_positive for group in one.groups}, seen.minimum),
            spread({group.name: group.false_positive for group in one.groups}, seen.minimum),
        )
        for one in seen.attributes
    ]


def _rows(seen: Counted) -> int:
    return sum(group.rows for one in seen.attributes for group in one.groups)


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


# --- what is told


def fair(declared: Fairness | None, seen: Counted | None, before: Mapping[str, Any] | None = None) -> Condition:
    """Return the condition Fair.

    Args:
        declared: the manifest's.
        seen: what was counted; None: nothing was told since the controller began.
        before: the condition as it was told last, which then stands.
    """
    if declared is None or not declared.protected:
        return "Unknown", "NotDeclared", "no protected attribute is declared"
    if seen is None:
        if before and before.get("reason") in _OURS:
            return before["status"], before["reason"], before["message"]
        return "Unknown", "TooFewRows", "no sidecar has told of a row yet"
    found = apart(seen)
    most = declared.max_difference
    past = [(one.field, name, it) for one in found for name, it in one.each if it.difference > most]
    certain = [one for one in past if one[2].interval.low > 0]
    if certain:
        return "False", "DifferenceTooLarge", f"{_sentences(certain)}; accepted: {most:g}"
    if past:
        return "Unknown", "TooFewRows", f"{_sentences(past)}; accepted: {most:g}. It may be chance: more rows will tell"
    lacking = [one.field for one in found if one.selection is None]
    if lacking:
        few = f"fewer than two groups by {_some([shown(field) for field in lacking])} have {seen.minimum} rows"
        return "Unknown", "TooFewRows", few + _left_out(seen)
    field, name, largest = max(
        ((one.field, name, it) for one in found for name, it in one.each), key=lambda one: one[2].difference
    )
    without = "" if any(one.equalized_odds is not None for one in found) else "; true and false positives: no feedback"
    message = f"the largest difference is {largest.difference:.3f}, in {name} by {shown(field)}; accepted: {most:g}"
    return "True", "WithinLimit", message + without + _left_out(seen)


def fairness_status(seen: Counted) -> dict[str, Any]:
    """Return `status.fairness`."""
    attributes = []
    for counts, one in zip(seen.attributes, apart(seen), strict=True):
        attribute: dict[str, Any] = {
            "field": counts.field,
            "groups": [_group(group, seen.minimum) for group in counts.groups],
        }
        if one.selection is not None:
            attribute["demographicParityDifference"] = _rounded(one.selection.difference)
            smallest = ratio({group.name: group.selection for group in counts.groups}, seen.minimum)
            if smallest is not None:
                attribute["demographicParityRatio"] = _rounded(smallest)
        if one.equalized_odds is not None:
            attribute["equalizedOddsDifference"] = _rounded(one.equalized_odds)
        attributes.append(attribute)
    return {
        "since": seen.since,
        "rows": max((sum(group.rows for group in one.groups) for one in seen.attributes), default=0),
        "labelled": max((sum(group.labelled for group in one.groups) for one in seen.attributes), default=0),
        "uncounted": min(seen.uncounted, _MOST_ROWS),
        "attributes": attributes,
    }


def _group(group: GroupCounts, minimum: int) -> dict[str, Any]:
    told: dict[str, Any] = {"name": group.name, "rows": group.rows, "labelled": group.labelled}
    if group.rows >= minimum:
        low, high = wilson(group.selection)
        told |= {"selectionRate": _rounded(group.selection.rate), "low": _rounded(low), "high": _rounded(high)}
    if group.positives >= minimum:
        told["truePositiveRate"] = _rounded(group.true_positive.rate)
    if group.negatives >= minimum:
        told["falsePositiveRate"] = _rounded(group.false_positive.rate)
    return told


def _rounded(figure: float) -> float:
    return round(figure, 6)


def _sentences(found: Sequence[tuple[str, str, Spread]]) -> str:
    return _some(
        [
            f"{name} by {shown(field)}: {shown(it.highest)} {it.difference:.3f} above {shown(it.lowest)}"
            f" (95 %: {it.interval.low:.3f} to {it.interval.high:.3f})"
            for field, name, it in sorted(found, key=lambda one: -one[2].difference)
        ],
        "; ",
    )


def _left_out(seen: Counted) -> str:
    small = [
        f"{shown(one.field)}={shown(group.name)}"
        for one in seen.attributes
        for group in one.groups
        if 0 < group.rows < seen.minimum
    ]
    return f"; not compared, fewer than {seen.minimum} rows: {_some(small)}" if small else ""


def shown(text: str) -> str:
    """Return a name of the manifest's as it may be shown in a sentence."""
    return printable(" ".join(text.split()))[:64]


def _some(items: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return separator.join(items[:_NAMED]) + more
