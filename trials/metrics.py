"""Metrics of disparity and depth maps: the numbers of each image, in float64, and how images make up a data set.

Definitions follow the stereo benchmarks Middlebury and KITTI (epe, bp, d1), Eigen et al. (arXiv 1406.2283) for depth, and
Depth Anything's evaluation (Apache-2.0) for what is pooled over pixels and what is averaged over images.  Units and
directions stand in `search_spaces.objective`, never here.

Shapes: B images of H x W ground-truth pixels.  Only pixels with `valid` count: what the maps hold elsewhere reaches no sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from search_spaces.spec import Spec
from trials.losses import fit_scale_and_shift

SMALLEST_RATIO = 1e-8  # relative maps are clipped here before ratios are taken
SMALLEST_DEPTH_M = 1e-3  # the clip of metric models whose min_depth is 0
THRESHOLD = 1.25
PIXELS = (1, 2, 3)  # dims of B1HW that make up one image

Values = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class MetricSet:
    """The metrics of one kind of network.

    `measure(prediction, target, valid)`, each B x 1 x H x W, gives each metric of each image (B,) over its valid pixels; what it
    gives for an image without any, or with a prediction that is not finite, means nothing.  A data set's metric is the mean over
    its images, for the names in `pooled` the mean over all its pixels.
    """

    names: tuple[str, ...]
    pooled: frozenset[str]
    measure: Callable[[Tensor, Tensor, Tensor], Values]

    def combine(self, images: Iterable[tuple[int, Mapping[str, float]]]) -> dict[str, float | None]:
        """Metrics of a data set from the valid pixels and the metrics of each image; None for all when there is no image."""
        rows = list(images)
        return {name: _mean_of((pixels if name in self.pooled else 1, values[name]) for pixels, values in rows) for name in self.names}


def metric_set(spec: Spec) -> MetricSet:
    """The metrics of the spec's network."""
    if spec.family == "stereo":
        return STEREO
    return RELATIVE if spec.is_relative else depth_metrics(spec.dataset.min_depth, spec.dataset.max_depth)


def finite_images(prediction_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """(B,) bool: whether the prediction is finite at every valid pixel of the image."""
    return (prediction_B1HW.isfinite() | ~valid_B1HW).flatten(1).all(1)


def depth_metrics(min_depth: float | None, max_depth: float | None) -> MetricSet:
    """Metrics in metres: prediction and ground truth clipped to [min_depth, max_depth], no alignment."""
    low, high = min_depth or SMALLEST_DEPTH_M, math.inf if max_depth is None else max_depth
    names = (*_RATIOS, "rmse", "rmse_log", "log10", "silog", "sq_rel")
    return MetricSet(names=names, pooled=frozenset(_RATIOS), measure=partial(_depth, low=low, high=high))


def _stereo(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Values:
    prediction, target = _filled(prediction_B1HW, valid_B1HW), _filled(target_B1HW, valid_B1HW)
    error = (prediction - target).abs()
    mean = partial(_mean, valid_B1HW=valid_B1HW)
    outliers = {f"bp{bound}": mean(error > bound) for bound in (1, 2, 3)} | {"d1": mean((error > 3) & (error > 0.05 * target))}
    return {"epe": mean(error), **outliers, "rmse": mean(error.square()).sqrt()}


def _relative(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Values:
    prediction, target = _filled(prediction_B1HW, valid_B1HW), _filled(target_B1HW, valid_B1HW)
    scale, shift = fit_scale_and_shift(prediction, target, valid_B1HW.double())
    return _ratios((scale * prediction + shift).clamp(min=SMALLEST_RATIO), target.clamp(min=SMALLEST_RATIO), valid_B1HW)


def _depth(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor, *, low: float, high: float) -> Values:
    prediction, target = (_filled(each, valid_B1HW).clamp(low, high) for each in (prediction_B1HW, target_B1HW))
    error, log_error = prediction - target, prediction.log() - target.log()
    mean = partial(_mean, valid_B1HW=valid_B1HW)
    return {
        **_ratios(prediction, target, valid_B1HW),
        "rmse": mean(error.square()).sqrt(),
        "rmse_log": mean(log_error.square()).sqrt(),
        "log10": mean((prediction.log10() - target.log10()).abs()),
        # the difference of the two means can round below zero for a perfect map
        "silog": (mean(log_error.square()) - 0.5 * mean(log_error).square()).clamp(min=0.0).sqrt(),
        "sq_rel": mean(error.square() / target),
    }


def _ratios(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Values:
    """The three ratio tests and the relative error of positive maps."""
    ratio = torch.maximum(prediction_B1HW / target_B1HW, target_B1HW / prediction_B1HW)
    shares = {f"d{power}": _mean(ratio < THRESHOLD**power, valid_B1HW=valid_B1HW) for power in (1, 2, 3)}
    return shares | {"abs_rel": _mean((prediction_B1HW - target_B1HW).abs() / target_B1HW, valid_B1HW=valid_B1HW)}


_RATIOS = ("d1", "d2", "d3", "abs_rel")
STEREO = MetricSet(names=("epe", "bp1", "bp2", "bp3", "d1", "rmse"), pooled=frozenset(), measure=_stereo)
# of inverse depth, after each image's own scale and shift; a constant prediction has no fit and counts as wrong everywhere
RELATIVE = MetricSet(names=_RATIOS, pooled=frozenset(_RATIOS), measure=_relative)


def _filled(values_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor:
    """The map in float64 with 1 at invalid pixels, so that every formula is finite there."""
    return torch.where(valid_B1HW, values_B1HW.double(), torch.ones((), dtype=torch.float64, device=values_B1HW.device))


def _mean(values_B1HW: Tensor, *, valid_B1HW: Tensor) -> Tensor:
    """(B,): the mean over the valid pixels of each image."""
    return (values_B1HW.double() * valid_B1HW).sum(PIXELS) / valid_B1HW.sum(PIXELS)


def _mean_of(weighted: Iterable[tuple[int, float]]) -> float | None:
    """The mean of values with weights; None when there are none."""
    pairs = list(weighted)
    return math.fsum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs) if pairs else None
