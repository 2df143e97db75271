"""Copying a classifier of digits by asking it, through the sidecar, and honest callers who must not be disturbed.

    make bench-extraction     or   build/attacks/bin/python -m tests.bench.extraction [--in-process] [--out FILE]

The sidecar flags (it does not refuse), so that the curve goes on behind the first flag. Each thief meets a sidecar that
has just been started. The detectors alone are driven beside it with the same rows: they tell which test it was, and
whether the sidecar says the same. The further seeds go to them alone, as everything does with `--in-process`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from modelward.detect.clients import Caller
from tests.bench import thieves
from tests.bench.digits_service import (
    ISSUERS,
    Both,
    Compared,
    Digits,
    InProcess,
    Service,
    baseline,
    behind_sidecar,
    model_server,
)
from tests.bench.honest_sessions import SESSIONS, Calm, honest, sessions
from tests.bench.page import command_line

BUDGETS = (25, 50, 100, 150, 200, 300, 400, 600, 800)
GOAL = 0.9
ALONE = (Caller("user:thief", ISSUERS[0], "127.9.0.0/24"),)
ONE_NETWORK = tuple(Caller(f"user:thief{at}", ISSUERS[0], "127.9.0.0/24") for at in range(10))
ONE_ISSUER = tuple(Caller(f"user:thief{at}", ISSUERS[0], f"127.9.{at}.0/24") for at in range(10))

Open = Callable[[], AbstractContextManager[Service]]
COVERAGES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


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
    """A thief's line of the table: one theft a seed, the curve of the first."""

    thefts: list[Theft]
    curve: dict[int, float]
    at_flag: list[float | None]

    @property
    def reached(self) -> int | None:
        """The first of the budgets at which the copy agreed on GOAL."""
        return next((asked for asked, share in self.curve.items() if share >= GOAL), None)

    @property
    def before(self) -> bool:
        """Whether it was flagged before its copy agreed on GOAL, with every seed."""
        return all(share is not None and share < GOAL for share in self.at_flag)

    def flags(self) -> str:
        """When it was flagged, over the seeds."""
        when = sorted(theft.flagged for theft in self.thefts if theft.flagged)
        never = len(self.thefts) - len(when)
        told = [f"{when[0]}" if when[0] == when[-1] else f"{when[0]} to {when[-1]}"] if when else []
        return ", ".join([*told, *(["never" if never == len(self.thefts) else f"never with {never}"] if never else [])])


def thefts(digits: Digits, seed: int) -> Iterator[tuple[str, str, int, tuple[Caller, ...], Callable[[Theft], None]]]:
    """Name, kind, budget, identities, and what is done."""

    def rng() -> np.random.Generator:
        return np.random.default_rng(seed)

    pool = digits.pool[rng().permutation(len(digits.pool))]
    few, more = pool[:50], pool[:100]
    mnist = thieves.other_digits()
    mnist = mnist[rng().permutation(len(mnist))]
    photographs = thieves.photographs(800, rng())

    def loop(make: Callable[[], thieves.Thief]) -> Callable[[Theft], None]:
        return lambda theft: theft.drive(make())

    def toolbox(rows: np.ndarray, attack: str) -> Callable[[Theft], None]:
        def run(theft: Theft) -> None:
            np.random.seed(seed)  # noqa: NPY002 - the toolbox's own source of chance
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


def steal(digits: Digits, truth: np.ndarray, opened: list[Open], only: str) -> list[Result]:
    """Run every thief, each against a service of its own, once for each of `opened`."""
    found: dict[str, Result] = {}
    for seed, open_service in enumerate(opened, 1):
        for name, kind, budget, callers, run in thefts(digits, seed):
            if only not in name:
                continue
            with open_service() as service:
                theft = Theft(name, kind, callers, budget, service)
                run(theft)
            result = found.setdefault(name, Result([], {}, []))
            if seed == 1:
                asked = [each for each in BUDGETS if each <= len(theft.rows)]
                result.curve = {each: theft.agreement(digits, truth, each) for each in asked}
            result.thefts.append(theft)
            result.at_flag.append(theft.agreement(digits, truth, theft.flagged) if theft.flagged else None)
            told = f"flagged at {theft.flagged} {sorted(theft.found)}, agreement then {result.at_flag[-1]}"
            print(f"  seed {seed}, {name}: {told}", file=sys.stderr, flush=True)
    return list(found.values())


