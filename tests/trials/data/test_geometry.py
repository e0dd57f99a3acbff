"""To the network's size and back."""

from __future__ import annotations

import pytest
import torch

from trials.data.geometry import Geometry, covering_size, plan_evaluation, to_target_grid


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (518, 686)), ((1080, 1920), (518, 924)), ((375, 1242), (518, 1722)), ((988, 1428), (518, 742))]
)
def test_covering_sizes_at_518(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert covering_size(size, (518, 518)) == expected


@pytest.mark.parametrize("size", [(97, 100), (100, 97), (1000, 301), (56, 84), (57, 84)])
def test_a_covering_size_covers(size: tuple[int, int]) -> None:
    height, width = covering_size(size, (56, 84))
    assert height >= 56
    assert width >= 84
    assert height % 14 == width % 14 == 0


def test_native_stereo_is_padded_evenly_to_32() -> None:
    plan = plan_evaluation("native", "stereo", image_size=(375, 1242), target_size=(375, 1242), crop_size=(64, 64))
    assert plan.geometry == Geometry("pad", (384, 1248), (375, 1242), (3, 3, 4, 5))


def test_native_stereo_of_a_fitting_size_is_left_alone() -> None:
    plan = plan_evaluation("native", "stereo", image_size=(64, 96), target_size=None, crop_size=(32, 32))
    assert plan.geometry == Geometry("none", (64, 96), (64, 96))


@pytest.mark.parametrize(("size", "padded"), [((5, 7), (64, 64)), ((32, 32), (64, 64)), ((5, 33), (32, 64))])
def test_native_stereo_of_a_tiny_image_leaves_the_network_more_than_one_pixel(size: tuple[int, int], padded: tuple[int, int]) -> None:
    plan = plan_evaluation("native", "stereo", image_size=size, target_size=None, crop_size=(32, 32))
    assert (plan.geometry.network_size, plan.geometry.target_size) == (padded, size)


def test_native_mono_goes_back_to_the_ground_truth() -> None:
    plan = plan_evaluation("native", "mono", image_size=(480, 640), target_size=(240, 320), crop_size=(518, 518))
    assert plan.geometry == Geometry("resize", (518, 686), (240, 320))


def test_center_crop_takes_the_middle() -> None:
    plan = plan_evaluation("center_crop", "stereo", image_size=(101, 200), target_size=(101, 200), crop_size=(64, 96))
    assert plan.window == (18, 52, 64, 96)
    assert plan.geometry == Geometry("none", (64, 96), (64, 96))


def test_center_crop_of_a_small_image_is_padded() -> None:
    plan = plan_evaluation("center_crop", "stereo", image_size=(50, 200), target_size=(50, 200), crop_size=(64, 96))
    assert plan.window == (0, 52, 50, 96)
    assert plan.geometry == Geometry("pad", (64, 96), (50, 96), (0, 0, 7, 7))


def test_resize_keeps_the_ground_truth() -> None:
    plan = plan_evaluation("resize", "stereo", image_size=(375, 1242), target_size=(375, 1242), crop_size=(320, 736))
    assert plan.geometry == Geometry("resize", (320, 736), (375, 1242))


def test_padding_is_cut_off() -> None:
    grid = torch.arange(4 * 6.0).reshape(1, 1, 4, 6)
    cut = to_target_grid(grid, Geometry("pad", (4, 6), (1, 3), (1, 2, 2, 1)), "stereo")
    torch.testing.assert_close(cut, torch.tensor([[[[13.0, 14.0, 15.0]]]]))


def test_a_resized_disparity_counts_target_pixels() -> None:
    back = to_target_grid(torch.full((2, 1, 4, 8), 3.0), Geometry("resize", (4, 8), (6, 20)), "stereo")
    torch.testing.assert_close(back, torch.full((2, 1, 6, 20), 7.5))


def test_a_resized_depth_stays_in_metres() -> None:
    ramp = torch.linspace(1, 2, 5).expand(1, 1, 3, 5)
    back = to_target_grid(ramp, Geometry("resize", (3, 5), (3, 9)), "mono")
    torch.testing.assert_close(back[0, 0, 0], torch.linspace(1, 2, 9))  # corners stay corners


def test_the_same_grid_comes_back_untouched() -> None:
    grid = torch.rand(1, 1, 4, 6)
    assert to_target_grid(grid, Geometry("none", (4, 6), (4, 6)), "stereo") is grid


def test_a_prediction_of_another_size_is_our_mistake() -> None:
    with pytest.raises(AssertionError):
        to_target_grid(torch.zeros(1, 1, 4, 6), Geometry("none", (4, 8), (4, 8)), "stereo")


def test_pad_keeps_a_smaller_image_whole():
    plan = plan_evaluation("pad", "stereo", image_size=(50, 90), target_size=(50, 90), crop_size=(64, 96))
    assert plan.window == (0, 0, 50, 90)
    assert plan.geometry == Geometry("pad", (64, 96), (50, 90), (3, 3, 7, 7))


@pytest.mark.parametrize(("image", "truth"), [((65, 90), (65, 90)), ((50, 90), (25, 45))])
def test_pad_resizes_what_it_cannot_hold(image: tuple[int, int], truth: tuple[int, int]):
    plan = plan_evaluation("pad", "mono", image_size=image, target_size=truth, crop_size=(64, 96))
    assert plan.geometry == Geometry("resize", (64, 96), truth)
