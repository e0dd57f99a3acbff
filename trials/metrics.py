"""Metrics of disparity and depth maps, gathered image by image in float64 for any batch size.

Definitions follow the stereo benchmarks Middlebury and KITTI (epe, bp, d1), Eigen et al. (arXiv 1406.2283) for depth, and
Depth Anything's evaluation (Apache-2.0) for what is pooled over pixels and what is averaged over images.  Units and
directions stand in `search_spaces.objective`, never here.

Shapes: B images of H x W ground-truth pixels.  Only pixels with `valid` count; an image without any is skipped and
counted in `skipped`.  A NaN or infinite prediction at a valid pixel raises NonFiniteError: it is never averaged away.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from trials.failures import NonFiniteError
from trials.losses import fit_scale_and_shift

SMALLEST_RATIO = 1e-8  # relative maps are clipped here before ratios are taken
SMALLEST_DEPTH_M = 1e-3
THRESHOLD = 1.25
PIXELS = (1, 2, 3)  # dims of B1HW that make up one image


class Metrics(Protocol):
    """What every accumulator offers: feed batches, then read numbers."""

    num_images: int
    num_pixels: int
    skipped: int

    def update(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> None:
        """Adds a batch of maps, all on the grid of the ground truth."""

    def compute(self) -> dict[str, float | None]:
        """Metric name (no split prefix) to number; None where no image had a valid pixel."""


class StereoMetrics:
    """epe and rmse in pixels, bp1, bp2, bp3 and d1 as shares 0 to 1: per image over its valid pixels, then averaged over images."""

    def __init__(self) -> None:
        self.num_images = 0
        self.num_pixels = 0
        self.skipped = 0
        self._sums: dict[str, float] = dict.fromkeys(("epe", "bp1", "bp2", "bp3", "d1", "rmse"), 0.0)

    def update(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> None:
        """Adds a batch of disparity maps in pixels."""
        prediction, target, count = _prepared(prediction_B1HW, target_B1HW, valid_B1HW)
        kept = _count_images(self, count)
        error = (prediction - target).abs()  # 0 where invalid

        def mean(values: Tensor) -> Tensor:
            return (values.double().sum(PIXELS) / count.clamp(min=1))[kept].sum()

        per_batch = {
            "epe": mean(error),
            "bp1": mean(error > 1),
            "bp2": mean(error > 2),
            "bp3": mean(error > 3),
            "d1": mean((error > 3) & (error > 0.05 * target)),
            "rmse": (error.square().sum(PIXELS) / count.clamp(min=1)).sqrt()[kept].sum(),
        }
        _add(self._sums, per_batch)

    def compute(self) -> dict[str, float | None]:
        """epe, bp1, bp2, bp3, d1, rmse."""
        return {name: _ratio(value, self.num_images) for name, value in self._sums.items()}


class RelativeMetrics:
    """d1, d2, d3 (shares) and abs_rel of inverse depth after each image's own scale and shift, pooled over all pixels.

    Prediction and ground truth are clipped at 1e-8 after the fit.  A constant prediction has no fit (scale and shift 0)
    and so counts as wrong everywhere.
    """

    def __init__(self) -> None:
        self.num_images = 0
        self.num_pixels = 0
        self.skipped = 0
        self._sums: dict[str, float] = dict.fromkeys(("d1", "d2", "d3", "abs_rel"), 0.0)

    def update(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> None:
        """Adds a batch: predictions on any scale, targets as disparity or inverse depth."""
        prediction, target, count = _prepared(prediction_B1HW, target_B1HW, valid_B1HW)
        _count_images(self, count)
        scale, shift = fit_scale_and_shift(prediction, target, valid_B1HW.double())
        aligned = (scale * prediction + shift).clamp(min=SMALLEST_RATIO)
        _add(self._sums, _pooled(aligned, target.clamp(min=SMALLEST_RATIO), valid_B1HW))

    def compute(self) -> dict[str, float | None]:
        """d1, d2, d3, abs_rel."""
        return {name: _ratio(value, self.num_pixels) for name, value in self._sums.items()}


class DepthMetrics:
    """Metric depth, prediction and target clipped to [min_depth, max_depth] metres, no alignment.

    d1, d2, d3 and abs_rel are pooled over all pixels; sq_rel, rmse (m), rmse_log, log10 and silog are taken per image and
    averaged over images.
    """

    def __init__(self, *, min_depth: float | None = None, max_depth: float | None = None) -> None:
        self.num_images = 0
        self.num_pixels = 0
        self.skipped = 0
        self._low = max(min_depth or 0.0, SMALLEST_DEPTH_M)
        self._high = float("inf") if max_depth is None else max_depth
        self._pooled: dict[str, float] = dict.fromkeys(("d1", "d2", "d3", "abs_rel"), 0.0)
        self._per_image: dict[str, float] = dict.fromkeys(("rmse", "rmse_log", "log10", "silog", "sq_rel"), 0.0)

    def update(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> None:
        """Adds a batch of depth maps in metres."""
        prediction, target, count = _prepared(prediction_B1HW, target_B1HW, valid_B1HW)
        kept = _count_images(self, count)
        prediction, target = prediction.clamp(self._low, self._high), target.clamp(self._low, self._high)  # equal where invalid
        _add(self._pooled, _pooled(prediction, target, valid_B1HW))
        error, log_error = prediction - target, prediction.log() - target.log()

        def mean(values: Tensor) -> Tensor:
            return values.sum(PIXELS) / count.clamp(min=1)

        per_image = {
            "rmse": mean(error.square()).sqrt(),
            "rmse_log": mean(log_error.square()).sqrt(),
            "log10": mean((prediction.log10() - target.log10()).abs()),
            # the difference of the two means can round below zero for a perfect map
            "silog": (mean(log_error.square()) - 0.5 * mean(log_error).square()).clamp(min=0.0).sqrt(),
            "sq_rel": mean(error.square() / target),
        }
        _add(self._per_image, {name: values[kept].sum() for name, values in per_image.items()})

    def compute(self) -> dict[str, float | None]:
        """d1, d2, d3, abs_rel, rmse, rmse_log, log10, silog, sq_rel."""
        pooled = {name: _ratio(value, self.num_pixels) for name, value in self._pooled.items()}
        return pooled | {name: _ratio(value, self.num_images) for name, value in self._per_image.items()}


def _prepared(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both maps in float64 with 1 at invalid pixels, and the valid pixels of each image (B,)."""
    if not prediction_B1HW.shape == target_B1HW.shape == valid_B1HW.shape:
        raise ValueError(
            "prediction, target and valid must have one shape, but got "
            f"{tuple(prediction_B1HW.shape)}, {tuple(target_B1HW.shape)} and {tuple(valid_B1HW.shape)}"
        )
    one = torch.ones((), dtype=torch.float64, device=prediction_B1HW.device)
    prediction = torch.where(valid_B1HW, prediction_B1HW.double(), one)
    finite = prediction.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        bad = (~finite).nonzero().flatten().tolist()
        raise NonFiniteError(f"the prediction is not finite for image {bad} of a batch of {len(finite)}", details={"batch_positions": bad})
    return prediction, torch.where(valid_B1HW, target_B1HW.double(), one), valid_B1HW.sum(PIXELS)


def _count_images(metrics: Metrics, count_B: Tensor) -> Tensor:
    """Updates the counters of `metrics` and returns which images (B,) have a valid pixel."""
    kept = count_B > 0
    images = int(kept.sum())
    metrics.num_images += images
    metrics.skipped += len(count_B) - images
    metrics.num_pixels += int(count_B.sum())
    return kept


def _pooled(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> dict[str, Tensor]:
    """Sums over valid pixels of the three ratio tests and of the relative error; both maps positive."""
    ratio = torch.maximum(prediction_B1HW / target_B1HW, target_B1HW / prediction_B1HW)
    relative = (prediction_B1HW - target_B1HW).abs() / target_B1HW
    shares = {f"d{power}": ((ratio < THRESHOLD**power) & valid_B1HW).sum() for power in (1, 2, 3)}
    return shares | {"abs_rel": (relative * valid_B1HW).sum()}


def _add(sums: dict[str, float], values: dict[str, Tensor]) -> None:
    """Adds a batch's values with one copy from the device."""
    for name, value in zip(values, torch.stack([value.double() for value in values.values()]).tolist(), strict=True):
        sums[name] += value


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None
