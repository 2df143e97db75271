"""Ours and pycanon's figures of the Adult census side by side: `make conformance-anonymity`.

pycanon 1.3.6 (https://github.com/IFCA-Advanced-Computing/pycanon) runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from modelward.privacy.anonymity import classes, closeness, diversity
from modelward.scan.dataset import DataSet
from modelward.scan.reading import read
from tests.conformance.corpora import DATA

ADULT = DATA / "adult" / "adult.csv"
_ALL = ("sex", "age", "race", "marital-status", "education", "native-country", "workclass", "occupation")
ANSWERS: dict[tuple[tuple[str, ...], str], tuple[int, int, float]] = {
    (("sex", "race"), "salary-class"): (87, 2, 0.20294547375208355),
    (("sex", "age", "race"), "occupation"): (1, 1, 0.9952589350838804),
    (_ALL, "salary-class"): (1, 1, 0.7510775147536636),
    (("education", "sex"), "age"): (14, 13, 0.15503441042782115),
    (("race", "sex", "marital-status"), "age"): (1, 1, 0.43808224321060635),
    (("sex",), "occupation"): (9782, 13, 0.24764231983247664),
}
"""By quasi-identifiers and sensitive column: pycanon's k, l and t. `age` is of numbers, the others are text."""

_PYCANON = """
import json, sys
import pandas
from pycanon import anonymity
data = pandas.read_csv(sys.argv[1], sep=";")
for quasi, sensitive in json.loads(sys.argv[2]):
    k, l = anonymity.k_anonymity(data, quasi), anonymity.l_diversity(data, quasi, [sensitive])
    print(json.dumps([int(k), int(l), float(anonymity.t_closeness(data, quasi, [sensitive]))]), flush=True)
"""


@cache
def adult() -> DataSet:
    """The census: 30,162 rows."""
    return read(ADULT)


def figures(quasi: tuple[str, ...], sensitive: str) -> tuple[int, int, float]:
    """Our k, l and t."""
    data = adult()
    column = data.column(sensitive)
    found = classes([data.column(name).codes for name in quasi], data.rows)
    ranks = column.ranks()
    return found.k, diversity(found, ranks), closeness(found, ranks, ordered=column.numbers is not None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pycanon", type=Path, required=True, help="the Python of an environment that has pycanon")
    python = parser.parse_args().pycanon
    asked = json.dumps([[list(quasi), sensitive] for quasi, sensitive in ANSWERS])
    told = subprocess.run(
        [python, "-c", _PYCANON, str(ADULT), asked], check=True, capture_output=True, text=True, timeout=900
    )
    wrong = 0
    for (quasi, sensitive), line in zip(ANSWERS, told.stdout.splitlines(), strict=True):
        theirs, ours = json.loads(line), figures(quasi, sensitive)
        same = tuple(theirs[:2]) == ours[:2] and abs(theirs[2] - ours[2]) <= 1e-12
        wrong += not same
        print(f"{'same' if same else 'DIFFERENT'}  {', '.join(quasi)} / {sensitive}: ours {ours}, pycanon's {theirs}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
