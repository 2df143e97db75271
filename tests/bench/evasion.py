"""Evasion by ART's black-box attacks, against the model alone and against the model behind the detectors.

    make bench-evasion     or   build/attacks/bin/python -m tests.bench.evasion [--rows 20] [--out FILE]

The detectors alone, in the process, as a sidecar drives them that blocks.
"""

from __future__ import annotations

import itertools
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from art.attacks.evasion import HopSkipJump, SquareAttack, ZooAttack
from art.estimators.classification import BlackBoxClassifierNeuralNetwork
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelward.detect import fitting
from modelward.detect.clients import Caller
from modelward.detect.encoding import Array
from modelward.detect.evasion import DEFAULT_EXTRA, Evasion
from modelward.detect.membership import Membership
from modelward.detect.probing import Probed
from modelward.detect.space import Space
from modelward.detect.surroundings import Surroundings
from tests.bench import attacked
from tests.bench.attacked import Data, Model, Predict
from tests.bench.page import command_line, publish

RATE = 0.01
NEAR = 0.75  # of the way to the nearest row of another class: farther is no disguise, but another row
DECOYS = 4
REPLAYED = 400  # queries of an attack that are mixed with decoys
MAX_QUERIES = 6_000  # of one attack
THIEF = Caller("user:attacker", "clinic", "10.0.0.0/24")

HEAD = """# Evasion

Made by `make bench-evasion` (`python -m tests.bench.evasion`), which overwrites this page. The detectors are driven in
the process, without the sidecar. The attacks are ART 1.20.1's. A model is trained on half of each set; at most 512
other rows calibrate `Evasion` for {rate:.0%} false alarms; `Membership` counts queries around one point, per client.
{rows} test rows that the model gets right are attacked each time ({zoo} by ZOO, which asks most): few, so no share is
sharper than a tenth or two.

- *success*: the model is wrong about the changed row, which has gone at most {near:.0%} of the way (L2, each column by
  its range) to the nearest row of another class; behind it the median way of the successes.
- *final row found*: of those, the share that `Evasion` flags, asked once.
- *attack found*: `Membership` finds the attacker, after so many of its queries (median). The same *with decoys*:
  {decoys} ordinary rows between any two queries.
- *success behind Evasion*: what it flags is refused, and the attacker takes a refusal as «not there» and goes around;
  HopSkipJump begins at a real row of another class, so it walks where ordinary rows are. Each query comes from another
  client, so that `Membership` sees nothing: the attacker who knows the detectors. Success is a row that passes when it
  is sent anew.
- *success behind both*: the same with one client, who is refused everything once found.
- No attack asks more than about {most:,} times; of what it asked, the first {replayed} queries are mixed with decoys.

"""


class Target(NamedTuple):
    """A model and what stands before it."""

    data: Data
    predict: Predict
    model: Model
    evasion: Probed
    space: Space
    low: Array
    span: Array

    def unit(self, rows: Array) -> Array:
        return (rows - self.low) / self.span

    def rows(self, unit: Array) -> Array:
        return np.asarray(unit, dtype=np.float64).reshape(len(unit), -1) * self.span + self.low


def target(name: str, kind: str, answering: Callable[[Predict], Model]) -> Target:
    data = attacked.load(name, 0)
    low, high = data.train.min(axis=0), data.train.max(axis=0)
    if data.image:
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    span = np.where(high > low, high - low, 1.0)
    if kind == "forest":
        fitted = RandomForestClassifier(60, random_state=0).fit(data.train, data.train_labels)
    else:
        network = MLPClassifier((64,), max_iter=100, random_state=0, alpha=1e-2)
        fitted = network if data.image else make_pipeline(StandardScaler(), network)
        fitted.fit((data.train - low) / span, data.train_labels)

    def predict(rows: Array) -> Array:
        return fitted.predict_proba(rows if kind == "forest" else (rows - low) / span)

    model = answering(predict)
    evasion = attacked.learnt(Evasion(Surroundings.of(data.reference, image=data.image)), data.reference, model, RATE)
    baseline = fitting.fit(data.train, detectors=["Mahalanobis"])
    return Target(data, predict, model, evasion, Space.of(baseline.summary, baseline.encoding.features), low, span)


class _EndedError(Exception):
    """The attacker is refused everything, or has asked enough; ART's loops would go on for ever."""


