"""A given encoder: a small feed-forward network that makes an embedding of a row, which is what is then compared.

Its file is an npz without pickle: `header` (JSON: each layer's activation) and, of each layer i, `weights<i>` (in, out)
and `bias<i>` (out,), float32 or float64. docs/reference/baseline.md describes it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from modelward.detect.archive import ArchiveError, read_arrays

Array = npt.NDArray[np.float64]
Activation = Literal["relu", "tanh", "identity"]

MAX_FILE_BYTES = 2 << 20  # unpacked, too
MAX_LAYERS = 4
MAX_INPUTS = 2048
MAX_OUTPUTS = 256
_FARTHEST = 1e30  # numbers are cut to this before each layer, so that no sum overflows

# By its output: what an activation does, and how steep it is there.
_ACTIVATIONS: dict[Activation, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda sums: np.maximum(sums, 0.0), lambda out: (out > 0).astype(np.float64)),
    "tanh": (np.tanh, lambda out: 1 - out * out),
    "identity": (lambda sums: sums, np.ones_like),
}


class EncoderError(ValueError):
    """Not an encoder that can be used; the message says why."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    activations: Annotated[tuple[Activation, ...], Meta(min_length=1, max_length=MAX_LAYERS)]
    format: Literal[1] = 1


@dataclass(frozen=True, slots=True)
class Layer:
    """`weights` (in, out), `bias` (out,)."""

    weights: Array
    bias: Array
    activation: Activation

    def out(self, rows: Array) -> Array:
        """What it makes of rows (n, in): (n, out)."""
        cut = np.minimum(np.maximum(rows, -_FARTHEST), _FARTHEST)
        return _ACTIVATIONS[self.activation][0](cut @ self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class Encoder:
    """The network, and the file that it came in: `content`, which a baseline keeps as it is."""

    layers: tuple[Layer, ...]
    content: bytes

    @property
    def inputs(self) -> int:
        """The numbers a row that it takes."""
        return len(self.layers[0].weights)

    @property
    def outputs(self) -> int:
        """The parts of an embedding."""
        return len(self.layers[-1].bias)

    @property
    def sha256(self) -> str:
        """The digest of its file."""
        return hashlib.sha256(self.content).hexdigest()

    def embed(self, rows: Array) -> Array:
        """The embeddings (n, m) of rows (n, d); NaN where a row is not finite: no activation may hide that."""
        out = np.where(np.isfinite(rows), rows, np.nan)
        for layer in self.layers:
            out = layer.out(out)
        return out

    def slope(self, row: Array, part: int) -> Array:
        """How `part` of the embedding changes with each number of a finite row (d,); (d,)."""
        outs = [row[np.newaxis]]
        for layer in self.layers:
            outs.append(layer.out(outs[-1]))
        back = np.zeros(self.outputs)
        back[part] = 1.0
        for layer, out in zip(reversed(self.layers), reversed(outs), strict=False):
            back = layer.weights @ (back * _ACTIVATIONS[layer.activation][1](out[0]))
        return back


def from_bytes(content: bytes) -> Encoder:
    """Read an encoder's file, trusting nothing in it.

    Raises:
        EncoderError: it is not one, is damaged, too large, or its arrays do not fit together.
    """
    if len(content) > MAX_FILE_BYTES:
        raise EncoderError(f"the file has {len(content):,} bytes, an encoder has at most {MAX_FILE_BYTES:,}")
    try:
        arrays = read_arrays(content, MAX_FILE_BYTES)
    except ArchiveError as error:
        raise EncoderError(f"the file is not an encoder: {error}") from error
    try:
        header = msgspec.json.decode(arrays["header"].tobytes(), type=_Header)
    except (KeyError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise EncoderError(
            'its array `header` is not JSON (as bytes, uint8) like {"activations": ["relu", "identity"]}: '
            f"{', '.join(_ACTIVATIONS)} for each of 1 to {MAX_LAYERS} layers"
        ) from error
    count = len(header.activations)
    expected = {"header", *(f"{kind}{index}" for kind in ("weights", "bias") for index in range(count))}
    if set(arrays) != expected:
        raise EncoderError(
            f"for {count} activations it must hold {', '.join(sorted(expected))} and nothing else: one matrix and one "
            "bias a layer"
        )
    layers: list[Layer] = []
    for index, activation in enumerate(header.activations):
        layers.append(_layer(arrays, index, activation, len(layers[-1].bias) if layers else None))
    if len(layers[-1].bias) > MAX_OUTPUTS:
        raise EncoderError(f"the last layer has {len(layers[-1].bias)} outputs, at most {MAX_OUTPUTS} are compared")
    return Encoder(tuple(layers), content)


def _layer(arrays: dict[str, npt.NDArray[Any]], index: int, activation: Activation, before: int | None) -> Layer:
    """The layer `index` of a file; the one before it has so many outputs."""
    weights, bias = (_numbers(arrays, f"{kind}{index}") for kind in ("weights", "bias"))
    if weights.ndim != 2 or not weights.size or len(weights) > MAX_INPUTS:
        raise EncoderError(f"weights{index} has the shape {weights.shape}: not (in, out), in at most {MAX_INPUTS}")
    if before is not None and len(weights) != before:
        raise EncoderError(f"weights{index} takes {len(weights)} numbers, the layer before it gives {before}")
    if bias.shape != weights.shape[1:]:
        raise EncoderError(
            f"bias{index} has the shape {bias.shape}, the outputs of weights{index} are {weights.shape[1]}"
        )
    return Layer(weights, bias, activation)


def _numbers(arrays: dict[str, npt.NDArray[Any]], name: str) -> Array:
    array = arrays[name]
    if array.dtype not in (np.float32, np.float64):
        raise EncoderError(f"{name} has the type {array.dtype}, not float32 or float64")
    if not (np.abs(array) <= _FARTHEST).all():
        raise EncoderError(f"{name} has numbers that are not finite, or beyond {_FARTHEST:g}")
    return np.ascontiguousarray(array, dtype=np.float64)
