"""Training losses: sequence loss (stereo), SiLog (metric depth), scale-and-shift-invariant loss (relative depth).

Sources: the sequence loss is that of RAFT-Stereo (arXiv 2109.07547) with the soft-argmin term of FoundationStereo
(arXiv 2501.09898); SiLog is Eigen et al. (arXiv 1406.2283) with variance 1 and squared-mean 0.5; the scale-and-shift-
invariant loss is the one of MiDaS (arXiv 1907.01341).

Shapes: B images, H x W pixels of the ground truth, h x w = H/4 x W/4.  A pixel counts only where `valid` is true: what
the target holds elsewhere (zero, inf, NaN) never reaches a sum or a gradient.  Every loss is computed in float32, is
differentiable, and is None when too few pixels are valid to learn from; the caller skips that batch and counts it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST_DEPTH = 1e-6  # metres; keeps the logarithm of SiLog finite when a sigmoid underflows
GRADIENT_WEIGHT = 2.0
GRADIENT_STRIDES = (1, 2, 4, 8)
QUARTER = 4
# a prediction whose spread is below this share of its mean has no scale that float32 could fit
SMALLEST_RELATIVE_SPREAD = 1e-5


def sequence_weights(count: int) -> list[float]:
    """The weight of each of `count` >= 1 predictions, first to last: 0.9^(15/(n-1)) per step before the last, the last is 1."""
    if count == 1:
        return [1.0]
    gamma = 0.9 ** (15.0 / (count - 1))
    return [gamma ** (count - 1 - position) for position in range(count)]


def sequence_loss(initial_B1hw: Tensor, predictions_B1HW: Sequence[Tensor], target_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor | None:
    """Smooth L1 of the initial disparity plus the weighted L1 of every refined one; None without a valid pixel.

    `initial_B1hw` is in pixels of the quarter-resolution image, everything else in pixels of the full one.  The target at
    quarter resolution is the nearest sample / 4; when none of those samples is valid the initial term is left out.
    """
    count = int(valid_B1HW.sum())
    if count == 0:
        return None
    target = _filled(target_B1HW, valid_B1HW, 0.0)
    quarter_valid = valid_B1HW[..., ::QUARTER, ::QUARTER]
    quarter_target = target[..., ::QUARTER, ::QUARTER] / QUARTER
    error = functional.smooth_l1_loss(_filled(initial_B1hw, quarter_valid, 0.0), quarter_target, reduction="none")
    loss = (error * quarter_valid).sum() / quarter_valid.sum().clamp(min=1)
    for weight, prediction in zip(sequence_weights(len(predictions_B1HW)), predictions_B1HW, strict=True):
        loss = loss + weight * (_filled(prediction, valid_B1HW, 0.0) - target).abs().sum() / count
    return loss


def smooth_l1(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor | None:
    """Mean smooth L1 (beta 1) over the valid pixels: the validation loss of a disparity map; None without a valid pixel."""
    count = int(valid_B1HW.sum())
    if count == 0:
        return None
    prediction, target = _filled(prediction_B1HW, valid_B1HW, 0.0), _filled(target_B1HW, valid_B1HW, 0.0)
    return functional.smooth_l1_loss(prediction, target, reduction="sum") / count


def silog(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor | None:
    """var(g) + 0.5 mean(g)^2 of g = ln p - ln t, all valid pixels of the batch pooled; None with fewer than two of them.

    The variance is the unbiased one.  Depths below 1e-6 m are taken as 1e-6 m.
    """
    count = int(valid_B1HW.sum())
    if count < 2:
        return None
    prediction = _filled(prediction_B1HW, valid_B1HW, 1.0).clamp(min=SMALLEST_DEPTH)
    target = _filled(target_B1HW, valid_B1HW, 1.0).clamp(min=SMALLEST_DEPTH)
    difference = prediction.log() - target.log()  # zero where invalid
    mean = difference.sum() / count
    variance = ((difference - mean).square() * valid_B1HW).sum() / (count - 1)
    return variance + 0.5 * mean.square()


def scale_and_shift_invariant(prediction_B1HW: Tensor, target_B1HW: Tensor, valid_B1HW: Tensor) -> Tensor | None:
    """Squared error after the best scale and shift of each image, plus 2 x gradient terms at four scales; None without a valid pixel.

    Scale and shift are the least-squares fit of the prediction to the target over the valid pixels of that image, and the
    gradient flows through them.  A constant prediction has no such fit: its scale and shift are 0.
    """
    count = int(valid_B1HW.sum())
    if count == 0:
        return None
    weight = valid_B1HW.float()
    prediction, target = _filled(prediction_B1HW, valid_B1HW, 0.0), _filled(target_B1HW, valid_B1HW, 0.0)
    scale, shift = fit_scale_and_shift(prediction, target, weight)
    residual = (scale * prediction + shift - target) * weight
    loss = residual.square().sum() / (2 * count)
    for stride in GRADIENT_STRIDES:
        loss = loss + GRADIENT_WEIGHT * _gradient_term(residual[..., ::stride, ::stride], weight[..., ::stride, ::stride])
    return loss


def fit_scale_and_shift(prediction_B1HW: Tensor, target_B1HW: Tensor, weight_B1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Per image the (scale, shift), each (B,1,1,1), that minimise sum weight (scale p + shift - t)^2; both 0 for a constant p.

    Works in the dtype of its inputs, which must hold finite numbers everywhere.  Centred on the means, because the textbook
    determinant cancels in float32 over a quarter of a million pixels.
    """
    dims = (1, 2, 3)
    count = weight_B1HW.sum(dims, keepdim=True).clamp(min=1.0)
    prediction_mean = (weight_B1HW * prediction_B1HW).sum(dims, keepdim=True) / count
    target_mean = (weight_B1HW * target_B1HW).sum(dims, keepdim=True) / count
    centred = (prediction_B1HW - prediction_mean) * weight_B1HW
    variance = centred.square().sum(dims, keepdim=True) / count
    covariance = (centred * (target_B1HW - target_mean)).sum(dims, keepdim=True) / count
    usable = variance > (SMALLEST_RELATIVE_SPREAD * prediction_mean).square()
    # the inner where keeps 0/0 out of the backward pass
    scale = torch.where(usable, covariance / torch.where(usable, variance, torch.ones_like(variance)), torch.zeros_like(variance))
    shift = torch.where(usable, target_mean - scale * prediction_mean, torch.zeros_like(variance))
    return scale, shift


def _gradient_term(residual_B1HW: Tensor, weight_B1HW: Tensor) -> Tensor:
    """Absolute differences of neighbouring residuals, both valid, over the number of valid pixels at this scale."""
    horizontal = (residual_B1HW[..., :, 1:] - residual_B1HW[..., :, :-1]).abs() * weight_B1HW[..., :, 1:] * weight_B1HW[..., :, :-1]
    vertical = (residual_B1HW[..., 1:, :] - residual_B1HW[..., :-1, :]).abs() * weight_B1HW[..., 1:, :] * weight_B1HW[..., :-1, :]
    return (horizontal.sum() + vertical.sum()) / weight_B1HW.sum().clamp(min=1.0)


def _filled(values: Tensor, valid: Tensor, fill: float) -> Tensor:
    """`values` in float32 with `fill` at invalid pixels, so that no inf or NaN from there reaches a sum or a gradient."""
    return torch.where(valid, values.float(), torch.full((), fill, device=values.device))
