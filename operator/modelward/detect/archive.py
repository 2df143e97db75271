"""Reads npz archives that nobody vouches for: plain arrays of bounded size, and nothing that runs."""

import io
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt


class ArchiveError(Exception):
    """Not an archive of plain arrays; the message says why."""


def read_arrays(content: bytes, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an npz, by name.

    Raises:
        ArchiveError: it is damaged, holds pickled objects, or unpacks to more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:
        raise ArchiveError("not an npz archive, or a damaged one") from error
    if size > max_bytes:
        raise ArchiveError(f"it unpacks to {size:,} bytes, at most {max_bytes:,} are read")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:
        raise ArchiveError("not an npz of plain arrays (pickled objects are not read), or a damaged one") from error


def checked(arrays: dict[str, npt.NDArray[Any]], name: str, kind: type[np.generic] = np.float64) -> npt.NDArray[Any]:
    """The array of that name, of that type, every number in it finite.

    Raises:
        ValueError: it is not; the message is its name.
    """
    array = arrays.get(name)
    if array is None or array.dtype != kind or not np.isfinite(array).all():
        raise ValueError(name)
    return array


def prefixed(arrays: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays whose names begin with `prefix` and a dot, by the rest of their names."""
    return {name.removeprefix(f"{prefix}."): array for name, array in arrays.items() if name.startswith(f"{prefix}.")}
