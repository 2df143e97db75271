"""Why a row is strange, in words: which columns, or parts of its embedding, and how far."""

import numpy as np

from modelward.detect.baseline import Baseline
from modelward.detect.encoder import Encoder
from modelward.detect.encoding import UNSEEN, Array, Column

MAX_REASONS = 3
_NOTABLE = 2.5  # deviations
_MOST = 1e6  # deviations; more says no more
_RARE = 0.01  # of the reference rows
_TOLD_COLUMNS = 3
_WORTH = 0.25  # of the most telling column's share: columns with less are not told
_NEARER = 0.9  # of a deviation: what is left of it where columns are told that would lessen it


def explain(baseline: Baseline, row: Array) -> tuple[str, ...]:
    """The columns that make the encoded `row` (d,) strange, strangest first; at least one."""
    missing = [name for name, value in zip(baseline.columns, row, strict=True) if not np.isfinite(value)]
    if missing:
        return tuple(f"{name} is missing or not finite" for name in missing[:MAX_REASONS])
    found: list[tuple[float, str]] = []
    alone, given_others = _deviations(baseline, row)
    if baseline.encoding.encoder is not None:
        return _of_embedding(baseline, baseline.encoding.encoder, row, alone, given_others)
    at = 0
    for index, column in enumerate(baseline.encoding.columns):
        if column.categories is None:
            strength = max(abs(alone[at]), abs(given_others[at]))
            found.append((strength, _of_number(column.name, float(alone[at]), float(given_others[at]))))
            at += 1
        else:
            share = baseline.summary.counts[index][int(row[index])] / baseline.summary.counts[index].sum()
            part = slice(at, at + len(column.categories) + 1)
            strength = float(np.abs(alone[part]).max())
            found.append((strength if share < _RARE else 0.0, _of_category(column, int(row[index]), float(share))))
            at = part.stop
    found.sort(key=lambda each: -each[0])
    return tuple(
        words for rank, (strength, words) in enumerate(found[:MAX_REASONS]) if rank == 0 or strength >= _NOTABLE
    )


def _deviations(baseline: Baseline, row: Array) -> tuple[Array, Array]:
    """Of each number and indicator: by itself, and from what the others suggest (0 where that is not known)."""
    encoding = baseline.encoding
    distance = baseline.distance
    if encoding.components is None and distance is not None:
        return distance.deviations(encoding.features(row[np.newaxis])[0])
    spread = encoding.spread(row[np.newaxis])[0]
    alone = np.clip((spread / encoding.scale) - encoding.centre / encoding.scale, -10 * _MOST, 10 * _MOST)
    if encoding.components is None:
        return alone, np.zeros_like(alone)
    return alone, alone - (alone @ encoding.components) @ encoding.components.T


def _of_embedding(
    baseline: Baseline, encoder: Encoder, row: Array, alone: Array, given_others: Array
) -> tuple[str, ...]:
    """The parts of the embedding that are strange, strangest first; and columns, where some are to blame."""
    strengths = np.maximum(np.abs(alone), np.abs(given_others))
    told = []
    for rank, part in enumerate(np.argsort(-strengths, kind="stable")[:MAX_REASONS].tolist()):
        if rank and strengths[part] < _NOTABLE:
            break
        words = _of_number(f"part {part} of the embedding", float(alone[part]), float(given_others[part]), "parts")
        told.append(words + _nearer(baseline, encoder, row, part))
    return tuple(told)


def _nearer(baseline: Baseline, encoder: Encoder, row: Array, part: int) -> str:
    """The columns that would bring a part of the embedding nearer to its usual value if they had theirs.

    Chosen by the slope at the row times the way to the usual value, then tried: nothing is told that does not hold, as
    where an activation is saturated.
    """
    alone, given_others = _deviations(baseline, row)
    which = 0 if abs(alone[part]) >= _NOTABLE else 1  # as in the words
    deviation = (alone, given_others)[which][part]
    usual = np.median(baseline.summary.sample, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        gain = np.nan_to_num(-np.sign(deviation) * encoder.slope(row, part) * (usual - row))
    least = max(_WORTH * float(gain.max()), np.finfo(np.float64).tiny)
    blamed = [index for index in np.argsort(-gain, kind="stable")[:_TOLD_COLUMNS].tolist() if gain[index] >= least]
    moved = row.copy()
    moved[blamed] = usual[blamed]
    if not blamed or not abs(_deviations(baseline, moved)[which][part]) <= _NEARER * abs(deviation):
        return ""
    changes = [f"a {'lower' if usual[index] < row[index] else 'higher'} {baseline.columns[index]}" for index in blamed]
    return f"; nearer with {' and '.join(changes)}"


def _of_number(name: str, alone: float, given_others: float, others: str = "columns") -> str:
    if abs(alone) >= _NOTABLE:
        direction = "above" if alone > 0 else "below"
        return f"{name} is {_count(alone)} deviations {direction} its usual value"
    direction = "higher" if given_others > 0 else "lower"
    return f"{name} is {_count(given_others)} deviations {direction} than the other {others} suggest"


def _count(deviations: float) -> str:
    return f"{abs(deviations):.1f}" if abs(deviations) < _MOST else f"more than {_MOST:.0f}"


def _of_category(column: Column, code: int, share: float) -> str:
    if code == UNSEEN or column.categories is None:
        return f"{column.name} has a value that the reference data does not have"
    return f"{column.name} is {column.categories[code]!r}, which {share:.2%} of the reference rows have"
