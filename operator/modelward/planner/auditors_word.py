"""The condition Fair where counts are kept for an auditor: what the auditor said last, if it is not too old.

The word comes by an annotation, which whoever may edit the model can set, change and take off: so it is signed, the
status remembers it, and none that is older takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.audit.layout import compared
from modelward.audit.word import Word, heard
from modelward.encrypted.parameters import EncryptedError
from modelward.planner.audit import asks_of, protected
from modelward.planner.fairness import Condition, shown
from modelward.planner.references import References

WORD_ANNOTATION = "modelward.io/auditors-word"
MAX_WORDS = 4
"""That are remembered: of the two auditors that a model has at most, and of two that it had."""
_PERIODS = 3  # that a word stands after the time that it is of: one to be given out, one to be opened, one to spare
_SKEW_SECONDS = 60
_LONGEST_SECONDS = _PERIODS * 2_678_400  # what no period is longer than

Told = Mapping[str, Any]
"""A word as `status.auditorsWords` has it."""


def words_of(
    raw: Told, policies: Sequence[dict[str, Any]], references: References, now: datetime, controller: str
) -> tuple[Told, ...]:
    """Return `status.auditorsWords`: the newest under each key, of this very model.

    Those under keys that no policy names now are remembered: a policy that comes back, or whose selector does, lets no
    older word in. Nor is one heard of a time before the model was made: another had its name then.

    Args:
        raw: the ModelDeployment as the API server has it, with the status that the controller wrote.
        policies: those that govern it.
        references: what they name.
        now: the time.
        controller: the key (hex) that signs what this controller gives out; of other aggregates no word is heard.
    """
    metadata = raw["metadata"]
    text = (metadata.get("annotations") or {}).get(WORD_ANNOTATION, "")
    words = list[Told]((raw.get("status") or {}).get("auditorsWords") or ())
    seconds = _seconds_of(policies)
    for _, _, place in asks_of(policies) if text else ():
        content = references.audit_key(*place)
        if content is not None:
            try:
                word = _told(heard(text, content, f"{metadata['namespace']}/{metadata['name']}", controller))
            except EncryptedError:
                continue  # another auditor's, perhaps
            if _stands(word, seconds.get(word["keys"], 0), now):
                words.append(word)
    made = metadata.get("creationTimestamp")
    newest = dict[str, Told]()
    for one in words:  # what the status remembers comes first, and nothing of the same time takes its place
        later = made is None or _seconds(one["ended"]) > _seconds(made)
        if (
            later
            and _stands(one, _LONGEST_SECONDS, now)
            and one["ended"] > newest.get(one["keys"], {"ended": ""})["ended"]
        ):
            newest[one["keys"]] = one
    chosen = sorted(newest.values(), key=lambda one: (one["keys"] in seconds, one["ended"], one["keys"]))[-MAX_WORDS:]
    return tuple(sorted(chosen, key=lambda one: one["keys"]))


def word_of(
    words: Sequence[Told], md: ModelDeployment, policies: Sequence[dict[str, Any]], now: datetime
) -> Told | None:
    """Return the word that is heard: of those that still stand, under keys that policies name.

    Of two auditors the one who says that groups are treated unequally is heard, until they say otherwise. What else is
    said stands for what is declared now alone: by another declaration the same answers may be unfair.

    Args:
        words: those that are remembered.
        md: the ModelDeployment.
        policies: those that govern it.
        now: the time.
    """
    seconds, fairness = _seconds_of(policies), md.spec.fairness
    standing = [one for one in words if one["keys"] in seconds and _stands(one, seconds[one["keys"]], now)]
    chosen = max(standing, key=lambda one: (one["status"] == "False", one["ended"]), default=None)
    if chosen is None or fairness is None or not fairness.protected:
        return None
    of_this = chosen["maxDifference"] <= fairness.max_difference and chosen["compared"] == compared(protected(md))
    return chosen if of_this or chosen["status"] == "False" else None


def _seconds_of(policies: Sequence[dict[str, Any]]) -> dict[str, int]:
    """For each auditor's keys for how long a word under them stands."""
    seconds = dict[str, int]()
    for keys, period, _ in asks_of(policies):
        seconds[keys] = max(_PERIODS * period, seconds.get(keys, 0))
    return seconds


def _stands(word: Told, seconds: int, now: datetime) -> bool:
    return -_SKEW_SECONDS <= now.timestamp() - _seconds(word["ended"]) <= seconds


def fair_by(word: Mapping[str, Any]) -> Condition:
    """Return the condition Fair by an auditor's word."""
    when = f"says the auditor of what was answered from {word['begun']} to {word['ended']} (spec.audit.only)"
    fields, most = ", ".join(shown(field) for field in word.get("fields") or ()), word["maxDifference"]
    match word["reason"]:
        case "DifferenceTooLarge":
            what = f"groups by {fields} are treated more unequally than spec.fairness.maxDifference accepted ({most:g})"
        case "WithinLimit":
            what = f"no groups are treated more unequally than spec.fairness.maxDifference accepted ({most:g})"
        case "NothingToCompare":
            what = "no answer is favourable, or every one, as far as can be told"
        case _:
            what = "there are too few rows to tell"
    return word["status"], word["reason"], f"{what}: {when}"


def _told(word: Word) -> dict[str, Any]:
    told: dict[str, Any] = {"keys": word.keys, "begun": _time(word.begun), "ended": _time(word.ended)}
    told |= {"status": word.status, "reason": word.reason, "compared": word.compared}
    fields = [name for one in word.fields if (name := shown(one))]
    return {**told, "maxDifference": word.max_difference, "fields": fields}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