@dataclass
class Oracle:
    """What an attacker asks about one `row` whose class is `origin`: ART's classifier, before it the detectors.

    `best`: the nearest to `row` of what was asked, answered wrongly and not refused.
    """

    target: Target
    row: Array
    origin: int
    evasion: bool
    membership: Membership | None
    labels_only: bool
    queries: list[Array] = field(default_factory=list)
    asked: int = 0
    found: int | None = None
    best: Array | None = None
    least: float = np.inf

    def __call__(self, unit: Array) -> Array:
        if self.asked > MAX_QUERIES or (self.evasion and self.found is not None):
            raise _EndedError
        rows = self.target.rows(unit)
        shares = self.target.predict(rows)
        if self.labels_only:
            shares = np.eye(shares.shape[1])[shares.argmax(axis=1)]
        refused = np.zeros(len(rows), dtype=bool)
        if self.evasion:
            refused |= attacked.flagged(self.target.evasion, rows, self.target.model)
        for index, row in enumerate(rows):
            self.asked += 1
            if len(self.queries) < REPLAYED:
                self.queries.append(row)
            if self.membership and self.found is None and self.membership.add(THIEF, row[np.newaxis], 0.0):
                self.found = self.asked
            refused[index] |= self.evasion and self.found is not None
        for row in rows[~refused & (shares.argmax(axis=1) != self.origin)]:
            far = float(np.linalg.norm((row - self.row) / self.target.span))
            if far < self.least:
                self.best, self.least = row, far
        shares[refused] = np.eye(shares.shape[1])[self.origin]
        return shares


class Attempt(NamedTuple):
    """How one row fared."""

    success: bool
    distance: float  # of the way to the nearest row of another class
    flagged: bool
    asked: int
    found: int | None
    found_with_decoys: bool


def attempts(
    goal: Target, attack: str, rows: int, *, labels_only: bool, evasion: bool, member: bool
) -> Iterator[Attempt]:
    right = np.flatnonzero(goal.predict(goal.data.test).argmax(axis=1) == goal.data.test_labels)[:rows]
    for index in right.tolist():
        row, origin = goal.data.test[index], int(goal.data.test_labels[index])
        others = goal.data.test[goal.data.test_labels != origin]
        others = others[goal.predict(others).argmax(axis=1) != origin]
        apart = np.linalg.norm(goal.unit(others) - goal.unit(row[np.newaxis]), axis=1)
        oracle = Oracle(goal, row, origin, evasion, Membership(goal.space, RATE) if member else None, labels_only)
        try:
            adversarial = _attacked(goal, attack, oracle, row, others[apart.argmin()])
        except _EndedError:
            adversarial = (row if oracle.best is None else oracle.best)[np.newaxis]
        distance = float(np.linalg.norm(goal.unit(adversarial) - goal.unit(row[np.newaxis])) / apart.min())
        wrong = int(goal.predict(adversarial).argmax(axis=1)[0]) != origin
        flagged = bool(attacked.flagged(goal.evasion, adversarial, goal.model)[0])
        refused = evasion and (flagged or oracle.found is not None)
        success = wrong and distance <= NEAR and not refused
        decoys = _with_decoys(goal, oracle.queries) if member and not evasion else False
        yield Attempt(success, distance, flagged, oracle.asked, oracle.found, decoys)


def _attacked(goal: Target, attack: str, oracle: Oracle, row: Array, other: Array) -> Array:
    """What the attack makes of `row` (1, d)."""
    image = goal.data.image
    shape = (1, *image[:2]) if image else row.shape
    classifier = BlackBoxClassifierNeuralNetwork(
        oracle, shape, int(goal.data.test_labels.max()) + 1, channels_first=True, clip_values=(0.0, 1.0)
    )

    def unit(of: Array) -> Array:
        return np.clip(goal.unit(of[np.newaxis]), 0, 1).reshape(1, *shape).astype(np.float32)

    np.random.seed(0)  # noqa: NPY002 - ART's own
    match attack:
        case "HopSkipJump":
            how = HopSkipJump(classifier, max_iter=12, max_eval=150, init_eval=30, verbose=False)
            changed = how.generate(unit(row), x_adv_init=unit(other))
        case "Square":
            how = SquareAttack(classifier, eps=0.1 if goal.data.name == "digits" else 0.15, max_iter=500, verbose=False)
            changed = how.generate(unit(row))
        case _:
            how = ZooAttack(
                classifier, max_iter=40, learning_rate=0.1, binary_search_steps=3, use_resize=False,
                use_importance=False, nb_parallel=64 if image else 10, variable_h=0.2, verbose=False,
            )  # fmt: skip
            changed = how.generate(unit(row))
    return goal.rows(changed)


def _with_decoys(goal: Target, queries: list[Array]) -> bool:
    """Whether Membership finds the attacker who asks about ordinary rows between."""
    membership = Membership(goal.space, RATE)
    decoys = itertools.cycle(np.vstack([goal.data.reference, goal.data.train]))
    for query in queries:
        asked = [query, *itertools.islice(decoys, DECOYS)]
        if any(membership.add(THIEF, each[np.newaxis], 0.0) for each in asked):
            return True
    return False


