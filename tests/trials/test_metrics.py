"""Metrics against numbers worked out by hand; every example holds an invalid pixel whose target is NaN."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trials.failures import NonFiniteError
from trials.metrics import DepthMetrics, Metrics, RelativeMetrics, StereoMetrics

NAN = float("nan")


def maps(*images: list[float]) -> Tensor:
    """(B,1,1,W) from one row per image."""
    return torch.tensor(images)[:, None, None]


def valid_of(target: Tensor) -> Tensor:
    return target.isfinite()


def test_stereo_metrics_by_hand() -> None:
    target = maps([10.0, 100.0, 20.0, 30.0, NAN])
    prediction = maps([13.5, 104.0, 21.5, 30.0, 7.0])  # errors 3.5 (outlier), 4 (4 % only), 1.5, 0
    metrics = StereoMetrics()
    metrics.update(prediction, target, valid_of(target))
    assert metrics.compute() == pytest.approx(
        {"epe": 9 / 4, "bp1": 3 / 4, "bp2": 2 / 4, "bp3": 2 / 4, "d1": 1 / 4, "rmse": math.sqrt((3.5**2 + 16 + 2.25) / 4)}
    )


def test_stereo_metrics_average_images_not_pixels() -> None:
    target = maps([10.0, NAN, NAN], [10.0, 10.0, 10.0])
    metrics = StereoMetrics()
    metrics.update(maps([14.0, 0.0, 0.0], [10.0, 10.0, 10.0]), target, valid_of(target))
    assert metrics.compute()["epe"] == pytest.approx(2.0)  # (4 + 0) / 2, not 4 / 4
    assert (metrics.num_images, metrics.num_pixels) == (2, 4)


def test_images_without_ground_truth_are_skipped_and_counted() -> None:
    target = maps([10.0, 10.0], [NAN, NAN])
    metrics = StereoMetrics()
    metrics.update(maps([11.0, 11.0], [500.0, NAN]), target, valid_of(target))
    assert metrics.compute()["epe"] == pytest.approx(1.0)
    assert (metrics.num_images, metrics.skipped) == (1, 1)


def test_depth_metrics_by_hand() -> None:
    target, prediction = maps([1.0, 2.0, NAN]), maps([1.2, 1.0, 5.0])
    metrics = DepthMetrics(min_depth=0.001, max_depth=10.0)
    metrics.update(prediction, target, valid_of(target))
    g = [math.log(1.2), -math.log(2)]
    squares, mean = (g[0] ** 2 + g[1] ** 2) / 2, (g[0] + g[1]) / 2
    assert metrics.compute() == pytest.approx(
        {
            "d1": 0.5,  # ratios 1.2 and 2
            "d2": 0.5,
            "d3": 0.5,  # 1.25 ** 3 = 1.953
            "abs_rel": (0.2 + 0.5) / 2,
            "rmse": math.sqrt((0.04 + 1) / 2),
            "rmse_log": math.sqrt(squares),
            "log10": (math.log10(1.2) + math.log10(2)) / 2,
            "silog": math.sqrt(squares - 0.5 * mean**2),
            "sq_rel": (0.04 + 0.5) / 2,
        }
    )


def test_depth_metrics_pool_pixels_for_d1_and_average_images_for_rmse() -> None:
    target = maps([1.0, NAN, NAN], [1.0, 1.0, 1.0])
    metrics = DepthMetrics(min_depth=0.001, max_depth=10.0)
    metrics.update(maps([3.0, 1.0, 1.0], [1.0, 1.0, 1.0]), target, valid_of(target))
    computed = metrics.compute()
    assert computed["d1"] == pytest.approx(3 / 4)
    assert computed["rmse"] == pytest.approx((2 + 0) / 2)


def test_depth_is_clipped_to_the_range() -> None:
    target = maps([8.0, NAN])
    metrics = DepthMetrics(min_depth=0.5, max_depth=10.0)
    metrics.update(maps([50.0, 1.0]), target, valid_of(target))
    assert metrics.compute()["abs_rel"] == pytest.approx(0.25)


def test_relative_metrics_ignore_scale_and_shift() -> None:
    target = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    target[0, 0, 0, 0] = NAN
    valid = valid_of(target)
    metrics = RelativeMetrics()
    metrics.update(5.0 * torch.where(valid, target, 3.0) + 2.0, target, valid)
    assert metrics.compute() == pytest.approx({"d1": 1.0, "d2": 1.0, "d3": 1.0, "abs_rel": 0.0}, abs=1e-6)


def test_relative_metrics_by_hand() -> None:
    # p = 0 1 2, t = 1 4 4: s = 1.5, b = 1.5, aligned 1.5 3 4.5: ratios 1.5, 4/3, 1.125
    target = maps([1.0, 4.0, 4.0, NAN])
    metrics = RelativeMetrics()
    metrics.update(maps([0.0, 1.0, 2.0, 9.0]), target, valid_of(target))
    assert metrics.compute() == pytest.approx({"d1": 1 / 3, "d2": 1.0, "d3": 1.0, "abs_rel": (0.5 + 0.25 + 0.125) / 3})


def test_a_constant_relative_prediction_is_wrong_everywhere() -> None:
    target = maps([1.0, 4.0])
    metrics = RelativeMetrics()
    metrics.update(maps([2.0, 2.0]), target, valid_of(target))
    assert metrics.compute() == pytest.approx({"d1": 0.0, "d2": 0.0, "d3": 0.0, "abs_rel": 1.0})


@pytest.mark.parametrize("make", [StereoMetrics, RelativeMetrics, DepthMetrics])
def test_batch_size_does_not_matter(make: type[Metrics]) -> None:
    generator = torch.Generator().manual_seed(1)
    target, prediction = torch.rand(5, 1, 4, 4, generator=generator) + 0.5, torch.rand(5, 1, 4, 4, generator=generator) + 0.5
    valid = torch.rand(5, 1, 4, 4, generator=generator) > 0.3
    together, alone = make(), make()
    together.update(prediction, target, valid)
    for index in range(5):
        alone.update(prediction[index : index + 1], target[index : index + 1], valid[index : index + 1])
    assert together.compute() == pytest.approx(alone.compute())
    assert together.num_pixels == alone.num_pixels == int(valid.sum())


@pytest.mark.parametrize("make", [StereoMetrics, RelativeMetrics, DepthMetrics])
def test_nothing_measured_is_none(make: type[Metrics]) -> None:
    metrics = make()
    metrics.update(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool))
    assert set(metrics.compute().values()) == {None}


@pytest.mark.parametrize("make", [StereoMetrics, RelativeMetrics, DepthMetrics])
def test_a_nan_prediction_is_named(make: type[Metrics]) -> None:
    target = maps([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(NonFiniteError) as caught:
        make().update(maps([1.0, 2.0], [NAN, 2.0]), target, valid_of(target))
    assert caught.value.details == {"batch_positions": [1]}


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        StereoMetrics().update(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2), torch.ones(1, 1, 2, 2).bool())
