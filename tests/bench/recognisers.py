"""Recognisers against Presidio's 1,500 labelled sentences: precision, recall and time, beside their goals.

    python -m tests.bench.recognisers [--misses] [--half "in view"]

A span found counts when it overlaps a labelled one of its kind; what is found elsewhere is a false alarm.
"""

from __future__ import annotations

import sys
import time

from modelward.privacy.recognise import find
from tests.bench.page import command_line
from tests.conformance.pii import CORPUS, GOALS, HALVES, Figures, measure, sentences

MS_PER_KILOBYTE = 1.0


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--misses", action="store_true", help="print what was missed and what was found for nothing")
    parser.add_argument("--half", choices=HALVES, help="of these templates alone")
    args = parser.parse_args()
    if not CORPUS.exists():
        print(f"{CORPUS} is not there; set MODELWARD_DATA to the folder with the corpora")
        return 2
    failed = False
    for half in [args.half] if args.half else HALVES:
        figures = measure(sentences(half))
        print(f"{half}:\n{table(figures, misses=args.misses)}\n")
        failed |= not all(figures.meets(kind) for kind in GOALS)
    print(
        "held back: for ages alone; of postcodes 0.259 were found before they were looked at (see conformance/pii.py)"
    )
    texts = [row["full_text"] for row in sentences()]
    began = time.process_time()
    for text in texts:
        find(text)
    kilobytes = sum(len(text.encode()) for text in texts) / 1024
    slow = (time.process_time() - began) * 1000 / kilobytes
    print(f"{slow:.3f} ms a kilobyte ({kilobytes:.0f} KiB), goal {MS_PER_KILOBYTE}{'  MISSED' if slow > 1 else ''}")
    return int(failed or slow > MS_PER_KILOBYTE)


def table(figures: Figures, *, misses: bool = False) -> str:
    """A line a kind."""
    lines = [f"{'kind':<12}{'labelled':>9}{'found':>7}{'recall':>8}{'precision':>11}{'inside':>8}   goal (both)"]
    for kind, (precision, recall) in GOALS.items():
        found = figures.right[kind] + figures.wrong[kind]
        lines.append(
            f"{kind:<12}{figures.labelled[kind]:>9}{found:>7}{figures.recall(kind):>8.3f}"
            f"{figures.precision(kind):>11.3f}{figures.inside[kind]:>8}   {recall:g}, {precision:g}"
            f"{'' if figures.meets(kind) else '  MISSED'}"
        )
        if misses:
            lines += [f"    {line}" for line in figures.told[kind]]
    lines += [f"{kind:<12} found {count} times, and no label of it" for kind, count in sorted(others(figures).items())]
    return "\n".join(lines)


def others(figures: Figures) -> dict[str, int]:
    """Kinds that the corpus has no label for."""
    return {kind: count for kind, count in figures.wrong.items() if kind not in GOALS}


if __name__ == "__main__":
    sys.exit(main())
