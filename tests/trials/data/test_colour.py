"""Colour jitter against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trials.data.colour import ColourJitter, JitterStep

PIXELS = np.array([[[100, 50, 0], [200, 100, 250]]], np.uint8)
NOTHING = {"order": (0, 1, 2, 3), "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


def jitter(image: np.ndarray, **change: float) -> np.ndarray:
    return JitterStep(**(NOTHING | change)).apply([image])[0]  # type: ignore[arg-type]


def test_factors_of_one_change_nothing() -> None:
    np.testing.assert_array_equal(jitter(PIXELS), PIXELS)


def test_brightness_multiplies_and_clips() -> None:
    np.testing.assert_array_equal(jitter(PIXELS, brightness=1.5, order=(0,)), [[[150, 75, 0], [255, 150, 255]]])


def test_no_contrast_leaves_the_mean_grey() -> None:
    grey = np.array([[[40, 40, 40], [80, 80, 80]]], np.uint8)
    np.testing.assert_array_equal(jitter(grey, contrast=0.0, order=(1,)), np.full((1, 2, 3), 60))


def test_contrast_is_shared_by_a_pair() -> None:
    dark, bright = np.full((1, 1, 3), 40, np.uint8), np.full((1, 1, 3), 80, np.uint8)
    step = JitterStep(order=(1,), brightness=1.0, contrast=0.5, saturation=1.0, hue=0.0)
    assert [int(image[0, 0, 0]) for image in step.apply([dark, bright])] == [50, 70]


def test_no_saturation_leaves_grey() -> None:
    # 0.299 R + 0.587 G + 0.114 B = 59.25 for the first pixel
    np.testing.assert_array_equal(jitter(PIXELS, saturation=0.0, order=(2,))[0, 0], [59, 59, 59])


def test_a_third_of_a_turn_makes_red_green() -> None:
    red = np.array([[[255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(jitter(red, hue=1 / 3, order=(3,))[0, 0], [0, 255, 0], atol=3)


def test_the_input_is_left_alone() -> None:
    before = PIXELS.copy()
    jitter(PIXELS, brightness=0.3, contrast=0.2, saturation=0.1, hue=0.4)
    np.testing.assert_array_equal(PIXELS, before)


@pytest.mark.parametrize("seed", range(5))
def test_draws_stay_in_their_ranges(seed: int) -> None:
    step = ColourJitter(brightness=0.4, contrast=0.2, saturation=(0.5, 1.4), hue=(-0.1, 0.05)).draw(np.random.default_rng(seed))
    assert 0.6 <= step.brightness <= 1.4
    assert 0.8 <= step.contrast <= 1.2
    assert 0.5 <= step.saturation <= 1.4
    assert -0.1 <= step.hue <= 0.05
    assert sorted(step.order) == [0, 1, 2, 3]
