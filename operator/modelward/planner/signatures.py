"""Whether a model's lineage is signed as its policies ask.

Statements lie where the model's owner says, and are believed for their signatures alone. Whose signatures, each policy
says for itself: the keys and authorities are in a ConfigMap of modelward's own namespace that it names, and what one
policy accepts counts for no other. Where several ask, each must be content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modelward.api.lineage import PREFIX, STATEMENTS, digest, places, transformations
from modelward.lineage.bundle import SUFFIXES
from modelward.lineage.outcome import Judged, Outcome, Result
from modelward.planner.references import References
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.rules.judge import policy_name

if TYPE_CHECKING:
    from modelward.lineage.verify import File, Read

Policy = dict[str, Any]
_MAX_LISTED = 32
_MAX_SIGNERS = 16
_MAX_SUBJECT = 253


@dataclass(frozen=True)
class Asked:
    """What one policy asks, and what came of it."""

    policy: Policy
    outcome: Outcome

    @property
    def lacks(self) -> str:
        """What keeps the policy from being content, as a sentence; empty where it is."""
        failed = self.outcome.failed
        if failed is None:
            return ""
        return f"{PREFIX}{failed.annotation}: {failed.message}" if failed.annotation else failed.message


@dataclass(frozen=True)
class Signatures:
    """What came of all policies that ask for signed lineage; none: nobody asks."""

    asked: tuple[Asked, ...] = ()

    def observed(self) -> list[dict[str, str]]:
        """Return what rule LIN-009 judges by: for each policy that asks, what it lacks."""
        return [
            {"kind": one.policy["kind"], "name": one.policy["metadata"]["name"], "lacks": one.lacks}
            for one in self.asked
        ]

    def told(self) -> tuple[bool, str, str] | None:
        """Return whether all are content, the reason and the message of the condition; None where nobody asks."""
        for one in self.asked:
            if failed := one.outcome.failed:
                return False, failed.reason, f"{one.lacks} (asked by {policy_name(one.policy)})"
        if not self.asked:
            return None
        results = dict.fromkeys(
            (result.annotation, result.message) for one in self.asked for result in one.outcome.results
        )
        return True, "Signed", "; ".join(f"{annotation} {message}" for annotation, message in results)

    def status(self) -> dict[str, Any]:
        """Return the part of `status.lineage` that tells of signatures."""
        content = [one.outcome for one in self.asked if not one.outcome.failed]
        names = dict.fromkeys(name for outcome in content for result in outcome.results for name in result.signers)
        statements: dict[tuple[str, str, str], None] = {}
        for asked in self.asked:
            for judged in asked.outcome.statements:
                statements.update(dict.fromkeys(_listed(judged)))
        return {
            "signedBy": list(names)[:_MAX_SIGNERS],
            "statements": [
                {"subject": subject, "digest": sha256, "signer": signer}
                for subject, sha256, signer in list(statements)[:_MAX_LISTED]
            ],
        }

    def dependencies(self) -> dict[str, set[str]]:
        """Return what accepted signers say that things were made of: SHA-256 in hex, by that of what was made."""
        found: dict[str, set[str]] = {}
        for asked in self.asked:
            for judged in asked.outcome.statements:
                for known in judged.statement.digests:
                    found.setdefault(known, set()).update(judged.sources)
        return found


def signatures(
    annotations: Mapping[str, str], policies: Sequence[Policy], references: References, at: datetime, image: str = ""
) -> Signatures:
    """Hold a model's lineage against its signed statements, for each policy that asks for that.

    Args:
        annotations: the ModelDeployment's.
        policies: those that govern it.
        references: the ConfigMaps and Secrets of its namespace, and those that the policies name for their trust.
        at: the time at which certificates must be valid.
        image: that the model server runs; empty where modelward does not run it.
    """
    asking = [policy for policy in policies if asks_for_signatures(policy)]
    if not asking:
        return Signatures()
    if not places(annotations):
        why = f"{STATEMENTS} names no ConfigMap or Secret with signed statements"
        return Signatures(tuple(Asked(one, Outcome((Result("", "StatementMissing", why),))) for one in asking))
    from modelward.lineage.verify import read  # noqa: PLC0415 - cryptography, where somebody asks for signatures

    files, lacking = _files(annotations, references)
    told = read(files)
    return Signatures(
        tuple(Asked(one, _outcome(one, annotations, told, lacking, references, at, image)) for one in asking)
    )


def asks_for_signatures(policy: Policy) -> bool:
    """Tell whether a policy asks for signed lineage."""
    return bool(_asked(policy).get("signedBy"))


def trust_names(policies: Sequence[Policy]) -> set[str]:
    """Return the ConfigMaps of the system namespace that policies name for the keys of signers."""
    asked = (_asked(policy) for policy in policies if asks_for_signatures(policy))
    return {one["trustConfigMapName"] for one in asked if one.get("trustConfigMapName")}


def _asked(policy: Policy) -> dict[str, Any]:
    return (policy["spec"].get("require") or {}).get("lineage") or {}


def _files(annotations: Mapping[str, str], references: References) -> tuple[list[File], str]:
    """The files with statements, and what is missing of the places."""
    from modelward.lineage.verify import File  # noqa: PLC0415

    files: list[File] = []
    lacking = ""
    for kind, name in places(annotations):
        found = references.contents(kind, name)
        if found is None:
            lacking = lacking or f"{kind} {name}, which {STATEMENTS} names, is not there"
            continue
        held = [File(key, f"{key} of {kind} {name}", found[key]) for key in found if key.endswith(SUFFIXES)]
        if not held:
            lacking = lacking or f"{kind} {name} has no key that ends in {', '.join(SUFFIXES)}"
        files += held
    return files, lacking


def _outcome(
    policy: Policy,
    annotations: Mapping[str, str],
    told: Read,
    lacking: str,
    references: References,
    at: datetime,
    image: str,
) -> Outcome:
    from modelward.lineage.trust import read_trust  # noqa: PLC0415
    from modelward.lineage.verify import ANNOTATIONS, verify  # noqa: PLC0415

    asked = _asked(policy)
    name = asked.get("trustConfigMapName") or ""
    contents = references.trusted(name)
    if contents is None:
        why = f"no ConfigMap {name} in {SYSTEM_NAMESPACE}, where the keys of signers are kept"
        return Outcome((Result("", "TrustMissing", why),))
    # A model is always answered for; a data set, where one is named.
    digests = {one: digest(annotations, one) for one in ANNOTATIONS if one == "model" or PREFIX + one in annotations}
    if PREFIX + "model" not in annotations:
        return Outcome((Result("model", "DigestMissing", "is not there, and statements are about its digest"),))
    if other := _another_image(annotations[PREFIX + "model"], digests["model"], image):
        return Outcome((Result("model", "DigestMismatch", other),))
    trust = read_trust(contents, outlives=asked.get("certificateTime") == "Issued")
    outcome = verify(digests, transformations(annotations), told, trust, asked["signedBy"], at)
    failed = outcome.failed
    if failed is None:
        return outcome
    lacks = trust.lacks(asked["signedBy"])
    if failed.reason in ("SignerNotTrusted", "StatementMissing") and len(lacks) == len(asked["signedBy"]):
        return Outcome((Result("", "TrustMissing", f"{lacks[0]} in ConfigMap {name} of {SYSTEM_NAMESPACE}"),))
    if failed.reason == "StatementMissing" and lacking:
        return Outcome((Result(failed.annotation, failed.reason, lacking),), outcome.statements)
    return outcome


def _another_image(address: str, sha256: str, image: str) -> str:
    """Why the pods run something else than what was signed, where the model is the image itself."""
    signed = _repository(address.removeprefix("oci://"))
    running_digest = image.partition("@sha256:")[2]
    if not sha256 or _repository(image) != signed or running_digest == sha256:
        return ""
    return f"names sha256:{sha256[:12]}, and the pods run {signed} of sha256:{running_digest[:12] or '(no digest)'}"


def _repository(image: str) -> str:
    """An image's address without its tag, which moves, and its digest."""
    path, slash, name = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}"


def _listed(judged: Judged) -> list[tuple[str, str, str]]:
    return [
        (subject.name[:_MAX_SUBJECT], f"sha256:{subject.sha256}", signer)
        for subject in judged.statement.subjects[:_MAX_LISTED]
        for signer in judged.accepted
    ]
