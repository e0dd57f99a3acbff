"""What one pass over a validation or test split says: metrics and loss of each image and of all, and whether predictions collapsed.

One Scorer serves validation during training and `evaluate`, so a checkpoint and its exported graph are measured by the
same code.  Shapes: B images of H x W ground-truth pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from search_spaces.spec import Spec
from trials.failures import NonFiniteError
from trials.losses import scale_and_shift_invariant, silog, smooth_l1
from trials.metrics import PIXELS, finite_images, metric_set
from trials.ranks import Rank

MapLoss = Callable[[Tensor, Tensor, Tensor], Tensor | None]
# std over |mean| of a map; float32 noise on a constant map stays below, any picture is orders of magnitude above
COLLAPSED_SPREAD = 1e-5
NO_TRUTH = "no valid ground truth"
NOT_FINITE = "the prediction is not finite"


@dataclass(frozen=True, kw_only=True)
class ImageScore:
    """What was measured on one image with `num_pixels` valid pixels.

    `skipped` says why the image counts in nothing (no loss, no metrics), None for those that do.  The loss is also None where it
    needs more valid pixels than there are.
    """

    path: str
    num_pixels: int
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    skipped: str | None = None


def map_loss(spec: Spec) -> MapLoss:
    """The loss of one final map: smooth L1 of a disparity, otherwise what the mono network trains on."""
    if spec.family == "stereo":
        return smooth_l1
    return scale_and_shift_invariant if spec.is_relative else silog


class Scorer:
    """Gathers one pass over a split.  Not reusable: make a new one for the next pass.

    A prediction that is not finite raises NonFiniteError; with `keep_going` its image is left out, and named in `images`.
    """

    def __init__(self, spec: Spec, *, keep_going: bool = False) -> None:
        self.images: list[ImageScore] = []
        self._set = metric_set(spec)
        self._loss = map_loss(spec)
        self._keep_going = keep_going
        self._largest_spread: float | None = None

    def update(self, prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor, paths: Sequence[str]) -> None:
        """Adds a batch on the grid of the ground truth; NonFiniteError names the image of a NaN or infinite prediction."""
        if not prediction_B1HW.shape == target_B1HW.shape == valid_B1HW.shape:
            raise ValueError(
                "prediction, target and valid must have one shape, but got "
                f"{tuple(prediction_B1HW.shape)}, {tuple(target_B1HW.shape)} and {tuple(valid_B1HW.shape)}"
            )
        values = self._set.measure(prediction_B1HW, target_B1HW, valid_B1HW)
        rows = torch.stack([values[name] for name in self._set.names], 1).tolist()  # one copy from the device
        finite, counts = finite_images(prediction_B1HW, valid_B1HW).tolist(), valid_B1HW.sum(PIXELS).tolist()
        for index, path in enumerate(paths):
            if not counts[index]:
                self._leave_out(path, NO_TRUTH, num_pixels=0)
                continue
            metrics = dict(zip(self._set.names, rows[index], strict=True))
            one = slice(index, index + 1)
            loss = self._loss(prediction_B1HW[one], target_B1HW[one], valid_B1HW[one]) if finite[index] else None
            value = None if loss is None else float(loss)
            # a finite prediction can still be too large for the loss, which is computed in float32
            if finite[index] and all(math.isfinite(number) for number in (*metrics.values(), value or 0.0)):
                self.images.append(ImageScore(path=path, num_pixels=counts[index], loss=value, metrics=metrics))
            else:
                self._leave_out(path, NOT_FINITE, num_pixels=counts[index])
        maps = prediction_B1HW.double()
        spread = float((maps.std(PIXELS, correction=0) / maps.mean(PIXELS).abs().clamp(min=1e-12)).max())
        self._largest_spread = spread if self._largest_spread is None else max(spread, self._largest_spread)

    def _leave_out(self, path: str, why: str, *, num_pixels: int) -> None:
        if why is NOT_FINITE and not self._keep_going:
            raise NonFiniteError(f"the prediction or the loss of {path} is not finite", details={"paths": [path]})
        self.images.append(ImageScore(path=path, num_pixels=num_pixels, skipped=why))

    def pool(self, rank: Rank, indices: Sequence[int]) -> None:
        """Takes in what the other ranks saw of the split; `indices` are the places of this one's images in the list.

        All ranks then hold the same images in the order of the list, each once, so that every number is that of a single process.
        """
        if rank.count == 1:
            return
        parts = rank.gather((dict(zip(indices, self.images, strict=True)), self._largest_spread))
        images = {index: image for part, _ in parts for index, image in part.items()}
        self.images = [images[index] for index in sorted(images)]
        self._largest_spread = max((spread for _, spread in parts if spread is not None), default=None)

    def compute(self) -> dict[str, float | None]:
        """`loss` (mean over images, whatever the batch size) and the family's metrics, without split prefix."""
        measured = self._measured
        losses = [image.loss for image in measured if image.loss is not None]
        loss = math.fsum(losses) / len(losses) if losses else None
        return {"loss": loss} | self._set.combine((image.num_pixels, image.metrics) for image in measured)

    @property
    def _measured(self) -> list[ImageScore]:
        return [image for image in self.images if image.skipped is None]

    @property
    def collapsed(self) -> bool:
        """Whether every map seen so far is constant."""
        return self._largest_spread is not None and self._largest_spread < COLLAPSED_SPREAD

    @property
    def num_images(self) -> int:
        """Images that count in the metrics."""
        return len(self._measured)

    @property
    def num_pixels(self) -> int:
        """Valid pixels of those images."""
        return sum(image.num_pixels for image in self._measured)

    @property
    def skipped(self) -> int:
        """Images without a valid pixel."""
        return sum(image.skipped == NO_TRUTH for image in self.images)

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Paths of images whose prediction is not finite."""
        return tuple(image.path for image in self.images if image.skipped == NOT_FINITE)
