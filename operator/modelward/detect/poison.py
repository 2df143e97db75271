"""Suspected poison in training data: rows that their neighbours contradict, a class with a second one in it, repeats.

None of it is proof. An honest mistake in labelling looks like a flipped label, and a rare kind of row like a planted
one: what is found is to be looked at. Rows are given as features, in which distances mean something
(`Encoding.features`), or as embeddings (a model's last layer but one).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelward.detect.encoding import Array

MAX_ROWS: Final = 200_000
MAX_WIDTH: Final = 2048  # of embeddings, whose square is held
MAX_REFERENCE: Final = 20_000  # rows among which neighbours are looked for
MAX_SUSPECTS: Final = 1000  # that are told one by one
NEIGHBOURS: Final = 10
AGREEING: Final = 0.7  # of the neighbours on another label
SHARE: Final = 0.05  # of a class that may be poisoned
_SECOND_CLASS = 5.0  # robust deviations along a class's main direction
_NEAR = 0.05  # of the usual distance to the nearest row
_FEW = 20  # rows: in a smaller class no direction can be told
_CHUNK = 1 << 22  # distances held at once
_CONSISTENT = 1.4826  # median absolute deviation to standard deviation, for a normal distribution

Labels = npt.NDArray[Any]
Positions = npt.NDArray[np.intp]


class PoisonError(Exception):
    """Data that cannot be looked at in this way; the message says why."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A row by its position; `score` is above 1.0, the higher the more suspicious."""

    row: int
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class Suspects:
    """`scores` (n,) of all rows, 1.0 being the threshold; `found`: the MAX_SUSPECTS highest above it."""

    scores: Array
    found: tuple[Suspect, ...]


def contradicted(features: Array, labels: Labels, seed: int = 0) -> Suspects:
    """Rows (n, d) whose nearest neighbours nearly all agree on one other label (n,): flipped labels.

    Among more than MAX_REFERENCE rows the neighbours are looked for in so many of them, drawn by `seed`.

    Raises:
        PoisonError: too many rows, or something is not finite.
    """
    names, codes = _coded(features, labels)
    near, _ = _nearest(features, NEIGHBOURS, seed)
    shares = np.stack([(codes[near] == code).mean(axis=1) for code in range(len(names))], axis=1)  # (n, labels)
    shares[np.arange(len(codes)), codes] = 0.0
    scores = shares.max(axis=1, initial=0.0) / AGREEING

    def reason(row: int) -> str:
        others = round(shares[row].max() * near.shape[1])
        other = names[shares[row].argmax()]
        return f"labelled {names[codes[row]]}, and {others} of its {near.shape[1]} nearest rows are {other}"

    return _suspects(scores, reason)


def spectral_signatures(embeddings: Array, labels: Labels, share: float = SHARE) -> Suspects:
    """Rows far out along the main direction of their class: those that carry a backdoor (Tran, Li and Madry, 2018).

    A trigger makes a part of a class alike in a way that the rest is not, and that becomes the direction in which the
    class (its embeddings (n, d), centred) varies most. The paper takes the 1.5 * `share` farthest of each class, of
    data poisoned or not; here they must also be farther than the class's own spread explains.

    Raises:
        PoisonError: too many rows or columns, or something is not finite.
    """
    if embeddings.shape[1] > MAX_WIDTH:
        raise PoisonError(f"embeddings have at most {MAX_WIDTH:,} columns, these {embeddings.shape[1]:,}")
    names, codes = _coded(embeddings, labels)
    scores = np.zeros(len(codes))
    for code in range(len(names)):
        rows = np.flatnonzero(codes == code)
        if len(rows) < _FEW:
            continue
        deviations = _along_main_direction(embeddings[rows])
        most = max(1, int(np.ceil(1.5 * share * len(rows))))
        farthest = np.argsort(-deviations, kind="stable")[:most]
        scores[rows] = np.minimum(deviations / _SECOND_CLASS, 1.0)
        scores[rows[farthest]] = deviations[farthest] / _SECOND_CLASS

    def reason(row: int) -> str:
        far = scores[row] * _SECOND_CLASS
        return f"{far:.1f} deviations out in the direction in which the rows labelled {names[codes[row]]} differ most"

    return _suspects(scores, reason)


