"""Camera images with measured ground truth: every list decodes, and ranges are those worked out independently."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.spec import Spec, with_values
from tests.trials.data.build import mono_spec, stereo_spec
from trials.data import build_dataset
from trials.data.preflight import SourceReport, preflight


def stereo(root: Path, name: str, dataset_name: str) -> Spec:
    spec = stereo_spec(root / "annotations" / f"{name}.txt", dataset_name, source={"data_root": str(root)})
    return with_values(spec, {"dataset.max_disparity": 128})


def mono(root: Path, name: str, dataset_name: str, *, scale: float | None = None, relative: bool = False, max_depth: float = 10.0) -> Spec:
    source = {"data_root": str(root)} | ({} if scale is None else {"depth_scale": scale})
    more = {} if relative else {"dataset__max_depth": max_depth}
    return mono_spec(root / "annotations" / f"{name}.txt", dataset_name, source=source, relative=relative, **more)


def report(spec: Spec) -> SourceReport:
    (found,) = preflight(spec, ["val"])
    return found


def seen(found: SourceReport) -> tuple[float, float, float]:
    assert found.values is not None
    assert found.valid_share is not None
    return round(found.values.low, 2), round(found.values.high, 2), round(found.valid_share, 3)


@pytest.mark.parametrize(
    ("name", "dataset_name", "expected"),
    [
        ("stereo_kitti2015_val", "Kitti", (4.63, 77.07, 0.196)),
        ("stereo_middlebury_2003_all", "Kitti", (5.5, 55.0, 0.968)),
        ("stereo_middlebury_v3q_val", "Middlebury", (9.34, 55.85, 0.983)),
        ("stereo_middlebury_v3q_val_nocc", "Middlebury", (9.34, 55.85, 0.908)),
    ],
)
def test_stereo_ranges(real_data: Path, name: str, dataset_name: str, expected: tuple[float, float, float]) -> None:
    found = report(stereo(real_data, name, dataset_name))
    assert seen(found) == pytest.approx(expected, abs=0.011)
    assert found.warp is not None
    assert found.warp.after < 0.4 * found.warp.before
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("name", "scale", "max_depth", "expected"),
    [("mono_tum_all", 5000.0, 10.0, (0.72, 3.20, 0.809)), ("mono_kitti_depth_all", 256.0, 90.0, (5.13, 80.81, 0.183))],
)
def test_metric_ranges(real_data: Path, name: str, scale: float, max_depth: float, expected: tuple[float, float, float]) -> None:
    found = report(mono(real_data, name, "MetricMonoDataset", scale=scale, max_depth=max_depth))
    assert seen(found) == pytest.approx(expected, abs=0.011)


def test_nyu_and_relative_nyu_agree(real_data: Path) -> None:
    metric = report(mono(real_data, "mono_nyu_all", "NYUDV2")).values
    relative = report(mono(real_data, "mono_nyu_all", "NYUDV2Relative", relative=True)).values
    assert metric is not None
    assert relative is not None
    assert relative.high == pytest.approx(1 / metric.low)


STEREO_LISTS = {
    "stereo_middlebury_2005_2006": "Kitti",
    "stereo_middlebury_v3q": "Middlebury",
    "stereo_kitti2015": "Kitti",
}


@pytest.mark.parametrize("name", sorted(STEREO_LISTS))
@pytest.mark.parametrize("split", ["train", "val"])
def test_every_stereo_row_becomes_an_item(real_data: Path, name: str, split: str) -> None:
    dataset = build_dataset(stereo(real_data, f"{name}_{split}", STEREO_LISTS[name]), split, training=split == "train")
    for index in range(len(dataset)):
        assert bool(dataset[index]["valid"].any())


def test_seven_scenes_train_as_millimetres(real_data: Path) -> None:
    dataset = build_dataset(mono(real_data, "mono_7scenes_redkitchen_train", "MetricMonoDataset", scale=1000.0), "train", training=True)
    assert len(dataset) == 32
    for index in range(0, 32, 4):
        item = dataset[index]
        kept = item["target"][item["valid"]]
        assert 0.5 < kept.min() < kept.max() < 10.0


def test_relative_middlebury(real_data: Path) -> None:
    dataset = build_dataset(
        mono(real_data, "mono_relative_middlebury_2005_2006_val", "RelativeMonoDataset", relative=True), "val", training=False
    )
    shares = [float(dataset[index]["valid"].float().mean()) for index in range(len(dataset))]
    assert min(shares) > 0.9
