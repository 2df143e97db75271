"""How well baselines tell anomalies from ordinary rows, beside PyOD's detectors; and what they cost.

    python -m tests.bench.detect --peers build/bench-detect/bin/python --out docs/benchmarks/detect.md

Every set of ADBench that is in `--data`, split both ways (`tests.bench.adbench`), `--seeds` times. Results are kept a
line each in `--results`, so that a run that was broken off goes on where it was; the page is written from them.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from modelward.detect import baseline, fitting
from tests.bench.adbench import SPLITS, sets, split
from tests.bench.page import command_line

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("MODELWARD_DATA", ROOT.parent / "shared" / "data"))
ENSEMBLE = "Ensemble"
BEATEN = {"one-class": None, "contaminated": ("MCD", "IForest")}  # None: the best of all peers
Result = dict[str, Any]
HEAD = """# How well baselines tell anomalies

Made by `make bench-detect` (`python -m tests.bench.detect`), which overwrites this page. The sets are ADBench's (Han
and others, 2022), those that are on the machine; each figure is the mean over the seeds. *one-class*: fitted on half of
the ordinary rows, judged on the others and all anomalies. *contaminated*: fitted on seven tenths of all rows, anomalies
among them, judged on the rest. The peers are PyOD's detectors as they come, on features scaled to [0, 1] as ADBench
does, and DTE-NP (Livernoche and others, 2024), the mean distance to five neighbours; MCD is run in the contaminated
split alone.

