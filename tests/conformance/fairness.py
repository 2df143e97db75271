"""Ours and Fairlearn's figures of the Adult census side by side: `make conformance-fairness`.

Ours go the way that they go in service: the sidecar counts rows, answers and feedback, the controller adds up and
compares. Fairlearn 0.15 (https://github.com/fairlearn/fairlearn) runs in an environment of its own. What is judged is a
rule of two columns, so that the figures stay the same whatever learns or rounds.

One thing is otherwise on purpose: a group without a row that should have been favourable has the true positive rate 0
in Fairlearn, and none here (of `workclass`, Without-pay has 14 rows and none of them).
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from modelward.fairness.rates import ratio
from modelward.incidents import Report
from modelward.planner.fairness_reports import counted
from modelward.planner.group_counts import Counted, apart
from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.fairness import MAX_ROWS, Fairness
from modelward.sidecar.tensors import TensorSpec
from tests.conformance.corpora import DATA

ADULT = DATA / "adult" / "adult.csv"
AGES = [30, 45, 60]
FIELDS = ("sex", "race", "marital-status", "occupation", "age")
_LEARNED = ("Bachelors", "Masters", "Doctorate", "Prof-school", "Assoc-acdm", "Assoc-voc")
MEASURES = ("demographic parity difference", "demographic parity ratio", "equalized odds difference")
ANSWERS: dict[str, tuple[float, float, float]] = {
    "sex": (0.06517770417676497, 0.7665925828285942, 0.0116242840624311),
    "race": (0.2442083056608196, 0.37552447552447554, 0.3111954459203037),
    "marital-status": (0.20301418482488437, 0.40660961979177085, 0.4261061946902655),
    "occupation": (0.6294017940674702, 0.06492846046929932, 0.896551724137931),
    "age": (0.38062515712729406, 0.0, 0.6077116512992456),
}
"""By field: what Fairlearn says, in the order of `MEASURES`."""

_HEAD = """\
# The Adult census by our counts and by Fairlearn's

`make conformance-fairness` wrote this page. 30,162 rows, judged by a rule of two columns; ours were counted by two
sidecars in requests of 4,096 rows, their truth told by feedback, and added up by the controller. Each cell is ours /
Fairlearn 0.15's; the last column is the largest deviation of these and of every group's selection, true and false
positive rate. Goal: 1e-12.

| by | groups | demographic parity difference | demographic parity ratio | equalized odds difference | apart |
|---|---|---|---|---|---|"""
_FAIRLEARN = """
import json, sys
import numpy
from fairlearn import metrics
told, truth, groups = (numpy.array(one) for one in json.load(sys.stdin))
asked = {"y_true": truth, "y_pred": told, "sensitive_features": groups}
rates = {"selection": metrics.selection_rate, "true_positive": metrics.true_positive_rate,
         "false_positive": metrics.false_positive_rate}
