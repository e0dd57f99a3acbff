"""Generated scenes: their ground truth is proved by warping."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from search_spaces.errors import DataError
from trials.data.decoders import read_pfm, read_png, read_rgb
from trials.data.sample import Board, Rendering, SampleSet, make_camera, make_scene, render, write_samples

CAMERA = make_camera(height=96, width=128, max_disparity=48)


@pytest.fixture(scope="module")
def rendering() -> Rendering:
    return render(make_scene(np.random.default_rng(5), CAMERA), CAMERA)


def difference(rendering: Rendering, where: np.ndarray, *, off_px: float = 0.0) -> float:
    """Mean absolute difference of left and right moved by the disparity (+ off_px), in levels of 255."""
    rows, columns = np.indices(rendering.disparity.shape, dtype=np.float32)
    moved = cv2.remap(rendering.right, columns - rendering.disparity - np.float32(off_px), rows, cv2.INTER_CUBIC)
    return float(np.abs(moved.astype(np.float32) - rendering.left)[where].mean())


def test_right_moved_by_the_disparity_is_left(rendering: Rendering) -> None:
    assert difference(rendering, rendering.visible) < 3.0


@pytest.mark.parametrize("off_px", [-2.0, 2.0])
def test_two_pixels_off_is_far_from_left(rendering: Rendering, off_px: float) -> None:
    assert difference(rendering, rendering.visible, off_px=off_px) > 15.0


def test_a_quarter_of_a_pixel_is_seen(rendering: Rendering) -> None:
    exact = difference(rendering, rendering.visible)
    assert min(difference(rendering, rendering.visible, off_px=off) for off in (-0.25, 0.25)) > 1.5 * exact


def test_occluded_pixels_have_no_match(rendering: Rendering) -> None:
    assert 0.01 < 1 - rendering.visible.mean() < 0.4
    assert difference(rendering, ~rendering.visible) > 15.0


def test_depth_times_disparity_is_focal_times_baseline(rendering: Rendering) -> None:
    np.testing.assert_allclose(rendering.depth * rendering.disparity, CAMERA.focal_px * CAMERA.baseline_m, rtol=1e-5)


def test_a_frontal_board_has_the_depth_it_was_given() -> None:
    across, down = CAMERA.rays(0.0, 0.0)
    z = Board(depth=2.0, slope_x=0.0, slope_y=0.0).hit(0.0, across, down)
    np.testing.assert_allclose(z, 2.0)


def test_disparities_and_depths_stay_in_range() -> None:
    for seed in range(8):
        made = render(make_scene(np.random.default_rng(seed), CAMERA), CAMERA)
        assert 0 < made.disparity.min() < made.disparity.max() < 48
        assert 1.0 < made.depth.min() < made.depth.max() < 10.0


def test_files_hold_what_was_rendered(scenes: SampleSet) -> None:
    folder = scenes.folder / "scene_0000"
    made = render(make_scene(np.random.default_rng([3, 0]), scenes.camera), scenes.camera)
    np.testing.assert_array_equal(read_rgb(folder / "left.png"), made.left)
    np.testing.assert_array_equal(read_rgb(folder / "right.png"), made.right)
    np.testing.assert_array_equal(read_pfm(folder / "disparity.pfm"), made.disparity)
    np.testing.assert_array_equal(read_pfm(folder / "depth.pfm"), made.depth)
    np.testing.assert_array_equal(read_png(folder / "mask.png") == 255, made.visible)


def test_every_scene_is_in_one_split(scenes: SampleSet) -> None:
    lines = [line for split in ("train", "val", "test") for line in scenes.list_file("stereo", split).read_text().splitlines()]
    assert lines == [f"scene_{n:04d}/left.png scene_{n:04d}/right.png scene_{n:04d}/disparity.pfm" for n in range(5)]
    assert scenes.counts == {"train": 3, "val": 1, "test": 1}


def test_the_same_set_is_not_written_twice(scenes: SampleSet) -> None:
    again = write_samples(scenes.folder, scenes=5, seed=3, height=96, width=128, max_disparity=32)
    assert not again.written
    assert again.counts == scenes.counts


def test_another_set_is_never_overwritten(scenes: SampleSet) -> None:
    with pytest.raises(DataError, match="already holds another sample set"):
        write_samples(scenes.folder, scenes=5, seed=4, height=96, width=128, max_disparity=32)


def test_a_strangers_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="no complete sample set"):
        write_samples(tmp_path, scenes=3)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("numbers", "says"),
    [({"scenes": 2}, "3 scenes"), ({"scenes": 3, "width": 16}, "32x32"), ({"scenes": 3, "max_disparity": 500}, "max_disparity=500")],
)
def test_numbers_that_cannot_be(tmp_path: Path, numbers: dict[str, int], says: str) -> None:
    with pytest.raises(DataError, match=says):
        write_samples(tmp_path / "new", **numbers)
