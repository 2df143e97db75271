"""Scores encrypted rows: the server's half, which reads nothing.

Two layouts. In a `row`, the columns repeat over all slots, so that sums by rotation leave the whole score in every
slot: were they there once, the other slots would hold partial sums, and give the weights away in one answer. In
`columns`, a ciphertext holds one column of up to `slots` rows; no rotations are needed, and networks can be scored. The
slots behind the rows that the request names are multiplied by zero: what a client has put there is not scored. In a
`row` there is no level left for that: a ciphertext made up of other numbers in each period gets a score for each.
"""

import math
from collections.abc import Sequence

import numpy as np

from modelward.encrypted.context import Array, Ciphertext, Evaluator
from modelward.encrypted.envelope import Level, Request
from modelward.encrypted.model import Layer, Model, sigmoid_polynomial
from modelward.encrypted.parameters import EncryptedError, Parameters, score_error

MAX_ROWS = 64  # of the layout `row`: a ciphertext each
_ANSWER_BITS = 46  # of the answer's scale, where there is room: finer than the noise


def width_of(columns: int) -> int:
    """The period of the layout `row`: the least power of two that holds the columns."""
    return 1 << max(columns - 1, 0).bit_length()


def check(request: Request, parts: Sequence[bytes], model: Model) -> None:
    """Refuse a request that this model cannot score, before any ciphertext is looked at.

    Raises:
        EncryptedError: says what does not fit.
    """
    model.check(request.parameters)
    if len(request.columns) != model.width:
        raise EncryptedError(f"the request has {len(request.columns)} columns, the model {model.width}")
    if model.columns and tuple(request.columns) != model.columns:
        raise EncryptedError(f"the columns must be, in this order: {', '.join(model.columns)}"[:2000])
    expected = request.rows if request.layout == "row" else len(request.columns)
    most = MAX_ROWS if request.layout == "row" else request.parameters.slots
    if len(parts) != expected or request.rows > most:
        raise EncryptedError(
            f"{len(parts)} ciphertexts for {request.rows} rows of {len(request.columns)} columns in the layout"
            f" {request.layout}: {expected} are needed, of at most {most} rows"
        )
    if request.layout == "row" and model.squares:
        raise EncryptedError("a network, or the link logistic3, is scored by columns: encrypt with --layout columns")


def score(
    evaluator: Evaluator, model: Model, request: Request, parts: Sequence[bytes]
) -> tuple[list[bytes], Level, float]:
    """The encrypted scores of a request that `check` let pass, their level, and the error to expect.

    The parts are those of `envelope.Answer`: for each row all outputs, or all outputs once.

    Raises:
        EncryptedError: a ciphertext or a key is not what it must be.
    """
    bound = 2.0**request.bound_bits
    ciphertexts = [evaluator.load(part) for part in parts]
    if request.layout == "columns":
        mask = np.arange(evaluator.parameters.slots) < request.rows
        results = _network(evaluator, model, ciphertexts, bound, mask.astype(np.float64))
    else:
        results = [score for one in ciphertexts for score in _by_row(evaluator, model.layers[0], one, bound)]
    level = Level(results[0].primes, results[0].scale)
    norm = math.prod(float(np.linalg.norm(layer.weights, axis=1).max()) for layer in model.layers)
    return [evaluator.store(one) for one in results], level, score_error(request.parameters, norm)


