"""Trains the classifier on wdbc.csv: standardised features, logistic regression. The same file on every machine.

What is learned is rounded to six significant digits before it is saved. The last bits of a fit depend on the CPU's
vector instructions; with them gone, the digest of model.joblib depends on the data and on the locked versions alone,
and the annotation lineage.modelward.io/model can name it.

Usage: python train.py wdbc.csv model.joblib
"""

import csv
import sys
from pathlib import Path

import joblib
import numpy as np
from dataset import is_held_out
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

DIGITS = 6
CLASSES = ("malignant", "benign")  # what the answers 0 and 1 mean


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the features, float64 (rows, 30), and the classes, int64 (rows,), of wdbc.csv."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    features = np.array([[float(value) for value in row[:-1]] for row in rows])
    return features, np.array([CLASSES.index(row[-1]) for row in rows])


def train(features: np.ndarray, classes: np.ndarray) -> Pipeline:
    """Fit the pipeline and round what it learned."""
    scale = StandardScaler()
    classify = LogisticRegression(solver="newton-cholesky", tol=1e-8)
    pipeline = Pipeline([("scale", scale), ("classify", classify)]).fit(features, classes)
    scale.mean_, scale.scale_, scale.var_ = rounded(scale.mean_), rounded(scale.scale_), rounded(scale.var_)
    classify.coef_, classify.intercept_ = rounded(classify.coef_), rounded(classify.intercept_)
    return pipeline


def rounded(values: np.ndarray) -> np.ndarray:
    """Return the values, in their shape, with DIGITS significant digits."""
    return np.array([float(f"{value:.{DIGITS - 1}e}") for value in values.ravel()]).reshape(values.shape)


def main(dataset: Path, model: Path) -> None:
    """Train on the rows that are not held out, save, and print the accuracy on both parts."""
    features, classes = load(dataset)
    held_out = np.array([is_held_out(row) for row in range(len(classes))])
    pipeline = train(features[~held_out], classes[~held_out])
    joblib.dump(pipeline, model, protocol=5)
    for name, part in (("training rows", ~held_out), ("rows held out", held_out)):
        print(f"accuracy on {part.sum()} {name}: {pipeline.score(features[part], classes[part]):.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python train.py wdbc.csv model.joblib")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