The ensemble's weights were chosen among a few dozen by their means over these very sets (ADR 0017), so the means
flatter it a little; sets that it was not chosen by are the better judges.
"""


def measure(folder: Path, name: str, how: str, seed: int) -> Iterator[Result]:
    """Fit one baseline on one split of one set; what each of its detectors makes of the rest."""
    given = split(folder, name, how, seed)
    began = time.perf_counter()
    fitted = fitting.fit(given.fit, seed=seed)
    seconds = time.perf_counter() - began
    scores = fitted.scorer([(each, None) for each in fitted.types]).scores(given.judge)
    ordinary = ~given.anomalous
    for detector, of_rows in zip(fitted.types, scores, strict=True):
        yield {
            "set": name,
            "split": how,
            "seed": seed,
            "detector": detector,
            "roc": float(roc_auc_score(given.anomalous, of_rows)),
            "pr": float(average_precision_score(given.anomalous, of_rows)),
            "seconds": seconds,
            "alarms": float((of_rows[ordinary] > 1).mean()),
            "asked": fitted.false_positive_rate,
            "ordinary": int(ordinary.sum()),
        }


def run(folder: Path, seeds: int, kept: Path, peers: Path | None) -> list[Result]:
    """All results, those that are there already not measured again."""
    kept.mkdir(parents=True, exist_ok=True)
    found = list(_read(kept))
    done = {(one["set"], one["split"], one["seed"], one["detector"]) for one in found}
    with (kept / "own.jsonl").open("a") as out:
        for seed in range(seeds):
            for name in sets(folder):
                for how in SPLITS:
                    if (name, how, seed, ENSEMBLE) not in done:
                        for one in measure(folder, name, how, seed):
                            out.write(json.dumps(one) + "\n")
                        out.flush()
                        print(f"seed {seed}, {name}, {how}", flush=True)
    if peers is not None:
        with (kept / "peers.jsonl").open("a") as out:
            asked = ",".join(map(str, range(seeds)))
            command = [peers, "-m", "tests.bench.detect_peers", folder, asked, kept]
            subprocess.run(command, cwd=ROOT, stdout=out, check=True)
    return list(_read(kept))


def _read(kept: Path) -> Iterator[Result]:
    for path in sorted(kept.glob("*.jsonl")):
        yield from (json.loads(line) for line in path.read_text().splitlines())


def cost() -> list[str]:
    """What a baseline of 30 features costs: one row, the file, the fit of 100,000 rows."""
    rng = np.random.default_rng(0)
    rows = rng.standard_t(5, size=(100_000, 30)) @ rng.normal(size=(30, 30))
    began, work = time.perf_counter(), time.process_time()
    fitted = fitting.fit(rows)
    seconds, work = time.perf_counter() - began, time.process_time() - work
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    content = fitted.to_bytes()
    scorer = baseline.from_bytes(content).scorer()
    taken, worked = [], []
    for row in rows[:5000]:
        began, busy = time.perf_counter(), time.thread_time()
        scorer.one(row)
        worked.append(1e6 * (time.thread_time() - busy))
        taken.append(1e6 * (time.perf_counter() - began))
    p50, p99 = np.quantile(taken[500:], [0.5, 0.99])
    alone = np.quantile(worked[500:], 0.99)
    return [
        "| figure | | goal | |",
        "|---|---:|---|---|",
        _figure("Ensemble, one row of 30 features, p50, us", p50, 300),
        _figure("the same, p99, us", p99, 1000),
        f"| p99 of the time on a processor, which is what others on the machine do not change, us | {alone:,.0f} | | |",
        _figure("fit of 100,000 x 30, s", seconds, 60),
        f"| of that, time on a processor, s | {work:,.0f} | | |",
        _figure("most memory of the process that fits, MiB", memory, 1024),
        _figure("the file, KiB", len(content) / 1024, 2048),
    ]


def _figure(what: str, value: float, goal: float) -> str:
    return f"| {what} | {value:,.0f} | <= {goal:,} | {'met' if value <= goal else 'MISSED'} |"


def page(results: list[Result], costs: list[str]) -> str:
    """The page of the documentation."""
    seeds = sorted({one["seed"] for one in results if one["detector"] == ENSEMBLE})
    out = [
        *HEAD.splitlines(),
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores, Python {platform.python_version()}; {len(seeds)} seeds;"
        f" load {os.getloadavg()[0]:.1f} when it ended.",
        "",
    ]
    for how in SPLITS:
        out += [f"## {how.capitalize()}", "", *_means(results, how), "", *_sets(results, how), ""]
    out += ["## False alarms", "", *_alarms(results), "", "## Cost", "", *costs, ""]
    return "\n".join(out)


def _by_set(results: Iterable[Result], how: str) -> dict[str, dict[str, tuple[float, float]]]:
    """For each detector, for each set, AUCROC and AUCPR; sets and seeds that all have."""
    mine = [one for one in results if one["split"] == how]
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for one in mine:
        places[one["detector"]].add((one["set"], one["seed"]))
    shared = set.intersection(*places.values())
    gathered: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for one in mine:
        if (one["set"], one["seed"]) in shared:
            gathered[one["detector"]][one["set"]].append((one["roc"], one["pr"]))
    return {
        detector: {name: tuple(np.mean(each, axis=0).tolist()) for name, each in of_sets.items()}
        for detector, of_sets in gathered.items()
    }


def _means(results: list[Result], how: str) -> list[str]:
    found = _by_set(results, how)
    means = {detector: np.mean(list(of_sets.values()), axis=0) for detector, of_sets in found.items()}
    beaten = BEATEN[how] or [name for name in means if name not in fitting.KINDS and name != ENSEMBLE]
    lines = ["| detector | mean AUCROC | mean AUCPR |", "|---|---:|---:|"]
    for name in sorted(means, key=lambda each: -means[each][0]):
        who = f"**modelward {name}**" if name == ENSEMBLE else f"modelward {name}" if name in fitting.KINDS else name
        lines.append(f"| {who} | {100 * means[name][0]:.2f} | {100 * means[name][1]:.2f} |")
    best = np.max([means[name] for name in beaten], axis=0)
    ahead = 100 * (means[ENSEMBLE] - best)
    verdict = "met" if (ahead > 0).all() else "MISSED"
    against = "the best of the peers" if BEATEN[how] is None else " and ".join(beaten)
    goal = f"Goal: the ensemble above {against} in both: {ahead[0]:+.2f} and {ahead[1]:+.2f}, {verdict}."
    return [*lines, "", goal]


def _sets(results: list[Result], how: str) -> list[str]:
    found = _by_set(results, how)
    peers = [name for name in found if name not in fitting.KINDS and name != ENSEMBLE]
    order = [ENSEMBLE, *peers]
    lines = [
        "AUCROC / AUCPR of each set; the best in bold, and what the ensemble loses to the best of the peers.",
        "",
        f"| set | {' | '.join(order)} | lost |",
        f"|---|{'---|' * (len(order) + 1)}",
    ]
    for name in found[ENSEMBLE]:
        row = {who: found[who][name] for who in order}
        best = [max(each[index] for each in row.values()) for index in (0, 1)]
        cells = [
            " / ".join(
                f"**{100 * v:.1f}**" if v == b else f"{100 * v:.1f}" for v, b in zip(row[who], best, strict=True)
            )
            for who in order
        ]
        lost = [100 * max(0.0, b - v) for v, b in zip(row[ENSEMBLE], best, strict=True)]
        shown = " / ".join(f"{each:.1f}" for each in lost) if any(lost) else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {shown} |")
    return lines


def _alarms(results: list[Result]) -> list[str]:
    mine = [one for one in results if one["split"] == "one-class" and one["detector"] == ENSEMBLE]
    gathered: dict[str, list[Result]] = defaultdict(list)
    for one in mine:
        gathered[one["set"]].append(one)
    lines = [
        "Ordinary rows that the fit had not seen and the ensemble calls anomalous, in the one-class split. Asked",
        "is 1 %, or the least that the rows can tell; the goal is between half and twice of it. Sets with few rows",
        "scatter: of 100 rows 0 to 3 by chance alone.",
        "",
        "| set | ordinary rows judged | asked | found | |",
        "|---|---:|---:|---:|---|",
    ]
    for name, each in gathered.items():
        asked, found = each[0]["asked"], float(np.mean([one["alarms"] for one in each]))
        within = "met" if asked / 2 <= found <= 2 * asked else "MISSED"
        lines.append(f"| {name} | {each[0]['ordinary']:,} | {asked:.2%} | {found:.2%} | {within} |")
    whole = float(np.mean([one["alarms"] for one in mine]))
    return [*lines, f"| mean of all sets | | | {whole:.2%} | |"]


def main() -> None:
    """Measure and write the page."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, default=DATA / "adbench")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "bench-detect" / "results")
    parser.add_argument(
        "--peers", type=Path, help="Python of the environment that has PyOD; not given: kept results alone"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(
            f"no {given.data}: set MODELWARD_DATA to the folder that has adbench/, as docs/benchmarks/detect.md says"
        )
    costs = cost()
    print("\n".join(costs), flush=True)
    text = page(run(given.data, given.seeds, given.results, given.peers), costs)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
