"""The peers of the detection benchmark, in an environment of their own: PyOD's detectors as they come, and DTE-NP.

    python -m tests.bench.detect_peers FOLDER SEEDS KEPT      (SEEDS: 0,1,2; KEPT: folder of results that are there)

One JSON line a result: set, split, seed, detector, AUCROC, AUCPR, seconds. Features are scaled to [0, 1] by the rows
that are fitted on, as ADBench does. DTE-NP (Livernoche and others, 2024) is the mean distance to the five nearest
neighbours. A detector that fails is given the figures of one that tells nothing.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyod.models.cblof import CBLOF
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.mcd import MCD
from pyod.models.pca import PCA
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import MinMaxScaler

from tests.bench.adbench import SPLITS, sets, split


class MeanDistance:
    """DTE-NP."""

    def fit(self, rows: np.ndarray) -> MeanDistance:
        self._index = NearestNeighbors(n_neighbors=5).fit(rows)
        return self

    def decision_function(self, rows: np.ndarray) -> np.ndarray:
        return self._index.kneighbors(rows)[0].mean(axis=1)


PEERS: dict[str, Callable[[int], Any]] = {
    "kNN": lambda _: KNN(),
    "DTE-NP": lambda _: MeanDistance(),
    "LOF": lambda _: LOF(),
    "CBLOF": lambda seed: CBLOF(random_state=seed),
    "IForest": lambda seed: IForest(random_state=seed),
    "ECOD": lambda _: ECOD(),
    "PCA": lambda seed: PCA(random_state=seed),
    "MCD": lambda seed: MCD(random_state=seed),
}


def measure(folder: Path, name: str, how: str, seed: int, peer: str) -> dict[str, Any]:
    """Fit one peer on one split of one set, and judge."""
    given = split(folder, name, how, seed)
    scaler = MinMaxScaler().fit(given.fit)
    began = time.perf_counter()
    try:
        fitted = PEERS[peer](seed).fit(scaler.transform(given.fit))
        scores = np.nan_to_num(fitted.decision_function(scaler.transform(given.judge)))
    except (ValueError, np.linalg.LinAlgError):
        scores = np.zeros(len(given.judge))
    return {
        "set": name,
        "split": how,
        "seed": seed,
        "detector": peer,
        "roc": float(roc_auc_score(given.anomalous, scores)),
        "pr": float(average_precision_score(given.anomalous, scores)),
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    kept = [json.loads(line) for path in Path(sys.argv[3]).glob("*.jsonl") for line in path.read_text().splitlines()]
    done = {(one["set"], one["split"], one["seed"], one["detector"]) for one in kept}
    for seed in map(int, sys.argv[2].split(",")):
        for name in sets(folder):
            for how in SPLITS:
                for peer in PEERS:
                    if (name, how, seed, peer) not in done and (peer != "MCD" or how == "contaminated"):
                        print(json.dumps(measure(folder, name, how, seed, peer)), flush=True)


if __name__ == "__main__":
    main()
