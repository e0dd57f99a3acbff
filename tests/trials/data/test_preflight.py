"""The check of data sources before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from tests.trials.data.build import mono_spec, stereo_spec, write_pair
from trials.data.decoders import read_pfm, write_pfm, write_png
from trials.data.looking import spread
from trials.data.preflight import SourceReport, preflight
from trials.data.sample import SampleSet


def only(spec: Spec, split: str = "val") -> SourceReport:
    (report,) = preflight(spec, [split])
    return report


def depth_list(folder: Path, values: list[int], size: tuple[int, int] = (60, 90)) -> Path:
    depth = np.resize(np.array(values, np.uint16), size)
    write_png(folder / "i.png", np.zeros((*size, 3), np.uint8))
    write_png(folder / "d.png", depth)
    (folder / "list.txt").write_text("i.png d.png\n")
    return folder / "list.txt"


def test_a_good_source_is_described(scenes: SampleSet) -> None:
    report = only(stereo_spec(scenes.list_file("stereo", "train")), "train")
    assert (report.rows, report.checked, report.sizes, report.unit) == (3, 3, ((96, 128),), "px")
    assert report.valid_share == 1.0
    assert report.values is not None
    assert 0 < report.values.low < report.values.median < report.values.high < 32
    assert report.warnings == ()
    assert "3 samples; 128x96;" in report.describe()
    assert "(the list's own folder)" in report.describe()


def test_a_true_disparity_explains_the_views(scenes: SampleSet) -> None:
    before, after = only(stereo_spec(scenes.list_file("nocc", "train"))).warp or (0.0, 0.0)
    assert after < 0.2 * before


def test_swapped_views_are_noticed(scenes: SampleSet, tmp_path: Path) -> None:
    lines = [line.split() for line in scenes.list_file("stereo", "train").read_text().splitlines()]
    (tmp_path / "list.txt").write_text("\n".join(f"{right} {left} {disparity}" for left, right, disparity in lines))
    report = only(stereo_spec(tmp_path / "list.txt", source={"data_root": str(scenes.folder)}))
    assert any("left and right swapped" in warning for warning in report.warnings)


def test_a_picture_in_the_place_of_a_mask_is_named(scenes: SampleSet, tmp_path: Path) -> None:
    line = scenes.list_file("stereo", "train").read_text().splitlines()[0].split()
    (tmp_path / "list.txt").write_text(" ".join([*line, line[0]]))
    with pytest.raises(DataError, match=rf"because the mask \S+{line[0]} is 255 at 0\.\d+% of its pixels"):
        only(stereo_spec(tmp_path / "list.txt", source={"data_root": str(scenes.folder), "dataset_name": "Middlebury"}))


@pytest.mark.parametrize(("values", "scale"), [([801, 1772, 3493], 1000), ([3619, 6986, 16014], 5000)])
def test_raw_png_as_metres_is_refused_with_the_scale_that_fits(tmp_path: Path, values: list[int], scale: int) -> None:
    with pytest.raises(DataError, match=rf"observed: 16-bit grey PNG read as {values[0]} to {values[2]} m") as error:
        only(mono_spec(depth_list(tmp_path, values), "MetricMonoDataset"))
    assert f"raw PNG values: set dataset.val_dataset.data_sources[0].depth_scale={scale} (" in str(error.value.hint)


def test_the_range_decides_between_scales(tmp_path: Path) -> None:
    file = depth_list(tmp_path, [1313, 8000, 20687])
    with pytest.raises(DataError) as error:
        only(mono_spec(file, "MetricMonoDataset", dataset__max_depth=90.0))
    first, second, _ = str(error.value.hint).split(", or ")
    assert first.endswith("depth_scale=256 (1/256 m, as KITTI depth) for 5.13 to 80.8 m")
    assert second == "1000 (millimetres, as 7-Scenes and NYU, whose own class is NYUDV2) for 1.31 to 20.7 m"


def test_the_scale_mends_it(tmp_path: Path) -> None:
    report = only(mono_spec(depth_list(tmp_path, [801, 1772, 3493]), "MetricMonoDataset", source={"depth_scale": 1000.0}))
    assert report.values is not None
    assert (report.values.low, report.values.high, report.unit) == (pytest.approx(0.801), pytest.approx(3.493), "m")
    assert report.warnings == ()


def test_raw_png_within_a_wide_range_is_a_warning(tmp_path: Path) -> None:
    report = only(mono_spec(depth_list(tmp_path, [801, 1772, 3493]), "MetricMonoDataset", dataset__max_depth=10000.0))
    assert any("are read as metres" in warning for warning in report.warnings)


def test_data_beyond_max_depth_is_a_warning(tmp_path: Path) -> None:
    spec = mono_spec(depth_list(tmp_path, [5000, 15000]), "MetricMonoDataset", source={"depth_scale": 1000.0})
    assert any("50.0% of the ground truth is beyond dataset.max_depth = 10" in warning for warning in only(spec).warnings)


def test_data_not_above_min_depth_is_a_warning(tmp_path: Path) -> None:
    spec = mono_spec(depth_list(tmp_path, [500, 5000]), "NYUDV2", dataset__min_depth=1.0)
    assert any("50.0% of the ground truth is not above dataset.min_depth = 1" in warning for warning in only(spec, "train").warnings)


def test_a_limit_far_beyond_the_data_is_a_warning(tmp_path: Path) -> None:
    spec = mono_spec(depth_list(tmp_path, [500, 5000]), "NYUDV2", dataset__max_depth=80.0)
    assert any("is below 5 m, dataset.max_depth is 80" in warning for warning in only(spec, "train").warnings)


def test_whole_metres_are_a_warning(tmp_path: Path) -> None:
    report = only(mono_spec(depth_list(tmp_path, [1, 4, 9]), "MetricMonoDataset"))
    assert report.warnings == ("PNG values are whole metres without depth_scale",)


def test_millimetres_in_pfm_are_refused_as_such(tmp_path: Path) -> None:
    depth_list(tmp_path, [1])
    write_pfm(tmp_path / "d.pfm", np.full((60, 90), 2500, np.float32))
    (tmp_path / "list.txt").write_text("i.png d.pfm\n")
    with pytest.raises(DataError, match="PFM read as 2500 to 2500 m") as error:
        only(mono_spec(tmp_path / "list.txt", "MetricMonoDataset"))
    assert "divide by 1000" in str(error.value.hint)


def test_raw_depth_as_relative_target_is_a_warning(tmp_path: Path) -> None:
    report = only(mono_spec(depth_list(tmp_path, [801, 900]), "RelativeMonoDataset", relative=True))
    assert any("looks like raw depth" in warning for warning in report.warnings)


def test_ground_truth_without_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="observed: 16-bit grey PNG without a value above 0: it holds 0 to 0"):
        only(mono_spec(depth_list(tmp_path, [0]), "NYUDV2"))


def test_disparity_out_of_range_is_refused(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    write_pfm(tmp_path / "disparity.pfm", np.full((80, 120), 300, np.float32))
    with pytest.raises(DataError, match=r"0\.00% .* \(0 < value < 64 px\)") as error:
        only(stereo_spec(file))
    assert "model.max_disparity=320 would take 99 % of it" in str(error.value.hint)


def test_disparity_partly_out_of_range_is_a_warning(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    write_pfm(tmp_path / "disparity.pfm", np.repeat(np.array([[5.0], [70.0]], np.float32), 40, axis=0) + np.zeros((1, 120), np.float32))
    says = "50.0% of the ground truth is beyond dataset.max_disparity = 64; 99 % of it is below 70; model.max_disparity=96 would take 99 %"
    assert any(says in warning for warning in only(stereo_spec(file)).warnings)


def test_negative_disparity_is_refused_as_such(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    write_pfm(tmp_path / "disparity.pfm", np.full((80, 120), -5, np.float32))
    with pytest.raises(DataError, match="PFM without a value above 0: it holds -5 to -5") as error:
        only(stereo_spec(file))
    assert "without their sign" in str(error.value.hint)


def rewritten(scenes: SampleSet, folder: Path, factor: float, kind: type[np.generic]) -> Path:
    """The list of the training scenes with their disparity x factor as PNG."""
    lines = []
    for number, line in enumerate(scenes.list_file("stereo", "train").read_text().splitlines()):
        left, right, disparity = (scenes.folder / name for name in line.split())
        stored = np.rint(read_pfm(disparity) * factor).astype(kind)
        write_png(folder / f"{number}.png", stored)  # type: ignore[arg-type]
        lines.append(f"{left} {right} {folder / f'{number}.png'}")
    (folder / "list.txt").write_text("\n".join(lines))
    return folder / "list.txt"


@pytest.mark.parametrize(
    ("name", "factor", "kind", "found", "hint"),
    [
        ("Middlebury", 256, np.uint16, "found 16-bit grey PNG with values", "dataset_name Kitti gives"),
        ("GenericDataset", 32, np.uint16, "found 16-bit grey PNG with values", "dataset_name Crestereo gives"),
        ("Crestereo", 256, np.uint16, "0.00% of the ground truth of Crestereo counts (0 < value < 32 px)", "dataset_name Kitti gives"),
        ("FSD", 3, np.uint8, "found 8-bit grey PNG with values", "value / 3, written as PFM or (x 256) as 16-bit PNG for Kitti, gives"),
        ("Kitti", 4, np.uint8, "found 8-bit grey PNG with values", "value / 4, written as PFM or (x 256) as 16-bit PNG for Kitti, gives"),
    ],
)
def test_another_encoding_is_refused_with_the_class_that_explains_the_views(
    scenes: SampleSet, tmp_path: Path, name: str, factor: float, kind: type[np.generic], found: str, hint: str
) -> None:
    with pytest.raises(DataError) as error:
        only(stereo_spec(rewritten(scenes, tmp_path, factor, kind), name, dataset__max_disparity=32))
    assert found in error.value.message
    assert hint in str(error.value.hint)


@pytest.mark.parametrize(("name", "factor", "other"), [("Kitti", 32, "Crestereo"), ("Crestereo", 256, "Kitti")])
def test_a_wrong_unit_within_the_limits_is_a_warning_with_the_class_that_fits(
    scenes: SampleSet, tmp_path: Path, name: str, factor: float, other: str
) -> None:
    (warning,) = [line for line in only(stereo_spec(rewritten(scenes, tmp_path, factor, np.uint16), name)).warnings if "views" in line]
    assert warning.startswith(f"{name} does not explain the views (")
    assert f"dataset_name {other} gives" in warning


def test_disparity_of_another_size_is_refused(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    write_pfm(tmp_path / "disparity.pfm", np.full((40, 60), 5, np.float32))
    with pytest.raises(DataError, match=r"disparity and image differ in size: 60x40 .* 120x80"):
        only(stereo_spec(file))


def test_an_image_smaller_than_the_crop_is_a_warning(tmp_path: Path) -> None:
    report = only(stereo_spec(write_pair(tmp_path, height=40, width=120)), "train")
    assert "1 of 1 images are smaller than crop_size 96x64 (width x height) and will be padded" in report.warnings


def test_crops_that_no_draw_can_find_are_counted(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    disparity = np.full((80, 120), np.inf, np.float32)
    disparity[8:40, 10:58] = 5  # a quarter of a crop of 64x96
    write_pfm(tmp_path / "disparity.pfm", disparity)
    ratio = "dataset__train_dataset__augmentation__crop_min_valid_disp_ratio"
    assert only(stereo_spec(file, **{ratio: 0.25}), "train").warnings == ()
    (warning,) = only(stereo_spec(file, **{ratio: 0.26}), "train").warnings
    assert warning.startswith("1 of 1 images have no crop with 0.26 of ground truth (crop_min_valid_disp_ratio), the poorest at most 0.25")


def test_fewer_samples_than_a_batch_are_refused(scenes: SampleSet) -> None:
    spec = stereo_spec(scenes.list_file("stereo", "train"), dataset__train_dataset__batch_size=4)
    with pytest.raises(DataError, match=r"dataset size \(3\) is smaller than the total batch size \(4\).*stereo_train.txt"):
        only(spec, "train")


def test_images_in_two_splits_are_a_warning(scenes: SampleSet) -> None:
    _, val = preflight(stereo_spec(scenes.list_file("stereo", "train")), ["train", "val"])
    assert "3 of 3 images are also in train: val figures will be too good" in val.warnings


def test_center_crop_needs_ground_truth_of_the_images_size(tmp_path: Path) -> None:
    file = depth_list(tmp_path, [2500])
    write_png(tmp_path / "i.png", np.zeros((120, 180, 3), np.uint8))
    with pytest.raises(DataError, match=r"center_crop needs ground truth .* got \(60, 90\) for \(120, 180\)"):
        only(mono_spec(file, "NYUDV2", dataset__val_dataset__augmentation__evaluation="center_crop"))


def test_an_unknown_class_names_its_source(scenes: SampleSet) -> None:
    with pytest.raises(DataError, match=r"dataset\.val_dataset\.data_sources\[0\]: unknown dataset_name Middlebry"):
        only(stereo_spec(scenes.list_file("stereo", "train"), "Middlebry"))


def test_long_lists_are_sampled_evenly() -> None:
    assert spread(list(range(101)), 5) == [0, 25, 50, 75, 100]  # type: ignore[arg-type, comparison-overlap]
