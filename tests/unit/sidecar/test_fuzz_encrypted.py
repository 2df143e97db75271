"""Hostile encrypted bodies through real processes: what is kept, some steps from there, and processes that die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from unittest import mock

import pytest

pytest.importorskip("Pyfhel")
from modelward.encrypted.parameters import EncryptedError
from modelward.sidecar import workers
from modelward.sidecar.problems import Refusal
from tests.fuzz.encrypted_pipe import TARGET, world


def _workers() -> list[int]:
    own = ["pgrep", "-P", str(os.getpid()), "-f", "encrypted.worker"]
    return list(map(int, subprocess.run(own, capture_output=True, text=True, check=True).stdout.split()))


@pytest.mark.parametrize("name", TARGET.seeds())
def test_what_the_fuzzer_has_kept(name: str) -> None:
    TARGET.one(TARGET.seeds()[name])


def test_some_steps_from_there() -> None:
    chance = random.Random(5)
    pool = sorted(TARGET.seeds().values())
    for _ in range(100):
        TARGET.one(TARGET.mutate(chance.choice(pool), chance))


def test_a_process_that_dies_is_counted_and_the_next_request_is_answered() -> None:
    here, killed = world(), []
    ask = workers._ask

    async def dying(*arguments):  # type: ignore[no-untyped-def]
        if not killed:
            killed.extend(_workers())
            for process in killed:
                os.kill(process, signal.SIGKILL)
        return await ask(*arguments)

    before = here.deaths()
    with mock.patch.object(workers, "_ask", dying):
        TARGET.one(TARGET.seeds()["good-request-ckks-0"])
    assert killed
    assert here.deaths() > before


def test_the_oracle_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_outcome", lambda status, content: content[:-1] + b"x")
    with pytest.raises(EncryptedError, match="changed on the way"):
        TARGET.one(TARGET.seeds()["good-request-bfv-0"])
    monkeypatch.setattr(workers, "_outcome", lambda *_: Refusal("encrypted-unfit", "", reason="worker-fault"))
    with pytest.raises(AssertionError, match="without the reason"):
        TARGET.one(TARGET.seeds()["flip-request-ckks-0"])
