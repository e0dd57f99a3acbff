"""The gate's arithmetic, on maps small enough to check by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deploy.parity import Candidate, Check, Tolerance, coarse_tolerance, compare, tolerance_for, with_metric
from deploy.samples import Sample
from tests.deploy.networks import mono_spec, stereo_spec

PIXELS = Tolerance(max_abs=0.1, mean_abs=0.05, unit="px")
IMAGE = Sample(images=(torch.zeros(1, 3, 1, 4),))


class Fixed:
    """Answers every image with the same map."""

    fixed_size = None

    def __init__(self, *values: float, name: str = "other") -> None:
        self.name = name
        self.map = torch.tensor(values).view(1, 1, 1, -1)

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        return self.map.expand(images[0].shape[0], -1, -1, -1)


REFERENCE = Fixed(0.0, 2.0, 4.0, 10.0, name="torch")


def check_of(reference: Fixed, other: Fixed, samples: list[Sample], tolerance: Tolerance = PIXELS) -> Check:
    (check,) = compare(reference, [Candidate(predictor=other, tolerance=tolerance)], stereo_spec(), samples).values()
    return check


def test_largest_and_mean_are_over_all_pixels() -> None:
    check = check_of(REFERENCE, Fixed(0.0, 2.0, 4.08, 10.0), [IMAGE, IMAGE])
    assert check.max_abs == pytest.approx(0.08, abs=1e-6)
    assert check.mean_abs == pytest.approx(0.02, abs=1e-6)
    assert (check.passed, check.samples, check.reason) == (True, 2, None)


def test_the_largest_difference_stops_it() -> None:
    check = check_of(REFERENCE, Fixed(0.0, 2.0, 4.15, 10.0), [IMAGE])
    assert not check.passed
    assert check.reason == "the largest difference is 0.15 px, allowed are 0.1"


def test_the_mean_difference_stops_it() -> None:
    check = check_of(REFERENCE, Fixed(0.07, 2.07, 4.07, 10.07), [IMAGE])
    assert check.reason == "the mean difference is 0.07 px, allowed are 0.05"


def test_relative_depth_is_measured_in_shares_of_its_range() -> None:
    check = check_of(REFERENCE, Fixed(0.0, 2.0, 4.0, 11.0), [IMAGE], Tolerance(max_abs=0.2, mean_abs=0.2, unit="of the range"))
    assert (check.max_abs, check.mean_abs) == (pytest.approx(0.1), pytest.approx(0.025))


def test_a_constant_map_has_no_range_and_is_compared_as_it_is() -> None:
    check = check_of(Fixed(3.0, 3.0, name="torch"), Fixed(3.0, 3.5), [IMAGE], Tolerance(max_abs=1, mean_abs=1, unit="of the range"))
    assert check.max_abs == 0.5


def test_nan_does_not_pass_and_is_no_number() -> None:
    check = check_of(REFERENCE, Fixed(0.0, float("nan"), 4.0, 10.0, name="onnxruntime"), [IMAGE])
    assert (check.passed, check.max_abs, check.reason) == (False, None, "1 of 4 values of onnxruntime are not finite")


def test_another_shape_does_not_pass() -> None:
    assert not check_of(REFERENCE, Fixed(0.0, 2.0), [IMAGE]).passed


def test_no_sample_does_not_pass() -> None:
    assert not check_of(REFERENCE, Fixed(0.0, 2.0), []).passed


def test_units_follow_the_network() -> None:
    assert tolerance_for(stereo_spec()).unit == "px"
    assert tolerance_for(mono_spec(relative=True)).unit == "of the range"
    assert (tolerance_for(mono_spec()).unit, tolerance_for(mono_spec()).max_abs) == ("m", pytest.approx(0.002))


def gated(expected: float, answered: float) -> Check:
    passing = check_of(REFERENCE, Fixed(0.0, 2.0, 4.0, 10.0), [IMAGE], tolerance_for(stereo_spec()))
    return with_metric(passing, stereo_spec(), {"epe": expected}, {"epe": answered})


def test_a_metric_that_moves_too_far_stops_it() -> None:
    check = gated(1.0, 1.006)
    assert not check.passed
    assert check.reason == "epe moves from 1 to 1.006, allowed are 0.005"


def test_a_metric_may_move_a_little() -> None:
    check = gated(1.0, 0.996)
    assert (check.passed, check.metric, check.metric_change) == (True, "epe", pytest.approx(-0.004))


@pytest.mark.parametrize(("answered", "reason"), [(1.05, None), (0.5, None), (1.06, "epe goes from 1 to 1.06, 6.0 % worse")])
def test_fewer_digits_may_cost_a_share_of_the_metric_and_nothing_else_counts(answered: float, reason: str | None) -> None:
    far = check_of(REFERENCE, Fixed(9.0, 9.0, 9.0, 9.0), [IMAGE], coarse_tolerance(stereo_spec()))
    check = with_metric(far, stereo_spec(), {"epe": 1.0}, {"epe": answered})
    assert str(check.reason).partition(";")[0] == str(reason)


def test_every_candidate_is_compared_and_the_reference_answers_once() -> None:
    class Counting(Fixed):
        calls = 0

        def predict(self, images: tuple[Tensor, ...]) -> Tensor:
            self.calls += 1
            return super().predict(images)

    reference = Counting(0.0, 2.0, 4.0, 10.0, name="torch")
    others = [Candidate(predictor=Fixed(0.0, 2.0, 4.0, last, name=f"{last}"), tolerance=PIXELS) for last in (10.0, 10.05)]
    checks = compare(reference, others, stereo_spec(), [IMAGE])
    assert {name: check.max_abs for name, check in checks.items()} == {"10.0": 0.0, "10.05": pytest.approx(0.05, abs=1e-6)}
    assert reference.calls == 1
