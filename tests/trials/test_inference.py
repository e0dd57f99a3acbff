"""Pictures and PFM files of a predictor, with and without ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search_spaces.spec import Spec, spec_from_dict
from tests.trials.small import mono_spec, stereo_spec
from tests.trials.test_evaluate import Five
from trials.data.decoders import read_pfm
from trials.data.sample import SampleSet
from trials.inference import infer, output_names
from trials.pictures import GAP_PX, coloured, side_by_side, value_range


def infer_spec(scenes: SampleSet, *, truth: bool = True, pfm: bool = False, folder: Path | None = None) -> Spec:
    data = stereo_spec(scenes)
    source = dict(data["dataset"]["val_dataset"]["data_sources"][0])
    if not truth:
        assert folder is not None
        rows = Path(source["data_file"]).read_text().splitlines()
        source["data_file"], source["data_root"] = str(folder / "pairs.txt"), str(scenes.folder)
        (folder / "pairs.txt").write_text("\n".join(" ".join(row.split()[:2]) for row in rows) + "\n")
    data["dataset"]["infer_dataset"] = {"data_sources": [source], "workers": 0, "augmentation": {"crop_size": [32, 64]}}
    data["inference"] = {"save_raw_pfm": pfm}
    return spec_from_dict(data)


def test_with_ground_truth_a_picture_has_four_parts(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), infer_spec(scenes), tmp_path)
    assert [path.name for path in written.pictures] == ["left_disp.png"] * 2
    assert len(set(written.pictures)) == 2
    with Image.open(written.pictures[0]) as picture:
        assert (picture.width, picture.height) == (4 * 96 + 3 * GAP_PX, 64)


def test_without_ground_truth_a_picture_has_two_parts(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), infer_spec(scenes, truth=False, folder=tmp_path), tmp_path / "out")
    with Image.open(written.pictures[0]) as picture:
        assert picture.width == 2 * 96 + GAP_PX
    assert written.maps == ()


def test_the_left_part_is_the_input_in_its_own_colours(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), infer_spec(scenes), tmp_path)
    source = scenes.list_file("stereo", "val").read_text().split()[0]
    with Image.open(written.pictures[0]) as picture, Image.open(scenes.folder / source) as image:
        assert np.array_equal(np.asarray(picture)[:, :96], np.asarray(image.convert("RGB")))


def test_maps_are_written_raw_at_the_size_of_the_image(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(fixed_size=(32, 32)), infer_spec(scenes, pfm=True), tmp_path)
    assert [path.suffix for path in written.maps] == [".pfm", ".pfm"]
    values = read_pfm(written.maps[0])
    assert values.shape == (64, 96)
    assert np.allclose(values, 15.0)  # 5 px of 32 columns


def test_depth_pictures_are_named_depth(scenes: SampleSet, tmp_path: Path) -> None:
    data = mono_spec(scenes)
    data["dataset"]["infer_dataset"] = data["dataset"]["val_dataset"]
    written = infer(Five(), spec_from_dict(data), tmp_path)
    assert {path.name for path in written.pictures} == {"left_depth.png"}


def test_relative_pictures_survive_a_constant_map(scenes: SampleSet, tmp_path: Path) -> None:
    data = mono_spec(scenes, relative=True)
    data["dataset"]["infer_dataset"] = data["dataset"]["val_dataset"]
    assert len(infer(Five(), spec_from_dict(data), tmp_path).pictures) == 2


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["/data/a/im0.png", "/data/b/im0.png"], ["a/im0", "b/im0"]),
        (["/data/a/im0.png", "/data/a/im0.jpg", "/data/a/im0.png"], ["im0", "im0_2", "im0_3"]),
        (["/data/only.png"], ["only"]),
    ],
)
def test_output_names_mirror_the_inputs_and_are_unique(inputs: list[str], names: list[str]) -> None:
    assert [str(name) for name in output_names(inputs)] == names


def test_colours_span_the_range_and_invalid_is_black() -> None:
    values = np.array([[0.0, 1.0, np.nan]], np.float32)
    picture = coloured(values, colours="gray", low=0.0, high=1.0)
    assert picture.tolist() == [[[0, 0, 0], [255, 255, 255], [0, 0, 0]]]


def test_a_constant_map_has_one_colour() -> None:
    values = np.full((2, 2), 3.0, np.float32)
    low, high = value_range(values)
    assert len(np.unique(coloured(values, colours="turbo", low=low, high=high).reshape(-1, 3), axis=0)) == 1


def test_a_map_without_a_finite_value_is_black() -> None:
    values = np.full((1, 2), np.inf, np.float32)
    low, high = value_range(values)
    assert not coloured(values, colours="turbo", low=low, high=high).any()


def test_smaller_pictures_are_scaled_to_the_first() -> None:
    row = side_by_side([np.zeros((4, 6, 3), np.uint8), np.zeros((2, 3, 3), np.uint8)])
    assert row.shape == (4, 6 + GAP_PX + 6, 3)