def _by_row(evaluator: Evaluator, layer: Layer, row: Ciphertext, bound: float) -> list[Ciphertext]:
    width = width_of(layer.weights.shape[1])
    scale = _weight_scale(evaluator, row, layer.bound(bound))
    slots = evaluator.parameters.slots
    scores = []
    for weights, bias in zip(layer.weights, layer.bias, strict=True):
        repeated = np.tile(np.pad(weights, (0, width - len(weights))), slots // width)
        product = evaluator.rescale(evaluator.times(row, repeated, scale))
        scores.append(evaluator.plus(evaluator.sum_slots(product, width), np.full(slots, bias)))
    return scores


def _network(
    evaluator: Evaluator, model: Model, columns: list[Ciphertext], bound: float, mask: Array
) -> list[Ciphertext]:
    for layer in model.layers[:-1]:
        columns = [
            evaluator.square(one) for one in _layer(evaluator, layer, columns, _kept_scale(evaluator, columns[0]), mask)
        ]
        bound = layer.bound(bound) ** 2
    last = model.layers[-1]
    if model.link == "logistic3":
        return [_logistic(evaluator, last, columns, mask)]
    return _layer(evaluator, last, columns, _weight_scale(evaluator, columns[0], last.bound(bound)), mask)


def _layer(
    evaluator: Evaluator, layer: Layer, columns: list[Ciphertext], scale: float, mask: Array
) -> list[Ciphertext]:
    """Weights times columns plus bias, spending one prime; zero where `mask` (slots) is."""
    outputs = []
    for weights, bias in zip(layer.weights, layer.bias, strict=True):
        total: Ciphertext | None = None
        for weight, column in zip(weights, columns, strict=True):
            if abs(weight) * scale < 1:
                continue  # as good as zero, and SEAL will not have it
            product = evaluator.times(column, weight * mask, scale)
            total = product if total is None else evaluator.add(total, product)
        if total is None:
            raise EncryptedError("an output has only weights of zero: there is nothing to score")
        outputs.append(evaluator.plus(evaluator.rescale(total), bias * mask))
    return outputs


def _logistic(evaluator: Evaluator, layer: Layer, columns: list[Ciphertext], mask: Array) -> Ciphertext:
    """1/2 + a z + c z^3 of the layer's score z, by (c^(1/3) z)^3 and a z: two multiplications after the layer's own."""
    linear, cubic, _ = sigmoid_polynomial()
    root = math.copysign(abs(cubic) ** (1 / 3), cubic)
    (base,) = _layer(evaluator, _scaled(layer, root), columns, _kept_scale(evaluator, columns[0]), mask)
    cube = evaluator.multiply(evaluator.square(base), evaluator.lower(base))
    # The linear part is made to come out at the cube's scale, or they could not be added.
    scale = cube.scale * evaluator.last_prime(columns[0]) / columns[0].scale
    (straight,) = _layer(evaluator, _scaled(layer, linear), columns, scale, mask)
    while straight.primes > cube.primes:
        straight = evaluator.lower(straight)
    half: Array = np.full(evaluator.parameters.slots, 0.5)
    return evaluator.plus(evaluator.add(cube, straight), half)


def _scaled(layer: Layer, by: float) -> Layer:
    return Layer(layer.weights * by, layer.bias * by)


def _kept_scale(evaluator: Evaluator, ciphertext: Ciphertext) -> float:
    """The scale of weights after which a product, rescaled, has the scale that it had."""
    return float(evaluator.last_prime(ciphertext))


def _weight_scale(evaluator: Evaluator, ciphertext: Ciphertext, bound: float) -> float:
    """The scale of weights that leaves a score of at most `bound` the finest scale that its last primes have room for.

    Raises:
        EncryptedError: there is no room for numbers of that size.
    """
    room = math.log2(math.prod(evaluator.ring.primes[: ciphertext.primes - 1])) - 2
    bits = min(_ANSWER_BITS, math.floor(room - math.log2(max(bound, 1.0))))
    if bits < _least_bits(evaluator.parameters):
        raise EncryptedError(
            f"scores may be as large as {bound:.3g}, for which the first prime of coeffModulusBits has no room:"
            " standardise the columns, or state a smaller --bound-bits"
        )
    return float(2.0**bits * evaluator.last_prime(ciphertext) / ciphertext.scale)


def _least_bits(parameters: Parameters) -> int:
    return min(parameters.scale_bits, 20)
