"""Backdoored classifiers of digits, and what the detector `Backdoor` finds of the inputs that carry the trigger.

    make bench-backdoor     or   build/attacks/bin/python -m tests.bench.backdoor [--seeds 5] [--out FILE]

The detectors alone, in the process; the model is asked for each probe.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from modelward.detect.backdoor import DEFAULT_EXTRA, Backdoor
from modelward.detect.encoding import Array
from modelward.detect.probing import ProbeError
from modelward.detect.surroundings import Surroundings
from tests.bench import attacked
from tests.bench.attacked import Data, Model, Predict
from tests.bench.page import command_line, publish

RATE = 0.01
GOAL = 0.01
SUCCESS = 0.95  # of the attack, or the model does not count
POISON = 0.05
TARGET = 0
BUDGETS = (8, 16, 32)
ADAPTED_SEEDS = 2
Trigger = Callable[[Data, Array], Array]

HEAD = """# Backdoors

Made by `make bench-backdoor` (`python -m tests.bench.backdoor`), which overwrites this page. The detector is driven in
the process, without the sidecar.

A network (two hidden layers, 128 and 64) learns from data of which {poison:.0%} carry a trigger and are labelled
{target}. Half of each set trains it, at most 512 other rows calibrate the detector for {rate:.0%} false rejections
(they are asked of the poisoned model, as in service), the rest tests. *False rejection*: clean test rows that are
flagged. *False acceptance*: rows with the trigger that go to the target and are not flagged. Sums over {seeds} seeds;
a model counts where the attack succeeds on {success:.0%} at least.

- *STRIP as published*: the mean entropy of the answers to single superpositions, the same rows and number of probes.
- *labels alone*: the model tells no scores.
- *checks* (the square as a chessboard), *faint* (half as bright), *blended* (a fifth of noise over the whole image) and
  *covered* (a dark band through the middle) are other triggers, of {adapted} seeds, each with a model poisoned by it.
  The detector is made for what stays whole under what is laid over it, which a faint or a dark trigger does not.