def budgets(digits: Digits, truth: np.ndarray, content: bytes) -> list[tuple[float, int, str, str]]:
    """What budgets of coverage do: honest sessions over it, and when a thief of ordinary rows is, with what copy."""
    watched = InProcess(digits.model(), content)
    covered = []
    for caller, session in sessions(digits)[1]:
        for row in session:
            watched.extraction.add(caller, row[np.newaxis], 0.0)
        covered.append(watched.extraction.coverage(caller))
    theft = Theft("", "ordinary", ALONE, len(digits.pool), InProcess(digits.model(), content))
    shares = []
    for row in digits.pool:
        theft.ask(row)
        shares.append(theft.service.extraction.coverage(ALONE[0]))
    rows = []
    for budget in COVERAGES:
        over = next((asked for asked, share in enumerate(shares, 1) if share > budget), None)
        agreed = f"{theft.agreement(digits, truth, over):.0%}" if over else ""
        rows.append((budget, sum(share > budget for share in covered), str(over or "never"), agreed))
    return rows


def markdown(results: list[Result], calm: Calm, covering: list[tuple[float, int, str, str]], told: str) -> str:
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
        theft, agreed = result.thefts[0], [share for share in result.at_flag if share is not None]
        cells = [
            theft.name,
            theft.kind,
            result.flags(),
            ", ".join(sorted(theft.found)),
            f"{max(agreed):.0%}" if agreed else "",
            str(result.reached or "not reached"),
            *(f"{result.curve[each]:.0%}" if each in result.curve else "" for each in BUDGETS),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    strange = [result for result in results if result.thefts[0].kind != "ordinary"]
    late = [result.thefts[0].name for result in strange if not result.before]
    lines += [
        "",
        f"Goal: synthetic and foreign queries are flagged before the copy agrees on {GOAL:.0%}: "
        f"{len(strange) - len(late)} of {len(strange)}" + (f"; MISSED: {'; '.join(late)}." if late else ", met."),
        "",
        f"Goal: no alarm in {SESSIONS:,} honest sessions: {calm.alarmed}"
        + (f", MISSED ({', '.join(f'{name} {count}' for name, count in calm.by.items())})" if calm.alarmed else ", met")
        + f". They asked {calm.rows:,} rows; of a session, in the median {np.median(calm.lengths):.0f}, in 95 % at most"
        f" {np.quantile(calm.lengths, 0.95):.0f}, {max(calm.lengths)} at the most.",
        "",
        "Ordinary rows cannot be told from anybody's: what stops their thief is a budget of coverage, which is the"
        " owner's choice between what one client may learn and what an honest one may need.",
        "",
        "| budget | honest sessions over it | a thief of ordinary rows is over it at | with a copy that agrees on |",
        "|---|---|---|---|",
        *(f"| {budget:g} | {over} of {SESSIONS:,} | {when} | {agreed} |" for budget, over, when, agreed in covering),
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
    parser = command_line(__doc__, out=True)
    parser.add_argument("--in-process", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="thieves whose name holds this")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    began = time.monotonic()
    digits = Digits.split()
    model, content = digits.model(), baseline(digits)
    truth = model.predict(digits.test / thieves.WHITE)
    compared = Compared()
    with contextlib.ExitStack() as stack:
        port = 0 if args.in_process else stack.enter_context(model_server())

        def alone() -> AbstractContextManager[Service]:
            return contextlib.nullcontext(InProcess(model, content))

        @contextlib.contextmanager
        def real() -> Iterator[Service]:
            with behind_sidecar(content, port) as service:
                yield Both(service, InProcess(model, content), compared)

        first = alone if args.in_process else real
        calm = honest(digits, first)
        print(f"  honest sessions with an alarm: {calm.alarmed} {calm.by}, {calm.rows} rows", file=sys.stderr)
        results = steal(digits, truth, [first, *[alone] * (args.seeds - 1)], args.only)
    how = (
        "the detectors alone, in the process"
        if args.in_process
        else "through the sidecar over TLS, which flags (the detectors alone said the same of"
        f" {compared.same:,} of {compared.rows:,} requests)"
    )
    told = (
        f"{datetime.now(UTC):%Y-%m-%d}, {how}; the model is right on {(truth == digits.test_labels).mean():.0%};"
        f" the first of {args.seeds} seeds so, the others by the detectors alone: «flagged at» is their range,"
        f" «agreement then» the greatest. {os.cpu_count()} cores, Python {platform.python_version()},"
        f" {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f} at the end."
    )
    page = markdown(results, calm, budgets(digits, truth, content), told)
    print(page)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(page)


if __name__ == "__main__":
    main()
