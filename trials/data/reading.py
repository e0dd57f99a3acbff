"""One row of a list as decoded arrays, and a small memory of decoded rows.

Arrays: image and right (H, W, 3) uint8 RGB; target (H, W) float32; valid (H, W) bool, where the target counts.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from trials.data.annotations import Row
from trials.data.datasets import RELATIVE_BOUND, DataClass, Truth
from trials.data.decoders import F32, U8, Mask, read_png, read_rgb

NON_OCCLUDED = 255  # value of a mask file where both views see the pixel


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image (mono) or pair (stereo) with its ground truth, if any.  Nobody writes into the arrays."""

    image: U8
    right: U8 | None
    target: F32 | None
    valid: Mask | None


@dataclass(frozen=True, kw_only=True)
class TruthRule:
    """Which ground-truth values count: low < value < high, in the unit of the data class; a window of the frame in evaluation.
    `normalise` then spreads what counts over 0 to 1, image by image."""

    low: float
    high: float
    evaluation: bool
    normalise: bool = False

    def apply(self, truth: Truth, data_class: DataClass) -> Mask:
        """(H, W) bool."""
        valid = truth.valid & (truth.values > self.low) & (truth.values < self.high)
        window = data_class.evaluation_window
        if self.evaluation and window is not None and valid.shape == data_class.window_size:
            inside = np.zeros_like(valid)
            inside[window[0] : window[1], window[2] : window[3]] = True
            valid &= inside
        return valid


def truth_rule(spec: Spec, data_class: DataClass, *, evaluation: bool) -> TruthRule:
    """The rule of a spec: below dataset.max_disparity; between dataset.min_depth and max_depth; below 1000 for relative targets."""
    if data_class.kind == "disparity":
        return TruthRule(low=0.0, high=float(spec.dataset.max_disparity), evaluation=evaluation)
    low, high = 0.0, RELATIVE_BOUND
    if data_class.kind == "depth":
        low = spec.dataset.min_depth or 0.0
        high = float("inf") if spec.dataset.max_depth is None else spec.dataset.max_depth
    return TruthRule(low=low, high=high, evaluation=evaluation, normalise=spec.dataset.normalize_depth)


class RowReader(Protocol):
    """Gives rows of one data source."""

    def read(self, row: Row) -> Sample:
        """The decoded row; DataError as `SampleReader` raises it."""


@dataclass(frozen=True, kw_only=True)
class SampleReader:
    """Reads rows of one data source."""

    data_class: DataClass
    depth_scale: float | None
    rule: TruthRule

    def read(self, row: Row) -> Sample:
        """The decoded row; DataError names the file, what is wrong, and the line of the list."""
        try:
            return self._read(row)
        except DataError as error:
            raise DataError(f"{error.message} (named at {row.place})", hint=error.hint) from error

    def _read(self, row: Row) -> Sample:
        image = read_rgb(row.image)
        right = None if row.right is None else read_rgb(row.right)
        if right is not None and right.shape != image.shape:
            raise DataError(
                f"left and right differ in size: {_size(image)} {row.image}, {_size(right)} {row.right}",
                hint="give rectified pairs of one size",
            )
        if row.target is None:
            return Sample(image=image, right=right, target=None, valid=None)
        truth = self.read_truth(row)
        valid = self.rule.apply(truth, self.data_class)
        if right is not None and truth.values.shape != image.shape[:2]:
            raise DataError(
                f"disparity and image differ in size: {_size(truth.values)} {row.target}, {_size(image)} {row.image}",
                hint="disparity must be given in pixels of the left image, at its size",
            )
        target = np.where(valid, truth.values, np.float32(0))
        if self.rule.normalise:
            target, valid = _spread(target, valid)
        return Sample(image=image, right=right, target=target, valid=valid)

    def read_truth(self, row: Row) -> Truth:
        """Ground truth before the spec's limits; the mask file of the row is applied."""
        assert row.target is not None
        truth = self.data_class.read(row.target, self.depth_scale)
        if row.mask is None:
            return truth
        mask = read_mask(row.mask)
        if mask.shape != truth.valid.shape:
            message = f"mask and disparity differ in size: {_size(mask)} {row.mask}, {_size(truth.values)} {row.target}"
            raise DataError(message, hint="the mask belongs to the disparity, pixel by pixel: check the fourth column")
        return dataclasses.replace(truth, valid=truth.valid & mask)


def _spread(target: F32, valid: Mask) -> tuple[F32, Mask]:
    """(target - min) / (max - min) over the valid pixels; the smallest one, now 0, stops counting."""
    known = target[valid]
    if known.size == 0 or known.min() == known.max():
        return np.zeros_like(target), np.zeros_like(valid)
    spread = np.where(valid, (target - known.min()) / (known.max() - known.min()), np.float32(0))
    return spread, valid & (spread > 0)


def read_mask(path: Path) -> Mask:
    """(H, W) bool: first channel equals 255."""
    stored = read_png(path)
    first = stored if stored.ndim == 2 else stored[:, :, 0]
    return np.asarray(first == NON_OCCLUDED)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


class DecodedCache:
    """The most recently used decoded samples of one process, up to `limit_bytes`.

    Small trials read the same few images in every epoch: decoding is most of their loading time.  Cached arrays are read-only, so a
    transform that writes into them fails at once.  Not shared between threads or processes; a copy in a worker starts empty.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[int, Sample] = OrderedDict()
        self._bytes = 0

    def get(self, key: int, read: Callable[[], Sample]) -> Sample:
        """The sample of `key`, from memory or from `read`."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
            return found
        sample = read()
        for array in _arrays(sample):
            array.flags.writeable = False
        size = _bytes(sample)
        if size <= self._limit:
            self._held[key] = sample
            self._bytes += size
            while self._bytes > self._limit:
                self._bytes -= _bytes(self._held.popitem(last=False)[1])
        return sample

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self._limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__init__(state["limit"])  # type: ignore[misc]


def _arrays(sample: Sample) -> list[np.ndarray]:
    return [array for array in (sample.image, sample.right, sample.target, sample.valid) if array is not None]


def _bytes(sample: Sample) -> int:
    return sum(array.nbytes for array in _arrays(sample))
