"""Image and ground-truth files as arrays, and back: 8-bit colour, PNG as stored, PFM, NPY.

PFM is Paul Debevec's portable float map (http://www.pauldebevec.com/Research/HDR/PFM/): `Pf` (one channel) or `PF`
(three), width and height, a scale whose sign tells the byte order, then float32 rows from the bottom up.
PNG follows RFC 2083; OpenCV decodes it.

Arrays are (H, W) or (H, W, 3), colour is RGB.  Every reader raises DataError with the path in it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from search_spaces.errors import DataError

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Stored = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".webp", ".tif", ".tiff")

_PFM_HEADER = re.compile(rb"(P[Ff])\s+(\d+)\s+(\d+)\s+([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)[ \t]*\r?\n")
_PFM_HEADER_MAX_BYTES = 256
_AS_PFM = "write floating-point values as PFM"


def read_bytes(path: Path) -> bytes:
    """The whole file; DataError says why it cannot be had."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check that the file exists and that you may read it") from error
    if not content:
        raise DataError(f"{path} is empty (0 bytes)", hint="copy the file again")
    return content


def read_rgb(path: Path) -> U8:
    """(H, W, 3) uint8 RGB of an image file; grey becomes three equal channels, 16 bits become 8, a camera's orientation tag is
    ignored because ground truth does not follow it."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(
            f"{path} is no image: its ending must be one of {' '.join(IMAGE_SUFFIXES)} (any case)", hint="check the order of the columns"
        )
    image = _decode(path, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(image, dtype=np.uint8)


def read_png(path: Path) -> Stored:
    """The values as stored: (H, W) or (H, W, 3) RGB, uint8 or uint16."""
    image = _decode(path, cv2.IMREAD_UNCHANGED)
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} holds {image.dtype} values; ground truth as an image must be an 8-bit or 16-bit PNG", hint=_AS_PFM)
    # OpenCV stores blue first and a possible alpha last
    return image if image.ndim == 2 else cast("Stored", np.ascontiguousarray(image[:, :, 2::-1]))


class Form(StrEnum):
    """What a ground-truth file is, whatever its numbers mean.  A PNG whose three channels are equal is a grey one."""

    PFM = "PFM"
    NPY = "NPY"
    GREY8 = "8-bit grey PNG"
    GREY16 = "16-bit grey PNG"
    COLOUR8 = "8-bit colour PNG"
    COLOUR16 = "16-bit colour PNG"


def read_stored(path: Path) -> tuple[Form, Stored | F32]:
    """The form of a ground-truth file and its values as stored: (H, W), or (H, W, 3) for colour; a PFM's first channel."""
    suffix = path.suffix.lower()
    if suffix == ".pfm":
        values = read_pfm(path)
        return Form.PFM, values if values.ndim == 2 else np.ascontiguousarray(values[:, :, 0])
    if suffix == ".npy":
        return Form.NPY, read_npy(path)
    if suffix != ".png":
        raise DataError(
            f"{path} is no ground truth: its ending must be .pfm, .png or .npy (any case)",
            hint="check the order of the columns, or write floating-point values as PFM",
        )
    stored = read_png(path)
    wide = stored.dtype == np.uint16
    if stored.ndim == 3:
        first = stored[:, :, 0]
        if not (np.array_equal(first, stored[:, :, 1]) and np.array_equal(first, stored[:, :, 2])):
            return Form.COLOUR16 if wide else Form.COLOUR8, stored
        stored = first
    return Form.GREY16 if wide else Form.GREY8, stored


def _decode(path: Path, flags: int) -> Stored:
    content = read_bytes(path)
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"cannot decode {path}: {error.err}", hint="copy the file again") from error
    if image is None:
        raise DataError(f"cannot decode {path} ({len(content)} bytes): broken, cut off, or not an image", hint="copy the file again")
    return cast("Stored", image)


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV without its own lines on stderr: what went wrong is said once, by the DataError."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def read_pfm(path: Path) -> F32:
    """(H, W) or (H, W, 3) float32, top row first."""
    content = read_bytes(path)
    match = _PFM_HEADER.match(content[:_PFM_HEADER_MAX_BYTES])
    if match is None:
        raise DataError(f"{path} is not a PFM file: it must open with 'Pf' or 'PF', width, height and scale", hint="copy the file again")
    channels = 3 if match[1] == b"PF" else 1
    width, height, scale = int(match[2]), int(match[3]), float(match[4])
    wanted, got = 4 * width * height * channels, len(content) - match.end()
    if scale == 0 or wanted == 0 or got < wanted:
        raise DataError(
            f"{path} is broken: {width}x{height}x{channels} float32 need {wanted} bytes, it holds {got}", hint="copy the file again"
        )
    order = "<f4" if scale < 0 else ">f4"
    values = np.frombuffer(content, dtype=order, count=wanted // 4, offset=match.end()).astype(np.float32)
    rows = values.reshape((height, width, 3) if channels == 3 else (height, width))
    return np.ascontiguousarray(rows[::-1])


def write_pfm(path: Path, values: F32) -> None:
    """Write (H, W) or (H, W, 3) float32 as little-endian PFM, all or nothing."""
    kind = "PF" if values.ndim == 3 else "Pf"
    height, width = values.shape[:2]
    header = f"{kind}\n{width} {height}\n-1\n".encode()
    write_atomically(path, header + np.ascontiguousarray(values[::-1], dtype="<f4").tobytes())


def write_png(path: Path, image: Stored) -> None:
    """Write (H, W) or (H, W, 3) RGB, uint8 or uint16, as PNG, all or nothing."""
    stored = image if image.ndim == 2 else np.ascontiguousarray(image[:, :, ::-1])
    done, buffer = cv2.imencode(".png", stored)
    assert done
    write_atomically(path, buffer.tobytes())


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader sees the old file or the whole new one.

    DataError where the user may not write, OSError with the path where the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (PermissionError, NotADirectoryError, FileExistsError, IsADirectoryError) as error:
        raise DataError(f"cannot write {path}: {error.strerror}", hint="choose a folder that you may write to") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_npy(path: Path) -> F32:
    """(H, W) float32 of a NumPy file; nothing is unpickled."""
    try:
        values = np.load(io.BytesIO(read_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a NumPy array file: {error}", hint="write it with numpy.save") from error
    if isinstance(values, np.ndarray) and values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[:, :, 0]
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "biuf":
        raise DataError(f"{path} must hold one (height, width) array of numbers", hint="one file holds the map of one image")
    return values.astype(np.float32)


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) from the file's header; the pixels are not decoded."""
    if path.suffix.lower() == ".pfm":
        with _opened(path) as file:
            match = _PFM_HEADER.match(file.read(_PFM_HEADER_MAX_BYTES))
        if match is None:
            raise DataError(
                f"{path} is not a PFM file: it must open with 'Pf' or 'PF', width, height and scale", hint="copy the file again"
            )
        return int(match[3]), int(match[2])
    if path.suffix.lower() == ".npy":
        height, width = read_npy(path).shape
        return height, width
    try:
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot read the size of {path}: {error}", hint="check that the file exists and is an image") from error
    return height, width


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check that the file exists and that you may read it") from error
