"""Metrics against numbers worked out by hand; every example holds an invalid pixel whose target is NaN."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from search_spaces.objective import metrics_of
from search_spaces.spec import Spec, spec_from_dict
from trials.failures import NonFiniteError
from trials.metrics import RELATIVE, STEREO, MetricSet, depth_metrics, metric_set
from trials.scoring import NO_TRUTH, NOT_FINITE, Scorer

NAN = float("nan")
DEPTH = depth_metrics(0.001, 10.0)


def maps(*images: list[float]) -> Tensor:
    """(B,1,1,W) from one row per image."""
    return torch.tensor(images)[:, None, None]


def measured(metrics: MetricSet, prediction: Tensor, target: Tensor) -> dict[str, float | None]:
    """Metrics of one batch; targets are valid where they are finite."""
    valid = target.isfinite()
    values = {name: column.tolist() for name, column in metrics.measure(prediction, target, valid).items()}
    rows = [{name: column[index] for name, column in values.items()} for index in range(len(target))]
    return metrics.combine(zip(valid.sum((1, 2, 3)).tolist(), rows, strict=True))


def spec_of(model_type: str) -> Spec:
    return spec_from_dict({"model": {"model_type": model_type}})


def test_stereo_metrics_by_hand() -> None:
    target = maps([10.0, 100.0, 20.0, 30.0, NAN])
    prediction = maps([13.5, 104.0, 21.5, 30.0, 7.0])  # errors 3.5 (outlier), 4 (4 % only), 1.5, 0
    assert measured(STEREO, prediction, target) == pytest.approx(
        {"epe": 9 / 4, "bp1": 3 / 4, "bp2": 2 / 4, "bp3": 2 / 4, "d1": 1 / 4, "rmse": math.sqrt((3.5**2 + 16 + 2.25) / 4)}
    )


@pytest.mark.parametrize(("target", "error", "outlier"), [(10.0, 3.5, 1.0), (100.0, 4.0, 0.0), (10.0, 3.0, 0.0), (60.0, 3.0625, 1.0)])
def test_an_outlier_is_above_3_px_and_above_5_percent(target: float, error: float, outlier: float) -> None:
    assert measured(STEREO, maps([target - error, 0.0]), maps([target, NAN]))["d1"] == outlier


def test_bad_pixel_bounds_are_exclusive() -> None:
    assert measured(STEREO, maps([11.0, 12.0, 13.0, 0.0]), maps([10.0, 10.0, 10.0, NAN]))["bp1"] == pytest.approx(2 / 3)


def test_stereo_metrics_average_images_not_pixels() -> None:
    target = maps([10.0, NAN, NAN], [10.0, 10.0, 10.0])
    prediction = maps([14.0, 0.0, 0.0], [10.0, 10.0, 10.0])
    assert measured(STEREO, prediction, target)["epe"] == pytest.approx(2.0)  # (4 + 0) / 2, not 4 / 4
    assert measured(STEREO, prediction, target)["rmse"] == pytest.approx(2.0)  # and no second root


def test_depth_metrics_by_hand() -> None:
    target, prediction = maps([1.0, 2.0, NAN]), maps([1.2, 1.0, 5.0])
    g = [math.log(1.2), -math.log(2)]
    squares, mean = (g[0] ** 2 + g[1] ** 2) / 2, (g[0] + g[1]) / 2
    assert measured(DEPTH, prediction, target) == pytest.approx(
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


def test_silog_of_a_scaled_map() -> None:
    # g = ln 2 everywhere: sqrt(g^2 - g^2 / 2)
    assert measured(DEPTH, maps([2.0, 4.0, 1.0]), maps([1.0, 2.0, NAN]))["silog"] == pytest.approx(math.log(2) * math.sqrt(0.5))


def test_depth_metrics_pool_pixels_for_d1_and_average_images_for_rmse() -> None:
    target = maps([1.0, NAN, NAN], [1.0, 1.0, 1.0])
    computed = measured(DEPTH, maps([3.0, 1.0, 1.0], [1.0, 1.0, 1.0]), target)
    assert computed["d1"] == pytest.approx(3 / 4)
    assert computed["abs_rel"] == pytest.approx(2 / 4)
    assert computed["rmse"] == pytest.approx((2 + 0) / 2)


def test_depth_is_clipped_to_the_range() -> None:
    assert measured(depth_metrics(0.5, 10.0), maps([50.0, 1.0]), maps([8.0, NAN]))["abs_rel"] == pytest.approx(0.25)
    assert measured(depth_metrics(0.5, 10.0), maps([-1.0, 1.0]), maps([1.0, NAN]))["abs_rel"] == pytest.approx(0.5)


def test_relative_metrics_ignore_scale_and_shift() -> None:
    target = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    target[0, 0, 0, 0] = NAN
    prediction = 5.0 * torch.where(target.isfinite(), target, 3.0) + 2.0
    assert measured(RELATIVE, prediction, target) == pytest.approx({"d1": 1.0, "d2": 1.0, "d3": 1.0, "abs_rel": 0.0}, abs=1e-6)


def test_relative_metrics_by_hand() -> None:
    # p = 0 1 2, t = 1 4 4: s = 1.5, b = 1.5, aligned 1.5 3 4.5: ratios 1.5, 4/3, 1.125
    computed = measured(RELATIVE, maps([0.0, 1.0, 2.0, 9.0]), maps([1.0, 4.0, 4.0, NAN]))
    assert computed == pytest.approx({"d1": 1 / 3, "d2": 1.0, "d3": 1.0, "abs_rel": (0.5 + 0.25 + 0.125) / 3})


def test_each_relative_image_has_its_own_fit() -> None:
    target = maps([1.0, 2.0, NAN], [1.0, 2.0, NAN])
    assert measured(RELATIVE, maps([2.0, 4.0, 0.0], [30.0, 20.0, 0.0]), target)["abs_rel"] == pytest.approx(0.0, abs=1e-12)


def test_a_relative_fit_keeps_its_digits_far_from_zero() -> None:
    target = maps([1.0, 2.0, 3.0, NAN])
    prediction = maps([4096.0, 4096.25, 4096.5, 0.0])  # float32 squares of these would lose the spread
    assert measured(RELATIVE, prediction, target)["abs_rel"] == pytest.approx(0.0, abs=1e-9)


def test_a_constant_relative_prediction_is_wrong_everywhere() -> None:
    computed = measured(RELATIVE, maps([2.0, 2.0, 2.0]), maps([1.0, 4.0, NAN]))
    assert computed == pytest.approx({"d1": 0.0, "d2": 0.0, "d3": 0.0, "abs_rel": 1.0})


@pytest.mark.parametrize("model_type", ["FoundationStereo", "RelativeDepthAnything", "MetricDepthAnything"])
def test_batch_size_does_not_matter(model_type: str) -> None:
    generator = torch.Generator().manual_seed(1)
    target, prediction = torch.rand(5, 1, 4, 4, generator=generator) + 0.5, torch.rand(5, 1, 4, 4, generator=generator) + 0.5
    valid = torch.rand(5, 1, 4, 4, generator=generator) > 0.3
    valid[3] = False
    scorers = {size: Scorer(spec_of(model_type)) for size in (1, 3)}
    for size, scorer in scorers.items():
        for start in range(0, 5, size):
            part = slice(start, start + size)
            scorer.update(prediction[part], target[part], valid[part], [str(index) for index in range(5)[part]])
    one, three = scorers[1], scorers[3]
    assert one.compute() == pytest.approx(three.compute(), rel=1e-12)
    assert (one.num_images, one.num_pixels, one.skipped) == (three.num_images, three.num_pixels, three.skipped) == (4, int(valid.sum()), 1)


def test_images_without_ground_truth_are_skipped_and_counted() -> None:
    target = maps([10.0, 10.0], [NAN, NAN])
    scorer = Scorer(spec_of("FoundationStereo"))
    scorer.update(maps([11.0, 11.0], [500.0, NAN]), target, target.isfinite(), ["a", "b"])
    assert scorer.compute()["epe"] == pytest.approx(1.0)
    assert (scorer.num_images, scorer.num_pixels, scorer.skipped) == (1, 2, 1)
    assert [(image.path, image.num_pixels, image.skipped) for image in scorer.images] == [("a", 2, None), ("b", 0, NO_TRUTH)]


@pytest.mark.parametrize("model_type", ["FoundationStereo", "RelativeDepthAnything", "MetricDepthAnything"])
def test_nothing_measured_is_none(model_type: str) -> None:
    scorer = Scorer(spec_of(model_type))
    scorer.update(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool), ["a"])
    assert set(scorer.compute().values()) == {None}


@pytest.mark.parametrize("model_type", ["FoundationStereo", "RelativeDepthAnything", "MetricDepthAnything"])
@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_prediction_that_is_not_finite_is_named_and_poisons_nothing(model_type: str, value: float) -> None:
    target = maps([1.0, 2.0, NAN], [1.0, 2.0, NAN])
    prediction = maps([value, 2.0, 0.0], [1.0, 2.5, NAN])
    with pytest.raises(NonFiniteError) as caught:
        Scorer(spec_of(model_type)).update(prediction, target, target.isfinite(), ["bad", "good"])
    assert caught.value.details == {"paths": ["bad"]}
    scorer, alone = Scorer(spec_of(model_type), keep_going=True), Scorer(spec_of(model_type))
    scorer.update(prediction, target, target.isfinite(), ["bad", "good"])
    alone.update(prediction[1:], target[1:], target[1:].isfinite(), ["good"])
    assert scorer.compute() == alone.compute()
    assert (scorer.not_finite, scorer.images[0].skipped, scorer.num_pixels) == (("bad",), NOT_FINITE, 2)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        Scorer(spec_of("FoundationStereo")).update(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2), torch.ones(1, 1, 2, 2).bool(), ["a"])


@pytest.mark.parametrize("model_type", ["FoundationStereo", "RelativeDepthAnything", "MetricDepthAnything"])
def test_every_metric_has_a_unit_and_a_direction(model_type: str) -> None:
    spec = spec_of(model_type)
    assert {"loss", *metric_set(spec).names} == {info.name for info in metrics_of(spec.family, relative=spec.is_relative)}
