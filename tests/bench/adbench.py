"""ADBench's sets, and the two ways to split them; read by the benchmark of detection and by its peers alike.

*one-class*: half of the ordinary rows to fit on; the other half and all anomalies to judge. *contaminated*: seven
tenths of all rows, anomalies among them, to fit on without their labels; the rest to judge (Han and others, 2022).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

SPLITS = ("one-class", "contaminated")


class Split(NamedTuple):
    """Rows to fit on, rows to judge, and which of these are anomalies."""

    fit: np.ndarray
    judge: np.ndarray
    anomalous: np.ndarray


def sets(folder: Path) -> list[str]:
    """The names of the sets, in ADBench's order."""
    return sorted((path.stem for path in folder.glob("*.npz")), key=lambda name: int(name.split("_")[0]))


def split(folder: Path, name: str, how: str, seed: int) -> Split:
    """Split a set; the same seed gives the same rows."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        rows, anomalous = arrays["X"].astype(np.float64), arrays["y"].astype(bool)
    rng = np.random.default_rng(seed)
    if how == "one-class":
        ordinary = rng.permutation(np.flatnonzero(~anomalous))
        half = len(ordinary) // 2
        fit, judge = ordinary[:half], np.concatenate([ordinary[half:], np.flatnonzero(anomalous)])
    else:
        parts = [rng.permutation(np.flatnonzero(anomalous == which)) for which in (False, True)]
        cuts = [round(0.7 * len(part)) for part in parts]
        fit = np.concatenate([part[:cut] for part, cut in zip(parts, cuts, strict=True)])
        judge = np.concatenate([part[cut:] for part, cut in zip(parts, cuts, strict=True)])
    return Split(rows[fit], rows[judge], anomalous[judge])
