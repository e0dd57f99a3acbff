"""Camera images with measured ground truth: each list is read by the class that fits, and holds what its README says it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from tests.trials.data.build import mono_spec, stereo_spec
from trials.data import build_dataset
from trials.data.annotations import read_annotations
from trials.data.datasets import find_class
from trials.data.decoders import read_png, read_stored
from trials.data.loader import sources_of
from trials.data.preflight import preflight
from trials.data.reading import SampleReader, truth_rule

ROW = re.compile(r"^\| (\S+) \|.*\| (0\.\d+|1\.000) \| ([\d.]+)-([\d.]+) (?:px|m) \|", re.MULTILINE)


@dataclass(frozen=True)
class Listed:
    """A list, the class that reads it, and how many of its units one unit of the README is."""

    name: str
    dataset_name: str
    scale: float | None = None
    max_depth: float = 10.0
    factor: float = 1.0

    @property
    def stereo(self) -> bool:
        return self.name.startswith("stereo")

    def spec(self, root: Path, **values: Any) -> Spec:
        file, source = root / "annotations" / f"{self.name}.txt", {"data_root": str(root)}
        if self.stereo:
            return stereo_spec(
                file, self.dataset_name, source=source, **{"dataset__max_disparity": 128, "model__max_disparity": 128} | values
            )
        relative = find_class(self.dataset_name, family="mono").kind == "relative"
        values = values if relative else {"dataset__max_depth": self.max_depth} | values
        return mono_spec(file, self.dataset_name, source=source | {"depth_scale": self.scale}, relative=relative, **values)


LISTS = [
    Listed("stereo_middlebury_v3q_train", "Middlebury"),
    Listed("stereo_middlebury_v3q_train_nocc", "Middlebury"),
    Listed("stereo_middlebury_v3q_val", "Middlebury"),
    Listed("stereo_middlebury_v3q_val_nocc", "Eth3d"),
    Listed("stereo_middlebury_2005_2006_train", "Kitti"),
    Listed("stereo_middlebury_2005_2006_val", "Kitti"),
    Listed("stereo_middlebury_2003_all", "Kitti"),
    Listed("stereo_kitti2015_train", "Kitti"),
    Listed("stereo_kitti2015_val", "Kitti"),
    Listed("mono_7scenes_redkitchen_train", "MetricMonoDataset", scale=1000),
    Listed("mono_7scenes_redkitchen_val", "NYUDV2"),
    Listed("mono_nyu_all", "NYUDV2"),
    Listed("mono_tum_all", "MetricMonoDataset", scale=5000),
    Listed("mono_kitti_depth_all", "MetricMonoDataset", scale=256, max_depth=90),
    Listed("mono_relative_middlebury_2005_2006_train", "RelativeMonoDataset", factor=3),
    Listed("mono_relative_middlebury_2005_2006_val", "Middlebury", factor=3),
]
every_list = pytest.mark.parametrize("listed", LISTS, ids=[listed.name for listed in LISTS])


@pytest.fixture(scope="module")
def stated(real_data: Path) -> dict[Path, tuple[float, float, float]]:
    """Share, smallest and largest value of each ground-truth file, from the tables of the README."""
    found: dict[Path, tuple[float, float, float]] = {}
    for section in (real_data / "README.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        folder = real_data / section.split(":")[0]
        found |= {folder / name: (float(share), float(low), float(high)) for name, share, low, high in ROW.findall(section)}
    return found


def test_every_list_is_read(real_data: Path) -> None:
    assert {path.stem for path in (real_data / "annotations").iterdir()} == {listed.name for listed in LISTS}


@every_list
def test_files_hold_what_the_readme_says(listed: Listed, real_data: Path, stated: dict[Path, tuple[float, float, float]]) -> None:
    spec = listed.spec(real_data)
    (source,) = sources_of(spec, "val")
    data_class = find_class(listed.dataset_name, family=spec.family)
    reader = SampleReader(data_class=data_class, depth_scale=source.depth_scale, rule=truth_rule(spec, data_class, evaluation=True))
    for row in read_annotations(source, family=spec.family, action="val"):
        assert row.target is not None
        truth = reader.read_truth(row)
        share, low, high = stated[row.target]
        saturated = read_stored(row.target)[1] == 65535  # depth to the README (65.53 m), none to us
        valid = truth.valid | saturated
        known = np.where(saturated, np.float32(65.535), truth.values)[valid] / listed.factor
        if row.mask is not None:
            mask = read_png(row.mask) == 255
            assert valid.mean() == mask.mean() < share
            assert low - 0.01 < known.min() < known.max() < high + 0.01
        else:
            assert (valid.mean(), known.min(), known.max()) == pytest.approx((share, low, high), abs=0.006)


@every_list
def test_the_preflight_has_nothing_against_it(listed: Listed, real_data: Path) -> None:
    (report,) = preflight(listed.spec(real_data), ["val"])
    assert report.warnings == ()
    assert report.warp is None or report.warp.after < 0.4 * report.warp.before


@every_list
def test_it_can_be_trained_on(listed: Listed, real_data: Path) -> None:
    dataset = build_dataset(listed.spec(real_data), "train", training=True)
    for index in range(0, len(dataset), 4):
        item = dataset[index]
        assert bool(item["valid"].any())
        assert bool(torch.isfinite(item["image"]).all())


def test_nyu_and_relative_nyu_agree(real_data: Path) -> None:
    metric, relative = (preflight(Listed("mono_nyu_all", name).spec(real_data), ["val"])[0].values for name in ("NYUDV2", "NYUDV2Relative"))
    assert metric is not None
    assert relative is not None
    assert relative.high == pytest.approx(1 / metric.low)


@pytest.mark.parametrize(
    ("listed", "hint"),
    [
        (Listed("stereo_kitti2015_train", "Middlebury"), "dataset_name Kitti gives 4.742 to 101.2 px"),
        (Listed("stereo_kitti2015_val", "FSD"), "dataset_name Kitti gives"),
        (Listed("stereo_middlebury_2003_all", "Crestereo"), "dataset_name Kitti gives 5.5 to 55 px"),
        (Listed("stereo_middlebury_v3q_val", "Kitti"), "dataset_name Middlebury or Eth3d or GenericDataset"),
        (Listed("mono_7scenes_redkitchen_val", "MetricMonoDataset"), "depth_scale=1000 (millimetres"),
        (Listed("mono_nyu_all", "MetricMonoDataset"), "NYU, whose own class is NYUDV2) for 0.713 to 9.82 m"),
        (Listed("mono_nyu_all", "RelativeMonoDataset"), "millimetre depth is read by NYUDV2Relative"),
        (Listed("mono_tum_all", "MetricMonoDataset"), "depth_scale=5000 (1/5000 m, as TUM RGB-D) for 0.724 to 3.2 m"),
        (
            Listed("mono_kitti_depth_all", "MetricMonoDataset", max_depth=90),
            "depth_scale=256 (1/256 m, as KITTI depth) for 5.13 to 80.8 m",
        ),
    ],
    ids=lambda value: f"{value.name}-{value.dataset_name}" if isinstance(value, Listed) else "",
)
def test_the_wrong_class_is_refused_with_the_one_that_fits(listed: Listed, hint: str, real_data: Path) -> None:
    with pytest.raises(DataError) as error:
        preflight(listed.spec(real_data), ["val"])
    assert hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("name", "scaled", "factor", "pixels"),
    [("2005_2006_val", "disp1", 3, "14.33 to 70.33 px"), ("2003_all", "disp2", 4, "5.5 to 55 px")],
)
def test_the_factor_of_an_eight_bit_png_is_found(real_data: Path, tmp_path: Path, name: str, scaled: str, factor: int, pixels: str) -> None:
    text = (real_data / "annotations" / f"stereo_middlebury_{name}.txt").read_text()
    (tmp_path / "list.txt").write_text(text.replace(f"{scaled}_kitti16", scaled))
    with pytest.raises(DataError, match="found 8-bit grey PNG with values 0 to ") as error:
        preflight(stereo_spec(tmp_path / "list.txt", "Middlebury", source={"data_root": str(real_data)}), ["val"])
    assert f"value / {factor}, written as PFM or (x 256) as 16-bit PNG for Kitti, gives {pixels}" in str(error.value.hint)
