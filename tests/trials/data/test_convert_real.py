"""Every real folder that has convert patterns gives the rows of the lists that came with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_spaces.spec.convert import Convert
from trials.data.annotations import read_lines
from trials.data.convert import convert


def keys(image: str, right: str, depth: str, nocc: str = "", *, ending: str | None = ".png", truth: str | None = ".png") -> dict[str, Any]:
    patterns = {"image": image, "right": right, "depth": depth, "nocc": nocc}
    found = {f"{name}_dir_pattern": (text,) for name, text in patterns.items() if text}
    return {**found, "image_extension": ending, "depth_extension": truth}


MIDDLEBURY_V3 = keys("im0", "im1", "disp0GT", truth=".pfm")
FOLDERS = [
    ("stereo_middlebury_v3q", MIDDLEBURY_V3, "stereo_middlebury_v3q_{}"),
    ("stereo_middlebury_v3q", {**MIDDLEBURY_V3, "nocc_dir_pattern": ("mask0nocc",)}, "stereo_middlebury_v3q_{}_nocc"),
    ("stereo_middlebury_2005_2006", keys("view1", "view5", "disp1_kitti16"), "stereo_middlebury_2005_2006_{}"),
    ("stereo_middlebury_2005_2006", keys("view1", "", "disp1"), "mono_relative_middlebury_2005_2006_{}"),
    ("stereo_middlebury_2003", keys("imL", "imR", "disp2_kitti16"), "stereo_middlebury_2003_{}"),
    ("stereo_kitti2015", keys("image_2", "image_3", "disp_noc_0"), "stereo_kitti2015_{}"),
    ("mono_7scenes_redkitchen", keys(".color", "", ".depth", ending=".jpg"), "mono_7scenes_redkitchen_{}"),
    ("mono_nyu", keys("rgb_", "", "sync_depth_", ending=None), "mono_nyu_{}"),
    ("mono_tum", keys("rgb", "", "depth"), "mono_tum_{}"),
    ("mono_kitti_depth", keys("/image/", "", "/groundtruth/"), "mono_kitti_depth_{}"),
]


def given(annotations: Path, name: str) -> set[tuple[str, ...]]:
    """The rows of the lists that came with a folder, train and val together."""
    lists = [path for path in (annotations / f"{name.format(split)}.txt" for split in ("train", "val", "all")) if path.is_file()]
    return {line.fields for path in lists for line in read_lines(path)}


@pytest.mark.parametrize(("folder", "patterns", "lists"), FOLDERS, ids=[lists.format("lists") for _, _, lists in FOLDERS])
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_convert_finds_the_given_rows(real_data: Path, tmp_path: Path, folder: str, patterns: dict[str, Any], lists: str, ratio: float):
    expected = given(real_data / "annotations", lists)
    if ratio and len(expected) == 1:
        ratio = 0.0
    spec = Convert(data_root=str(real_data / folder), results_dir=str(tmp_path), split_ratio=ratio, **patterns)
    done = convert(spec, report=lambda *_: None)
    found = [line.fields for path, _ in done.lists for line in read_lines(path)]
    assert {tuple(Path(field).relative_to(real_data).as_posix() for field in fields) for fields in found} == expected
    assert len(found) == len(expected)
