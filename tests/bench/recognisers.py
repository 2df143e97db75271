"""Recognisers against Presidio's 1,500 labelled sentences: precision, recall and time, beside their goals.

    python -m tests.bench.recognisers [--misses]

A span found counts when it overlaps a labelled one of its kind; what is found elsewhere is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict

from modelward.privacy.recognise import find
from tests.conformance.corpora import DATA

KINDS = {
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "EMAIL_ADDRESS": "e-mail",
    "US_SSN": "ssn",
    "IP_ADDRESS": "ip-address",
    "PHONE_NUMBER": "phone",
}
# Least precision and recall of each kind; milliseconds a kilobyte.
GOALS = {"card": (0.98, 1), "iban": (0.98, 1), "e-mail": (0.98, 1), "ssn": (0.98, 1)}
GOALS |= {"ip-address": (0, 1), "phone": (0.8, 0.8)}
MS_PER_KILOBYTE = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--misses", action="store_true", help="print what was missed and what was found for nothing")
    args = parser.parse_args()
    path = DATA / "pii" / "synth_dataset_v2.json"
    if not path.exists():
        print(f"{path} is not there; set MODELWARD_DATA to the folder with the corpora")
        return 2
    rows = json.loads(path.read_text(encoding="utf-8"))
    texts = [row["full_text"] for row in rows]
    began = time.process_time()
    everything = [find(text) for text in texts]
    seconds = time.process_time() - began
    labelled, hit, right, wrong = Counter(), Counter(), Counter(), Counter()
    told = defaultdict(list)
    for row, found in zip(rows, everything, strict=True):
        spans = [
            (KINDS[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        for kind, start, end in spans:
            labelled[kind] += 1
            if any(one.kind == kind and one.start < end and start < one.end for one in found):
                hit[kind] += 1
            else:
                told[kind].append(f"missed  {row['full_text'][max(0, start - 30) : end + 10]!r}")
        for one in found:
            if any(one.kind == kind and one.start < end and start < one.end for kind, start, end in spans):
                right[one.kind] += 1
            else:
                wrong[one.kind] += 1
                told[one.kind].append(f"for nothing  {row['full_text'][max(0, one.start - 30) : one.end + 10]!r}")
    failed = False
    print(f"{'kind':<12}{'labelled':>9}{'found':>7}{'recall':>8}{'precision':>11}   goal (precision, recall)")
    for kind in sorted(labelled | wrong, key=lambda one: -labelled[one]):
        precision = right[kind] / max(1, right[kind] + wrong[kind])
        recall = hit[kind] / max(1, labelled[kind])
        goal = GOALS.get(kind)
        missed = goal is not None and (precision < goal[0] or recall < goal[1])
        failed |= missed
        print(
            f"{kind:<12}{labelled[kind]:>9}{right[kind] + wrong[kind]:>7}{recall:>8.3f}{precision:>11.3f}   "
            f"{goal or '-'}{'  MISSED' if missed else ''}"
        )
        if args.misses:
            print("\n".join(f"    {line}" for line in told[kind]))
    kilobytes = sum(len(text.encode()) for text in texts) / 1024
    slow = seconds * 1000 / kilobytes
    print(f"{slow:.3f} ms a kilobyte ({kilobytes:.0f} KiB), goal {MS_PER_KILOBYTE}{'  MISSED' if slow > 1 else ''}")
    return int(failed or slow > MS_PER_KILOBYTE)


if __name__ == "__main__":
    sys.exit(main())
