"""Outputs of a predictor, with and without ground truth: where they lie and what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from search_spaces.errors import DataError, SpecError
from search_spaces.spec import Spec, spec_from_dict
from tests.trials.small import mono_spec, stereo_spec
from tests.trials.test_evaluate import Five
from trials.data.decoders import read_pfm, write_png
from trials.data.sample import SampleSet
from trials.inference import infer
from trials.pictures import GAP_PX, text_size, title_height

TOP = title_height(text_size(64, 96))  # rows above the panels of a sample scene


def infer_spec(
    scenes: SampleSet, *, truth: bool = True, folder: Path | None = None, data: dict[str, Any] | None = None, **keys: Any
) -> Spec:
    data = data or stereo_spec(scenes)
    source = dict(data["dataset"]["val_dataset"]["data_sources"][0])
    if not truth:
        assert folder is not None
        rows = Path(source["data_file"]).read_text().splitlines()
        source["data_file"], source["data_root"] = str(folder / "pairs.txt"), str(scenes.folder)
        (folder / "pairs.txt").write_text("\n".join(" ".join(row.split()[:2]) for row in rows) + "\n")
    data["dataset"]["infer_dataset"] = {**data["dataset"]["val_dataset"], "data_sources": [source]}
    data["inference"] = keys
    return spec_from_dict(data)


def folder_spec(folder: Path, *, family: str = "mono", **inference: Any) -> Spec:
    model_type = "FoundationStereo" if family == "stereo" else "RelativeDepthAnything"
    splits = {"infer_dataset": {"workers": 0, "augmentation": {"crop_size": [32, 64] if family == "stereo" else [28, 42]}}}
    return spec_from_dict(
        {"model": {"model_type": model_type, "encoder": "vitt"}, "dataset": splits, "inference": {"input_dir": str(folder), **inference}}
    )


def listed_spec(folder: Path, *names: str) -> Spec:
    """A relative network and a list of images."""
    (folder / "list.txt").write_text("\n".join(names), encoding="utf-8")
    source = {"data_file": str(folder / "list.txt"), "dataset_name": "RelativeMonoDataset"}
    split = {"data_sources": [source], "workers": 0, "augmentation": {"crop_size": [28, 42]}}
    return spec_from_dict({"model": {"model_type": "RelativeDepthAnything", "encoder": "vitt"}, "dataset": {"infer_dataset": split}})


class Ramp:
    """1 in the left column, growing by 1 with each column."""

    name = "ramp"
    fixed_size = None

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        batch, _, height, width = images[0].shape
        return torch.arange(1.0, width + 1).expand(batch, 1, height, width).contiguous()


def test_with_ground_truth_a_picture_has_four_parts(scenes: SampleSet, tmp_path: Path) -> None:
    pictures = infer(Five(), infer_spec(scenes), tmp_path).files[".png"]
    assert [path.relative_to(tmp_path).as_posix() for path in pictures] == ["scene_0006/left_disp.png", "scene_0007/left_disp.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width == 4 * 96 + 5 * GAP_PX


def test_without_ground_truth_a_picture_has_two_parts(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), infer_spec(scenes, truth=False, folder=tmp_path), tmp_path / "out")
    with Image.open(written.files[".png"][0]) as picture:
        assert picture.width == 2 * 96 + 3 * GAP_PX
    assert set(written.files) == {".png"}


def test_the_left_part_is_the_input_in_its_own_colours(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), infer_spec(scenes), tmp_path)
    source = scenes.list_file("stereo", "val").read_text().split()[0]
    with Image.open(written.files[".png"][0]) as picture, Image.open(scenes.folder / source) as image:
        assert np.array_equal(np.asarray(picture)[TOP : TOP + 64, GAP_PX : GAP_PX + 96], np.asarray(image.convert("RGB")))


def test_raw_maps_lie_beside_the_pictures_at_the_size_of_the_image(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(fixed_size=(64, 32)), infer_spec(scenes, save_raw_pfm=True, save_npy=True), tmp_path)
    assert [path.stem for path in written.files[".pfm"]] == [path.stem for path in written.files[".png"]] == ["left_disp"] * 2
    values = read_pfm(written.files[".pfm"][0])
    assert values.shape == (64, 96)
    assert np.allclose(values, 15.0)  # 5 px of 32 columns
    assert np.array_equal(np.load(written.files[".npy"][0]), values)


def test_files_of_an_earlier_run_are_replaced_and_counted(scenes: SampleSet, tmp_path: Path) -> None:
    spec = infer_spec(scenes, save_npy=True)
    assert infer(Five(), spec, tmp_path).replaced == 0
    assert infer(Five(value=6.0), spec, tmp_path).replaced == 4
    assert np.load(tmp_path / "scene_0006" / "left_disp.npy")[0, 0] == 6.0


def test_depth_pictures_are_named_depth(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), infer_spec(scenes, data=mono_spec(scenes)), tmp_path)
    assert {path.name for path in written.files[".png"]} == {"left_depth.png"}


def test_relative_pictures_survive_a_constant_map(scenes: SampleSet, tmp_path: Path) -> None:
    assert len(infer(Five(), infer_spec(scenes, data=mono_spec(scenes, relative=True)), tmp_path).files[".png"]) == 2


def test_a_prediction_that_is_not_finite_is_drawn_and_named(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(value=float("nan")), infer_spec(scenes), tmp_path)
    assert [path.name for path in written.not_finite] == ["left.png"] * 2
    assert len(written.files[".png"]) == 2


def test_a_folder_needs_no_list(tmp_path: Path) -> None:
    for name in ("a/im0.png", "a/im0.jpg", "b/im0.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (42, 28), (9, 99, 199)).save(tmp_path / "in" / name)
    pictures = infer(Ramp(), folder_spec(tmp_path / "in"), tmp_path / "out").files[".png"]
    assert [path.relative_to(tmp_path / "out").as_posix() for path in pictures] == [
        "a/im0_jpg_disp.png",
        "a/im0_png_disp.png",
        "b/im0_disp.png",
    ]


def test_a_folder_of_pairs(scenes: SampleSet, tmp_path: Path) -> None:
    written = infer(Five(), folder_spec(scenes.folder, family="stereo"), tmp_path)
    assert len(written.files[".png"]) == 9


def test_a_folder_and_lists_together_are_refused(scenes: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"both set") as caught:
        infer(Five(), infer_spec(scenes, input_dir=str(scenes.folder)), tmp_path)
    assert "dataset.infer_dataset.data_sources=[]" in str(caught.value.hint)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"inference\.input_dir is .*nowhere, which is no folder"):
        infer(Five(), folder_spec(tmp_path / "nowhere"), tmp_path)


def test_an_empty_folder_is_a_mistake_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no image below"):
        infer(Five(), folder_spec(tmp_path / "in"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["stereo", "mono"])
def test_sizes_and_kinds_of_images_may_differ(family: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = {
        "grey": generator.integers(0, 256, (40, 50), dtype=np.uint8),
        "tiny": generator.integers(0, 256, (5, 7, 3), dtype=np.uint8),
        "deep": generator.integers(0, 2**16, (33, 65, 3), dtype=np.uint16),
        "alpha": generator.integers(0, 256, (70, 30, 4), dtype=np.uint8),
    }
    for name, image in images.items():
        for side in ("left", "right") if family == "stereo" else ("left",):
            (tmp_path / "in" / side).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "in" / side / f"{name}.png"), image)
    files = infer(Ramp(), folder_spec(tmp_path / "in", family=family, save_npy=True), tmp_path / "out").files
    sizes = {path.name.removesuffix("_disp.npy"): np.load(path).shape for path in files[".npy"]}
    assert sizes == {name: image.shape[:2] for name, image in images.items()}


def test_large_images_are_shown_smaller_and_kept_whole_as_maps(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "large.png", np.zeros((40, 4096, 3), np.uint8))
    files = infer(Ramp(), folder_spec(tmp_path / "in", save_npy=True), tmp_path / "out").files
    with Image.open(files[".png"][0]) as picture:
        assert picture.width == 2 * 2048 + 3 * GAP_PX
    assert np.load(files[".npy"][0]).shape == (40, 4096)


def test_outputs_never_replace_a_file_of_the_list(tmp_path: Path) -> None:
    for name in ("x.png", "x_disp.png"):
        write_png(tmp_path / name, np.zeros((28, 42, 3), np.uint8))
    with pytest.raises(DataError, match=r"x_disp\.png is a file of the list"):
        infer(Ramp(), listed_spec(tmp_path, "x.png", "x_disp.png"), tmp_path)


def test_a_cloud_without_a_camera_is_refused_before_any_work(scenes: SampleSet, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"dataset\.focal_x .* and dataset\.baseline"):
        infer(Five(), infer_spec(scenes, save_ply=True), tmp_path)
    assert not list(tmp_path.iterdir())
