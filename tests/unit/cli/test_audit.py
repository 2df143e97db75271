"""`modelward audit`, as an auditor types it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.api.printable import printable
from modelward.audit.aggregate import Sum, added, public_key, sealed
from modelward.audit.layout import Counted, compared, layout_of
from modelward.audit.parameters import PARAMETERS
from modelward.audit.told import Window
from modelward.audit.word import heard
from modelward.cli import audit
from modelward.cli.kubectl import KubectlError
from modelward.encrypted import envelope
from modelward.encrypted.context import Encryptor
from modelward.encrypted.parameters import EncryptedError

pytest.importorskip("Pyfhel")
CONTROLLER = Ed25519PrivateKey.generate()
CONTROLLER_KEY = base64.b64encode(CONTROLLER.public_key().public_bytes_raw()).decode()
LAYOUT = layout_of([Counted("sex", ("f", "m"))], ["name"])


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(audit.command, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = run("keygen", "--out", tmp_path / "keys", "--controller-key", CONTROLLER_KEY, "-o", "json")
    assert made.exit_code == 0, made.stderr
    (tmp_path / "aggregate.bin").write_bytes(aggregate(tmp_path / "keys"))
    return tmp_path


def aggregate(keys: Path) -> bytes:
    public = (keys / "public/keys.bin").read_bytes()
    ciphertext = Encryptor(PARAMETERS, public_key(public)).encrypt_integers(np.array([500, 400, 0]))
    window = Window(envelope.digest(public), LAYOUT.digest(), 600, ciphertext)
    total = added(Sum(window.keys, window.layout), window, "pod", 300, 900)
    return sealed(total, LAYOUT.encode(), CONTROLLER, model="clinic/wdbc", policy="DataPolicy care", minimum=20)


def test_an_aggregate_is_opened_as_a_table_and_as_json(folder: Path) -> None:
    shown = run("open", "--keys", folder / "keys", folder / "aggregate.bin")
    assert shown.exit_code == 0, shown.stderr
    assert "clinic/wdbc, 1970-01-01T00:10:00Z to 1970-01-01T00:15:00Z" in shown.stdout
    assert "under 20" in shown.stdout
    assert "Not counted, for want of known values: name" in shown.stderr
    assert "Releases left: 99" in shown.stderr
    document = json.loads(run("open", "--keys", folder / "keys", folder / "aggregate.bin", "-o", "json").stdout)
    assert [one["cell"] for one in document["counts"]] == ["f", "m", "other"]
    assert document["counts"][2]["rows"] is None
    assert abs(document["counts"][0]["rows"] - 500) < 50
    assert document["releasesLeft"] == 99


@pytest.mark.parametrize("truths", [False, True])
def test_the_verdict_on_fairness_follows(folder: Path, truths: bool) -> None:
    blocks = [Counted("sex", ("f", "m"), outcome=True)]
    counts = [620, 7250, 4160, 12_080, 0, 10, 0]
    if truths:
        blocks.append(Counted("sex", ("f", "m"), outcome=True, truth=True))
        counts += [300, 50, 300, 350, 600, 50, 30, 320, 0, 0, 0, 0, 0]
    layout = layout_of(blocks)
    public = (folder / "keys/public/keys.bin").read_bytes()
    ciphertext = Encryptor(PARAMETERS, public_key(public)).encrypt_integers(np.array(counts))
    window = Window(envelope.digest(public), layout.digest(), 600, ciphertext)
    total = added(Sum(window.keys, window.layout), window, "pod", 300, 900)
    facts: Any = {"model": "loans/credit", "policy": "DataPolicy care", "minimum": 20}
    content = sealed(total, layout.encode(), CONTROLLER, **facts, max_difference=0.1, minimum_group_size=50)
    (folder / "credit.bin").write_bytes(content)
    shown = run("open", "--keys", folder / "keys", folder / "credit.bin")
    assert shown.exit_code == 0, shown.stderr
    assert "Fair: False, DifferenceTooLarge: " in shown.stdout
    assert "difference (accepted: 0.1)" in shown.stdout
    assert "under 50" in shown.stdout
    assert ("true positives" in shown.stdout) is truths
    document = json.loads(run("open", "--keys", folder / "keys", folder / "credit.bin", "-o", "json").stdout)
    fairness = document["fairness"]
    assert (fairness["status"], fairness["maxDifference"], fairness["minimumGroupSize"]) == ("False", 0.1, 50)
    (attribute,) = fairness["attributes"]
    parity = attribute["demographicParity"]
    assert parity["low"] < 0.1776 < parity["high"]
    assert ("truePositives" in attribute) is truths
    told = run("word", "--keys", folder / "keys", folder / "credit.bin")
    assert told.exit_code == 0, told.stderr
    command, text = told.stdout.strip().rsplit(" modelward.io/auditors-word=", 1)
    assert command == "kubectl annotate --namespace=loans --overwrite modeldeployments.modelward.io/credit"
    signer = CONTROLLER.public_key().public_bytes_raw().hex()
    said = heard(text, public, "loans/credit", signer)
    with pytest.raises(EncryptedError, match="another controller gave out"):
        heard(text, public, "loans/credit", signer[::-1])
    assert (said.status, said.reason, said.fields) == ("False", "DifferenceTooLarge", ("sex",))
    assert (said.max_difference, said.compared) == (0.1, compared(blocks))


@pytest.mark.parametrize("name", ["[/b]", "[red]x", ":smile:", "a\x1b]0;title\x07"])
def test_whatever_groups_are_called_the_table_shows_it_and_the_terminal_obeys_none(folder: Path, name: str) -> None:
    layout = layout_of([Counted("sex", (name, "m"), outcome=True)])
    public = (folder / "keys/public/keys.bin").read_bytes()
    ciphertext = Encryptor(PARAMETERS, public_key(public)).encrypt_integers(np.array([500, 400, 300, 400, 0, 0, 0]))
    window = Window(envelope.digest(public), layout.digest(), 600, ciphertext)
    total = added(Sum(window.keys, window.layout), window, "pod", 300, 900)
    facts: Any = {"model": "loans/credit", "policy": "DataPolicy care", "minimum": 20, "max_difference": 0.1}
    (folder / "credit.bin").write_bytes(sealed(total, layout.encode(), CONTROLLER, **facts))
    shown = run("open", "--keys", folder / "keys", folder / "credit.bin")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.count(printable(name)) >= 3
    assert "\x1b" not in shown.stdout


def test_a_word_of_what_was_not_opened_before_spends_a_release_and_says_so(folder: Path) -> None:
    layout = layout_of([Counted("sex", ("f", "m"), outcome=True)])
    public = (folder / "keys/public/keys.bin").read_bytes()
    ciphertext = Encryptor(PARAMETERS, public_key(public)).encrypt_integers(np.array([500, 400, 300, 400, 0, 0, 0]))
    window = Window(envelope.digest(public), layout.digest(), 600, ciphertext)
    total = added(Sum(window.keys, window.layout), window, "pod", 300, 900)
    facts: Any = {"model": "loans/credit", "policy": "DataPolicy care", "minimum": 20, "max_difference": 0.1}
    (folder / "credit.bin").write_bytes(sealed(total, layout.encode(), CONTROLLER, **facts))
    for _ in range(2):  # of the same aggregate no more than once
        told = run("word", "--keys", folder / "keys", folder / "credit.bin")
        assert told.exit_code == 0, told.stderr
        assert "Releases left: 99." in told.stderr
    assert "Releases" not in told.stdout  # which is the command to run


def test_there_is_no_word_of_an_aggregate_that_compares_no_groups(folder: Path) -> None:
    nothing = run("word", "--keys", folder / "keys", folder / "aggregate.bin")
    assert (nothing.exit_code, "it compares no groups" in nothing.stderr) == (2, True)


def test_the_cluster_is_asked_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = (folder / "keys/public/keys.bin").read_bytes()
    content = base64.b64encode((folder / "aggregate.bin").read_bytes()).decode()
    binary = {f"aggregate-{envelope.digest(public)[:16]}.bin": content}
    asked: list[tuple[str, ...]] = []

    def kubectl(*arguments: str) -> str:
        asked.append(arguments)
        return json.dumps({"binaryData": binary})

    monkeypatch.setattr(audit, "kubectl", kubectl)
    opened = run("open", "--keys", folder / "keys", "--from-cluster", "md/wdbc", "-n", "clinic")
    assert opened.exit_code == 0, opened.stderr
    assert asked == [("get", "--namespace=clinic", "configmap/wdbc.aggregate", "--output=json", "--ignore-not-found")]
    binary.clear()
    opened = run("open", "--keys", folder / "keys", "--from-cluster", "md/wdbc")
    assert (opened.exit_code, "no aggregate was given out yet" in opened.stderr) == (2, True)
    monkeypatch.setattr(audit, "kubectl", lambda *_: "")
    opened = run("open", "--keys", folder / "keys", "--from-cluster", "md/wdbc", "-n", "clinic")
    assert (opened.exit_code, "no ConfigMap wdbc.aggregate in clinic: it comes with" in opened.stderr) == (2, True)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--controller-key", "AAAA", "base64 of 32 bytes"),
        ("--controller-key", "§", "base64 of 32 bytes"),
        ("--epsilon", "0.0", "above 0"),
        ("--epsilon", "1e3", "above 0"),
        ("--epsilon", "-1", "above 0"),
    ],
)
def test_what_keygen_cannot_use_is_named(tmp_path: Path, option: str, value: str, told: str) -> None:
    made = run("keygen", "--out", tmp_path / "k", "--controller-key", CONTROLLER_KEY, option, value)
    assert (made.exit_code, told in made.stderr) == (2, True), made.stderr
    assert not (tmp_path / "k").exists()


def test_keygen_asks_the_cluster_whose_signature_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "kubectl", lambda *_: CONTROLLER_KEY)
    made = run("keygen", "--out", tmp_path / "k")
    assert made.exit_code == 0, made.stderr
    assert "kubectl create configmap audit-key --from-file=keys.bin=" in made.stdout

    def away(*_: str) -> str:
        raise KubectlError("kubectl get: there is no cluster")

    monkeypatch.setattr(audit, "kubectl", away)
    made = run("keygen", "--out", tmp_path / "l")
    assert (made.exit_code, "there is no cluster" in made.stderr) == (2, True)


def test_what_cannot_be_opened_is_said(folder: Path) -> None:
    for arguments, told in (
        (("open", "--keys", folder / "keys", folder / "none.bin"), "none.bin: No such file"),
        (("open", "--keys", folder / "none", folder / "aggregate.bin"), "releases.json: No such file"),
        (("open", "--keys", folder / "keys", folder / "keys/public/keys.bin"), "header of aggregate"),
        (("open", "--keys", folder / "keys", "--from-cluster", "pod/x"), "not md/NAME"),
        (("keygen", "--out", folder / "keys", "--controller-key", CONTROLLER_KEY), "is there already"),
    ):
        done = run(*arguments)
        assert (done.exit_code, told in done.stderr) == (2, True), done.stderr
