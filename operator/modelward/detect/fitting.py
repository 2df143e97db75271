"""Fits baselines.

Scores are calibrated on rows that the detectors had not seen: each row is scored once by detectors fitted without its
fifth of the data (cross-conformal prediction; Vovk, 2015).
"""

import hashlib
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from modelward.detect import encoding, ensemble
from modelward.detect.baseline import MAX_COLUMNS, Baseline, BaselineError, Origin
from modelward.detect.calibration import calibrate, rows_needed
from modelward.detect.detectors import ENSEMBLE, KINDS
from modelward.detect.encoder import Encoder, EncoderError
from modelward.detect.encoding import Array, Column
from modelward.detect.summary import summarise

FOLDS = 5
MAX_FIT_ROWS = 20_000  # more are sampled: the picture does not get better, only slower
MIN_ROWS = 30
USUAL_RATE = 0.01
_NEAR_CONSTANT = 1e-6
_FEW = 3  # rows a column: with fewer, correlations are mostly guessed

Tell = Callable[[str, float], None]


def fit(
    rows: Array,
    columns: Sequence[str | Column] | None = None,
    *,
    named: bool | None = None,
    detectors: Sequence[str] = tuple(KINDS),
    false_positive_rate: float | None = None,
    seed: int = 0,
    data: bytes = b"",
    origin: Origin | None = None,
    encoder: Encoder | None = None,
    tell: Tell = lambda _what, _share: None,
) -> Baseline:
    """Fit a baseline on encoded `rows` (n, d); rows with a missing or infinite value are left out.

    `named`: whether the names are the data's own (None: when any are given). `data` are the bytes of the file that the
    rows came from, for its digest; `origin` has what else is to be told of it. `encoder`: its embeddings of rows are
    compared in their place. `false_positive_rate` None: 1 %, or the lowest that the rows can tell. `tell` is called
    with what is being done and the share of the whole that is done.
    The same arguments give the same baseline.

    Raises:
        BaselineError: too few rows, a column without values, scores that do not vary.
        EncoderError: the encoder takes other rows, or tells none of these from another.
    """
    known = _columns(columns, rows)
    usable = _usable_rows(rows, known)
    if encoder is not None:
        _check_encoder(encoder, known, usable)
    rate = false_positive_rate or max(USUAL_RATE, 1 / (len(usable) + 1))
    gave_up = _given_up(len(usable), known, encoder, rate)
    rng = np.random.default_rng(seed)
    if len(usable) > MAX_FIT_ROWS:
        gave_up.append(f"{len(usable)} rows: {MAX_FIT_ROWS} of them, by chance, were fitted on")
        usable = usable[np.sort(rng.choice(len(usable), MAX_FIT_ROWS, replace=False))]
    views, held_back = _held_back(usable, known, encoder, detectors, seed, tell)
    together = ensemble.fit(views)
    held_back[ENSEMBLE] = together.scores(views)
    for name, scores in held_back.items():
        _refuse_constant(name, scores)
    tell("all rows", FOLDS / (FOLDS + 1))
    encoded = encoding.fit(known, usable, encoder)
    if encoded.components is not None:
        gave_up.append(
            f"{len(encoded.centre)} values a row: reduced to {encoded.width - 1} principal components and "
            "the distance from them"
        )
    features = encoded.features(usable)
    origin = origin or Origin()
    fitted = Baseline(
        encoding=encoded,
        named=columns is not None if named is None else named,
        detectors={name: KINDS[name].fit(features, _rng(seed, name)) for name in detectors},
        ensemble=together,
        calibration={name: calibrate(scores) for name, scores in held_back.items()},
        summary=summarise(known, usable, _rng(seed, "summary")),
        false_positive_rate=rate,
        origin=msgspec.structs.replace(
            origin,
            data_sha256=hashlib.sha256(data).hexdigest(),
            encoder_sha256="" if encoder is None else encoder.sha256,
            seed=seed,
            rows=len(rows),
            rows_dropped=int(len(rows) - np.isfinite(rows).all(axis=1).sum()),
            gave_up=(*origin.gave_up, *gave_up),
        ),
    )
    for name in fitted.types:
        fitted.threshold(name)
    return fitted


