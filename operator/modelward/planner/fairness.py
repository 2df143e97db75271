"""Fairness over all replicas of a model: what its sidecars counted, added up, and the condition Fair.

False: two groups' rates are farther apart than the manifest accepts, and chance alone does not explain a difference,
however often it was looked for. True: no rates are farther apart. Unknown: too few rows to tell, or too few of which
group and outcome are known. A group's rate counts from `minimumGroupSize` rows on, and is not told before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelward.api.decisions import Fairness, Favourable
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.printable import printable
from modelward.api.schema import Tensor
from modelward.fairness.counts import GroupCounts
from modelward.fairness.groups import OTHER, can_be, group_names
from modelward.fairness.rates import CONFIDENCE, Spread, ratio, wilson
from modelward.planner.group_counts import Counted, apart
from modelward.wording import names, sentences

Condition = tuple[Any, str, str]
"""Status, reason and message of a condition."""

_NAMED = 3
_OURS = ("TooFewRows", "NothingToCompare", "WithinLimit", "DifferenceTooLarge")
_MOST_ROWS = 1 << 53


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
    if fairness is None:
        return
    if not fairness.protected:
        yield "spec.fairness without protected (the attribute whose groups are compared: name one)"
        return
    in_use = md.spec.encryption.in_use if md.spec.encryption else None
    if in_use is not None and in_use.only:
        yield "spec.fairness with spec.encryption.inUse.only (no group can be read of what nobody can read)"
    inputs = md.spec.schema_.inputs if md.spec.schema_ else []
    datatypes = {
        name: tensor.datatype
        for tensor in inputs
        for name in (tensor.columns or ([tensor.name] if set(tensor.shape[1:]) <= {1} else []))
    }
    for index, one in enumerate(fairness.protected):
        path = f"spec.fairness.protected[{index}]"
        if one.field not in datatypes:
            yield f"{path}.field ({one.field} is no column of spec.schema.inputs, no input of one element: declare it)"
        elif one.edges and datatypes[one.field] in ("BOOL", "BYTES"):
            yield f"{path}.edges ({one.field} holds no numbers)"
        elif not one.edges:
            never = [name for name in one.groups if name != OTHER and not can_be(name, datatypes[one.field])]
            if never:
                yield f"{path}.groups ({one.field} holds {datatypes[one.field]}, which is never {never[0]!r})"
        if len(set(one.groups)) < len(one.groups):
            yield f"{path}.groups (one comes twice)"
        if list(one.edges) != sorted(set(one.edges)):
            yield f"{path}.edges (they must ascend)"
        if len(group_names(one.groups, one.edges)) < 2:
            yield f"{path}.groups (there is one group, and nothing to compare it with: name its values, or edges)"
    outputs = md.spec.schema_.outputs if md.spec.schema_ else []
    if outputs:
        yield from _of_favourable(fairness.favourable, outputs)


def _of_favourable(favourable: Favourable, outputs: Sequence[Tensor]) -> Iterator[str]:
    path, wanted = "spec.fairness.favourable", favourable.output
    output = next((tensor for tensor in outputs if wanted in (None, tensor.name)), None)
    if output is None:
        yield f"{path}.output ({wanted} is not among spec.schema.outputs)"
        return
    if len(outputs) > 1 and not wanted:  # a model may answer with any of them first
        return
    width = math.prod(output.shape[1:])
    if 0 < width <= favourable.element:
        yield f"{path}.element ({output.name} has {width} for a row, counted from 0)"
    if favourable.at_least is not None and output.datatype == "BYTES":
        yield f"{path}.atLeast ({output.name} holds texts: give equals)"
    if favourable.at_least is None and not can_be(favourable.equals or "1", output.datatype):
        yield f"{path}.equals ({output.name} holds {output.datatype}, which is never {favourable.equals!r})"


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
    return judged(declared.max_difference, seen)


def judged(most: float, seen: Counted) -> Condition:
    """Return whether groups' rates differ by more than `most`, as the condition Fair tells it."""
    found = apart(seen)
    past = [(one.field, name, it) for one in found for name, it in one.each if it.difference > most]
    certain = [one for one in past if one[2].certain]
    if certain:
        return "False", "DifferenceTooLarge", f"{_sentences(certain)}; accepted: {most:g}"
    if past:
        return "Unknown", "TooFewRows", f"{_sentences(past)}; accepted: {most:g}. It may be chance: more rows will tell"
    lacking = [one.field for one in found if one.selection is None]
    if lacking:
        few = f"fewer than two groups by {names([shown(field) for field in lacking], _NAMED)} have {seen.minimum} rows"
        return "Unknown", "TooFewRows", few + _left_out(seen)
    if seen.uncounted > seen.rows:
        return "Unknown", "TooFewRows", f"{seen.rows:,} rows are the lesser part of all{_left_out(seen)}"
    which = _same_answer(seen)
    if which:
        why = (
            f"{which} answer to {seen.rows:,} rows is favourable: hold spec.fairness.favourable against what it answers"
        )
        return "Unknown", "NothingToCompare", why + _left_out(seen)
    field, name, largest = max(
        ((one.field, name, it) for one in found for name, it in one.each), key=lambda one: one[2].difference
    )
    without = "" if any(one.equalized_odds is not None for one in found) else "; true and false positives: no feedback"
    message = f"the largest difference is {largest.difference:.3f}, in {name} by {shown(field)}; accepted: {most:g}"
    return "True", "WithinLimit", message + without + _left_out(seen)


