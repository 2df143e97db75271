"""Exports the Wisconsin diagnostic breast-cancer set, as scikit-learn ships it, to csv files.

569 biopsies, 30 measurements of cell nuclei each, by W. H. Wolberg, W. N. Street and O. L. Mangasarian (UCI Machine
Learning Repository, 1995, CC BY 4.0). The files come out the same byte by byte everywhere, so that a digest names them.

Usage: python dataset.py FOLDER
"""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer

HOLD_OUT_EVERY = 5  # every fifth row is kept from training: it is what the client sends


def is_held_out(row: int) -> bool:
    """Tell whether a row (from 0) is kept from training."""
    return row % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1


def export(folder: Path) -> None:
    """Write wdbc.csv (every row, the diagnosis last), train.csv and holdout.csv (features alone) into a folder."""
    data = load_breast_cancer()
    columns = [str(name).replace(" ", "_") for name in data.feature_names]
    rows = [[repr(float(value)) for value in row] for row in data.data]
    diagnoses = [str(data.target_names[target]) for target in data.target]

    folder.mkdir(parents=True, exist_ok=True)
    every = [[*row, diagnosis] for row, diagnosis in zip(rows, diagnoses, strict=True)]
    _write(folder / "wdbc.csv", [*columns, "diagnosis"], every)
    _write(folder / "train.csv", columns, [row for index, row in enumerate(rows) if not is_held_out(index)])
    _write(folder / "holdout.csv", columns, [row for index, row in enumerate(rows) if is_held_out(index)])


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python dataset.py FOLDER")
    export(Path(sys.argv[1]))
