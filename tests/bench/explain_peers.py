"""Explanations beside those of the package shap, of the same models, rows and reference rows; JSON on standard output.

PYTHONPATH=operator python -m tests.bench.explain_peers       in an environment with shap; see tests.bench.explain
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import shap
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelward.detect.answers import Output
from modelward.explain.linear import Linear
from modelward.explain.methods import ByWalks, Explained

TRAINED, EXPLAINED, BUDGET = 400, 40, 2048

Model = Callable[[np.ndarray], np.ndarray]


def each(work: Callable[[np.ndarray], Any], rows: np.ndarray) -> list[float]:
    """Microseconds of each call."""
    taken = []
    for row in rows:
        started = time.perf_counter()
        work(row)
        taken.append((time.perf_counter() - started) * 1e6)
    return taken


def of_linear(name: str, weights: np.ndarray, bias: float, link: str, reference: np.ndarray, rows: np.ndarray) -> Any:
    """LinearSHAP of all rows, ours and shap's, with the same reference rows."""
    ours = Linear(weights.reshape(1, -1), np.array([bias]), link)
    mean = reference.mean(axis=0)
    theirs = shap.LinearExplainer((weights, bias), shap.maskers.Independent(reference, max_samples=len(reference)))
    found = np.array([ours.contributions(row, mean) for row in rows])
    expected = theirs.shap_values(rows)
    base = float(ours.margins(mean)[0])

    def explain(row: np.ndarray) -> tuple[np.ndarray, float, float]:
        return ours.contributions(row, mean), float(ours.margins(mean)[0]), float(ours.margins(row)[0])

    many = np.repeat(rows, 20, axis=0)
    times, peer = each(explain, many), each(lambda row: theirs.shap_values(row[np.newaxis]), rows)
    return {
        "name": name,
        "columns": rows.shape[1],
        "rows": len(rows),
        "apart": float(np.abs(found - expected).max()),
        "base apart": abs(base - float(np.ravel(theirs.expected_value)[0])),
        "sum apart": float(np.abs(base + found.sum(axis=1) - ours.margins(rows)[:, 0]).max()),
        "p50": float(np.median(times)),
        "p99": float(np.percentile(times, 99)),
        "shap p50": float(np.median(peer)),
    }


def held(method: ByWalks, row: np.ndarray, model: Model) -> tuple[Explained, int]:
    """One explanation, and how many rows the model was asked for it."""
    conversation = method.explain(row)
    rows, asked = next(conversation), 0
    while True:
        asked += len(rows)
        values = model(rows)
        try:
            rows = conversation.send([Output("FP64", values.shape, values.ravel(), "y")])
        except StopIteration as end:
            return end.value, asked