def _same_answer(seen: Counted) -> str:
    """`no` or `every`, where no answer or every one is favourable, or noise may be all that says otherwise."""
    shares = [group.selection for one in seen.attributes for group in one.groups if group.rows]
    off = seen.off((1 - CONFIDENCE) / max(len(shares), 1))
    if all(share.hits <= off for share in shares):
        return "no"
    return "every" if all(share.rows - share.hits <= off for share in shares) else ""


def kept_for_auditor(declared: Fairness | None, policies: Sequence[str]) -> Condition:
    """Return the condition Fair where counts by group are for the auditors of `policies` alone: nobody here knows."""
    if declared is None or not declared.protected:
        return fair(declared, None)
    return (
        "Unknown",
        "KeptForAuditor",
        f"how groups were answered is told to {_auditors_of(policies)} alone (spec.audit.only), by `modelward audit"
        " open`",
    )


def _auditors_of(policies: Sequence[str]) -> str:
    """For whom counts are kept, by the policies that name their keys."""
    return f"the auditor{'s' if len(policies) > 1 else ''} of {names(policies, _NAMED)}"


def fairness_status(seen: Counted) -> dict[str, Any]:
    """Return `status.fairness`."""
    attributes = []
    for counts, one in zip(seen.attributes, apart(seen), strict=True):
        attribute: dict[str, Any] = {
            "field": counts.field,
            "groups": [_group(group, seen.minimum) for group in counts.groups],
        }
        if one.selection is not None:
            attribute["demographicParityDifference"] = rounded(one.selection.difference)
            smallest = ratio({group.name: group.selection for group in counts.groups}, seen.minimum)
            if smallest is not None:
                attribute["demographicParityRatio"] = rounded(smallest)
        if one.equalized_odds is not None:
            attribute["equalizedOddsDifference"] = rounded(one.equalized_odds)
        attributes.append(attribute)
    return {
        "since": seen.since,
        "rows": seen.rows,
        "labelled": max((sum(group.labelled for group in one.groups) for one in seen.attributes), default=0),
        "uncounted": min(seen.uncounted, _MOST_ROWS),
        "attributes": attributes,
    }


def _group(group: GroupCounts, minimum: int) -> dict[str, Any]:
    told: dict[str, Any] = {"name": group.name, "rows": group.rows, "labelled": group.labelled}
    if group.rows >= minimum:
        low, high = wilson(group.selection)
        told |= {"selectionRate": rounded(group.selection.rate), "low": rounded(low), "high": rounded(high)}
    if group.positives >= minimum:
        told["truePositiveRate"] = rounded(group.true_positive.rate)
    if group.negatives >= minimum:
        told["falsePositiveRate"] = rounded(group.false_positive.rate)
    return told


def rounded(figure: float) -> float:
    """Return a rate as it is told."""
    return round(figure, 6)


def _sentences(found: Sequence[tuple[str, str, Spread]]) -> str:
    return sentences(
        [
            f"{name} by {shown(field)}: {shown(it.highest)} {it.difference:.3f} above {shown(it.lowest)}"
            f" (95 %: {it.interval.low:.3f} to {it.interval.high:.3f})"
            for field, name, it in sorted(found, key=lambda one: -one[2].difference)
        ],
        _NAMED,
    )


def _left_out(seen: Counted) -> str:
    small = [
        f"{shown(one.field)}={shown(group.name)}"
        for one in seen.attributes
        for group in one.groups
        if 0 < group.rows < seen.minimum
    ]
    left_out = f"; not compared, fewer than {seen.minimum} rows: {names(small, _NAMED)}" if small else ""
    return left_out + (f"; of {seen.uncounted:,} rows group or outcome is not known" if seen.uncounted else "")


def shown(text: str) -> str:
    """Return a name of the manifest's as it may be shown in a sentence."""
    return printable(" ".join(text.split()))[:64]
