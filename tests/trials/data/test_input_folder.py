"""Rows of a folder of images: every image for mono, the pairs that the names show for stereo."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import DataError
from tests.trials.data.test_tree import make
from trials.data.input_folder import input_rows


def pairs(folder: Path) -> list[tuple[str, str]]:
    rows = input_rows(folder, family="stereo")
    return [(str(row.image.relative_to(folder)), str(row.right and row.right.relative_to(folder))) for row in rows]


def test_mono_takes_every_image_by_path(tmp_path: Path):
    make(tmp_path, "b/2.JPG", "a.png", "b/notes.txt", "b/1.webp")
    rows = input_rows(tmp_path, family="mono")
    assert [row.image.relative_to(tmp_path).as_posix() for row in rows] == ["a.png", "b/1.webp", "b/2.JPG"]
    assert (rows[1].right, rows[1].target, rows[1].mask) == (None, None, None)
    assert rows[1].place == f"{tmp_path}:2"


@pytest.mark.parametrize(
    ("photo", "map_"),
    [("seg_a/f1.color.jpg", "seg_a/f1.depth.png"), ("image/7.png", "groundtruth/7.png"), ("rgb_1.jpg", "sync_depth_1.png")],
)
def test_mono_leaves_depth_maps_beside_photos_out(tmp_path: Path, photo: str, map_: str):
    make(tmp_path, photo, map_)
    assert [row.image for row in input_rows(tmp_path, family="mono")] == [tmp_path / photo]


def test_mono_takes_a_scene_that_is_called_depth(tmp_path: Path):
    make(tmp_path, "depth_test/a.png")
    assert [row.image.name for row in input_rows(tmp_path, family="mono")] == ["a.png"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left/0001.png", "right/0001.png"),
        ("Left/0001.png", "Right/0001.png"),
        ("image_02/data/0001.png", "image_03/data/0001.png"),
        ("training/image_2/0_10.png", "training/image_3/0_10.png"),
        ("Piano/im0.png", "Piano/im1.png"),
        ("Cones/imL.png", "Cones/imR.png"),
        ("Art/view1.png", "Art/view5.png"),
        ("0001_left.jpg", "0001_right.jpg"),
        ("left01.jpg", "right01.jpg"),
        ("000000.left.jpg", "000000.right.jpg"),
        ("0001_L.png", "0001_R.png"),
        ("cam0/7.png", "cam1/7.png"),
        ("left/frame_left_1.png", "right/frame_right_1.png"),
        ("turn_left/left/1.png", "turn_left/right/1.png"),
        ("depth_test/left/1.png", "depth_test/right/1.png"),
    ],
)
def test_stereo_pairs_by_the_usual_names(left: str, right: str, tmp_path: Path):
    make(tmp_path, left, right)
    assert pairs(tmp_path) == [(left, right)]


def test_depth_and_masks_beside_a_pair_are_no_pair(tmp_path: Path):
    make(tmp_path, "1.left.jpg", "1.right.jpg", "1.left.depth.png", "1.right.depth.png", "1.left.seg.png", "1.right.seg.png")
    assert pairs(tmp_path) == [("1.left.jpg", "1.right.jpg")]


def test_a_frame_without_its_right_view_is_named(tmp_path: Path):
    make(tmp_path, "left/1.png", "right/1.png", "left/2.png")
    with pytest.raises(DataError, match=r"1 of 2 left views .* have no right view: left/2.png"):
        input_rows(tmp_path, family="stereo")


def test_no_pair_says_which_names_were_looked_for(tmp_path: Path):
    make(tmp_path, "a.png", "b.png")
    with pytest.raises(DataError, match="no stereo pair among 2 images") as caught:
        input_rows(tmp_path, family="stereo")
    assert "left/right, image_02/image_03" in str(caught.value.hint)


def test_no_image_says_what_is_there(tmp_path: Path):
    make(tmp_path, "a.txt", "b.txt", "c.npy")
    with pytest.raises(DataError, match=r"no image below .*: 3 files \(.txt, .npy\)"):
        input_rows(tmp_path, family="mono")


def test_an_empty_folder(tmp_path: Path):
    with pytest.raises(DataError, match="the folder is empty"):
        input_rows(tmp_path, family="mono")


def test_real_folders(real_data: Path):
    assert len(pairs(real_data / "stereo_kitti2015")) == 4
    assert len(pairs(real_data / "stereo_middlebury_v3q")) == 4
    assert pairs(real_data / "stereo_middlebury_2003") == [("Cones/imL.png", "Cones/imR.png")]
    assert len(pairs(real_data / "stereo_middlebury_2005_2006")) == 14
