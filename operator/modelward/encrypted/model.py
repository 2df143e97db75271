"""The part of a model that scores on ciphertexts: its exported weights, and what they need of the parameters.

The file is JSON: `{"coef": [...], "intercept": 0.1, "link": "identity"}` for a linear model (`coef` of one row, or of
one for each class with as many intercepts), or `{"layers": [{"weights": [[...]], "bias": [...]}, ...]}` for a small
network with squares between its layers, the one activation that ciphertexts can compute (Gilad-Bachrach and others:
CryptoNets, 2016).
"""

import hashlib
import math
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from modelward.encrypted.parameters import EncryptedError, Parameters

Array = npt.NDArray[np.float64]
MAX_FILE_BYTES: Final = 8 << 20
MAX_COLUMNS: Final = 512
MAX_OUTPUTS: Final = 64
MAX_LAYERS: Final = 4
SIGMOID_RANGE: Final = 8.0

Link = Literal["identity", "logistic", "softmax", "logistic3"]
_Numbers = Annotated[list[float], Meta(min_length=1, max_length=MAX_COLUMNS)]


class _Linear(msgspec.Struct, forbid_unknown_fields=True):
    coef: Annotated[list[float | _Numbers], Meta(min_length=1, max_length=MAX_COLUMNS)]
    intercept: float | Annotated[list[float], Meta(max_length=MAX_OUTPUTS)] = 0.0
    link: Link = "identity"
    columns: Annotated[list[str], Meta(max_length=MAX_COLUMNS)] = []


class _Layer(msgspec.Struct, forbid_unknown_fields=True):
    weights: Annotated[list[_Numbers], Meta(min_length=1, max_length=MAX_COLUMNS)]
    bias: _Numbers


class _Network(msgspec.Struct, forbid_unknown_fields=True):
    layers: Annotated[list[_Layer], Meta(min_length=1, max_length=MAX_LAYERS)]
    activation: Literal["square"] = "square"
    link: Link = "identity"
    columns: Annotated[list[str], Meta(max_length=MAX_COLUMNS)] = []


class Layer(msgspec.Struct, frozen=True):
    """`weights` (outputs, inputs) and `bias` (outputs)."""

    weights: Array
    bias: Array

    def bound(self, inputs: float) -> float:
        """The greatest output's magnitude, for inputs of at most this magnitude."""
        return float((np.abs(self.weights).sum(axis=1) * inputs + np.abs(self.bias)).max())


class Model(msgspec.Struct, frozen=True):
    """Layers with squares between them.

    `link` is that of the last one's outputs: `logistic3` is computed under encryption, by a polynomial of degree 3; the
    others are left to the client, who computes them exactly.
    """

    layers: tuple[Layer, ...]
    link: Link
    columns: tuple[str, ...]
    sha256: str

    @property
    def width(self) -> int:
        """Columns of a row."""
        return int(self.layers[0].weights.shape[1])

    @property
    def outputs(self) -> int:
        """Scores of a row."""
        return len(self.layers[-1].bias)

    @property
    def depth(self) -> int:
        """Multiplications one after the other."""
        return 2 * len(self.layers) - 1 + (2 if self.link == "logistic3" else 0)

    @property
    def squares(self) -> bool:
        """Whether ciphertexts are multiplied with one another: the client must send relinearisation keys."""
        return self.depth > 1

    def check(self, parameters: Parameters) -> None:
        """Refuse parameters that this model cannot be scored under.

        Raises:
            EncryptedError: says what is missing.
        """
        if parameters.scheme != "CKKS":
            raise EncryptedError(f"a model is scored under CKKS; {parameters.scheme} is for whole numbers, counts")
        if self.depth > parameters.depth:
            raise EncryptedError(
                f"the model multiplies {self.depth} times one after the other, these parameters allow"
                f" {parameters.depth}: add {self.depth - parameters.depth} primes to coeffModulusBits (and a larger"
                " polyModulusDegree where they do not fit), or export a smaller model"
            )


def read(content: bytes) -> Model:
    """The model in a weights file.

    Raises:
        EncryptedError: it is not one: the message says where.
    """
    if len(content) > MAX_FILE_BYTES:
        raise EncryptedError(f"the weights have {len(content):,} bytes, at most {MAX_FILE_BYTES:,} are read")
    try:
        fields = msgspec.json.decode(content)
        if isinstance(fields, dict) and "layers" in fields:
            network = msgspec.convert(fields, _Network)
            layers, link, columns = [(one.weights, one.bias) for one in network.layers], network.link, network.columns
        else:
            linear = msgspec.convert(fields, _Linear)
            several = [row for row in linear.coef if isinstance(row, list)]
            rows = several or [[weight for weight in linear.coef if isinstance(weight, float)]]
            if several and len(several) != len(linear.coef):
                raise EncryptedError("coef is a list of numbers, or of lists of numbers, not of both")
            biases = linear.intercept if isinstance(linear.intercept, list) else [linear.intercept] * len(rows)
            layers, link, columns = [(rows, biases)], linear.link, linear.columns
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise EncryptedError(f"the weights cannot be read: {str(error)[:200]}") from error
    model = Model(
        tuple(_layer(weights, bias, index) for index, (weights, bias) in enumerate(layers)),
        link,
        tuple(columns),
        hashlib.sha256(content).hexdigest(),
    )
    _check_shape(model)
    return model


def _layer(weights: list[list[float]], bias: list[float], index: int) -> Layer:
    if len({len(row) for row in weights}) != 1 or len(weights) != len(bias):
        raise EncryptedError(
            f"layer {index}: every row of weights must be of one length, with a bias (intercept) for each row"
        )
    layer = Layer(np.array(weights, dtype=np.float64), np.array(bias, dtype=np.float64))
    if not np.abs(layer.weights).max() > 0:
        raise EncryptedError(f"layer {index}: all weights are zero: there is nothing to score")
    return layer


def _check_shape(model: Model) -> None:
    for before, after in zip(model.layers, model.layers[1:], strict=False):
        if after.weights.shape[1] != len(before.bias):
            raise EncryptedError(f"a layer of {len(before.bias)} outputs, the next takes {after.weights.shape[1]}")
    if model.outputs > MAX_OUTPUTS:
        raise EncryptedError(f"{model.outputs} outputs, at most {MAX_OUTPUTS} are scored")
    if model.columns and len(model.columns) != model.width:
        raise EncryptedError(f"{len(model.columns)} columns are named and the weights are for {model.width}")
    if model.link == "logistic3" and model.outputs != 1:
        raise EncryptedError("the link logistic3 is for one output")


def sigmoid_polynomial() -> tuple[float, float, float]:
    """The logistic function as 1/2 + linear z + cubic z^3: `(linear, cubic, error)`.

    The least squares fit over [-8, 8] (as Kim and others, 2018), and its greatest error there.
    """
    z = SIGMOID_RANGE * np.cos(np.linspace(0, math.pi, 2001))
    truth = 1 / (1 + np.exp(-z))
    (linear, cubic), *_ = np.linalg.lstsq(np.stack([z, z**3], axis=1), truth - 0.5, rcond=None)
    return float(linear), float(cubic), float(np.abs(0.5 + linear * z + cubic * z**3 - truth).max())
