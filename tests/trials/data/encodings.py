"""Ground-truth files written byte by byte, without the product's own writers or OpenCV."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

Rows = Sequence[Sequence[float]]
RgbRows = Sequence[Sequence[tuple[int, int, int]]]


def write_png_bytes(path: Path, rows: Sequence[Sequence[int]] | RgbRows, *, bits: int) -> None:
    """A PNG (RFC 2083) of one channel or RGB, 8 or 16 bits; 16-bit samples are big-endian."""
    pixels = np.array(rows)
    height, width = pixels.shape[:2]
    samples = pixels.astype(">u2" if bits == 16 else "u1")
    lines = b"".join(b"\0" + samples[row].tobytes() for row in range(height))
    head = struct.pack(">IIBBBBB", width, height, bits, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_pfm_bytes(path: Path, rows: Rows, *, top_first: bool = False) -> None:
    """A little-endian PFM of one channel: bottom row first, as the format says, unless `top_first`."""
    stored = list(rows) if top_first else list(reversed(rows))
    values = [value for row in stored for value in row]
    path.write_bytes(f"Pf\n{len(rows[0])} {len(rows)}\n-1.0\n".encode() + struct.pack(f"<{len(values)}f", *values))
