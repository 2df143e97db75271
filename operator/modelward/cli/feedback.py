"""`modelward feedback`: flagged requests that were ordinary, for the next fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import click

from modelward.detect.feedback import Benign, Feedback, FeedbackError, from_bytes
from modelward.logchain import chunks, split, verify, watched

_SHARE = re.compile(r"\d(\.\d{1,20})?(e-\d{1,3})?")


@click.command("feedback", help="Take the scores of flagged requests that were ordinary from an access log, for `fit`.")
@click.argument("log", type=click.File("rb"), metavar="LOG|-")
@click.option(
    "--benign",
    "references",
    multiple=True,
    required=True,
    help="A request's id, as its caller was told it (`instance`, x-modelward-request-id). May be given again.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where to write them.")
def command(log: IO[bytes], references: tuple[str, ...], out: Path) -> None:
    """Write the file: exit 1 when the log is not as the sidecar wrote it, 2 when a request is not in it."""
    wanted = _Wanted(set(references))
    try:
        verdict = verify(wanted.watch(split(chunks(log))))
        if verdict.begins_at is None:
            _fail("not one line with a number and a chain: this is no access log of modelward")
        if verdict.findings:
            first = verdict.findings[0]
            click.echo(
                f"modelward: the log is not as the sidecar wrote it (line {first.line}: {first.message}), so its scores"
                " count for nothing; `modelward verify-log` has the rest",
                err=True,
            )
            sys.exit(1)
        feedback = wanted.feedback()
        out.write_bytes(feedback.to_bytes())
    except OSError as error:
        _fail(f"{error.filename or 'the log'}: {error.strerror}")
    click.echo(f"{out}: {len(feedback.rows)} requests, scored by the baseline {feedback.baseline}")
    click.echo(f"count them in: modelward fit DATA --out baseline.npz --feedback {out}")


class _Wanted:
    """Looks for requests while a log is read. What is in force is told by the lines before a record."""

    def __init__(self, references: set[str]) -> None:
        self._missing = references
        self._baseline = ""
        self._rates: dict[str, float] = {}
        self._found: list[Benign] = []
        self._baselines: dict[str, str] = {}  # and a request that it scored
        self._unscored: list[str] = []

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        return watched(lines, self._read)

    def _read(self, document: dict[str, Any]) -> None:
        told = document.get("start") or document.get("configuration")
        if isinstance(told, dict):
            self._baseline = str(told.get("baseline", ""))
            self._rates = _rates(str(told.get("detectors", "")))
        elif isinstance(request := document.get("request"), str) and request in self._missing:
            self._take(request, document)

    def _take(self, request: str, record: dict[str, Any]) -> None:
        self._missing.discard(request)
        scores = record.get("scores")
        if not isinstance(scores, dict) or not scores or not self._baseline:
            self._unscored.append(request)
            return
        self._baselines[self._baseline] = request
        rates = {name: self._rates[name] for name in scores if name in self._rates}
        self._found.append(Benign(request, record.get("time", ""), scores, rates))

    def feedback(self) -> Feedback:
        if self._missing:
            _fail(f"not in this log: {', '.join(sorted(self._missing)[:5])}; give the log of the pod that answered")
        if self._unscored:
            _fail(
                f"{', '.join(self._unscored[:5])}: not flagged by a detector of single rows, so there is no score to"
                " count; what other detectors find is no matter of the baseline's thresholds"
            )
        if len(self._baselines) > 1:
            examples = ", ".join(f"{request} by {digest[:19]}" for digest, request in self._baselines.items())
            _fail(f"they were scored by different baselines ({examples}): make one file for each")
        feedback = Feedback(next(iter(self._baselines)), tuple(self._found))
        try:
            return from_bytes(feedback.to_bytes())
        except FeedbackError as error:  # the chain holds, and yet no sidecar wrote this
            _fail(f"the log holds something that no score, rate or digest can be: {error}")


def _rates(text: str) -> dict[str, float]:
    """From `Ensemble=0.01 Tails=0.05`."""
    pairs = (each.partition("=") for each in text.split())
    return {name: float(rate) for name, _, rate in pairs if _SHARE.fullmatch(rate)}


def _fail(message: str) -> NoReturn:
    click.echo(f"modelward: {message}", err=True)
    sys.exit(2)
