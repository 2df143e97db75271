"""Any bytes as a baseline file: a baseline that scores whatever it is given, or a BaselineError.

A mutation changes bytes of the archive, or, as the checksums of the archive would stop that at the door, one of the
arrays in it: its values, its type, its shape, its name, or the header's JSON. An encoder is changed under its own
digest, which would else stop it.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import warnings
import zipfile

import numpy as np

from modelward.detect import baseline
from modelward.detect.encoding import UNSEEN
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated

_NUMBERS = (0.0, -1.0, 1e-300, 1e300, -1e300, 5.0, np.nan, np.inf, -np.inf, np.finfo(np.float64).max)


def one(content: bytes) -> None:
    """Check what becomes of a file.

    Raises:
        AssertionError: it is not what it must be.
    """
    try:
        read = baseline.from_bytes(content)
    except baseline.BaselineError as error:
        assert 0 < len(str(error)) < 4096, "a message as long as a file"
        return
    assert len(set(read.columns)) == len(read.columns)
    assert baseline.from_bytes(read.to_bytes()).to_bytes() == read.to_bytes(), "it reads otherwise when written again"
    width = len(read.columns)
    rows = np.array([np.zeros(width), read.summary.sample[0], np.full(width, 1e308), np.full(width, float(UNSEEN))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an altered file may overflow: then its scores are infinite, or no numbers
        for name in read.types:
            try:
                scorer = read.scorer([(name, None)])
            except baseline.BaselineError:
                continue
            together = scorer.scores(rows)
            assert together.shape == (1, len(rows))
            assert len(scorer.one(rows[0])) == 1
            assert not (together < 0).any(), "a score below nothing passes always"
            if read.encoding.encoder is not None:
                assert 1 <= len(scorer.explain(rows[2])) <= 3


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant of a file."""
    try:
        arrays = _arrays(content)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError):
        arrays = {}
    if not arrays or chance.random() < 0.2:
        place = chance.randrange(len(content) + 1)
        middle = bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
        return content[:place] + middle + content[place + chance.randrange(8) :]
    if "encoding.encoder" in arrays and chance.random() < 0.5:
        arrays |= _other_encoder(arrays, chance)
    for _ in range(chance.choice((0, 1, 2, 4) if "encoding.encoder" in arrays else (1, 1, 2, 4))):
        name = chance.choice(sorted(arrays))
        arrays[name] = _changed(name, arrays[name], chance)
        if chance.random() < 0.1:
            arrays[chance.choice(sorted(arrays))] = arrays.pop(name)
        elif chance.random() < 0.05:
            del arrays[name]
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def _other_encoder(arrays: dict[str, np.ndarray], chance: random.Random) -> dict[str, np.ndarray]:
    content = mutate(arrays["encoding.encoder"].tobytes(), chance)
    try:
        header = json.loads(arrays["header"].tobytes())
        header["origin"]["encoderSha256"] = hashlib.sha256(content).hexdigest()
    except (ValueError, KeyError, TypeError):
        return {}
    return {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "encoding.encoder": np.frombuffer(content, dtype=np.uint8),
    }


def _changed(name: str, array: np.ndarray, chance: random.Random) -> np.ndarray:
    if name == "header" and array.dtype == np.uint8:
        return np.frombuffer(mutated(array.tobytes(), chance), dtype=np.uint8)
    match chance.randrange(5):
        case 0 if array.size:
            flat = array.ravel().copy()
            with np.errstate(all="ignore"):
                flat[chance.randrange(flat.size)] = np.array(chance.choice(_NUMBERS)).astype(array.dtype)
            return flat.reshape(array.shape)
        case 1:
            with np.errstate(all="ignore"):
                return array.astype(chance.choice((np.float32, np.float64, np.int64, np.int16, "S4", np.bool_)))
        case 2:
            return array[:-1] if array.ndim else array
        case 3:
            return array.reshape(-1) if array.ndim > 1 else array[np.newaxis]
        case _:
            return np.concatenate([array, array]) if array.ndim and array.size < 1 << 16 else array


TARGET = Target("baseline", one, mutate)


if __name__ == "__main__":
    main(TARGET)
