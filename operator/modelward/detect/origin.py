"""Where a baseline comes from, read from its header alone: no array is looked at, and numpy is not needed."""

from __future__ import annotations

import io
import zipfile

import msgspec

_MAX_HEADER = 4 << 20
_MAGIC = b"\x93NUMPY\x01\x00"  # format 1.0 of npy, which numpy writes for what is small (NEP 1)
_LENGTH = len(_MAGIC) + 2


class Known(msgspec.Struct, frozen=True, rename="camel"):
    """What a baseline's header says of its data: `baseline.Origin`, as far as it is asked for here."""

    data_sha256: str = ""
    lineage: str = ""
    fitted: str = ""


class _Header(msgspec.Struct, frozen=True):
    origin: Known


def known_of(content: bytes) -> Known | None:
    """Return what a baseline file says of where it comes from; None where it is none that this version reads."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = archive.getinfo("header.npy")
            if entry.file_size > _MAX_HEADER:
                return None
            raw = archive.read(entry)
    except Exception:  # noqa: BLE001 - zipfile raises many kinds, and none of them tells more
        return None
    if not raw.startswith(_MAGIC):
        return None
    begins = _LENGTH + int.from_bytes(raw[len(_MAGIC) : _LENGTH], "little")
    try:
        return msgspec.json.decode(raw[begins:], type=_Header).origin
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
