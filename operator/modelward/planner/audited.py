"""What an auditor reads of fairness in an opened aggregate: rates with all doubt about them, and the verdict.

Everything follows from counts with noise, which are all that leaves the key's holder. Intervals hold for the counts as
they were before the noise: half of the doubt is for it, half for chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelward.audit.word import MAX_FIELDS, Word
from modelward.encrypted.parameters import EncryptedError
from modelward.fairness.counts import GroupCounts
from modelward.fairness.rates import CONFIDENCE, Share, Spread, wilson
from modelward.planner.fairness import judged, rounded, shown
from modelward.planner.group_counts import Counted, apart

if TYPE_CHECKING:
    from modelward.audit.auditor import Opened

_DOUBT = 1 - CONFIDENCE


def counted_in(opened: Opened) -> Counted | None:
    """Return the groups in an aggregate; None: it compares none."""
    header = opened.header
    if header.max_difference is None or not opened.attributes:
        return None
    minimum = max(header.minimum_group_size, header.minimum)
    return Counted("", opened.attributes, minimum, opened.unknown, off=opened.off)


def fairness_in(opened: Opened) -> dict[str, Any] | None:
    """Return the verdict and what it rests on, as `modelward audit open -o json` tells it; None: there is none."""
    seen, most = counted_in(opened), opened.header.max_difference
    if seen is None or most is None:
        return None
    status, reason, message = judged(most, seen)
    attributes = []
    for counts, one in zip(seen.attributes, apart(seen), strict=True):
        attribute: dict[str, Any] = {
            "field": counts.field,
            "groups": [_group(group, seen) for group in counts.groups],
        }
        for name, found in (
            ("demographicParity", one.selection),
            ("truePositives", one.true_positive),
            ("falsePositives", one.false_positive),
        ):
            if found is not None:
                attribute[name] = _difference(found)
        attributes.append(attribute)
    return {
        "status": status,
        "reason": reason,
        "message": message,
        "maxDifference": most,
        "minimumGroupSize": seen.minimum,
        "attributes": attributes,
    }


def word_of(opened: Opened, aggregate: str) -> Word:
    """Return the word of an aggregate (its digest): the verdict, and by which fields groups are too far apart.

    Raises:
        EncryptedError: it compares no groups.
    """
    seen, most, header = counted_in(opened), opened.header.max_difference, opened.header
    if seen is None or most is None:
        raise EncryptedError("it compares no groups: the model declared no spec.fairness.protected when it was made")
    status, reason, _ = judged(most, seen)
    past = (shown(one.field) for one in apart(seen) if any(it.difference > most and it.certain for _, it in one.each))
    return Word(
        header.keys,
        aggregate,
        header.model,
        opened.controller,
        header.begun,
        header.ended,
        status,
        reason,  # type: ignore[arg-type]
        most,
        opened.compared,
        tuple(filter(None, past))[:MAX_FIELDS],
    )


def _group(group: GroupCounts, seen: Counted) -> dict[str, Any]:
    """A group: of a small one no more than that it is small."""
    told: dict[str, Any] = {"name": group.name}
    for name, share in (
        ("selection", group.selection),
        ("truePositive", group.true_positive),
        ("falsePositive", group.false_positive),
    ):
        if share.rows >= seen.minimum:
            told[name] = _rate(share, seen)
    return told


def _rate(share: Share, seen: Counted) -> dict[str, Any]:
    low, high = wilson(share, 1 - _DOUBT / 2, seen.off(_DOUBT / 2))
    return {"rows": share.rows, "rate": rounded(share.rate), "low": rounded(low), "high": rounded(high)}


def _difference(found: Spread) -> dict[str, Any]:
    return {
        "highest": found.highest,
        "lowest": found.lowest,
        "difference": rounded(found.difference),
        "low": rounded(found.interval.low),
        "high": rounded(found.interval.high),
        "certain": found.certain,
    }
