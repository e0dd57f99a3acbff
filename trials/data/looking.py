"""What one row of a list holds, in a few numbers: sizes, pixels that count, values, and whether a disparity explains its views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from trials.data.annotations import Row
from trials.data.datasets import Truth
from trials.data.decoders import F32, U8, Mask
from trials.data.geometry import Size
from trials.data.reading import SampleReader

_VALUES_PER_FILE = 100_000


@dataclass(frozen=True, kw_only=True)
class ValueRange:
    """Ground-truth values that a file marks as present, before the spec's limits: smallest, percentiles 1, 50, 99, largest."""

    low: float
    p1: float
    median: float
    p99: float
    high: float


def value_range(values: F32) -> ValueRange | None:
    """The range of some values, None without any."""
    if values.size == 0:
        return None
    low, p1, median, p99, high = (float(v) for v in np.percentile(values, [0, 1, 50, 99, 100]))
    return ValueRange(low=low, p1=p1, median=median, p99=p99, high=high)


class Warp(NamedTuple):
    """Mean absolute grey difference of the views as they are, and after the right one was moved by the disparity."""

    before: float
    after: float

    def describe(self) -> str:
        """Both numbers in words."""
        return f"views differ by {self.before:.1f} grey levels, {self.after:.1f} after warping"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one row holds.  `valid` (H, W) is where its ground truth counts, None without ground truth; `values` are some of the present
    values with the smallest and the largest; `warp` is None for mono and where no pixel's match lies in the right view."""

    size: Size
    truth_size: Size | None
    valid: Mask | None
    values: F32
    warp: Warp | None


def look_at(reader: SampleReader, row: Row) -> Look:
    """The row, decoded once; DataError as the reader raises it."""
    sample = reader.read(row)
    size = (int(sample.image.shape[0]), int(sample.image.shape[1]))
    if sample.target is None or sample.valid is None:
        return Look(size=size, truth_size=None, valid=None, values=np.zeros(0, np.float32), warp=None)
    return Look(
        size=size,
        truth_size=(int(sample.target.shape[0]), int(sample.target.shape[1])),
        valid=sample.valid,
        values=_few(reader.read_truth(row)),
        warp=None if sample.right is None else warp_of(sample.image, sample.right, sample.target, sample.valid),
    )


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """All rows of a short list, else `count` of them spread evenly from first to last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(k * (len(rows) - 1) / (count - 1))] for k in range(count)]


def warp_of(image: U8, right: U8, disparity: F32, valid: Mask) -> Warp | None:
    """Grey differences over the valid pixels whose match lies in the right view; None if there are none."""
    grey, grey_right = (cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).astype(np.float32) for view in (image, right))
    rows, columns = np.indices(disparity.shape, dtype=np.float32)
    moved = cv2.remap(grey_right, columns - disparity, rows, cv2.INTER_LINEAR)
    inside = valid & (columns >= disparity)
    if not inside.any():
        return None
    return Warp(before=float(np.abs(grey - grey_right)[inside].mean()), after=float(np.abs(grey - moved)[inside].mean()))


def _few(truth: Truth) -> F32:
    values: F32 = truth.values[truth.valid]
    if values.size <= _VALUES_PER_FILE:
        return values
    return np.concatenate([values[:: values.size // _VALUES_PER_FILE], [values.min(), values.max()]]).astype(np.float32)
