"""Colours, ranges and layout of pictures."""

from __future__ import annotations

import numpy as np
import pytest

from trials.comparison import DISPARITY, INVERSE_DEPTH, picture_of
from trials.data.decoders import F32
from trials.pictures import GAP_PX, PAPER, UNKNOWN, Bar, Panel, coloured, number, sheet, text_size, thickened, title_height, value_range

GREY_BAR = Bar(colours="gray", low=0.0, high=1.0, unit="px")


def row(*values: float) -> F32:
    return np.array([values], np.float32)


def test_colours_span_the_bar_and_unknown_pixels_are_grey() -> None:
    picture = coloured(row(0.0, 1.0, 9.0, np.nan, 0.5), np.array([[True, True, True, True, False]]), GREY_BAR)
    assert picture.tolist() == [[[0, 0, 0], [255, 255, 255], [255, 255, 255], list(UNKNOWN), list(UNKNOWN)]]


@pytest.mark.parametrize("colours", ["turbo", "Spectral", "Spectral_r", "inferno"])
def test_no_map_has_the_grey_of_unknown_pixels(colours: str) -> None:
    picture = coloured(np.linspace(0, 1, 256, dtype=np.float32)[None], None, Bar(colours=colours, low=0, high=1, unit=""))
    assert np.abs(picture.astype(int) - UNKNOWN).max(axis=-1).min() > 20


def test_near_is_red_in_every_map() -> None:
    ends = {"turbo": 1.0, "Spectral_r": 1.0, "Spectral": 0.0}  # large disparity, large inverse depth, small depth
    for colours, near in ends.items():
        red, green, blue = coloured(row(near), None, Bar(colours=colours, low=0, high=1, unit=""))[0, 0].tolist()
        assert red > green + 50
        assert red > blue + 50


def test_a_constant_map_has_one_colour() -> None:
    low, high = value_range(row(3.0, 3.0))
    assert len(np.unique(coloured(row(3.0, 3.0), None, Bar(colours="turbo", low=low, high=high, unit=""))[0], axis=0)) == 1


def test_a_few_wild_pixels_do_not_set_the_range() -> None:
    values = np.append(np.linspace(1, 2, 999, dtype=np.float32), np.float32(1e6))[None]
    low, high = value_range(values)
    assert 1.0 <= low < 1.02
    assert 1.98 < high <= 2.0


def test_the_range_is_that_of_valid_finite_values() -> None:
    assert value_range(row(5.0, np.inf, 100.0), np.array([[True, True, False]])) == (5.0, 5.0)
    assert value_range(row(np.nan)) == (0.0, 1.0)


def test_sparse_points_are_drawn_three_pixels_wide() -> None:
    values, valid = np.zeros((5, 5), np.float32), np.zeros((5, 5), bool)
    values[2, 2], valid[2, 2] = 7.0, True
    wide, known = thickened(values, valid)
    assert known.sum() == 9
    assert (wide[known] == 7.0).all()
    assert thickened(values, ~valid)[0] is values


def test_ground_truth_and_prediction_share_their_colours() -> None:
    image, target = np.zeros((40, 60, 3), np.uint8), np.tile(np.linspace(2, 8, 60, dtype=np.float32), (40, 1))
    picture = picture_of(image, target, DISPARITY, target_HW=target, valid_HW=np.ones_like(target, bool))
    top = title_height(text_size(40, 60))
    parts = [picture[top : top + 40, GAP_PX + number * (60 + GAP_PX) :][:, :60] for number in range(4)]
    assert np.array_equal(parts[1], parts[2])
    assert len(np.unique(parts[3].reshape(-1, 3), axis=0)) == 1  # no error anywhere


def test_a_relative_prediction_is_shown_fitted() -> None:
    image, target = np.zeros((40, 60, 3), np.uint8), np.tile(np.linspace(2, 8, 60, dtype=np.float32), (40, 1))
    valid = np.ones_like(target, bool)
    plain = picture_of(image, target, INVERSE_DEPTH, target_HW=target, valid_HW=valid)
    scaled = picture_of(image, 100 * target - 7, INVERSE_DEPTH, target_HW=target, valid_HW=valid)
    assert np.abs(plain.astype(int) - scaled).max() <= 2


def test_panels_are_as_high_as_the_first() -> None:
    picture = sheet([Panel(title="a", picture=np.zeros((4, 6, 3), np.uint8)), Panel(title="b", picture=np.zeros((2, 3, 3), np.uint8))])
    assert picture.shape[1] == 2 * 6 + 3 * GAP_PX


def test_four_wide_panels_take_two_rows() -> None:
    panel = Panel(title="a", picture=np.zeros((20, 60, 3), np.uint8), bar=GREY_BAR)
    picture = sheet([panel] * 4)
    assert picture.shape[1] == 2 * 60 + 3 * GAP_PX
    assert (picture[:, :GAP_PX] == PAPER[0]).all()


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (12.345, "12.3"), (416.2, "416"), (0.01234, "0.0123"), (3e7, "3e+07")])
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text
