"""Losses against numbers worked out by hand; every example holds an invalid pixel whose target is NaN."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trials.losses import scale_and_shift_invariant, sequence_loss, sequence_weights, silog, smooth_l1

NAN = float("nan")


def image(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)[None, None]


def test_sequence_weights_are_the_published_ones() -> None:
    weights = sequence_weights(22)
    assert weights[0] == pytest.approx(0.205891, abs=1e-6)
    assert weights[20] == pytest.approx(0.927505, abs=1e-6)
    assert weights[21] == 1.0


def test_one_prediction_has_weight_one() -> None:
    assert sequence_weights(1) == [1.0]


def test_sequence_loss_by_hand() -> None:
    target = torch.full((1, 1, 4, 4), 8.0)
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    target[0, 0, 3, 3], valid[0, 0, 3, 3] = NAN, False
    initial = torch.full((1, 1, 1, 1), 5.0)  # quarter target 2, error 3, smooth L1 2.5
    predictions = [torch.full((1, 1, 4, 4), 12.0), torch.full((1, 1, 4, 4), 9.0)]  # weights 0.9^15 and 1, errors 4 and 1
    loss = sequence_loss(initial, predictions, target, valid)
    assert loss is not None
    assert loss.item() == pytest.approx(2.5 + 4 * 0.9**15 + 1, rel=1e-6)


def test_sequence_loss_leaves_out_the_initial_term_without_a_quarter_sample() -> None:
    target, valid = torch.full((1, 1, 4, 4), 8.0), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    valid[0, 0, 0, 0] = False  # the one pixel that the quarter-resolution map is taken from
    loss = sequence_loss(torch.full((1, 1, 1, 1), 5.0), [torch.full((1, 1, 4, 4), 9.0)], target, valid)
    assert loss is not None
    assert loss.item() == pytest.approx(1.0)


def test_smooth_l1_by_hand() -> None:
    loss = smooth_l1(image([[1.5, 4.0, 0.0]]), image([[1.0, 1.0, NAN]]), image([[1, 1, 0]]).bool())
    assert loss is not None
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2)


def test_silog_of_a_scaled_target() -> None:
    target, valid = image([[1.0, 2.0, NAN]]), image([[1, 1, 0]]).bool()
    loss = silog(image([[3.0, 6.0, 5.0]]), target, valid)
    assert loss is not None
    assert loss.item() == pytest.approx(0.5 * math.log(3) ** 2, rel=1e-6)


def test_silog_by_hand() -> None:
    target, valid = image([[1.0, 1.0, NAN]]), image([[1, 1, 0]]).bool()
    loss = silog(image([[math.e, math.exp(3.0), 1.0]]), target, valid)  # g = 1, 3: variance 2, mean 2
    assert loss is not None
    assert loss.item() == pytest.approx(2 + 0.5 * 4, rel=1e-6)


def test_silog_survives_zero_predictions() -> None:
    loss = silog(image([[0.0, 1.0, 1.0]]), image([[1.0, 1.0, NAN]]), image([[1, 1, 0]]).bool())
    assert loss is not None
    assert math.isfinite(loss.item())


def test_scale_and_shift_invariant_is_zero_for_an_affine_prediction() -> None:
    target = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.5
    valid = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.2
    prediction = 3.0 * target + 7.0
    loss = scale_and_shift_invariant(prediction, torch.where(valid, target, NAN), valid)
    assert loss is not None
    assert loss.item() == pytest.approx(0.0, abs=1e-5)


def test_scale_and_shift_invariant_by_hand() -> None:
    # p = 0 1 2, t = 0 3 3: s = 1.5, b = 0.5, residual = 0.5 -1 0.5, squares 1.5, data 1.5 / 6
    # strides: 1 -> (1.5 + 1.5) / 3 ; 2 -> |0.5 - 0.5| / 2 = 0 ; 4 and 8 -> a single pixel, 0
    prediction, target = image([[0.0, 1.0, 2.0, 9.0]]), image([[0.0, 3.0, 3.0, NAN]])
    loss = scale_and_shift_invariant(prediction, target, image([[1, 1, 1, 0]]).bool())
    assert loss is not None
    assert loss.item() == pytest.approx(0.25 + 2.0 * 1.0, rel=1e-5)


def test_scale_and_shift_invariant_of_a_constant_is_the_target_itself() -> None:
    loss = scale_and_shift_invariant(image([[4.0, 4.0, 9.0]]), image([[1.0, 1.0, NAN]]), image([[1, 1, 0]]).bool())
    assert loss is not None
    assert loss.item() == pytest.approx(0.5)  # scale and shift 0: residual -1 at both pixels


@pytest.mark.parametrize("loss", [silog, scale_and_shift_invariant, smooth_l1])
def test_nothing_valid_is_none_and_invalid_targets_leave_gradients_finite(loss) -> None:  # type: ignore[no-untyped-def]
    prediction = torch.rand(1, 1, 8, 8, requires_grad=True)
    target = torch.full((1, 1, 8, 8), NAN)
    assert loss(prediction, target, torch.zeros(1, 1, 8, 8, dtype=torch.bool)) is None
    valid = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    valid[..., :4] = True
    loss(prediction, torch.where(valid, 1.0 + torch.rand(8, 8), NAN), valid).backward()
    assert prediction.grad is not None
    assert bool(prediction.grad.isfinite().all())
    assert bool((prediction.grad[..., 4:] == 0).all())


def test_sequence_loss_without_a_valid_pixel_is_none() -> None:
    nothing = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert sequence_loss(torch.zeros(1, 1, 1, 1), [torch.zeros(1, 1, 4, 4)], torch.zeros(1, 1, 4, 4), nothing) is None


@pytest.mark.parametrize("loss", [silog, scale_and_shift_invariant, smooth_l1])
def test_gradients_agree_with_differences(loss) -> None:  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(3)
    prediction = (torch.rand(1, 1, 4, 4, generator=generator) + 0.5).requires_grad_()
    target, valid = torch.rand(1, 1, 4, 4, generator=generator) + 0.5, torch.ones(1, 1, 4, 4, dtype=torch.bool)
    loss(prediction, target, valid).backward()
    step = torch.zeros(1, 1, 4, 4)
    step[0, 0, 1, 2] = 1e-3
    numeric = (loss(prediction + step, target, valid) - loss(prediction - step, target, valid)) / 2e-3
    assert prediction.grad is not None
    assert prediction.grad[0, 0, 1, 2].item() == pytest.approx(numeric.item(), rel=0.02, abs=1e-3)
