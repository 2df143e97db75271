"""JSONTestSuite against the body's decoder, and through HTTP: what is no JSON is 400, and the model gets none of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelward.sidecar.binary import Body
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Schema
from tests.conformance.corpora import files
from tests.unit.sidecar.harness import Client, Running, infer, request, settings

# JSON by the letter (RFC 8259 says only that names SHOULD be unique), and refused: see `modelward.sidecar.repeated`.
REPEATED = {"y_object_duplicated_key", "y_object_duplicated_key_and_value"}


def told(content: bytes) -> Refusal:
    with pytest.raises(Refusal) as refused:
        Schema("v2", None, "Reject").check(Body(content))
    return refused.value


def corpus(kind: str) -> list[Path]:
    return files("json/test_parsing", f"{kind}_*.json")


def as_data(value: bytes) -> bytes:
    """A request that is in order but for the data of an input, which is any bytes."""
    return b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": ' + value + b"}]}"


def test_what_is_not_json_is_refused_by_the_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    slugs = {path.stem: told(path.read_bytes()).problem.slug for path in corpus("n")}
    assert set(slugs.values()) == {"malformed-json"}, {name for name in slugs if slugs[name] != "malformed-json"}
    with capsys.disabled():
        print(f"\nJSON, decoder: {len(slugs)} of {len(slugs)} n_ refused", end="")
    assert len(slugs) == 188


def test_what_is_json_is_accepted_by_the_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused all the same, but for not being an inference request: the decoder has read it to its end."""
    refusals = {path.stem: told(path.read_bytes()) for path in corpus("y")}
    read = {name for name, refusal in refusals.items() if refusal.problem.slug == "schema-violation"}
    assert set(refusals) - read == REPEATED
    assert all("two members of one name" in refusals[name].detail for name in REPEATED)
    with capsys.disabled():
        print(
            f"\nJSON, decoder: {len(read)} of {len(refusals)} y_ accepted;"
            f" {len(REPEATED)} refused for a name that comes twice",
            end="",
        )
    assert len(read) == 93


@pytest.mark.parametrize("path", corpus("i"), ids=lambda path: path.stem)
def test_what_may_be_either_is_one_of_the_two(path: Path) -> None:
    assert told(path.read_bytes()).problem.slug in ("malformed-json", "schema-violation")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    access: dict[str, Any] = settings()["access"]
    running = Running(settings(access=access), tmp_path_factory.mktemp("json"))
    yield running
    running.stop()


@pytest.mark.parametrize("wrap", [bytes, as_data], ids=["whole body", "data of an input"])
def test_through_http_each_is_400_and_nothing_is_forwarded(
    sidecar: Running, wrap: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"n": 0, "twice": 0}
    twice = [path for path in corpus("y") if path.stem in REPEATED]
    with Client(sidecar.port) as client:
        for path in (*corpus("n"), *twice):
            content = wrap(path.read_bytes())
            client.send(request(content))
            answer = client.read()
            assert (answer.status, answer.problem) == (400, "malformed-json"), path.stem
            counts["twice" if path in twice else "n"] += 1
        assert sidecar.model.asked == []
        client.send(request(infer()))  # the connection is in order all the while, and so is the model
        assert client.read().status == 200
    assert len(sidecar.model.asked) == 1
    sidecar.model.asked.clear()
    with capsys.disabled():
        print(
            f"\nJSON through HTTP ({'as the body' if wrap is bytes else 'as data'}): {counts['n']} n_ and"
            f" {counts['twice']} repeated names, each 400; 0 requests at the model",
            end="",
        )
    assert counts == {"n": 188, "twice": 2}
