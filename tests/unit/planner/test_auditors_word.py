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
from modelward.audit.layout import compared
from modelward.audit.parameters import PARAMETERS
from modelward.audit.word import MAX_TEXT, Word, heard, spoken
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.encrypted.parameters import EncryptedError
from modelward.planner.audit import protected
from modelward.planner.auditors_word import WORD_ANNOTATION, fair_by, word_of, words_of
from modelward.planner.observation import Observation
from modelward.planner.references import References
from modelward.planner.status import invalid_status, status
from tests.unit.planner.test_kept import raw

OWN, OTHER = (ClientKeys.generate(PARAMETERS) for _ in range(2))
PERIOD, END = 3600, 1_800_000_000
CONTROLLER = "c" * 64
NOW = datetime.fromtimestamp(END + 100, UTC)


def declared(**fairness: Any) -> ModelDeployment:
    item = {**raw(), "status": None}
    item["spec"] = {**item["spec"], "fairness": {**item["spec"]["fairness"], **fairness}}
    return ModelDeployment.model_validate(item)


def said(keys: ClientKeys = OWN, signer: ClientKeys | None = None, **changes: Any) -> str:
    word = Word(
        envelope.digest(keys.public),
        "1" * 64,
        "loans/credit",
        CONTROLLER,
        END - PERIOD,
        END,
        "False",
        "DifferenceTooLarge",
        0.1,
        compared(protected(declared())),
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


def remembered(text: str = "", *before: Mapping[str, Any], now: datetime = NOW, **changes: Any) -> Any:
    item = raw(**({"auditorsWords": list(before)} if before else {}))
    item["metadata"] |= {"annotations": {WORD_ANNOTATION: text} if text else {}, **changes.get("metadata", {})}
    policies, references = changes.get("policies", [policy()]), changes.get("references", REFERENCES)
    return words_of(item, policies, references, now, CONTROLLER)


def stands(text: str = "", before: Mapping[str, Any] | None = None, now: datetime = NOW, **changes: Any) -> Any:
    words = remembered(text, *([before] if before else ()), now=now, **changes)
    return word_of(words, changes.get("md") or declared(), changes.get("policies", [policy()]), now)


def test_a_word_becomes_the_condition_and_outlives_its_annotation() -> None:
    word = stands(said())
    assert (word["status"], word["fields"]) == ("False", ["sex"])
    found = fair_by(word)
    assert found[:2] == ("False", "DifferenceTooLarge")
    assert "groups by sex are treated more unequally" in found[2]
    assert stands(before=word) == word  # whoever takes the annotation off changes nothing
    item = raw()
    observation = Observation(kept=("DataPolicy care",), words=(word,), word=word)
    told = status(ModelDeployment.model_validate({**item, "status": None}), item, observation, NOW)
    ModelDeploymentStatus.model_validate(told)
    assert told["auditorsWords"] == [word]
    (fair,) = [one for one in told["conditions"] if one["type"] == "Fair"]
    assert (fair["status"], fair["reason"]) == ("False", "DifferenceTooLarge")
    told = status(ModelDeployment.model_validate({**item, "status": None}), item, replace(observation, kept=()), NOW)
    (fair,) = [one for one in told["conditions"] if one["type"] == "Fair"]
    assert fair["status"] == "Unknown"
    assert told["auditorsWords"] == [word]
    assert invalid_status(raw(auditorsWords=[word]), "x", NOW)["auditorsWords"] == [word]


def test_no_older_word_takes_the_place_of_a_newer_one() -> None:
    new = stands(said())
    old = said(begun=END - 2 * PERIOD, ended=END - PERIOD, status="True", reason="WithinLimit", fields=())
    assert stands(old)["status"] == "True"
    assert stands(old, before=new) == new
    same = said(status="True", reason="WithinLimit", fields=())  # an auditor who says both of one time
    assert stands(same, before=new) == new


def test_no_older_word_comes_back_though_its_policy_goes_for_a_time() -> None:
    new = stands(said())
    old = said(begun=END - 2 * PERIOD, ended=END - PERIOD, status="True", reason="WithinLimit", fields=())
    (kept,) = remembered(old, new, policies=[])
    assert kept == new
    assert stands(before=new, policies=[]) is None
    assert stands(old, before=kept) == new
    much_later = NOW + timedelta(days=94)
    assert remembered("", new, now=much_later) == ()


def test_no_word_is_heard_of_a_model_that_had_the_name_before() -> None:
    def of(made: int) -> Any:
        text = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return stands(said(), metadata={"creationTimestamp": text})

    assert of(END - PERIOD)["status"] == "False"
    assert of(END - 1)["status"] == "False"  # a window begins before whoever counts in it
    assert of(END) is None


def test_a_good_word_is_of_what_is_declared_and_of_nothing_looser() -> None:
    fair = said(status="True", reason="WithinLimit", fields=())
    assert stands(fair)["status"] == "True"
    assert stands(fair, md=declared(maxDifference=0.2))["status"] == "True"
    sex = {"field": "sex", "groups": ["female"]}
    for changed in (
        {"maxDifference": 0.05},
        {"protected": [sex, {"field": "race", "groups": ["a", "b"]}]},
        {"protected": [{"field": "sex", "groups": ["male"]}]},
        {"favourable": {"equals": "0"}},
    ):
        assert stands(fair, md=declared(**changed)) is None, changed
        assert stands(said(), md=declared(**changed))["status"] == "False"  # what was found is found
    assert stands(said(), md=declared(protected=[])) is None


def test_what_an_auditor_makes_up_keeps_no_status_from_being_written() -> None:
    for changes in ({"ended": 1 << 40}, {"begun": 1 << 40}, {"begun": END + 1}):
        assert stands(said(**changes)) is None, changes
    word = stands(said(fields=(" ", "\x1b[2J" * 40, "sex")))
    item = raw()
    observation = Observation(kept=("DataPolicy care",), words=(word,), word=word)
    ModelDeploymentStatus.model_validate(status(declared(), item, observation, NOW))
    assert word["fields"][-1] == "sex"
    assert all(one.isprintable() and one for one in word["fields"])


def test_each_auditors_newest_word_is_remembered_whoever_speaks_last() -> None:
    place = {"publicKeyConfigMapName": "other"}
    other = policy(OTHER)
    other["spec"]["audit"] |= place
    both: dict[str, Any] = {
        "policies": [policy(), other],
        "references": References(
            audit={
                ("loans", "key"): {"binaryData": {"keys.bin": base64.b64encode(OWN.public).decode()}},
                ("loans", "other"): {"binaryData": {"keys.bin": base64.b64encode(OTHER.public).decode()}},
            }
        ),
    }
    fair: dict[str, Any] = {"status": "True", "reason": "WithinLimit", "fields": ()}
    words: Any = ()
    for text in (said(OTHER, ended=END - 90), said(ended=END - 60), said(ended=END, **fair)):
        words = remembered(text, *words, **both)
    assert [one["status"] for one in sorted(words, key=lambda one: one["ended"])] == ["False", "True"]
    found = word_of(words, declared(), both["policies"], NOW)
    assert found is not None
    assert found["status"] == "False"  # the other auditor has not said otherwise
    words = remembered(said(ended=END - 30), *words, **both)
    assert [one["ended"] for one in words if one["status"] == "True"]  # nor does an older word of one come back


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
        said(controller="d" * 64),  # of a model of this name in another cluster, whose policy names this auditor too
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
        heard(text, OWN.public, "loans/credit", CONTROLLER)


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