frame = metrics.MetricFrame(metrics=rates, **asked)
print(json.dumps([
    [float(measure(**asked)) for measure in (
        metrics.demographic_parity_difference, metrics.demographic_parity_ratio, metrics.equalized_odds_difference)],
    {name: [float(rate) for rate in row] for name, row in zip(frame.by_group.index, frame.by_group.to_numpy())},
]))
"""


@cache
def census() -> list[dict[str, str]]:
    """The rows, and with each what it was `told` and what was `true`."""
    with ADULT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    for row in rows:
        row["told"] = str(int(row["education"] in _LEARNED and int(row["age"]) >= 30))
        row["true"] = str(int(row["salary-class"] == ">50K"))
    return rows


def group_of(row: dict[str, str], field: str) -> str:
    """The group of a row, as an oracle needs it."""
    return row[field] if field != "age" else str(sum(int(row["age"]) >= edge for edge in AGES))


def declared() -> dict[str, Any]:
    """What a manifest would say."""
    by_value = [
        {"field": field, "groups": sorted({row[field] for row in census()})} for field in FIELDS if field != "age"
    ]
    return {"protected": [*by_value, {"field": "age", "edges": AGES}], "minimumGroupSize": 2}


@cache
def seen() -> Counted:
    """What the controller makes of two replicas that were sent every other request."""
    settings = msgspec.convert({"protected": declared()["protected"]}, config.Fairness)
    inputs = {
        field: TensorSpec(config.TensorDeclaration(field, "INT64" if field == "age" else "BYTES", [-1, 1]))
        for field in FIELDS
    }
    replicas = [Fairness(settings, inputs, "v2") for _ in range(2)]
    for number, start in enumerate(range(0, len(census()), MAX_ROWS)):
        rows, replica = census()[start : start + MAX_ROWS], replicas[number % 2]
        tensors = [
            spec.read(
                msgspec.json.encode([int(row[name]) if name == "age" else row[name] for row in rows]), [len(rows), 1]
            )
            for name, spec in inputs.items()
        ]
        output = {"name": "y", "datatype": "INT64", "shape": [len(rows)], "data": [int(row["told"]) for row in rows]}
        replica.count(number, replica.rows(tensors), Body(msgspec.json.encode({"outputs": [output]})))
        replica.learn(number, [int(row["true"]) for row in rows])
    blank = Report("m", "", "", "", (), (), (), (), 0)
    told = {str(at): msgspec.structs.replace(blank, fairness=one.report()) for at, one in enumerate(replicas)}
    found = counted({"spec": {"fairness": declared()}}, told, None, 0.0)
    assert found is not None
    return replace(found, minimum=1)  # Fairlearn compares whatever has a row


def figures(field: str) -> tuple[float, float, float]:
    """Our figures, in the order of `MEASURES`."""
    (one,) = (one for one in apart(seen()) if one.field == field)
    (counts,) = (each for each in seen().attributes if each.field == field)
    smallest = ratio({group.name: group.selection for group in counts.groups}, seen().minimum)
    assert one.selection is not None
    assert one.equalized_odds is not None
    assert smallest is not None
    return one.selection.difference, smallest, one.equalized_odds


def rates(field: str) -> dict[str, list[float]]:
    """Our selection, true and false positive rates of each group that has any rows."""
    (counts,) = (each for each in seen().attributes if each.field == field)
    return {
        str(index) if field == "age" else group.name: [
            share.rate if share.rows else 0.0 for share in (group.selection, group.true_positive, group.false_positive)
        ]
        for index, group in enumerate(counts.groups)
        if group.rows
    }


def fairlearns(python: Path, field: str) -> tuple[list[float], dict[str, list[float]]]:
    """Fairlearn's figures, in the order of `MEASURES`, and its three rates of each group."""
    columns = [[int(row["told"]) for row in census()], [int(row["true"]) for row in census()]]
    asked = json.dumps([*columns, [group_of(row, field) for row in census()]])
    command = [python, "-W", "ignore", "-c", _FAIRLEARN]
    answer = subprocess.run(command, input=asked, check=True, capture_output=True, text=True, timeout=300)
    measures, by_group = json.loads(answer.stdout)
    return measures, by_group


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fairlearn", type=Path, required=True, help="the Python of an environment that has fairlearn")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    args = parser.parse_args()
    lines, wrong = [_HEAD], 0
    for field in FIELDS:
        ours, our_rates = figures(field), rates(field)
        theirs, their_rates = fairlearns(args.fairlearn, field)
        assert our_rates.keys() == their_rates.keys(), field
        apart = [abs(a - b) for name in our_rates for a, b in zip(our_rates[name], their_rates[name], strict=True)]
        apart += [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
        wrong += max(apart) > 1e-12
        shown = [f"{mine:.12f} / {other:.12f}" for mine, other in zip(ours, theirs, strict=True)]
        lines.append(f"| {field} | {len(our_rates)} | {' | '.join(shown)} | {max(apart):.1g} |")
        print(lines[-1])
    if args.out:
        args.out.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
