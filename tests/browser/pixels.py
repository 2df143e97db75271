"""Screenshots as numbers: PNG as chromium writes it, and a page as it looks from afar, whatever its fonts."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
Image = NDArray[np.uint8]


def decoded(png: bytes) -> Image:
    """Return the pixels (rows, columns, 3) of a PNG of eight bits a channel, not interlaced (ISO/IEC 15948)."""
    at, content = 8, b""
    width = height = channels = 0
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        piece = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", piece[:10])
            channels = {0: 1, 2: 3, 6: 4}[colour]
            assert depth == 8
        elif kind == b"IDAT":
            content += piece
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(content), np.uint8).reshape(height, 1 + width * channels)
    out = np.zeros((height, width * channels), np.uint8)
    before = np.zeros(width * channels, np.uint8)
    for row in range(height):
        before = out[row] = _unfiltered(int(lines[row, 0]), lines[row, 1:], before, channels)
    pixels = out.reshape(height, width, channels)[:, :, : 3 if channels > 1 else 1]
    return np.repeat(pixels, 3, axis=2) if channels == 1 else pixels


def encoded(grey: Image) -> bytes:
    """Return a PNG of one channel (rows, columns)."""
    height, width = grey.shape
    raw = b"".join(b"\0" + row.tobytes() for row in grey)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )


def from_afar(pixels: Image) -> Image:
    """Return the mean lightness of each block of BLOCK x BLOCK pixels; what is left over at the edges is cut off."""
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    grey = pixels[: rows * BLOCK, : columns * BLOCK].mean(axis=2)
    return grey.reshape(rows, BLOCK, columns, BLOCK).mean(axis=(1, 3)).round().astype(np.uint8)


def _unfiltered(kind: int, line: Image, before: Image, step: int) -> Image:
    if kind == 0:
        return line
    if kind == 2:
        return line + before
    out = [0] * len(line)
    told, above = line.tolist(), before.tolist()
    for at, value in enumerate(told):
        left = out[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        guess = {1: left, 3: (left + above[at]) // 2, 4: _paeth(left, above[at], corner)}[kind]
        out[at] = (value + guess) & 255
    return np.array(out, np.uint8)


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    return min((left, up, corner), key=lambda one: (abs(estimate - one), (left, up, corner).index(one)))
