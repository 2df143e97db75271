"""Copying a classifier of digits by asking it, through the sidecar, and honest callers who must not be disturbed.

    make bench-extraction     or   build/attacks/bin/python -m tests.bench.extraction [--in-process] [--out FILE]

The sidecar flags (it does not refuse), so that the curve goes on behind the first flag. Each thief meets a sidecar that
has just been started. `--in-process` drives the detectors without sidecar and sockets, and tells which test it was.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from modelward.detect.clients import Caller
from tests.bench import thieves
from tests.bench.digits_service import ISSUERS, Digits, InProcess, Service, Told, baseline, behind_sidecar, model_server

BUDGETS = (25, 50, 100, 150, 200, 300, 400, 600, 800)
GOAL = 0.9
SESSIONS = 1000
ALONE = (Caller("user:thief", ISSUERS[0], "127.9.0.0/24"),)
ONE_NETWORK = tuple(Caller(f"user:thief{at}", ISSUERS[0], "127.9.0.0/24") for at in range(10))
ONE_ISSUER = tuple(Caller(f"user:thief{at}", ISSUERS[0], f"127.9.{at}.0/24") for at in range(10))

Open = Callable[[], AbstractContextManager[Service]]


class _SpentError(Exception):
    """The thief's budget is."""


@dataclass
class Theft:
    """What one thief asked and was told, and when it was found."""

    name: str
    kind: str
    callers: tuple[Caller, ...]
    budget: int
    service: Service
    rows: list[np.ndarray] = field(default_factory=list)
    answers: list[np.ndarray | None] = field(default_factory=list)
    flagged: int | None = None
    found: frozenset[str] = frozenset()

    def ask(self, row: np.ndarray) -> np.ndarray | None:
        if len(self.rows) >= self.budget:
            raise _SpentError
        told = self.service.ask(self.callers[len(self.rows) % len(self.callers)], np.asarray(row, dtype=np.float64))
        self.rows.append(np.asarray(row, dtype=np.float64))
        self.answers.append(told.answer)
        if told.found and self.flagged is None:
            self.flagged, self.found = len(self.rows), told.found
        return told.answer

    def drive(self, thief: thieves.Thief) -> None:
        with contextlib.suppress(_SpentError, StopIteration):
            row = next(thief)
            while True:
                row = thief.send(self.ask(row))

    def agreement(self, digits: Digits, truth: np.ndarray, asked: int) -> float:
        return thieves.agreement(self.rows[:asked], self.answers[:asked], digits.test, truth)


@dataclass
class Result:
    """A thief's line of the table."""

    theft: Theft
    curve: dict[int, float]
    at_flag: float | None

    @property
    def reached(self) -> int | None:
        """The first of the budgets at which the copy agreed on GOAL."""
        return next((asked for asked, share in self.curve.items() if share >= GOAL), None)

    @property
    def before(self) -> bool:
        """Whether it was flagged before its copy agreed on GOAL."""
        return self.theft.flagged is not None and self.at_flag is not None and self.at_flag < GOAL


