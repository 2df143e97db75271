"""The controller adds what sidecars have encrypted: once, whoever dies, whatever a pod makes up; gives out periods."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

pytest.importorskip("Pyfhel")

from modelward.audit import auditor
from modelward.audit.aggregate import public_key
from modelward.audit.layout import Counted, layout_of
from modelward.audit.parameters import PARAMETERS
from modelward.audit.settings import Audit, Auditor
from modelward.audit.told import Collect, Collected, Encrypted, Window
from modelward.controller.aggregates import Aggregates
from modelward.controller.cluster import ApiError
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.encrypted.context import Encryptor
from modelward.encrypted.parameters import EncryptedError
from modelward.incidents import Report

CONTROLLER = Ed25519PrivateKey.generate()
SECONDS, PERIOD, START = 300, 3600, 3_000_000
LATE = 90
MODEL = {
    "apiVersion": "modelward.io/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"namespace": "clinic", "name": "wdbc", "uid": "u-1"},
}
COUNTED = [Counted("sex", ("f", "m"))]


class Cluster:
    """As much of a cluster as is asked here: ConfigMaps."""

    def __init__(self) -> None:
        self.config_maps: dict[str, Any] = {}
        self.written = self.read = 0
        self.away = False

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        assert (kind, namespace) == ("ConfigMap", "clinic")
        self.read += 1
        return self.config_maps.get(name)

    async def apply(self, wanted: Any) -> None:
        if self.away:
            raise ApiError(503, "ServiceUnavailable", "away")
        self.written += 1
        self.config_maps[wanted["metadata"]["name"]] = json.loads(json.dumps(wanted))


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    async def record(self, about: Any, kind: str, reason: str, message: str, *, topic: str = "", **_: Any) -> None:
        self.told.append((reason, message))


class Pod:
    """A sidecar, as far as it hands over what it has encrypted."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.asked: list[Collect] = []
        self.dropped = 0

    def answer(self, body: bytes) -> bytes:
        asked = msgspec.json.decode(body, type=Collect)
        self.asked.append(asked)
        self.windows = [one for one in self.windows if one.start > asked.through.get(one.keys, -1)]
        return msgspec.json.encode(Collected(tuple(self.windows)))


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = auditor.generate(folder, CONTROLLER.public_key().public_bytes_raw().hex())
        self.name = envelope.digest(self.keys.public)
        self.encryptor = Encryptor(PARAMETERS, public_key(self.keys.public))
        self.cluster, self.recorder = Cluster(), Recorder()
        self.pods = {"a": Pod(), "b": Pod()}
        self.silent: set[str] = set()
        self.now = START + SECONDS
        self.configure(COUNTED)
        self.aggregates = self.begin()

    def begin(self, key: Ed25519PrivateKey = CONTROLLER) -> Aggregates:
        clock = lambda: datetime.fromtimestamp(self.now, UTC)  # noqa: E731
        return Aggregates(cast("Any", self.cluster), cast("Any", self.recorder), lambda: key, clock)

    def rotate(self, folder: Path) -> None:
        """Another key is asked for from now on: that in a folder, a new one where there is none."""
        if not folder.exists():
            auditor.generate(folder, CONTROLLER.public_key().public_bytes_raw().hex())
        self.folder, self.keys = folder, ClientKeys.read(folder)
        self.name = envelope.digest(self.keys.public)
        self.encryptor = Encryptor(PARAMETERS, public_key(self.keys.public))
        self.configure(COUNTED)
        for pod in self.pods.values():
            pod.windows = []

    def configure(self, counted: list[Counted], signer: Ed25519PrivateKey = CONTROLLER) -> None:
        self.layout = layout_of(counted).digest()
        who = Auditor("DataPolicy care", self.name, "audit-0.keys", "0" * 64, PERIOD, 2, 10)
        document = msgspec.json.encode({"binding": {}, "audit": Audit([who], counted, SECONDS)})
        signature = base64.b64encode(signer.sign(document)).decode()
        self.cluster.config_maps["wdbc-sidecar"] = {"data": {"config.json": document.decode(), "config.sig": signature}}

    def count(self, pod: str, counts: list[int], start: int | None = None) -> None:
        start = self.now - SECONDS if start is None else start
        ciphertext = self.encryptor.encrypt_integers(np.array(counts))
        self.pods[pod].windows.append(Window(self.name, self.layout, start // SECONDS * SECONDS, ciphertext))

    async def look(self) -> None:
        def report(pod: Pod) -> Report:
            told = Encrypted(waiting=len(pod.windows), dropped=pod.dropped)
            return Report("clinic/wdbc", "", "", "", (), (), (), (), 0, encrypted=told)

        async def ask(bodies: dict[str, bytes]) -> dict[str, bytes]:
            return {pod: self.pods[pod].answer(body) for pod, body in bodies.items() if pod not in self.silent}

        await self.aggregates.take(MODEL, {name: report(pod) for name, pod in self.pods.items()}, ask)

    @property
    def kept(self) -> Any:
        return self.cluster.config_maps.get("wdbc.aggregate")

    @property
    def about(self) -> Any:
        return json.loads(self.kept["data"]["aggregates.json"])[self.name]

    def opened(self) -> list[int | None]:
        content = base64.b64decode(self.kept["binaryData"][f"aggregate-{self.name[:16]}.bin"])
        return [cell.count for cell in auditor.opened(self.folder, content).cells]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_windows_of_all_pods_are_added_and_given_out_when_the_period_is_over(scene: Scene) -> None:
    for _ in range(3):
        scene.count("a", [1000, 100, 0])
        scene.count("b", [500, 100, 0])
        await scene.look()
        scene.now += SECONDS
    assert scene.about["running"]["windows"] == 6
    assert scene.about["running"]["pods"] == 2
    assert set(scene.kept["binaryData"]) == {"running.sealed"}  # nothing is given out before
    assert scene.pods["a"].windows == []
    scene.now = START + PERIOD + LATE
    await scene.look()
    assert scene.about["running"] is None
    assert scene.about["givenOut"]["windows"] == 6
    f, m, other = scene.opened()
    assert f is not None
    assert abs(f - 4500) < 60
    assert m is not None
    assert abs(m - 600) < 60
    assert other is None
    assert [reason for reason, _ in scene.recorder.told] == ["AggregateGivenOut"]
    assert "modelward audit open --from-cluster md/wdbc" in scene.recorder.told[0][1]
    metric = scene.aggregates.metrics()["modelward_model_audit_windows"][1]
    assert metric['{namespace="clinic",model="wdbc",outcome="added"}'] == 6


async def test_aggregates_do_not_overlap_whichever_pod_tells_of_its_last_window_late(scene: Scene) -> None:
    scene.count("a", [1000, 100, 0])
    await scene.look()
    scene.now = START + PERIOD
    scene.count("a", [1000, 100, 0])
    await scene.look()
    scene.now += 60
    scene.count("b", [1000, 100, 0], START + PERIOD - SECONDS)  # it was asked a minute after the other
    await scene.look()
    scene.now = START + PERIOD + LATE
    await scene.look()
    assert scene.about["givenOut"]["windows"] == 3
    f, *_ = scene.opened()
    assert f is not None
    assert abs(f - 3000) < 60
    scene.pods["c"] = Pod()
    scene.count("c", [1000, 100, 0], START + PERIOD - SECONDS)  # too late
    scene.now = START + 2 * PERIOD
    scene.count("a", [1000, 100, 0])
    scene.count("b", [1000, 100, 0])
    await scene.look()
    scene.now = START + 3 * PERIOD + LATE
    await scene.look()
    assert scene.about["givenOut"]["windows"] == 2
    f, *_ = scene.opened()  # an auditor refuses what overlaps with what was opened
    assert f is not None
    assert abs(f - 2000) < 60


async def test_what_is_under_way_is_sealed_to_the_controller(scene: Scene) -> None:
    scene.count("a", [1, 0, 0])
    ciphertext = scene.pods["a"].windows[0].ciphertext
    await scene.look()
    sealed = base64.b64decode(scene.kept["binaryData"]["running.sealed"])
    assert ciphertext[200:264] not in sealed
    assert abs(len(sealed) - len(ciphertext)) < 1024


async def test_who_begins_anew_goes_on_and_adds_nothing_twice(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    again = scene.pods["a"].windows[0]
    await scene.look()
    scene.aggregates = scene.begin()
    scene.pods["a"].windows = [again]  # it was not told that it was added
    await scene.look()
    assert scene.about["running"]["windows"] == 1
    assert scene.pods["a"].windows == []
    assert scene.recorder.told == []  # it is asked for what comes after
    scene.count("b", [100, 0, 0])
    await scene.look()
    scene.now = START + PERIOD + LATE
    scene.aggregates = scene.begin()
    await scene.look()
    assert scene.about["givenOut"]["windows"] == 2


async def test_what_cannot_be_written_is_not_added_and_asked_for_again(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    scene.cluster.away = True
    with pytest.raises(ApiError):
        await scene.look()
    assert len(scene.pods["a"].windows) == 1
    scene.cluster.away = False
    await scene.look()
    assert scene.about["running"]["windows"] == 1
    assert scene.pods["a"].windows == []


async def test_what_the_api_server_refuses_keeps_nothing_else_from_being_told(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])

    async def refuse(wanted: Any) -> None:
        raise ApiError(403, "Forbidden", "exceeded quota")

    scene.cluster.apply = refuse  # type: ignore[method-assign]
    await scene.look()
    assert scene.recorder.told == [("AggregateNotKept", "Forbidden: exceeded quota")]
    assert len(scene.pods["a"].windows) == 1


async def test_an_idle_look_reads_and_writes_nothing(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    await scene.look()
    before = (scene.cluster.read, scene.cluster.written)
    for _ in range(5):
        await scene.look()
    assert (scene.cluster.read, scene.cluster.written) == before


async def test_what_sidecars_dropped_is_told_to_prometheus(scene: Scene) -> None:
    scene.pods["a"].dropped, scene.pods["b"].dropped = 2, 1
    await scene.look()
    metric = scene.aggregates.metrics()["modelward_model_audit_windows"][1]
    assert metric['{namespace="clinic",model="wdbc",outcome="dropped"}'] == 3


async def test_too_few_windows_wait_for_more_however_long(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    await scene.look()
    scene.now = START + 3 * PERIOD
    await scene.look()
    assert "givenOut" not in scene.about
    scene.count("a", [100, 0, 0])
    await scene.look()
    assert scene.about["givenOut"]["windows"] == 2


async def test_what_a_pod_makes_up_is_told_of_and_not_kept(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    good = scene.pods["a"].windows[0]
    lies = scene.pods["b"].windows
    lies += [
        msgspec.structs.replace(good, ciphertext=good.ciphertext[:-8]),
        msgspec.structs.replace(good, start=good.start + 100 * SECONDS),
        msgspec.structs.replace(good, keys="0" * 64),
        msgspec.structs.replace(good, layout="0" * 64),
    ]
    await scene.look()
    assert scene.about["running"]["windows"] == 1
    assert [reason for reason, _ in scene.recorder.told] == ["WindowRefused"]
    assert "4 windows of encrypted counters by b are not added: the ciphertext has" in scene.recorder.told[0][1]
    assert scene.pods["b"].windows == []  # and need not be kept


async def test_an_answer_that_cannot_be_read_and_a_silent_pod_keep_nobody_back(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    scene.count("b", [100, 0, 0])
    scene.silent = {"b"}
    await scene.look()
    assert scene.about["running"]["windows"] == 1
    scene.pods["b"].answer = lambda _: b"[" * 100_000  # type: ignore[method-assign]
    scene.silent = set()
    await scene.look()
    assert scene.about["running"]["windows"] == 1


async def test_what_is_counted_otherwise_begins_anew_and_still_comes_in_once(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    first = scene.pods["a"].windows[0]
    await scene.look()
    scene.configure([Counted("sex", ("f", "m", "x"))])
    scene.pods["a"].windows = [msgspec.structs.replace(first, layout=scene.layout)]
    await scene.look()
    assert scene.pods["a"].windows == []
    assert scene.recorder.told[0] == (
        "AggregateLost",
        "the counters of the period under way are lost, for something else is counted by now: it begins anew",
    )
    scene.now += SECONDS
    scene.count("a", [100, 0, 0, 0])
    await scene.look()
    assert scene.about["running"]["windows"] == 1


async def test_a_configuration_that_another_signed_is_none(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    scene.configure(COUNTED, Ed25519PrivateKey.generate())
    await scene.look()
    assert scene.kept is None
    scene.cluster.config_maps["wdbc-sidecar"] = {"data": {"config.json": "{", "config.sig": "§"}}
    await scene.look()
    assert scene.kept is None


async def test_what_cannot_be_opened_any_more_is_told_of_and_begins_anew(scene: Scene) -> None:
    scene.count("a", [100, 0, 0])
    await scene.look()
    scene.kept["binaryData"]["running.sealed"] = base64.b64encode(b"x" * 100).decode()
    scene.count("b", [100, 0, 0])
    await scene.look()
    assert [reason for reason, _ in scene.recorder.told] == ["AggregateLost"]
    assert scene.about["running"]["windows"] == 1


async def test_another_of_that_name_is_left_alone(scene: Scene) -> None:
    scene.cluster.config_maps["wdbc.aggregate"] = {"metadata": {"name": "wdbc.aggregate", "labels": {}}}
    scene.count("a", [100, 0, 0])
    await scene.look()
    assert scene.cluster.written == 0
    assert [reason for reason, _ in scene.recorder.told] == ["AggregateNotKept"]
    scene.aggregates.forget("clinic", "wdbc")
    assert scene.aggregates.metrics()["modelward_model_audit_windows"][1] == {}


async def a_period(scene: Scene, rows: int = 1000) -> None:
    """Two windows of a pod, and the end of a period that began with them."""
    for _ in range(2):
        scene.count("a", [rows, 100, 0])
        await scene.look()
        scene.now += SECONDS
    scene.now += PERIOD
    await scene.look()


async def test_a_key_that_is_asked_for_no_more_opens_what_was_given_out_and_loses_what_was_under_way(
    scene: Scene, tmp_path: Path
) -> None:
    first = scene.folder
    await a_period(scene)
    scene.count("a", [500, 100, 0])
    await scene.look()
    assert scene.about["running"]["windows"] == 1
    scene.rotate(tmp_path / "second")
    scene.now += SECONDS
    scene.count("a", [7, 0, 0])
    await scene.look()
    assert scene.recorder.told[-1] == (
        "AggregateLost",
        "the counters of the period under way are lost, for they are of a key that is asked for no more: it begins"
        " anew",
    )
    assert scene.about["running"]["windows"] == 1
    scene.aggregates = scene.begin()
    scene.count("a", [7, 0, 0], scene.now + SECONDS)
    await scene.look()  # written anew, and by a controller that begins
    second, scene.folder = scene.folder, first
    scene.name = envelope.digest(ClientKeys.read(first).public)
    assert scene.about["running"] is None
    f, *_ = scene.opened()
    assert f is not None
    assert abs(f - 2000) < 60
    # A third key: of the second one the aggregate is kept that was given out after that of the first.
    scene.rotate(second)
    scene.pods["c"] = Pod()
    await a_period(scene)
    scene.rotate(tmp_path / "third")
    scene.count("a", [7, 0, 0])
    await scene.look()
    kept = [key for key in scene.kept["binaryData"] if key.startswith("aggregate-")]
    assert kept == [f"aggregate-{envelope.digest(ClientKeys.read(second).public)[:16]}.bin"]
    assert sum(map(len, scene.kept["binaryData"].values())) < 1 << 19


@pytest.mark.parametrize("how", ["rotated and back", "sealed by another"])
async def test_no_window_goes_into_a_time_that_was_given_out_though_the_sum_is_lost(
    scene: Scene, tmp_path: Path, how: str
) -> None:
    first, began = scene.folder, scene.now
    await a_period(scene)
    ended = scene.about["givenOut"]["to"]
    if how == "rotated and back":
        scene.rotate(tmp_path / "second")
        scene.count("a", [7, 0, 0])
        await scene.look()
        scene.rotate(first)
    else:
        scene.kept["binaryData"]["running.sealed"] = base64.b64encode(b"x" * 100).decode()
    scene.now = began + SECONDS
    scene.count("b", [1000, 0, 0], began)  # of the time that was given out, by a pod that had not told of it
    await scene.look()
    assert scene.recorder.told[-1][0] == "WindowRefused"
    assert "it came late" in scene.recorder.told[-1][1]
    scene.pods["b"].windows = []
    scene.now = began + 4 * SECONDS
    scene.count("b", [1000, 0, 0])
    await scene.look()
    assert scene.about["running"]["from"] >= ended


async def test_a_pod_that_restarts_adds_no_time_twice_and_goes_on_with_the_next(scene: Scene) -> None:
    scene.count("a", [1000, 100, 0])
    again = scene.pods["a"].windows[0].start
    await scene.look()
    scene.pods["a"] = Pod()  # of the same name, as a StatefulSet's are: it knows of nothing
    scene.count("a", [900, 100, 0], again)
    await scene.look()
    assert scene.pods["a"].windows == []  # it is told up to when windows came from a pod of its name
    assert scene.about["running"]["windows"] == 1
    scene.now += SECONDS
    scene.count("a", [900, 100, 0])
    await scene.look()
    assert scene.about["running"]["windows"] == 2


async def test_one_window_under_another_key_spoils_the_period_and_tells_nothing(scene: Scene, tmp_path: Path) -> None:
    other = ClientKeys.generate(PARAMETERS)
    scene.count("a", [1000, 100, 0])
    right = scene.encryptor
    scene.encryptor = Encryptor(PARAMETERS, public_key(other.public))
    scene.count("b", [1000, 100, 0])  # called one of the key that is asked for
    scene.encryptor = right
    await scene.look()
    assert scene.about["running"]["windows"] == 2
    scene.now = START + PERIOD + LATE
    await scene.look()
    with pytest.raises(EncryptedError, match="no sum of what sidecars count"):
        scene.opened()
    assert auditor.ledgers.read(scene.folder).left == 99
