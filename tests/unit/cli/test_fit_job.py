"""The Job that fits a baseline, short of handing it over: that takes a real controller (`integration/test_fits.py`)."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from modelward.cli import fit_job
from modelward.cli.fit_job import FitJobError
from modelward.detect.baseline import from_bytes
from modelward.errand import USER_ERROR, Anonymity, Errand, FitRequest, Source

ROWS = np.random.default_rng(0).normal(size=(200, 3)) * [1, 10, 100]


def asked(**changes: Any) -> FitRequest:
    request = FitRequest(
        "clinic/wdbc", Source(file="train.csv"), "", "", columns=("a", "c"), fields=(), false_positive_rate=0.05
    )
    return msgspec.structs.replace(request, **changes)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("\n".join(["a,b,c", *(",".join(map(str, row)) for row in ROWS.tolist())]))
    return folder


def obtained(volume: Path, tmp_path: Path, **changes: Any) -> Path:
    copy = tmp_path / "copy.csv"
    source = Source(file=changes.pop("name", "train.csv"))
    fit_job.obtain(Errand(asked(source=source, **changes)), copy, volume)
    return copy


def test_what_is_fitted_is_a_copy_of_what_was_checked(volume: Path, tmp_path: Path) -> None:
    content = (volume / "train.csv").read_bytes()
    copy = obtained(volume, tmp_path, sha256=hashlib.sha256(content).hexdigest())
    assert copy.read_bytes() == content


def test_other_data_than_declared_are_refused_with_both_digests(volume: Path, tmp_path: Path) -> None:
    with pytest.raises(FitJobError, match=rf"the data has the sha256 [0-9a-f]{{64}}, and {'0' * 64} is declared") as no:
        obtained(volume, tmp_path, sha256="0" * 64)
    assert no.value.code == USER_ERROR


def test_a_link_out_of_the_volume_and_what_is_no_file_are_refused(volume: Path, tmp_path: Path) -> None:
    secret = tmp_path / "tls.csv"
    secret.write_text("key")
    (volume / "link.csv").symlink_to(secret)
    (volume / "folder.csv").mkdir()
    for name, why in (
        ("link.csv", "leads out of the volume"),
        ("folder.csv", "is no file"),
        ("no.csv", "is not there"),
    ):
        with pytest.raises(FitJobError, match=why):
            obtained(volume, tmp_path, name=name)


def test_data_beyond_the_bound_are_not_read(volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_job, "MAX_DATA_BYTES", 1000)
    with pytest.raises(FitJobError, match="fit on a sample"):
        obtained(volume, tmp_path)


def test_nothing_is_fetched_from_where_the_installation_does_not_allow(tmp_path: Path) -> None:
    errand = Errand(asked(source=Source(url="https://elsewhere.example/x.csv")), allow=("https://data.example/",))
    with pytest.raises(FitJobError, match="not among the addresses"):
        fit_job.obtain(errand, tmp_path / "copy.csv")


def test_the_baseline_is_of_the_columns_asked_for_treated_as_asked(volume: Path, tmp_path: Path) -> None:
    rounded = {"name": "c", "treatment": "Round", "digits": -2}
    baseline = from_bytes(fit_job.fit(asked(fields=(rounded,), lineage="s3://x"), volume / "train.csv", tmp_path))
    assert baseline.columns == ("a", "c")
    assert baseline.origin.lineage == "s3://x"
    assert datetime.now(UTC) - datetime.fromisoformat(baseline.origin.fitted) < timedelta(hours=1)
    plain = from_bytes(fit_job.fit(asked(), volume / "train.csv", tmp_path))
    assert plain.encoding.centre.tolist() != baseline.encoding.centre.tolist()
    assert plain.origin.data_sha256 == hashlib.sha256((volume / "train.csv").read_bytes()).hexdigest()


def test_what_the_fit_says_is_what_the_job_says(
    volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (volume / "few.csv").write_text("a,c\n1,2\n3,4\n")
    errand = tmp_path / "errand.json"
    errand.write_bytes(msgspec.json.encode(Errand(asked(source=Source(file="few.csv")))))
    message = tmp_path / "message"
    arguments = [f"--errand={errand}", f"--tls={tmp_path}", "--config-key=", "--model=clinic/wdbc"]
    with pytest.raises(SystemExit) as ended:
        fit_job.main([*arguments, f"--data={volume}", f"--message={message}"])
    assert ended.value.code == USER_ERROR
    assert "rows" in message.read_text()
    assert str(tmp_path) not in message.read_text()
    assert message.read_text() in capsys.readouterr().err


def test_an_errand_for_another_model_is_not_done(tmp_path: Path) -> None:
    errand = tmp_path / "errand.json"
    errand.write_bytes(msgspec.json.encode(Errand(asked())))
    with pytest.raises(FitJobError, match="for another model"):
        fit_job.run(Namespace(errand=errand, model="clinic/other"))


PERSON = "Jane Doe,HIV positive,Mill Lane 3"


@pytest.mark.parametrize(("columns", "row"), [(("a", "c"), "{0},name{0},x"), ((), "{0},name{0},x"), ((), "{0},,{0}")])
def test_what_the_data_holds_is_in_no_message(tmp_path: Path, columns: tuple[str, ...], row: str) -> None:
    data = tmp_path / "data.csv"
    data.write_text("\n".join([PERSON, *map(row.format, range(100))]))  # no header: the first person is taken for one
    with pytest.raises(FitJobError) as no:
        fit_job.fit(asked(columns=columns), data, tmp_path)
    assert not [text for text in PERSON.split(",") if text in str(no.value)]
    assert ("spec.schema.inputs[].columns" in str(no.value)) == bool(columns)


def test_the_end_of_a_traceback_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho \"KeyError: 'Jane Doe'\" >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(fit_job.sys, "executable", str(program))
    with pytest.raises(FitJobError, match=r"^modelward fit ended with 1$"):
        fit_job.fit(asked(), tmp_path / "data.csv", tmp_path)


PEOPLE = "age,city,size\n" + "\n".join(f"{20 + n % 20},{'Ulm' if n % 2 else 'Bonn'},{n / 7}" for n in range(200))
QUASI = (
    {"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 10.0},
    {"name": "city", "role": "QuasiIdentifier", "treatment": "Generalise", "hierarchy": "cities", "level": 1},
)
CITIES = {"cities": "Ulm;DE\nBonn;DE\n"}


def test_data_that_break_the_policys_k_are_a_users_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    request = asked(
        source=Source(file="people.csv"),
        columns=("age", "size"),
        fields=({"name": "age", "treatment": "Generalise", "step": 10.0},),
        anonymity=Anonymity(101, QUASI, CITIES),
    )
    errand, message = tmp_path / "errand.json", tmp_path / "message"
    errand.write_bytes(msgspec.json.encode(Errand(request)))
    arguments = [f"--errand={errand}", f"--tls={tmp_path}", "--config-key=", "--model=clinic/wdbc"]
    with pytest.raises(SystemExit) as ended:
        fit_job.main([*arguments, f"--data={tmp_path}", f"--message={message}"])
    assert ended.value.code == USER_ERROR
    told = message.read_text()
    assert told.startswith(
        "200 of 200 rows share age, city, treated as the policy says, with too few others for the policy's k of 101:"
        " combinations: 2 of 100 rows. Fix: the least generalisation that gives a k of "
    )
    assert not [value for value in ("Ulm", "Bonn", "DE", str(tmp_path)) if value in told]
    assert told in capsys.readouterr().err


def test_data_that_keep_the_policys_k_are_fitted_on(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(PEOPLE)
    request = asked(columns=("size",), anonymity=Anonymity(100, QUASI, CITIES))
    assert from_bytes(fit_job.fit(request, tmp_path / "people.csv", tmp_path)).columns == ("size",)


def test_more_fields_than_a_policy_has_are_treated_all_the_same(tmp_path: Path) -> None:
    names = tuple(f"x{number}" for number in range(130))
    rows = np.random.default_rng(0).normal(size=(200, 130))
    data = tmp_path / "wide.csv"
    data.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows.tolist())]))
    fields = tuple({"name": name, "treatment": "Round", "digits": 1} for name in names)
    assert from_bytes(fit_job.fit(asked(columns=names, fields=fields), data, tmp_path)).columns == names