def repeated(rows: Array) -> tuple[tuple[int, ...], ...]:
    """The positions of rows (n, d) that are the same, group by group, in the order of their first; bounded.

    Raises:
        PoisonError: too many rows, or something is not finite.
    """
    _check(rows)
    places: dict[bytes, list[int]] = {}
    for index, row in enumerate(np.ascontiguousarray(rows) + 0.0):  # + 0.0: no negative nought
        places.setdefault(row.tobytes(), []).append(index)
    groups = [tuple(group) for group in places.values() if len(group) > 1]
    return tuple(groups[:MAX_SUSPECTS])


def nearly_repeated(
    features: Array, seed: int = 0, named: Callable[[int], str] = lambda index: f"row {index}"
) -> Suspects:
    """Rows far nearer to another one than rows usually are to their nearest: copies with a little noise.

    `named` says which row it is that one is near to.

    Raises:
        PoisonError: too many rows, or something is not finite.
    """
    _check(features)
    near, distances = _nearest(features, 1, seed)
    apart = distances[:, 0]
    usual = float(np.median(apart[apart > 0])) if (apart > 0).any() else 0.0
    limit = _NEAR * usual
    scores = np.where(apart > 0, limit / np.maximum(apart, np.finfo(np.float64).tiny), 0.0)  # the same: `repeated`

    def reason(row: int) -> str:
        return f"at {apart[row] / usual:.1%} of the usual distance from {named(int(near[row, 0]))}"

    return _suspects(scores, reason)


def _along_main_direction(rows: Array) -> Array:
    """How far each row lies from the middle, in robust deviations along the direction of greatest variance; (n,)."""
    centred = rows - rows.mean(axis=0)
    reach = np.abs(centred).max(initial=0.0)
    if reach == 0:
        return np.zeros(len(rows))
    centred = centred / reach  # so that no square overflows
    _, axes = np.linalg.eigh(centred.T @ centred)
    along = centred @ axes[:, -1]
    middle = np.median(along)
    spread = _CONSISTENT * np.median(np.abs(along - middle))
    deviations: Array = np.abs(along - middle) / max(float(spread), 1e-9)
    return deviations


def _nearest(features: Array, count: int, seed: int) -> tuple[Positions, Array]:
    """The positions of the `count` rows nearest to each row, itself left out, and their distances; both (n, count)."""
    total = len(features)
    kept = np.arange(total)
    if total > MAX_REFERENCE:
        kept = np.sort(np.random.default_rng(seed).choice(total, MAX_REFERENCE, replace=False))
    count = min(count, max(len(kept) - 1, 1))
    near = np.empty((total, count), dtype=np.intp)
    distances = np.empty((total, count))
    for rows, squares in _squares(features, features[kept]):
        squares[kept[np.newaxis] == rows[:, np.newaxis]] = np.inf
        found = np.argpartition(squares, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(squares, found, axis=1), axis=1, kind="stable")
        near[rows] = kept[np.take_along_axis(found, order, axis=1)]
    for column in range(count):  # anew, without the cancellation of the squares
        apart = features - features[near[:, column]]
        distances[:, column] = np.sqrt(np.einsum("ij,ij->i", apart, apart))
    return near, distances


def _squares(features: Array, reference: Array) -> Iterator[tuple[Positions, Array]]:
    """The squared distances of some rows at a time to all of `reference`."""
    middle = reference.mean(axis=0)
    theirs = reference - middle
    lengths = np.einsum("ij,ij->i", theirs, theirs)
    step = max(1, _CHUNK // len(reference))
    for start in range(0, len(features), step):
        own = features[start : start + step] - middle
        yield (
            np.arange(start, start + len(own)),
            lengths - 2 * (own @ theirs.T) + np.einsum("ij,ij->i", own, own)[:, np.newaxis],
        )


def _coded(rows: Array, labels: Labels) -> tuple[Sequence[Any], Positions]:
    """The labels that there are, and which of them each row has."""
    _check(rows)
    if labels.shape != (len(rows),):
        raise PoisonError(f"{len(rows):,} rows need as many labels, not {labels.shape}")
    names, codes = np.unique(labels, return_inverse=True)
    return names.tolist(), codes


def _check(rows: Array) -> None:
    if not 2 <= len(rows) <= MAX_ROWS:
        raise PoisonError(f"2 to {MAX_ROWS:,} rows are compared with one another, not {len(rows):,}")
    if not (np.abs(rows) <= 1e100).all():
        raise PoisonError("a row holds a number that is none, or beyond 1e100")


def _suspects(scores: Array, reason: Callable[[int], str]) -> Suspects:
    order = np.argsort(-scores, kind="stable")[:MAX_SUSPECTS].tolist()
    return Suspects(scores, tuple(Suspect(row, float(scores[row]), reason(row)) for row in order if scores[row] > 1.0))
