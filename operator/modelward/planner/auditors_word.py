"""The condition Fair where counts are kept for an auditor: what the auditor said last, if it is not too old.

The word comes by an annotation, which whoever may edit the model can set, change and take off: so it is signed, the
status remembers it, and none that is older takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from modelward.audit.word import Word, heard
from modelward.encrypted.parameters import EncryptedError
from modelward.planner.audit import asks_of
from modelward.planner.fairness import Condition, shown
from modelward.planner.references import References

WORD_ANNOTATION = "modelward.io/auditors-word"
_PERIODS = 3  # that a word stands after the time that it is of: one to be given out, one to be opened, one to spare
_SKEW_SECONDS = 60


def word_of(
    raw: Mapping[str, Any], policies: Sequence[dict[str, Any]], references: References, now: datetime
) -> dict[str, Any] | None:
    """Return `status.auditorsWord`: the newest that was said under a key that policies name, and still stands.

    Of two auditors the one who says that groups are treated unequally is heard, until they say otherwise.

    Args:
        raw: the ModelDeployment as the API server has it, with the status that the controller wrote.
        policies: those that govern it.
        references: what they name.
        now: the time.
    """
    metadata = raw["metadata"]
    text = (metadata.get("annotations") or {}).get(WORD_ANNOTATION, "")
    before = (raw.get("status") or {}).get("auditorsWord")
    words = [before] if before else []
    seconds = dict[str, int]()
    for keys, period, place in asks_of(policies):
        seconds[keys] = max(period, seconds.get(keys, 0))
        content = references.audit_key(*place) if text else None
        if content is not None:
            try:
                words.append(_told(heard(text, content, f"{metadata['namespace']}/{metadata['name']}")))
            except EncryptedError:
                continue  # another auditor's, perhaps
    standing = [
        one
        for one in words
        if one.get("keys") in seconds
        and -_SKEW_SECONDS <= now.timestamp() - _seconds(one["ended"]) <= _PERIODS * seconds[one["keys"]]
    ]
    newest: dict[str, dict[str, Any]] = {}
    for one in standing:  # what the status remembers comes first, and nothing of the same time takes its place
        if one["keys"] not in newest or one["ended"] > newest[one["keys"]]["ended"]:
            newest[one["keys"]] = one
    return max(newest.values(), key=lambda one: (one["status"] == "False", one["ended"]), default=None)


def fair_by(word: Mapping[str, Any]) -> Condition:
    """Return the condition Fair by an auditor's word."""
    when = f"says the auditor of what was answered from {word['begun']} to {word['ended']} (spec.audit.only)"
    fields = ", ".join(shown(field) for field in word.get("fields") or ())
    match word["reason"]:
        case "DifferenceTooLarge":
            what = f"groups by {fields} are treated more unequally than spec.fairness.maxDifference accepts"
        case "WithinLimit":
            what = "no groups are treated more unequally than spec.fairness.maxDifference accepts"
        case "NothingToCompare":
            what = "no answer is favourable, or every one"
        case _:
            what = "there are too few rows to tell"
    return word["status"], word["reason"], f"{what}: {when}"


def _told(word: Word) -> dict[str, Any]:
    told = {"keys": word.keys, "begun": _time(word.begun), "ended": _time(word.ended)}
    return told | {"status": word.status, "reason": word.reason, "fields": [shown(one) for one in word.fields]}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
