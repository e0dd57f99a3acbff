"""How far the answers of two runtimes to the same images lie apart, in maps and in metric, and whether that is near enough to ship."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deploy.samples import Sample
from search_spaces.objective import LEADING
from search_spaces.spec import Spec
from trials.data import Batch, to_target_grid
from trials.evaluate import Predictor
from trials.scoring import Scorer

# Hundreds of times what float32 in another order of sums was measured to change, and far below what a wrong weight
# does: docs/adr/0002-onnx-exporter.md has the figures.  Largest, mean:
_STEREO_PX = (0.05, 0.001)
_METRIC_SHARE_OF_MAX_DEPTH = (1e-4, 1e-5)
_RELATIVE_SHARE_OF_RANGE = (1e-3, 1e-4)
# epe cannot move by more than the mean of the maps does, which is over more pixels than have ground truth; abs_rel is a share
_METRIC = {"stereo": 0.005, "mono": 0.001}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The largest and the mean absolute difference that still pass, in `unit`; None allows anything.

    Unit "px" and "m" compare the maps as they are; "of the range" divides by (maximum - minimum) of the reference's map,
    for relative depth, which has no unit of its own.  `metric_abs` is what the leading metric (epe or abs_rel) may move by to either side,
    `metric_drop` the share of it by which it may get worse.
    """

    max_abs: float | None
    mean_abs: float | None
    unit: str
    metric_abs: float | None = None
    metric_drop: float | None = None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A predictor that is held against the network, and what it may differ by.

    `decides` says that a model is rejected with it; else it falls alone, as a form of the model that was made with fewer digits does.
    """

    predictor: Predictor
    tolerance: Tolerance
    decides: bool = True


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
        return Tolerance(max_abs=_RELATIVE_SHARE_OF_RANGE[0], mean_abs=_RELATIVE_SHARE_OF_RANGE[1], unit="of the range", metric_abs=metric)
    largest, mean = (share * depth for share in _METRIC_SHARE_OF_MAX_DEPTH)
    return Tolerance(max_abs=largest, mean_abs=mean, unit="m", metric_abs=metric)


def coarse_tolerance(spec: Spec) -> Tolerance:
    """For int8, FP16 and BF16, whose digits differ by design: quantize.max_metric_drop alone decides."""
    return Tolerance(max_abs=None, mean_abs=None, unit=tolerance_for(spec).unit, metric_drop=spec.quantize.max_metric_drop)


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


def compare(
    reference: Predictor, candidates: Sequence[Candidate], spec: Spec, samples: Iterable[Sample], *, budget_s: float = math.inf
) -> dict[str, Check]:
    """The check of each candidate by its name, all on the same images; the reference answers each image once.

    Where the samples bring ground truth, the leading metric is compared too.  No further image is begun after `budget_s`.  No sample, a
    map of another shape or a value that is not finite does not pass.
    """
    predictors = (reference, *(candidate.predictor for candidate in candidates))
    scorers = {predictor.name: Scorer(spec, keep_going=True) for predictor in predictors}
    comparisons = {each.predictor.name: Comparison(reference.name, each.predictor.name, tolerance=each.tolerance) for each in candidates}
    started = time.perf_counter()
    for sample in samples:
        answers = {predictor.name: predictor.predict(sample.images) for predictor in predictors}
        for name, answer in answers.items():
            if name in comparisons:
                comparisons[name].add(answers[reference.name], answer)
            if sample.truth is not None:
                _score(scorers[name], answer, sample.truth, spec)
        if time.perf_counter() - started > budget_s:
            break
    metrics = {name: scorer.compute() for name, scorer in scorers.items() if scorer.num_images}
    expected = metrics.get(reference.name, {})
    return {name: with_metric(each.check(), spec, expected, metrics.get(name, {})) for name, each in comparisons.items()}


def _score(scorer: Scorer, answer: Tensor, batch: Batch, spec: Spec) -> None:
    if tuple(answer.shape[-2:]) == batch["geometry"].network_size:  # else the comparison says what is wrong
        scorer.update(to_target_grid(answer, batch["geometry"], spec.family), batch["target"], batch["valid"], batch["path"])


def with_metric(check: Check, spec: Spec, reference: Mapping[str, float | None], candidate: Mapping[str, float | None]) -> Check:
    """`check` with the change of the leading metric from one runtime to the other; it fails where that is beyond the tolerance.

    Unchanged where either runtime has no such metric: there was no ground truth, or the maps were broken.
    """
    name, allowed = LEADING[spec.family], check.tolerance
    expected, answered = reference.get(name), candidate.get(name)
    if expected is None or answered is None:
        return check
    change = answered - expected
    told = [] if check.reason is None else [check.reason]
    if allowed.metric_abs is not None and abs(change) > allowed.metric_abs:
        told.append(f"{name} moves from {expected:.4g} to {answered:.4g}, allowed are {allowed.metric_abs:.4g}")
    if allowed.metric_drop is not None and (worse := worsening(expected, answered, metric=name, allowed=allowed.metric_drop)[1]):
        told.append(worse)
    return replace(check, metric=name, metric_change=change, passed=not told, reason="; ".join(told) or None)


def worsening(before: float | None, after: float | None, *, metric: str, allowed: float) -> tuple[float | None, str | None]:
    """(after - before) / before, None where it is no number, and why it is too much, None where after <= before * (1 + allowed)."""
    if before is None or after is None:
        return None, f"{metric} could not be measured {'before' if before is None else 'after'} quantisation"
    change = (after - before) / before if before else None
    if after <= before * (1 + allowed):
        return change, None
    told = "" if change is None else f", {100 * change:.1f} % worse"
    return change, f"{metric} goes from {before:.4g} to {after:.4g}{told}; quantize.max_metric_drop allows {100 * allowed:g} %"


def _scale(maps_B1HW: Tensor, unit: str) -> Tensor:
    if unit != "of the range":
        return torch.ones((), dtype=maps_B1HW.dtype)
    spread = maps_B1HW.amax(dim=(1, 2, 3), keepdim=True) - maps_B1HW.amin(dim=(1, 2, 3), keepdim=True)
    # a constant map has no range: its differences count as they are
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def _verdict(largest: float, mean: float, tolerance: Tolerance) -> str | None:
    told = []
    if tolerance.max_abs is not None and largest > tolerance.max_abs:
        told.append(f"the largest difference is {largest:.4g} {tolerance.unit}, allowed are {tolerance.max_abs:.4g}")
    if tolerance.mean_abs is not None and mean > tolerance.mean_abs:
        told.append(f"the mean difference is {mean:.4g} {tolerance.unit}, allowed are {tolerance.mean_abs:.4g}")
    return "; ".join(told) or None