def thefts(digits: Digits) -> Iterator[tuple[str, str, int, tuple[Caller, ...], Callable[[Theft], None]]]:
    """Name, kind, budget, identities, and what is done."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(1)

    pool, few, more = digits.pool, digits.pool[:50], digits.pool[:100]
    mnist = thieves.other_digits()
    mnist = mnist[rng().permutation(len(mnist))]
    photographs = thieves.photographs(800, rng())

    def loop(make: Callable[[], thieves.Thief]) -> Callable[[Theft], None]:
        return lambda theft: theft.drive(make())

    def toolbox(rows: np.ndarray, attack: str) -> Callable[[Theft], None]:
        def run(theft: Theft) -> None:
            with contextlib.suppress(_SpentError):
                thieves.toolbox(rows, attack, theft.ask)

        return run

    synthetic: dict[str, Callable[[], thieves.Thief]] = {
        "noise": lambda: thieves.noise(rng()),
        "noise with the digits' own marginals": lambda: thieves.marginal_noise(pool, rng()),
        "JBDA, 50 seeds, step 0.1": lambda: thieves.jacobian(few, 0.1, rng()),
        "JBDA, 100 seeds, step 0.1": lambda: thieves.jacobian(more, 0.1, rng()),
        "JBDA, 50 seeds, step 0.25": lambda: thieves.jacobian(few, 0.25, rng()),
        "line searches between 50 seeds": lambda: thieves.boundary(few, rng()),
        "blends of 50 seeds": lambda: thieves.blends(few, rng()),
        "50 seeds shifted by a pixel": lambda: thieves.shifted(few, rng()),
    }
    for name, make in synthetic.items():
        yield name, "synthetic", 800, ALONE, loop(make)
    yield "photographs (ART CopycatCNN)", "foreign", 800, ALONE, toolbox(photographs, "copycat")
    yield "MNIST's digits (KnockoffNets, random)", "foreign", 800, ALONE, loop(lambda: thieves.asking(mnist))
    yield "MNIST's digits (ART KnockoffNets, adaptive)", "foreign", 800, ALONE, toolbox(mnist[:800], "knockoff")
    yield "digits of the same source (KnockoffNets, random)", "ordinary", 400, ALONE, loop(lambda: thieves.asking(pool))
    yield "the same (ART KnockoffNets, adaptive)", "ordinary", 400, ALONE, toolbox(pool, "knockoff")
    for identities, callers in (("10 subjects, one network", ONE_NETWORK), ("10 subjects, 10 networks", ONE_ISSUER)):
        for name in ("noise", "JBDA, 50 seeds, step 0.1", "blends of 50 seeds"):
            yield f"{name}; {identities}", "synthetic", 800, callers, loop(synthetic[name])
        yield f"photographs; {identities}", "foreign", 800, callers, loop(lambda: thieves.asking(photographs))
        yield f"digits of the same source; {identities}", "ordinary", 400, callers, loop(lambda: thieves.asking(pool))


def steal(digits: Digits, truth: np.ndarray, opened: Open, only: str) -> list[Result]:
    """Run every thief, each against a service of its own."""
    results = []
    for name, kind, budget, callers, run in thefts(digits):
        if only not in name:
            continue
        with opened() as service:
            theft = Theft(name, kind, callers, budget, service)
            run(theft)
        asked = [each for each in BUDGETS if each <= len(theft.rows)]
        curve = {each: theft.agreement(digits, truth, each) for each in asked}
        at_flag = theft.agreement(digits, truth, theft.flagged) if theft.flagged else None
        results.append(Result(theft, curve, at_flag))
        print(f"  {name}: flagged {theft.flagged} {sorted(theft.found)} at {at_flag}; {curve}", file=sys.stderr)
    return results


def honest(digits: Digits, opened: Open) -> tuple[int, Counter[str], int, list[int]]:
    """1,000 sessions: those with an alarm, by what; how many rows were asked in all, and of each session.

    Lengths are log-normal, median 12, at most 300; a third ask mostly for two of the digits, as a client with cases of
    one kind does. One row in ten is sent again as it was, one in 30 with a pixel corrected. 100 networks, 4 issuers;
    up to 40 sessions at a time.
    """
    rng = np.random.default_rng(2)
    lengths = np.clip(np.rint(np.exp(rng.normal(np.log(12), 1.0, size=SESSIONS))), 1, 300).astype(int)
    running: list[tuple[Caller, Iterator[np.ndarray]]] = []
    alarmed: dict[Caller, set[str]] = {}
    waiting = [
        (Caller(f"user:{at}", ISSUERS[at % 4], f"127.1.{at % 100}.0/24"), _session(digits, length, rng.spawn(1)[0]))
        for at, length in enumerate(lengths.tolist())
    ]
    rows = 0
    with opened() as service:
        while waiting or running:
            while waiting and len(running) < 40:
                running.append(waiting.pop())
            at = int(rng.integers(len(running)))
            caller, session = running[at]
            row = next(session, None)
            if row is None:
                running.pop(at)
                continue
            rows += 1
            told: Told = service.ask(caller, row)
            if told.found:
                alarmed.setdefault(caller, set()).update(told.found)
    return len(alarmed), Counter(itertools.chain.from_iterable(alarmed.values())), rows, lengths.tolist()


def _session(digits: Digits, length: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    weights = np.ones(len(digits.honest))
    if rng.random() < 1 / 3:
        weights[np.isin(digits.honest_labels, rng.choice(10, 2, replace=False))] = 20
    fresh = iter(digits.honest[rng.choice(len(digits.honest), length, replace=False, p=weights / weights.sum())])
    last = None
    for _ in range(length):
        what = rng.random()
        if last is not None and what < 0.1:
            yield last
        elif last is not None and what < 0.1 + 1 / 30:
            last = last.copy()
            last[rng.integers(len(last))] = rng.integers(17)
            yield last
        else:
            last = next(fresh)
            yield last


def markdown(results: list[Result], calm: tuple[int, Counter[str], int, list[int]], told: str) -> str:
    head = [
        "queries",
        "kind",
        "flagged at",
        "by",
        "agreement then",
        "90 % reached at",
        *(f"{each}" for each in BUDGETS),
    ]
    lines = [
        "# Copying a model by asking it",
        "",
        *HOW,
        "",
        told,
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
    ]
    for result in results:
        theft = result.theft
        cells = [
            theft.name,
            theft.kind,
            str(theft.flagged or "never"),
            ", ".join(sorted(theft.found)),
            "" if result.at_flag is None else f"{result.at_flag:.0%}",
            str(result.reached or "not reached"),
            *(f"{result.curve[each]:.0%}" if each in result.curve else "" for each in BUDGETS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    strange = [result for result in results if result.theft.kind != "ordinary"]
    late = [result.theft.name for result in strange if not result.before]
    sessions, by, rows, lengths = calm
    lines += [
        "",
        f"Goal: synthetic and foreign queries are flagged before the copy agrees on {GOAL:.0%}: "
        f"{len(strange) - len(late)} of {len(strange)}" + (f"; MISSED: {'; '.join(late)}." if late else ", met."),
        "",
        f"Goal: no alarm in {SESSIONS:,} honest sessions: {sessions}"
        + (f", MISSED ({', '.join(f'{name} {count}' for name, count in by.most_common())})" if sessions else ", met")
        + f". They asked {rows:,} rows; of a session, in the median {np.median(lengths):.0f}, in 95 % at most"
        f" {np.quantile(lengths, 0.95):.0f}, {max(lengths)} at the most.",
        "",
        "Run it again with `make bench-extraction`.",
        "",
    ]
    return "\n".join(lines)


HOW = (
    "A neural network (64, 64) for scikit-learn's 8 x 8 digits, trained on 700 of the 1,797, answers one row a request"
    " with all ten probabilities. A thief asks and trains a support vector machine and a neural network on the answers;"
    " the better one is judged by its agreement with the model on 297 rows that nobody asked. Thieves have 400 other"
    " digits (ordinary), rows of another source (foreign), or make their queries up (synthetic). The last columns are"
    " budgets: so many queries, and what the copy agreed on by then. JBDA and the line searches begin with ordinary"
    " rows, their seeds: nothing can be flagged among those.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-process", action="store_true")
    parser.add_argument("--only", default="", help="thieves whose name holds this")
    parser.add_argument("--out", type=Path, help="write the page there")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    began = time.monotonic()
    digits = Digits.split()
    model, content = digits.model(), baseline(digits)
    truth = model.predict(digits.test / thieves.WHITE)
    with contextlib.ExitStack() as stack:
        port = 0 if args.in_process else stack.enter_context(model_server())

        def opened() -> AbstractContextManager[Service]:
            if args.in_process:
                return contextlib.nullcontext(InProcess(model, content))
            return behind_sidecar(content, port)

        calm = honest(digits, opened)
        print(f"  honest sessions with an alarm: {calm[0]} {dict(calm[1])} of {calm[2]} rows", file=sys.stderr)
        results = steal(digits, truth, opened, args.only)
    how = "the detectors alone, in the process" if args.in_process else "through the sidecar over TLS, which flags"
    told = (
        f"{datetime.now(UTC):%Y-%m-%d}, {how}; the model is right on {(truth == digits.test_labels).mean():.0%};"
        f" {os.cpu_count()} cores, Python {platform.python_version()}, {time.monotonic() - began:.0f} s,"
        f" load {os.getloadavg()[0]:.1f} at the end."
    )
    page = markdown(results, calm, told)
    print(page)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(page)


if __name__ == "__main__":
    main()
