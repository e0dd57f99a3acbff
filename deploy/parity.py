"""How far two runtimes' answers to the same images lie apart, and whether that is near enough to ship."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.spec import Spec
from trials.evaluate import Predictor

# Hundreds of times what float32 in another order of sums was measured to change, and far below what a wrong weight
# does: docs/adr/0002-onnx-exporter.md has the figures.  Largest, mean:
_STEREO_PX = (0.05, 0.001)
_METRIC_SHARE_OF_MAX_DEPTH = (1e-4, 1e-5)
_RELATIVE_SHARE_OF_RANGE = (1e-3, 1e-4)


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest and the mean absolute difference that still pass, in `unit`.

    Unit "px" and "m" compare the maps as they are; "range" divides by (maximum - minimum) of the reference's map,
    for relative depth, which has no unit of its own.
    """

    max_abs: float
    mean_abs: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the comparison found over `samples` images: None stands for a difference that is no number.

    `passed` says that both figures are within `tolerance`; `reason` tells in words why not.
    """

    max_abs: float | None
    mean_abs: float | None
    unit: str
    tolerance: Tolerance
    samples: int
    passed: bool
    reason: str | None


def tolerance_for(spec: Spec) -> Tolerance:
    """What float32 in another runtime may differ by: pixels for stereo, metres or a share of the range for mono."""
    if spec.family == "stereo":
        return Tolerance(max_abs=_STEREO_PX[0], mean_abs=_STEREO_PX[1], unit="px")
    depth = spec.dataset.max_depth
    if spec.is_relative or depth is None:
        return Tolerance(max_abs=_RELATIVE_SHARE_OF_RANGE[0], mean_abs=_RELATIVE_SHARE_OF_RANGE[1], unit="range")
    return Tolerance(max_abs=_METRIC_SHARE_OF_MAX_DEPTH[0] * depth, mean_abs=_METRIC_SHARE_OF_MAX_DEPTH[1] * depth, unit="m")


def compare(reference: Predictor, candidate: Predictor, samples: Iterable[tuple[Tensor, ...]], *, tolerance: Tolerance) -> Check:
    """The differences of `candidate` from `reference` on identical images, and the verdict.

    `samples` are what `predict` takes, each with any batch.  The mean is over all pixels of all images, in float64.
    No sample, a map of another shape or a value that is not finite does not pass.
    """
    largest, total, pixels, images = 0.0, 0.0, 0, 0
    for sample in samples:
        expected, answered = reference.predict(sample).double(), candidate.predict(sample).double()
        images += expected.shape[0]
        if expected.shape != answered.shape:
            shapes = f"{tuple(answered.shape)} of {candidate.name}, {tuple(expected.shape)} of {reference.name}"
            return _failed(f"the maps differ in shape: {shapes}", tolerance, images)
        for name, maps in ((reference.name, expected), (candidate.name, answered)):
            broken = int((~torch.isfinite(maps)).sum())
            if broken:
                return _failed(f"{broken} of {maps.numel()} values of {name} are not finite", tolerance, images)
        difference = (expected - answered).abs() / _scale(expected, tolerance.unit)
        largest = max(largest, float(difference.max()))
        total += float(difference.sum())
        pixels += difference.numel()
    if not pixels:
        return _failed("there was no sample to compare on", tolerance, 0)
    mean = total / pixels
    reason = _verdict(largest, mean, tolerance)
    return Check(
        max_abs=largest, mean_abs=mean, unit=tolerance.unit, tolerance=tolerance, samples=images, passed=reason is None, reason=reason
    )


def _scale(maps_B1HW: Tensor, unit: str) -> Tensor:
    if unit != "range":
        return torch.ones((), dtype=maps_B1HW.dtype)
    spread = maps_B1HW.amax(dim=(1, 2, 3), keepdim=True) - maps_B1HW.amin(dim=(1, 2, 3), keepdim=True)
    # a constant map has no range: its differences count as they are
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _verdict(largest: float, mean: float, tolerance: Tolerance) -> str | None:
    told = []
    if largest > tolerance.max_abs:
        told.append(f"the largest difference is {largest:.4g} {tolerance.unit}, allowed are {tolerance.max_abs:.4g}")
    if mean > tolerance.mean_abs:
        told.append(f"the mean difference is {mean:.4g} {tolerance.unit}, allowed are {tolerance.mean_abs:.4g}")
    return "; ".join(told) or None


def _failed(reason: str, tolerance: Tolerance, samples: int) -> Check:
    return Check(max_abs=None, mean_abs=None, unit=tolerance.unit, tolerance=tolerance, samples=samples, passed=False, reason=reason)