def honest(goal: Target) -> tuple[np.ndarray, int, int]:
    """Which test rows Evasion flags; how many clients of 100 rows each Membership finds, of how many."""
    found = 0
    sessions = [goal.data.test[start : start + 100] for start in range(0, len(goal.data.test), 100)]
    for at, rows in enumerate(sessions):
        membership = Membership(goal.space, RATE)
        found += any(membership.add(Caller(f"user:{at}", "clinic", ""), row[np.newaxis], 0.0) for row in rows)
    return attacked.flagged(goal.evasion, goal.data.test, goal.model), found, len(sessions)


def line(goal: Target, attack: str, rows: int, *, labels_only: bool) -> str:
    plain = list(attempts(goal, attack, rows, labels_only=labels_only, evasion=False, member=True))
    behind = list(attempts(goal, attack, rows, labels_only=labels_only, evasion=True, member=False))
    both = list(attempts(goal, attack, rows, labels_only=labels_only, evasion=True, member=True))
    won = [one for one in plain if one.success]
    found = [one.found for one in plain if one.found is not None]
    wins = [one for one in behind if one.success]
    cells = [
        f"{attack}, {'labels' if labels_only else 'scores'}",
        f"{np.median([one.asked for one in plain]):,.0f}",
        _share([one.success for one in plain]) + _far(won),
        _share([one.flagged for one in won]),
        _share([one.found is not None for one in plain]) + (f", {np.median(found):,.0f}" if found else ""),
        _share([one.found_with_decoys for one in plain]),
        _share([one.success for one in behind]) + _far(wins),
        _share([one.success for one in both]),
    ]
    return f"| {' | '.join(cells)} |"


def _share(of: list[bool]) -> str:
    return f"{np.mean(of):.0%}" if of else "none"


def _far(of: list[Attempt]) -> str:
    return f", {np.median([one.distance for one in of]):.0%} of the way" if of else ""


# Only HopSkipJump can do with labels; Square's images are flat arrays to a forest, whose scores are steps as well.
CASES = {
    ("digits", "network"): (("HopSkipJump", False), ("HopSkipJump", True), ("Square", False), ("ZOO", False)),
    ("mnist_5k", "network"): (("HopSkipJump", False), ("HopSkipJump", True), ("Square", False)),
    ("breast cancer", "network"): (("HopSkipJump", False), ("HopSkipJump", True), ("ZOO", False)),
    ("digits", "forest"): (("HopSkipJump", True),),
}


def measure(name: str, kind: str, attack: str, labels_only: bool, rows: int) -> tuple[str, str]:
    """What is said of ordinary rows, and the attack's line of the table."""
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    logging.disable(logging.WARNING)
    goal = target(name, kind, attacked.labels if labels_only else attacked.scores)
    flagged, found, sessions = honest(goal)
    cost = attacked.own_cost(goal.evasion, goal.data.test[:1], goal.model)
    calm = (
        f"Answers with {'labels' if labels_only else 'scores'}: `Evasion` flags {attacked.share(flagged)} ordinary "
        f"rows (asked {RATE:.0%}), for {DEFAULT_EXTRA} more rows asked of the model and {cost:.0f} us of its own "
        f"for each; `Membership` finds {found} of {sessions} honest clients with 100 rows each.\n"
    )
    shown = line(goal, attack, max(1, rows // 2) if attack == "ZOO" else rows, labels_only=labels_only)
    print(f"  {name}, {kind}: {shown}", file=sys.stderr, flush=True)
    return calm, shown


def table(name: str, kind: str, measured: list[tuple[bool, str, str]]) -> Iterator[str]:
    yield f"## {name}, a {kind}\n"
    yield from {labels_only: calm for labels_only, calm, _ in measured}.values()
    yield (
        "| attack | queries | success | final row found | attack found, after | with decoys | success behind Evasion |"
        " success behind both |"
    )
    yield "|---|---:|---|---:|---|---:|---|---:|"
    yield from (shown for _, _, shown in measured)
    yield ""


def main() -> None:
    parser = command_line(__doc__, out=True)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[name for name, _ in CASES], help="these sets")
    args = parser.parse_args()
    began = time.monotonic()
    cases = {case: attacks for case, attacks in CASES.items() if case[0] in args.only}
    jobs = [(*case, *attack, args.rows) for case, attacks in cases.items() for attack in attacks]
    with ProcessPoolExecutor(args.jobs) as pool:
        measured = list(zip(jobs, pool.map(measure, *zip(*jobs, strict=True)), strict=True))
    head = HEAD.format(
        rate=RATE, rows=args.rows, zoo=max(1, args.rows // 2), near=NEAR, decoys=DECOYS, most=MAX_QUERIES,
        replayed=REPLAYED,
    )  # fmt: skip
    body = [
        text
        for case in cases
        for text in table(*case, [(job[3], *found) for job, found in measured if job[:2] == case])
    ]
    page = head + attacked.told(began) + ".\n\n" + "\n".join(body)
    publish(page, args.out)


if __name__ == "__main__":
    main()
