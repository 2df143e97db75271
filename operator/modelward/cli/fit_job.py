"""The Job that fits a baseline in the cluster: gets the data, checks its digest, runs `modelward fit`, hands it over.

It ends with 0 once the controller has fetched the baseline, with 2 where trying again would not help; why is its
termination message, which the controller makes a condition of.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelward import allowlist
from modelward.api.references import HIERARCHY_KEY
from modelward.cli.handover import Handover, HandoverError
from modelward.cli.output import to_json
from modelward.cli.own_job import JobError, job_arguments, run_job
from modelward.errand import (
    BASELINE,
    DATA_DIR,
    MAX_DATA_BYTES,
    USER_ERROR,
    Anonymity,
    Errand,
    FitRequest,
)
from modelward.planner.sidecar import SYSTEM_NAMESPACE

MAX_FIELDS = 128
"""That a policy has."""
_CHUNK = 1 << 20
_FETCH_SECONDS = 60.0
_FIT_SECONDS = 720.0
_AGAIN = 1
_SPEAKS = "modelward: "
_OWN_COLUMNS = re.compile(r"; there are .*")
_ANY_COLUMN = re.compile(r"(?<=\bcolumn ).+?(?=: | is of type |; |$)|(?<=a number in ).+(?=: leave)")


class FitJobError(JobError):
    """Why nothing was fitted, or not handed over."""

    def __init__(self, message: str, code: int = USER_ERROR) -> None:
        super().__init__(message, code)


def obtain(errand: Errand, path: Path, data_dir: Path = Path(DATA_DIR)) -> None:
    """Copy the data to `path`, and hold it to its digest: what is fitted on is what was checked.

    Raises:
        FitJobError: it cannot be had, is too large, or is other data.
    """
    source, digest, size = errand.request.source, hashlib.sha256(), 0
    try:
        with path.open("wb") as copy:
            for chunk in _fetched(errand) if source.url else _read(data_dir / source.file, data_dir):
                size += len(chunk)
                if size > MAX_DATA_BYTES:
                    raise FitJobError(f"the data has more than {MAX_DATA_BYTES >> 20} MiB: fit on a sample of it")
                digest.update(chunk)
                copy.write(chunk)
    except (OSError, http.client.HTTPException) as error:
        where = urllib.parse.urlsplit(source.url).hostname if source.url else source.file
        raise FitJobError(f"the data cannot be read from {where}: {_said(error)}", _AGAIN) from error
    found, wanted = digest.hexdigest(), errand.request.sha256
    if wanted and found != wanted:
        raise FitJobError(f"the data has the sha256 {found}, and {wanted} is declared: these are other data")


def _read(path: Path, data_dir: Path) -> Iterator[bytes]:
    found = path.resolve()
    if not found.is_relative_to(data_dir.resolve()):
        raise FitJobError(f"{path} leads out of the volume")
    if not found.is_file():
        raise FitJobError(f"{path.name} is not there, or is no file")
    with found.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _fetched(errand: Errand) -> Iterator[bytes]:
    """The body of one answer: redirects are not followed, for nobody has allowed where they lead."""
    url = errand.request.source.url
    if why := allowlist.problem(url, errand.allow, "the chart's value datasets.allow"):
        raise FitJobError(why)
    parts = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cadata=errand.authorities or None)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 443, timeout=_FETCH_SECONDS, context=context
    )
    try:
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        answer = connection.getresponse()
        if answer.status != 200:
            code = _AGAIN if answer.status >= 500 else USER_ERROR
            raise FitJobError(f"{parts.hostname} answered {answer.status}, not 200; redirects are not followed", code)
        while chunk := answer.read(_CHUNK):
            yield chunk
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
    finally:
        connection.close()


def fit(request: FitRequest, data: Path, scratch: Path) -> bytes:
    """Return the baseline that `modelward fit` makes.

    Raises:
        FitJobError: it made none; the message is its own.
    """
    out = scratch / "baseline.npz"
    command = [sys.executable, "-m", "modelward.cli.main", "fit", str(data), "--out", str(out)]
    command += ["--false-positive-rate", repr(request.false_positive_rate), "--seed", str(request.seed)]
    command += [f"--lineage={request.lineage}", "--fitted", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")]
    if request.columns:
        command += [f"--columns={','.join(request.columns)}"]
    if request.fields or request.anonymity:
        policies = scratch / "policies"
        policies.mkdir()
        for number, document in enumerate(_policies(request)):
            (policies / f"{number}.json").write_text(to_json(document), encoding="utf-8")
        command += ["--policy", str(policies)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FIT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise FitJobError(f"fitting took longer than {_FIT_SECONDS:.0f} s: fit on a sample of the data") from None
    if done.returncode:
        said = _without_data((done.stderr.strip().splitlines() or [""])[-1], request).replace(f"{data}: ", "")
        memory = "; its memory did not suffice" if done.returncode == -9 else ""
        raise FitJobError((said or f"modelward fit ended with {done.returncode}") + memory)
    return out.read_bytes()


def _without_data(line: str, request: FitRequest) -> str:
    """What `modelward fit` said, without what it read: it becomes a condition, which more people see than the data.

    A file without a header has a row of people where another has its columns' names, so those that nobody asked for
    are not repeated; and what is no sentence of its own (the end of a traceback) may hold anything.
    """
    if not line.startswith(_SPEAKS):
        return ""
    told = _OWN_COLUMNS.sub("; name those that the file has in spec.schema.inputs[].columns", line[len(_SPEAKS) :])
    return told if request.columns else _ANY_COLUMN.sub("(named by the file)", told)


def _policies(request: FitRequest) -> Iterator[dict[str, object]]:
    """What the request asks, as `modelward fit` reads it: policies of as many fields as one has, and hierarchies."""
    asked = request.anonymity or Anonymity(0, ())
    fields = {field["name"]: field for field in (*request.fields, *asked.fields)}
    named = list(fields.values())
    spec: dict[str, object] = {"kAnonymity": {"k": asked.k}} if asked.k else {}
    if request.anonymity:
        spec["require"] = {"minimisation": True}
    for at in range(0, max(len(named), 1), MAX_FIELDS):
        yield {
            "apiVersion": "modelward.io/v1alpha1",
            "kind": "DataPolicy",
            "metadata": {"name": f"fit-{at}", "namespace": request.model.partition("/")[0]},
            "spec": {**spec, "fields": named[at : at + MAX_FIELDS]},
        }
    for name, text in asked.hierarchies.items():
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE},
            "data": {HIERARCHY_KEY: text},
        }


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error or type(error).__name__)


def run(options: argparse.Namespace, ready: Callable[[int], None] = lambda _: None) -> None:
    """Do the errand; `ready` is told the port once the baseline can be fetched.

    Raises:
        FitJobError: it came to nothing.
    """
    try:
        errand = msgspec.json.decode(options.errand.read_bytes(), type=Errand)
    except (OSError, msgspec.MsgspecError) as error:
        raise FitJobError(f"{options.errand} is not an errand of this version: {_said(error)}", _AGAIN) from error
    if errand.request.model != options.model:
        raise FitJobError("the errand is for another model")
    with tempfile.TemporaryDirectory(prefix="fit-") as folder:
        data = Path(folder) / f"data{Path(errand.request.source.file or _path(errand)).suffix.lower()}"
        obtain(errand, data, options.data)
        baseline = fit(errand.request, data, Path(folder))
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(options.config_key))
    try:
        with Handover(BASELINE, options.model, key, options.tls, options.port) as handover:
            handover.offer(baseline, errand.request.digest)
            ready(handover.port)
            handover.wait()
    except (HandoverError, OSError) as error:
        raise FitJobError(_said(error), _AGAIN) from error


def _path(errand: Errand) -> str:
    return urllib.parse.urlsplit(errand.request.source.url).path


def main(arguments: list[str] | None = None) -> None:
    """Run the Job's container."""
    parser = job_arguments("modelward-fit-job", __doc__)
    parser.add_argument("--errand", type=Path, required=True, help="what to fit, as the controller wrote it")
    parser.add_argument("--data", type=Path, default=Path(DATA_DIR), help="where the volume is mounted")
    run_job(run, parser.parse_args(arguments))


if __name__ == "__main__":
    main()