def _rng(seed: int, name: str) -> "np.random.Generator":
    """A stream of its own for each use, so that leaving a detector out changes no other."""
    return np.random.default_rng([seed % (1 << 63), *name.encode()])


def _columns(columns: Sequence[str | Column] | None, rows: Array) -> tuple[Column, ...]:
    given = columns if columns is not None else [f"x{index}" for index in range(rows.shape[1])]
    known = tuple(Column(each) if isinstance(each, str) else each for each in given)
    if not 1 <= len(known) <= MAX_COLUMNS or len({column.name for column in known}) != len(known):
        raise BaselineError(f"a baseline has 1 to {MAX_COLUMNS} columns with different names; these are {len(known)}")
    if len(known) != rows.shape[1]:
        raise BaselineError(f"{len(known)} columns are named and the rows have {rows.shape[1]}")
    return known


def _usable_rows(rows: Array, columns: Sequence[Column]) -> Array:
    finite = np.isfinite(rows)
    empty = [column.name for index, column in enumerate(columns) if not finite[:, index].any()]
    if len(rows) and empty:
        raise BaselineError(f"no row has a number in {', '.join(empty[:5])}: leave it out with --columns")
    usable = rows[finite.all(axis=1)]
    if len(usable) < MIN_ROWS:
        raise BaselineError(
            f"a baseline needs at least {MIN_ROWS} rows without missing values; {len(usable)} of {len(rows)} are"
        )
    return usable


def _check_encoder(encoder: Encoder, columns: Sequence[Column], rows: Array) -> None:
    encoding.check_fits(encoder, columns)
    embedded = encoder.embed(rows)
    if not (embedded != embedded[0]).any():
        raise EncoderError("its embedding of all rows is the same, so none could be called unusual")


def _given_up(count: int, columns: Sequence[Column], encoder: Encoder | None, rate: float) -> list[str]:
    gave_up = []
    if rate > USUAL_RATE and count < rows_needed(USUAL_RATE):
        gave_up.append(
            f"{count} rows tell no false positive rate below {1 / (count + 1):.1%}; {USUAL_RATE:.0%} takes "
            f"{rows_needed(USUAL_RATE)} rows"
        )
    width, parts = (len(columns), "columns") if encoder is None else (encoder.outputs, "parts of the embedding")
    if count < _FEW * width:
        gave_up.append(
            f"{count} rows for {width} {parts}: how the {parts} go together is mostly unknown, so each counts "
            "almost by itself"
        )
    return gave_up


def _held_back(
    rows: Array,
    columns: tuple[Column, ...],
    encoder: Encoder | None,
    detectors: Sequence[str],
    seed: int,
    tell: Tell,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The views (v, n) and the scores (n,) of all rows by detectors fitted without the fold that the row is in."""
    fold = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
    order = np.argsort(fold, kind="stable")
    views: dict[str, list[Array]] = {name: [] for name in detectors}
    scores: dict[str, list[Array]] = {name: [] for name in detectors}
    for held_back in range(FOLDS):
        out = fold == held_back
        encoded = encoding.fit(columns, rows[~out], encoder)
        known, unseen = encoded.features(rows[~out]), encoded.features(rows[out])
        for index, name in enumerate(detectors):
            tell(f"fold {held_back + 1} of {FOLDS}, {name}", (held_back + index / len(detectors)) / (FOLDS + 1))
            detector = KINDS[name].fit(known, _rng(seed, f"{name} {held_back}"))
            views[name].append(detector.views(unseen))
            scores[name].append(detector.overall(views[name][-1]))
    back = np.argsort(order)
    return (
        {name: np.concatenate(each, axis=1)[:, back] for name, each in views.items()},
        {name: np.concatenate(each)[back] for name, each in scores.items()},
    )


def _refuse_constant(name: str, scores: Array) -> None:
    # Relative to the scores themselves: a detector that calls all rows alike tells nothing (and has once passed
    # unnoticed).
    if scores.std() <= _NEAR_CONSTANT * max(float(scores.mean()), 1e-300):
        raise BaselineError(
            f"the scores of {name} are nearly the same for all rows, so none could be called unusual: the data does "
            "not vary"
        )
