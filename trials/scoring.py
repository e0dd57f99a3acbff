"""What one pass over a validation or test split says: metrics, loss per image, and whether the predictions have collapsed.

One Scorer serves validation during training and `evaluate`, so a checkpoint and its exported graph are measured by the
same code.  Shapes: B images of H x W ground-truth pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from search_spaces.spec import Spec
from trials.failures import NonFiniteError
from trials.losses import scale_and_shift_invariant, silog, smooth_l1
from trials.metrics import PIXELS, DepthMetrics, Metrics, RelativeMetrics, StereoMetrics

MapLoss = Callable[[Tensor, Tensor, Tensor], Tensor | None]
# std over |mean| of a map; float32 noise on a constant map stays below, any picture is orders of magnitude above
COLLAPSED_SPREAD = 1e-5


def make_metrics(spec: Spec) -> Metrics:
    """The accumulator of the spec's network."""
    if spec.family == "stereo":
        return StereoMetrics()
    if spec.is_relative:
        return RelativeMetrics()
    return DepthMetrics(min_depth=spec.dataset.min_depth, max_depth=spec.dataset.max_depth)


def map_loss(spec: Spec) -> MapLoss:
    """The loss of one final map: smooth L1 of a disparity, otherwise what the mono network trains on."""
    if spec.family == "stereo":
        return smooth_l1
    return scale_and_shift_invariant if spec.is_relative else silog


class Scorer:
    """Gathers one pass over a split.  Not reusable: make a new one for the next pass."""

    def __init__(self, spec: Spec) -> None:
        self._metrics = make_metrics(spec)
        self._loss = map_loss(spec)
        self._loss_sum = 0.0
        self._loss_count = 0
        self._largest_spread: float | None = None

    def update(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor, paths: Sequence[str]) -> None:
        """Adds a batch on the grid of the ground truth; NonFiniteError names the image of a NaN or infinite prediction."""
        try:
            self._metrics.update(prediction_B1HW, target_B1HW, valid_B1HW)
        except NonFiniteError as error:
            bad = [paths[position] for position in error.details["batch_positions"]]
            raise NonFiniteError(f"the prediction for {bad[0]} is not finite", details={"paths": bad}) from error
        self._add_losses(prediction_B1HW, target_B1HW, valid_B1HW, paths)
        maps = prediction_B1HW.double()
        spread = float((maps.std(PIXELS, correction=0) / maps.mean(PIXELS).abs().clamp(min=1e-12)).max())
        self._largest_spread = spread if self._largest_spread is None else max(spread, self._largest_spread)

    def _add_losses(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor, paths: Sequence[str]) -> None:
        for index, path in enumerate(paths):
            one = slice(index, index + 1)
            loss = self._loss(prediction_B1HW[one], target_B1HW[one], valid_B1HW[one])
            if loss is None:
                continue
            value = float(loss)
            if not math.isfinite(value):
                raise NonFiniteError(f"the validation loss of {path} is {value}", details={"paths": [path]})
            self._loss_sum += value
            self._loss_count += 1

    def compute(self) -> dict[str, float | None]:
        """`loss` (mean over images, whatever the batch size) and the family's metrics, without split prefix."""
        loss = self._loss_sum / self._loss_count if self._loss_count else None
        return {"loss": loss} | self._metrics.compute()

    @property
    def collapsed(self) -> bool:
        """Whether every map seen so far is constant."""
        return self._largest_spread is not None and self._largest_spread < COLLAPSED_SPREAD

    @property
    def num_images(self) -> int:
        """Images with ground truth."""
        return self._metrics.num_images

    @property
    def num_pixels(self) -> int:
        """Valid pixels of those images."""
        return self._metrics.num_pixels

    @property
    def skipped(self) -> int:
        """Images without a valid pixel."""
        return self._metrics.skipped
