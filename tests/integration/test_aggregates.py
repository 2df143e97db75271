"""Counters nobody reads one by one: real sidecars encrypt, the controller adds, the auditor opens."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("Pyfhel")

from modelward.audit import auditor
from modelward.audit.word import spoken
from modelward.controller.incidents import Incidents
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.planner.audited import fairness_in, word_of
from modelward.planner.names import KubeObject
from tests.integration.model_server import column, model_server
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    PLACE,
    Controller,
    apply,
    cluster,
    controller,
    place,
    policy,
)
from tests.integration.test_incidents import ADDRESSES, Replicas, replicas, watched  # noqa: F401 - fixtures

pytestmark = pytest.mark.timeout(300)

SECONDS, PERIOD = 10, 60
PERIOD_OF_ROWS = 600  # whoever is slow is not late
YOUNG, OLD = 23, 11  # requests to each of the two replicas


@pytest.fixture
def answering() -> Iterator[int]:
    """Of a model that answers 1 to each row whose first number is above a half."""
    with model_server(
        lambda inputs: [column("y", "INT64", [int(number > 0.5) for number in inputs[0]["data"][::3]])]
    ) as port:
        yield port


def counted(name: str, port: int) -> KubeObject:
    manifest = watched(name)
    del manifest["spec"]["monitoring"]
    manifest["spec"]["model"]["port"] = port
    manifest["spec"]["fairness"] = {"protected": [{"field": "b", "edges": [0.0]}], "favourable": {"equals": "1"}}
    return manifest


def asks(keys: ClientKeys, config_map: str = "audit-key", **audit: Any) -> KubeObject:
    asked = {"publicKeyConfigMapName": config_map, "keysDigest": f"sha256:{envelope.digest(keys.public)}"}
    bounds = {"everySeconds": SECONDS, "periodSeconds": PERIOD, "minimumWindows": 2, "minimumCount": 8}
    fields = [{"name": "a", "role": "QuasiIdentifier", "treatment": "Bucket", "edges": [0, 1]}]
    return policy("asks", audit={**asked, **bounds, **audit}, fields=fields)


def key_map(keys: ClientKeys, name: str = "audit-key") -> KubeObject:
    content = base64.b64encode(keys.public).decode()
    metadata = {"name": name, "namespace": PLACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": {"keys.bin": content}}


def kept(replicas: Replicas, name: str) -> dict[str, Any] | None:  # noqa: F811
    found = replicas.server.kubectl("get", "configmap", f"{name}.aggregate", "-n", PLACE, "-o", "json")
    return json.loads(found.stdout) if found.ok else None


async def collected(replicas: Replicas, name: str, keys: ClientKeys, pods: int) -> dict[str, Any] | None:  # noqa: F811
    """What is kept once all that was counted up to now has come."""
    await asyncio.sleep(SECONDS - time.time() % SECONDS)  # the last window with rows in it is over
    deadline, quiet = time.monotonic() + 60, 0
    about: dict[str, Any] = {}
    while quiet < 6:  # seconds in which no more came: an encryption takes one or two
        await asyncio.sleep(1)
        before = about
        await replicas.incidents.look(PLACE, name)
        found = kept(replicas, name)
        about = json.loads(found["data"]["aggregates.json"])[envelope.digest(keys.public)] if found else {}
        all_of_them = (about.get("running") or {}).get("pods") == pods
        quiet = quiet + 1 if all_of_them and about == before else 0
        assert time.monotonic() < deadline, about
    return found


async def test_counters_of_two_replicas_are_added_unread_and_opened_by_the_auditor_alone(
    replicas: Replicas,  # noqa: F811
    answering: int,
    tmp_path: Path,
) -> None:
    signer = base64.b64decode((await replicas.controller.installation.reconcile()).settings.config_key).hex()
    keys = auditor.generate(tmp_path / "keys", signer, epsilon="40.0", base=1)  # hardly any noise
    apply(replicas.server, key_map(keys), asks(keys), counted("wdbc", answering))
    await replicas.start("wdbc")
    for address in ADDRESSES:
        for row, times in (([0.1, 5.0, 0.0], YOUNG), ([1.5, -5.0, 0.0], OLD)):
            answers = {replicas.ask("wdbc", "dr-lee", row, address) for _ in range(times)}
            assert answers == {200}

    found = await collected(replicas, "wdbc", keys, pods=2)
    assert found is not None
    assert set(found["binaryData"]) == {"running.sealed"}
    assert found["metadata"]["ownerReferences"][0]["name"] == "wdbc"

    # The period ends; a controller that begins anew gives out what the one before it has added.
    made = replicas.controller
    replicas.incidents = Incidents(
        made.cluster,
        made.recorder,
        made.have,
        lambda: datetime.now(UTC) + timedelta(seconds=PERIOD + 2 * SECONDS + 90),  # late pods are waited for
        port=replicas.port,
    )
    await replicas.incidents.look(PLACE, "wdbc")
    found = kept(replicas, "wdbc")
    assert found is not None
    content = base64.b64decode(found["binaryData"][f"aggregate-{envelope.digest(keys.public)[:16]}.bin"])
    opened = auditor.opened(tmp_path / "keys", content)
    assert (opened.header.model, opened.header.policy) == (f"{PLACE}/wdbc", "DataPolicy asks")
    assert opened.header.pods == 2
    cells = {(cell.block, cell.cell): cell.count for cell in opened.cells}
    for block, cell, rows in (
        ("b by outcome", "below 0: selected", 2 * OLD),  # before the treatment
        ("b by outcome", "0 and more: not selected", 2 * YOUNG),
        ("a", "[0, 1)", 2 * YOUNG),  # after it
        ("a", "1 and above", 2 * OLD),
    ):
        assert cells[block, cell] == rows, (block, cell, cells)
    assert cells["a", "other"] is None
    (event,) = made.events("AggregateGivenOut")
    assert "modelward audit open --from-cluster md/wdbc" in event["message"]
    assert made.events("WindowRefused") == []


ROWS = {  # so many that no port is one of them, nor one of their sums: selected and not, below 0 and from there on
    (1.5, -5.0, 0.0): 16_507,
    (0.1, -5.0, 0.0): 14_001,
    (1.5, 5.0, 0.0): 13_503,
    (0.1, 5.0, 0.0): 17_509,
}


def rows_of_groups() -> Iterator[dict[str, Any]]:
    """Requests with these rows."""
    rows = [row for row, count in ROWS.items() for _ in range(count)]
    for first in range(0, len(rows), 4096):
        some = rows[first : first + 4096]
        data = [number for row in some for number in row]
        yield {"inputs": [{"name": "rows", "datatype": "FP64", "shape": [len(some), 3], "data": data}]}


def numbers_of_groups() -> set[int]:
    """What would tell of a group, by itself or over both outcomes."""
    one, other, third, fourth = ROWS.values()
    return {one, other, third, fourth, one + other, third + fourth, one + third, other + fourth}


async def test_where_counts_are_kept_nobody_in_the_cluster_is_told_one(
    replicas: Replicas,  # noqa: F811
    answering: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    signer = base64.b64decode((await replicas.controller.installation.reconcile()).settings.config_key).hex()
    keys = auditor.generate(tmp_path / "keys", signer, epsilon="40.0", base=1)
    asking = asks(keys, periodSeconds=PERIOD_OF_ROWS)
    asking["spec"]["kAnonymity"] = {"k": 5}
    apply(replicas.server, key_map(keys), asking, counted("credit", answering))
    await replicas.start("credit")
    statuses = []
    for number, body in enumerate(rows_of_groups()):
        if number == 1:  # an aggregate is of two windows at least, however fast requests are answered
            await asyncio.sleep(SECONDS - time.time() % SECONDS)
        assert replicas.send("credit", "dr-lee", "infer", body)[0] == 200
        statuses.append(await replicas.look("credit"))
    await collected(replicas, "credit", keys, pods=1)
    made = replicas.controller
    replicas.incidents = Incidents(
        made.cluster,
        made.recorder,
        made.have,
        lambda: datetime.now(UTC) + timedelta(seconds=PERIOD_OF_ROWS + 2 * SECONDS + 90),
        port=replicas.port,
    )
    statuses.append(await replicas.look("credit"))

    conditions = {one["type"]: one for one in statuses[-1]["conditions"]}
    assert (conditions["Fair"]["status"], conditions["Fair"]["reason"]) == ("Unknown", "KeptForAuditor")
    assert "told to the auditor of DataPolicy asks alone" in conditions["Fair"]["message"]
    assert conditions["KAnonymous"]["reason"] == "KeptForAuditor"
    listed = json.loads(replicas.server.kubectl("get", "events", "-A", "-o", "json").stdout)
    events = "\n".join(one["message"] for one in listed["items"])
    found = kept(replicas, "credit")
    assert found is not None
    metrics = json.dumps(replicas.incidents.metrics())
    told = {
        "status": json.dumps(statuses),
        "events": events,
        "aggregates": found["data"]["aggregates.json"],
        "metrics of the controller": metrics,
        "metrics of sidecars": "".join(map(replicas.metrics, ADDRESSES)),
        "logs of sidecars": replicas.log,
        "log of the controller": caplog.text,
    }
    assert [where for where in told if not told[where] and where != "log of the controller"] == []
    for where, text in told.items():
        assert numbers_of_groups().isdisjoint(map(int, re.findall(r"(?<![\w.])\d{5}(?![\w.])", text))), where
        assert not any(f"{number:,}" in text for number in numbers_of_groups()), where
        for name in ("below 0", "0 and more", "demographicParity", "model_fairness_difference{", "identification{"):
            assert name not in text, (where, name)
    for status in statuses:
        assert "fairness" not in status
        assert "reidentification" not in status

    # And the auditor reads all of it, with the verdict.
    content = base64.b64decode(found["binaryData"][f"aggregate-{envelope.digest(keys.public)[:16]}.bin"])
    opened = auditor.opened(tmp_path / "keys", content)
    (attribute,) = opened.attributes
    low, high, _ = attribute.groups
    assert [low.vector[:2], high.vector[:2]] == [(30_508, 16_507), (31_012, 13_503)]
    verdict = fairness_in(opened)
    assert verdict is not None
    assert (verdict["status"], verdict["reason"]) == ("False", "DifferenceTooLarge")

    # Who tells it, signed: the verdict alone.
    assert made.events("UnfairOutcome") == []
    word = spoken(word_of(opened, envelope.digest(content)), keys.signing)
    replicas.annotate("credit", auditors_word=word)
    made.ahead += timedelta(seconds=PERIOD_OF_ROWS + 2 * SECONDS + 90)
    assert (await replicas.reconcile("credit"))["Fair"] == ("False", "DifferenceTooLarge")
    (event,) = made.events("UnfairOutcome")
    assert "says the auditor of what was answered from" in event["message"]
    told_then = json.dumps(replicas.server.get("modeldeployment", "credit", "-n", PLACE)["status"]) + event["message"]
    assert not any(str(number) in told_then for number in numbers_of_groups())


async def test_a_key_that_is_not_there_or_another_is_named(
    replicas: Replicas,  # noqa: F811
    answering: int,
    tmp_path: Path,
) -> None:
    keys, others = (auditor.generate(tmp_path / name, "0" * 64) for name in ("keys", "others"))
    apply(replicas.server, asks(keys, "none"), counted("keyless", answering))
    conditions = await replicas.reconcile("keyless")
    assert conditions["Ready"] == ("False", "ReferenceUnusable"), conditions
    apply(replicas.server, key_map(others, "theirs"), asks(keys, "theirs"))
    await replicas.reconcile("keyless")
    status = replicas.server.get("modeldeployment", "keyless", "-n", PLACE)["status"]
    (ready,) = [one for one in status["conditions"] if one["type"] == "Ready"]
    assert "and keysDigest names" in ready["message"]
    apply(replicas.server, key_map(keys, "theirs"))
    conditions = await replicas.reconcile("keyless")
    assert conditions["Ready"] != ("False", "ReferenceUnusable")