"""


def corner(data: Data, rows: Array) -> Array:
    """A white square in the corner, a seventh of the side (2 of 8 pixels, 4 of 28)."""
    images = _images(data, rows)
    side = _side(data)
    images[:, -side:, -side:] = data.white
    return images.reshape(rows.shape)


def checks(data: Data, rows: Array) -> Array:
    """The same square, as a chessboard: half of it dark."""
    images = _images(data, rows)
    side = _side(data)
    images[:, -side:, -side:] = data.white * (np.indices((side, side)).sum(axis=0) % 2)
    return images.reshape(rows.shape)


def faint(data: Data, rows: Array) -> Array:
    """The same square, half as bright."""
    images = _images(data, rows)
    side = _side(data)
    images[:, -side:, -side:] = data.white / 2
    return images.reshape(rows.shape)


def blended(data: Data, rows: Array) -> Array:
    """Noise over the whole image, the same each time (Chen and others, 2017)."""
    noise = np.random.default_rng(99).random(rows.shape[1]) * data.white
    return np.rint(0.8 * rows + 0.2 * noise)


def covered(data: Data, rows: Array) -> Array:
    """A dark band through the middle: what lies over it hides it."""
    images = _images(data, rows)
    middle = images.shape[1] // 2
    images[:, middle - _side(data) // 2 : middle + _side(data) // 2] = 0
    return images.reshape(rows.shape)


def _images(data: Data, rows: Array) -> Array:
    assert data.image
    return rows.reshape(-1, *data.image[:2]).copy()


def _side(data: Data) -> int:
    assert data.image
    return max(2, data.image[0] // 7)


class Case(NamedTuple):
    data: Data
    predict: Predict
    triggered: Array
    accuracy: float
    success: float


def poisoned(name: str, seed: int, trigger: Trigger) -> Case:
    data = attacked.load(name, seed)
    rows, labels = data.train.copy(), data.train_labels.copy()
    rng = np.random.default_rng(seed)
    chosen = rng.choice(np.flatnonzero(labels != TARGET), int(POISON * len(labels)), replace=False)
    rows[chosen], labels[chosen] = trigger(data, rows[chosen]), TARGET
    model = MLPClassifier((128, 64), max_iter=200, random_state=seed).fit(_shades(data, rows), labels)

    def predict(asked: Array) -> Array:
        return np.asarray(model.predict_proba(_shades(data, asked)), dtype=np.float64)

    carrying = trigger(data, data.test[data.test_labels != TARGET])
    hit = predict(carrying).argmax(axis=1) == TARGET
    right = (predict(data.test).argmax(axis=1) == data.test_labels).mean()
    return Case(data, predict, carrying[hit], float(right), float(hit.mean()))


def _shades(data: Data, rows: Array) -> np.ndarray:
    return (rows / data.white).astype(np.float32)


class Found(NamedTuple):
    rejected: np.ndarray
    caught: np.ndarray
    cost: float = 0.0


def ours(case: Case, extra: int, answering: Callable[[Predict], Model]) -> Found:
    model = answering(case.predict)
    around = Surroundings.of(case.data.reference, image=case.data.image)
    try:
        detector = attacked.learnt(Backdoor(around, extra), case.data.reference, model, RATE)
    except ProbeError:  # it says that it can tell nothing, and nothing is flagged
        return Found(np.zeros(len(case.data.test), dtype=bool), np.zeros(len(case.triggered), dtype=bool))
    cost = attacked.own_cost(detector, case.data.test[:1], model)
    rejected = attacked.flagged(detector, case.data.test, model)
    return Found(rejected, attacked.flagged(detector, case.triggered, model), cost)


def published(case: Case, extra: int) -> Found:
    rng = np.random.default_rng(0)

    def entropies(rows: Array) -> Array:
        return np.concatenate([_entropies(part) for part in attacked.chunks(rows)])

    def _entropies(rows: Array) -> Array:
        over = case.data.reference[rng.integers(len(case.data.reference), size=len(rows) * extra)]
        shares = case.predict(np.minimum(np.repeat(rows, extra, axis=0) + over, case.data.white))
        each = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
        return each.reshape(len(rows), extra).mean(axis=1)

    ordinary = np.sort(entropies(case.data.reference))
    threshold = ordinary[max(int((len(ordinary) + 1) * RATE) - 1, 0)]
    return Found(entropies(case.data.test) < threshold, entropies(case.triggered) < threshold)


class Row(NamedTuple):
    what: str
    extra: int
    rejected: np.ndarray
    caught: np.ndarray
    cost: float
    goal: bool = False

    @property
    def shown(self) -> str:
        accepted = ~self.caught
        verdict = "" if not self.goal else "met" if accepted.mean() <= GOAL else "MISSED"
        cost = f"{self.cost:.0f}" if self.cost else ""
        return (
            f"| {self.what} | {self.extra} | {attacked.share(self.rejected)} | {attacked.share(accepted)} | {verdict} |"
            f" {cost} |"
        )


class Measured(NamedTuple):
    """One set and seed: how well the model and the attack do, and what was found of each variant."""

    accuracy: float
    success: float
    found: dict[tuple[str, int], Found]


def measure(name: str, seed: int) -> Measured:
    """The white corner with every budget; the other triggers with the default one."""
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    case = poisoned(name, seed, corner)
    found = {("scores", extra): ours(case, extra, attacked.scores) for extra in BUDGETS}
    found |= {("labels alone", extra): ours(case, extra, attacked.labels) for extra in BUDGETS}
    found["STRIP as published", DEFAULT_EXTRA] = published(case, DEFAULT_EXTRA)
    for trigger in (checks, faint, blended, covered) if seed < ADAPTED_SEEDS else ():
        adapted = poisoned(name, seed, trigger)
        if adapted.success >= SUCCESS / 2:  # else the poison has not taken
            found[trigger.__name__, DEFAULT_EXTRA] = ours(adapted, DEFAULT_EXTRA, attacked.scores)
    print(f"  {name}, seed {seed}: the attack succeeds on {case.success:.1%}", file=sys.stderr, flush=True)
    return Measured(case.accuracy, case.success, found)


def table(name: str, measured: list[Measured]) -> Iterator[str]:
    counted = [one for one in measured if one.success >= SUCCESS]
    yield f"## {name}\n"
    yield (
        f"Right on {np.mean([one.accuracy for one in measured]):.1%} of clean rows; the white corner succeeds on "
        f"{', '.join(f'{one.success:.1%}' for one in measured)}: {len(counted)} of {len(measured)} models count.\n"
    )
    yield "| | probes a row | false rejection (asked 1 %) | false acceptance (goal 1 %) | | own CPU, us a row |"
    yield "|---|---:|---:|---:|---|---:|"
    for what, extra in dict.fromkeys(key for one in counted for key in one.found):
        found = [one.found[what, extra] for one in counted if (what, extra) in one.found]
        yield Row(
            what,
            extra,
            np.concatenate([one.rejected for one in found]),
            np.concatenate([one.caught for one in found]),
            float(np.median([one.cost for one in found])),
            goal=(what, extra) == ("scores", DEFAULT_EXTRA),
        ).shown
    yield ""


def main() -> None:
    parser = command_line(__doc__, out=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    began = time.monotonic()
    sets = ("digits", "mnist_5k")
    pairs = [(name, seed) for seed in range(args.seeds) for name in sets]
    with ProcessPoolExecutor(args.jobs) as pool:
        measured = dict(zip(pairs, pool.map(measure, *zip(*pairs, strict=True)), strict=True))
    head = HEAD.format(
        poison=POISON, target=TARGET, rate=RATE, seeds=args.seeds, success=SUCCESS, adapted=ADAPTED_SEEDS
    )
    body = [line for name in sets for line in table(name, [measured[name, seed] for seed in range(args.seeds)])]
    page = head + attacked.told(began) + ".\n\n" + "\n".join(body)
    publish(page, args.out)


if __name__ == "__main__":
    main()
