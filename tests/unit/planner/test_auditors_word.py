"""What an auditor says is believed by signature, for a time, and nobody puts an older word in its place."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

pytest.importorskip("Pyfhel")

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.status import ModelDeploymentStatus
from modelward.audit.parameters import PARAMETERS
from modelward.audit.word import MAX_TEXT, Word, heard, spoken
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.encrypted.parameters import EncryptedError
from modelward.planner.auditors_word import WORD_ANNOTATION, fair_by, word_of
from modelward.planner.observation import Observation
from modelward.planner.references import References
from modelward.planner.status import status
from tests.unit.planner.test_kept import raw

OWN, OTHER = (ClientKeys.generate(PARAMETERS) for _ in range(2))
PERIOD, END = 3600, 1_800_000_000
NOW = datetime.fromtimestamp(END + 100, UTC)


def said(keys: ClientKeys = OWN, signer: ClientKeys | None = None, **changes: Any) -> str:
    word = Word(
        envelope.digest(keys.public),
        "1" * 64,
        "loans/credit",
        END - PERIOD,
        END,
        "False",
        "DifferenceTooLarge",
        ("sex",),
    )
    return spoken(msgspec.structs.replace(word, **changes), (signer or keys).signing)


def policy(keys: ClientKeys = OWN) -> dict[str, Any]:
    asked = {
        "publicKeyConfigMapName": "key",
        "keysDigest": f"sha256:{envelope.digest(keys.public)}",
        "periodSeconds": PERIOD,
    }
    return {"kind": "DataPolicy", "metadata": {"name": "care", "namespace": "loans"}, "spec": {"audit": asked}}


REFERENCES = References(
    audit={("loans", "key"): {"binaryData": {"keys.bin": base64.b64encode(OWN.public).decode()}}}
)  # fmt: skip


def stands(text: str = "", before: Mapping[str, Any] | None = None, now: datetime = NOW, **changes: Any) -> Any:
    item = raw(**({"auditorsWord": before} if before else {}))
    item["metadata"]["annotations"] = {WORD_ANNOTATION: text} if text else {}
    return word_of(item, changes.get("policies", [policy()]), changes.get("references", REFERENCES), now)


def test_a_word_becomes_the_condition_and_outlives_its_annotation() -> None:
    word = stands(said())
    assert (word["status"], word["fields"]) == ("False", ["sex"])
    found = fair_by(word)
    assert found[:2] == ("False", "DifferenceTooLarge")
    assert "groups by sex are treated more unequally" in found[2]
    assert stands(before=word) == word  # whoever takes the annotation off changes nothing
    item = raw()
    observation = Observation(kept=("DataPolicy care",), word=word)
    told = status(ModelDeployment.model_validate({**item, "status": None}), item, observation, NOW)
    ModelDeploymentStatus.model_validate(told)
    assert told["auditorsWord"] == word
    (fair,) = [one for one in told["conditions"] if one["type"] == "Fair"]
    assert (fair["status"], fair["reason"]) == ("False", "DifferenceTooLarge")
    told = status(ModelDeployment.model_validate({**item, "status": None}), item, replace(observation, kept=()), NOW)
    assert "auditorsWord" not in told


def test_no_older_word_takes_the_place_of_a_newer_one() -> None:
    new = stands(said())
    old = said(begun=END - 2 * PERIOD, ended=END - PERIOD, status="True", reason="WithinLimit", fields=())
    assert stands(old)["status"] == "True"
    assert stands(old, before=new) == new
    same = said(status="True", reason="WithinLimit", fields=())  # an auditor who says both of one time
    assert stands(same, before=new) == new


def test_another_auditor_does_not_take_back_what_one_has_found() -> None:
    both = {
        "policies": [policy(), policy(OTHER)],
        "references": References(
            audit={
                ("loans", "key"): {"binaryData": {"keys.bin": base64.b64encode(OWN.public).decode()}},
                ("loans", "other"): {"binaryData": {"keys.bin": base64.b64encode(OTHER.public).decode()}},
            }
        ),
    }
    both["policies"][1]["spec"]["audit"]["publicKeyConfigMapName"] = "other"  # type: ignore[index]
    unfair = stands(said(), **both)
    fair = {"status": "True", "reason": "WithinLimit", "fields": ()}
    assert stands(said(OTHER, ended=END + 60, **fair), before=unfair, **both) == unfair
    assert stands(said(ended=END + 60, **fair), before=unfair, **both)["status"] == "True"
    once_fair = stands(said(**fair), **both)
    assert stands(said(OTHER, ended=END - 60), before=once_fair, **both)["status"] == "False"


@pytest.mark.parametrize(
    "text",
    [
        said(OTHER),
        said(signer=OTHER),
        said(model="loans/other"),
        said(keys=OWN)[:-8],
        "§",
        "",
        "x" * (MAX_TEXT + 1),
        base64.b64encode(b"[" * 4096).decode(),
    ],
)
def test_what_this_auditor_did_not_say_of_this_model_is_none(text: str) -> None:
    assert stands(text) is None
    with pytest.raises(EncryptedError):
        heard(text, OWN.public, "loans/credit")


def test_a_word_is_of_the_keys_that_a_policy_names_and_does_not_stand_for_ever() -> None:
    word = stands(said())
    later = NOW + timedelta(seconds=3 * PERIOD)
    assert stands(said(), now=later) is None
    assert stands(before=word, now=later) is None
    assert stands(said(ended=END + 7200)) is None  # nor of a time to come
    assert stands(before=word, policies=[policy(OTHER)]) is None
    assert stands(said(), references=References()) is None
    assert stands(said(OTHER), policies=[policy(OTHER)]) is None  # the ConfigMap holds another's key


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("WithinLimit", "no groups are treated more unequally"),
        ("TooFewRows", "too few rows"),
        ("NothingToCompare", "no answer is favourable"),
    ],
)
def test_each_reason_is_said_in_words(reason: str, what: str) -> None:
    found = fair_by(stands(said(status="Unknown", reason=reason, fields=())))
    assert found[1] == reason
    assert what in found[2]
    assert "says the auditor" in found[2]
