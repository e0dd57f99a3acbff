"""How far the answers of two runtimes to the same images lie apart, in maps and in metric, and whether that is near enough to ship."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from search_spaces.objective import LEADING
from search_spaces.spec import Spec
from trials.evaluate import Predictor

# Hundreds of times what float32 in another order of sums was measured to change, and far below what a wrong weight
# does: docs/adr/0002-onnx-exporter.md has the figures.  Largest, mean:
_STEREO_PX = (0.05, 0.001)
_METRIC_SHARE_OF_MAX_DEPTH = (1e-4, 1e-5)
_RELATIVE_SHARE_OF_RANGE = (1e-3, 1e-4)
# epe cannot move by more than the mean of the maps does, which is over more pixels than have ground truth; abs_rel is a share
_METRIC = {"stereo": 0.005, "mono": 0.001}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest and the mean absolute difference that still pass, in `unit`.

    Unit "px" and "m" compare the maps as they are; "range" divides by (maximum - minimum) of the reference's map,
    for relative depth, which has no unit of its own.  `metric_abs` is what the leading metric (epe or abs_rel) may move by, None: anything.
    """

    max_abs: float
    mean_abs: float
    unit: str
    metric_abs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """What the comparison found over `samples` images: None stands for a difference that is no number.

    `metric_change` is that of the leading metric `metric`, where there was ground truth.  `passed` says that all figures are within
    `tolerance`; `reason` tells in words why not.
    """

    max_abs: float | None
    mean_abs: float | None
    unit: str
    tolerance: Tolerance
    samples: int
    passed: bool
    reason: str | None
    metric: str | None = None
    metric_change: float | None = None


def tolerance_for(spec: Spec) -> Tolerance:
    """What float32 in another runtime may differ by: pixels for stereo, metres or a share of the range for mono."""
    metric = _METRIC[spec.family]
    if spec.family == "stereo":
        return Tolerance(max_abs=_STEREO_PX[0], mean_abs=_STEREO_PX[1], unit="px", metric_abs=metric)
    depth = spec.dataset.max_depth
    if spec.is_relative or depth is None:
        return Tolerance(max_abs=_RELATIVE_SHARE_OF_RANGE[0], mean_abs=_RELATIVE_SHARE_OF_RANGE[1], unit="range", metric_abs=metric)
    largest, mean = (share * depth for share in _METRIC_SHARE_OF_MAX_DEPTH)
    return Tolerance(max_abs=largest, mean_abs=mean, unit="m", metric_abs=metric)


class Comparison:
    """Gathers the differences of `candidate` from `reference`, map by map; for one pass."""

    def __init__(self, reference: str, candidate: str, *, tolerance: Tolerance) -> None:
        self._names, self._tolerance = (reference, candidate), tolerance
        self._largest, self._total, self._pixels, self._images = 0.0, 0.0, 0, 0
        self._broken: str | None = None

    def add(self, expected_B1HW: Tensor, answered_B1HW: Tensor) -> None:
        """Counts the answers to one batch; what is wrong with the first broken one is kept as the reason."""
        expected, answered = expected_B1HW.double(), answered_B1HW.double()
        self._images += expected.shape[0]
        self._broken = self._broken or self._fault(expected, answered)
        if self._broken is None:
            difference = (expected - answered).abs() / _scale(expected, self._tolerance.unit)
            self._largest = max(self._largest, float(difference.max()))
            self._total += float(difference.sum())
            self._pixels += difference.numel()

    def _fault(self, expected: Tensor, answered: Tensor) -> str | None:
        reference, candidate = self._names
        if expected.shape != answered.shape:
            return f"the maps differ in shape: {tuple(answered.shape)} of {candidate}, {tuple(expected.shape)} of {reference}"
        for name, maps in ((reference, expected), (candidate, answered)):
            broken = int((~torch.isfinite(maps)).sum())
            if broken:
                return f"{broken} of {maps.numel()} values of {name} are not finite"
        return None

    def check(self) -> Check:
        """The verdict on what was added; the mean is over all pixels of all images, in float64."""
        tolerance = self._tolerance
        broken = self._broken if self._images else "there was no sample to compare on"
        largest, mean = (None, None) if broken else (self._largest, self._total / self._pixels)
        reason = broken if largest is None or mean is None else _verdict(largest, mean, tolerance)
        return Check(
            max_abs=largest,
            mean_abs=mean,
            unit=tolerance.unit,
            tolerance=tolerance,
            samples=self._images,
            passed=reason is None,
            reason=reason,
        )


def compare(reference: Predictor, candidate: Predictor, samples: Iterable[tuple[Tensor, ...]], *, tolerance: Tolerance) -> Check:
    """The differences of `candidate` from `reference` on identical images, and the verdict.

    `samples` are what `predict` takes, each with any batch.  No sample, a map of another shape or a value that is not finite does
    not pass.
    """
    comparison = Comparison(reference.name, candidate.name, tolerance=tolerance)
    for sample in samples:
        comparison.add(reference.predict(sample), candidate.predict(sample))
    return comparison.check()


def with_metric(check: Check, spec: Spec, reference: Mapping[str, float | None], candidate: Mapping[str, float | None]) -> Check:
    """`check` with the change of the leading metric from one runtime to the other; it fails where that is beyond the tolerance.

    Unchanged where either runtime has no such metric: there was no ground truth, or the maps were broken.
    """
    name = LEADING[spec.family]
    expected, answered = reference.get(name), candidate.get(name)
    if expected is None or answered is None:
        return check
    change, allowed = answered - expected, check.tolerance.metric_abs
    reason = check.reason
    if allowed is not None and abs(change) > allowed:
        told = f"{name} moves from {expected:.4g} to {answered:.4g}, allowed are {allowed:.4g}"
        reason = told if reason is None else f"{reason}; {told}"
    return replace(check, metric=name, metric_change=change, passed=reason is None, reason=reason)


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