def of_any(
    name: str, model: Model, exact: Callable[[np.ndarray], np.ndarray], reference: np.ndarray, rows: np.ndarray
) -> Any:
    """PermutationSHAP of all rows, ours and shap's, within about the same budget; and the exact values.

    `model` gives one number a row; `exact` gives the values (n, d) of rows (n, d).
    """
    width = rows.shape[1]
    method = ByWalks(reference, np.zeros(width, dtype=bool), BUDGET)
    method_rows = method._rows
    explained = [held(method, row, model) for row in rows]
    ours = np.array([one.contributions for one, _ in explained])
    errors = np.array([one.errors for one, _ in explained])
    asked = float(np.mean([count for _, count in explained]))
    truth = exact(rows)
    counted = [0]

    def counting(values: np.ndarray) -> np.ndarray:
        counted[0] += len(values)
        return model(values)

    def of_peer(few: np.ndarray) -> np.ndarray:
        peer = shap.explainers.Permutation(counting, shap.maskers.Independent(few, max_samples=len(few)), seed=0)
        return peer(rows, max_evals=2 * width + 1, silent=True).values

    # One permutation there and back over as many reference rows as the budget allows: what it is allowed to ask.
    few = reference[np.random.default_rng(1).choice(len(reference), max(BUDGET // (2 * width + 1), 1), replace=False)]
    theirs = of_peer(few)
    scale = float(np.abs(truth).mean())
    shown = {"name": name, "columns": width, "rows": len(rows), "references": len(method_rows), "asked": asked}
    return shown | {
        "scale": scale,
        "apart": float(np.sqrt(((ours - truth) ** 2).mean())) / scale,
        "shap apart": float(np.sqrt(((theirs - truth) ** 2).mean())) / scale,
        "shap asked": counted[0] / len(rows),
        "within": float((np.abs(ours - truth) <= 2 * errors + 1e-12).mean()),
        "sum apart": float(max(abs(one.base + one.contributions.sum() - one.value) for one, _ in explained)),
    }


def by_trees(fitted: Any, reference: np.ndarray, output: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """The exact interventional values of a model of trees."""
    kind = {} if output is None else {"model_output": "probability"}
    explainer = shap.TreeExplainer(fitted, reference, feature_perturbation="interventional", **kind)

    def exact(rows: np.ndarray) -> np.ndarray:
        values = np.asarray(explainer.shap_values(rows, check_additivity=False))
        return values if output is None else values[..., output]

    return exact


def main() -> None:
    warnings.simplefilter("ignore")
    cancer, malignant = load_breast_cancer(return_X_y=True)
    diabetes, progression = load_diabetes(return_X_y=True)
    scale = StandardScaler().fit(cancer[:TRAINED])
    classifier = LogisticRegression(max_iter=5000).fit(scale.transform(cancer[:TRAINED]), malignant[:TRAINED])
    weights = classifier.coef_[0] / scale.scale_
    bias = float(classifier.intercept_[0] - weights @ scale.mean_)
    regression = LinearRegression().fit(diabetes[:TRAINED], progression[:TRAINED])
    linear = [
        of_linear("breast-cancer", weights, bias, "logistic", cancer[:TRAINED], cancer[TRAINED:]),
        of_linear(
            "diabetes",
            regression.coef_,
            float(regression.intercept_),
            "identity",
            diabetes[:TRAINED],
            diabetes[TRAINED:],
        ),
    ]
    of_cancer, of_diabetes = (cancer[:TRAINED], malignant[:TRAINED]), (diabetes[:TRAINED], progression[:TRAINED])
    forest = RandomForestClassifier(n_estimators=100, max_depth=8, random_state=0, n_jobs=1).fit(*of_cancer)
    boosted = GradientBoostingRegressor(random_state=0).fit(*of_diabetes)
    trees = RandomForestRegressor(n_estimators=100, max_depth=8, random_state=0, n_jobs=1).fit(*of_diabetes)
    units = MLPRegressor(hidden_layer_sizes=(16,), max_iter=3000, random_state=0)
    network = make_pipeline(StandardScaler(), units).fit(*of_diabetes)
    pool, people = diabetes[:107], diabetes[TRAINED:][:EXPLAINED]
    cells, patients = cancer[:100], cancer[TRAINED:][:EXPLAINED]
    by_masks = shap.explainers.Exact(network.predict, shap.maskers.Independent(pool, max_samples=len(pool)))
    any_model = [
        of_any("diabetes, gradient boosting", boosted.predict, by_trees(boosted, pool, None), pool, people),
        of_any("diabetes, random forest", trees.predict, by_trees(trees, pool, None), pool, people),
        of_any("diabetes, small network", network.predict, lambda x: by_masks(x, silent=True).values, pool, people),
        of_any(
            "breast-cancer, random forest, probability",
            lambda rows: forest.predict_proba(rows)[:, 1],
            by_trees(forest, cells, 1),
            cells,
            patients,
        ),
    ]
    print(json.dumps({"shap": shap.__version__, "budget": BUDGET, "linear": linear, "any": any_model}))


if __name__ == "__main__":
    main()
