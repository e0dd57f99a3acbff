"""One contract for every data class: files in its encoding become the values and the mask worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from tests.trials.data.build import mono_spec, stereo_spec
from tests.trials.data.encodings import Rows, write_pfm_bytes, write_png_bytes
from trials.data import Item, build_dataset
from trials.data.datasets import CLASSES, find_class

NONE = 0.0  # expected where there is no ground truth, or where it does not count
MAX_DISPARITY = 128  # metric depth counts between 0.001 and 10 m
CODED = [[(1, 2, 3), (0, 0, 0), (0, 40, 0)], [(0, 0, 250), (1, 0, 1), (15, 100, 0)]]
CODED_PX = [[65.538, NONE, 10.2], [0.25, 65.026, NONE]]  # (65025 + 510 + 3) / 1000 first, 1000.875 last
FLOATS = [[2.5, inf, -1.0], [nan, 0.0, 40.0]]
FLOATS_PX = [[2.5, NONE, NONE], [NONE, NONE, 40.0]]


@dataclass(frozen=True)
class Case:
    """A class, a file of it, and what comes out; `depth_scale` for the class that takes one."""

    key: str
    file: str
    write: Callable[[Path], None]
    expected: Rows
    depth_scale: float | None = None

    @property
    def family(self) -> str:
        return self.key.split("/")[0]

    @property
    def name(self) -> str:
        return self.key.split("/")[1]


def png16(*rows: list[int]) -> Callable[[Path], None]:
    return partial(write_png_bytes, rows=rows, bits=16)


def png8(*rows: list[int]) -> Callable[[Path], None]:
    return partial(write_png_bytes, rows=rows, bits=8)


def pfm(rows: Rows, *, top_first: bool = False) -> Callable[[Path], None]:
    return partial(write_pfm_bytes, rows=rows, top_first=top_first)


def npy(rows: Rows) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:  # numpy.save would add .npy to the name
            np.save(file, np.array(rows, np.float32))

    return write


coded = partial(write_png_bytes, rows=CODED, bits=8)
CODED_CLASSES = ("Middlebury", "Eth3d", "GenericDataset", "FSD", "IsaacRealDataset")
CASES = [
    *(Case(f"stereo/{name}", "d.png", coded, CODED_PX) for name in CODED_CLASSES),
    *(Case(f"stereo/{name}", "d.pfm", pfm(FLOATS), FLOATS_PX) for name in CODED_CLASSES),
    Case("stereo/Kitti", "d.png", png16([2560, 0, 256], [64, 32767, 32768]), [[10.0, NONE, 1.0], [0.25, 127.99609375, NONE]]),
    Case("stereo/Crestereo", "d.png", png16([320, 0, 16], [32, 4095, 4096]), [[10.0, NONE, 0.5], [1.0, 127.96875, NONE]]),
    Case("mono/RelativeMonoDataset", "d.png", png16([200, 0, 3], [999, 1000, 1]), [[200, NONE, 3], [999, NONE, 1]]),
    Case("mono/RelativeMonoDataset", "d.png", png8([200, 0, 3], [255, 7, 1]), [[200, NONE, 3], [255, 7, 1]]),
    Case("mono/RelativeMonoDataset", "d.pfm", pfm(FLOATS), FLOATS_PX),
    Case("mono/MetricMonoDataset", "d.pfm", pfm([[2.5, inf, -1.0], [nan, 10.0, 9.75]]), [[2.5, NONE, NONE], [NONE, NONE, 9.75]]),
    Case("mono/MetricMonoDataset", "d.png", png16([3, 0, 9], [10, 1, 2]), [[3, NONE, 9], [NONE, 1, 2]]),
    Case("mono/MetricMonoDataset", "d.png", png16([5000, 0, 2500], [50000, 5, 16250]), [[1, NONE, 0.5], [NONE, NONE, 3.25]], 5000.0),
    Case("mono/NYUDV2", "d.png", png16([2500, 0, 800], [10000, 9999, 2]), [[2.5, NONE, 0.8], [NONE, 9.999, 0.002]]),
    Case("mono/NYUDV2Relative", "d.png", png16([2500, 0, 800], [10000, 8000, 2]), [[0.4, NONE, 1.25], [NONE, 0.125, 500]]),
    Case("mono/FSD", "d.png", coded, CODED_PX),
    Case("mono/Crestereo", "d.png", png16([320, 0, 16], [32, 31999, 32000]), [[10.0, NONE, 0.5], [1.0, 999.96875, NONE]]),
    Case("mono/IssacStereo", "d.pfm", pfm(FLOATS), FLOATS_PX),
    Case("mono/NvCLIP", "d.pfm", pfm(FLOATS, top_first=True), FLOATS_PX),
    Case("mono/Middlebury", "d.pfm", pfm(FLOATS), FLOATS_PX),
    Case("mono/Middlebury", "d.png", png8([75, 0, 224], [1, 2, 3]), [[75, NONE, 224], [1, 2, 3]]),
    Case("mono/ThreeDVLM", "d.npy", npy([[0.002, 0.0, nan], [0.25, -1.0, 1e-7]]), [[0.5, NONE, NONE], [0.004, NONE, NONE]]),
]


def spec_for(case: Case, folder: Path, *, name: str | None = None, file: str | None = None) -> Spec:
    """A spec with one sample, whose ground truth is the case's file."""
    case.write(folder / (file or case.file))
    for view in ("left.png", "right.png"):
        write_png_bytes(folder / view, [[(9, 8, 7)] * 3] * 2, bits=8)
    columns = ["left.png", "right.png", file or case.file]
    (folder / "list.txt").write_text(" ".join(columns) + "\n")
    source = {"depth_scale": case.depth_scale}
    if case.family == "stereo":
        return stereo_spec(folder / "list.txt", name or case.name, dataset__max_disparity=MAX_DISPARITY, model__max_disparity=MAX_DISPARITY)
    relative = find_class(case.name, family="mono").kind == "relative"
    return mono_spec(folder / "list.txt", name or case.name, source=source, relative=relative)


def only_item(spec: Spec) -> Item:
    dataset = build_dataset(spec, "val", training=False)
    assert len(dataset) == 1
    return dataset[0]


def test_every_class_has_a_case() -> None:
    assert {f"{data_class.family}/{data_class.name}" for data_class in CLASSES} == {case.key for case in CASES}
    assert [sum(data_class.family == family for data_class in CLASSES) for family in ("stereo", "mono")] == [7, 10]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.key}-{case.file}" for case in CASES])
class TestDataClass:
    """What every data class promises: values in its unit at the right place; a mask where they count; zero elsewhere."""

    def test_values(self, case: Case, tmp_path: Path) -> None:
        np.testing.assert_allclose(only_item(spec_for(case, tmp_path))["target"][0], case.expected, rtol=1e-6)

    def test_mask(self, case: Case, tmp_path: Path) -> None:
        np.testing.assert_array_equal(only_item(spec_for(case, tmp_path))["valid"][0], np.array(case.expected) != NONE)

    def test_name_and_ending_in_any_case(self, case: Case, tmp_path: Path) -> None:
        item = only_item(spec_for(case, tmp_path, name=case.name.swapcase(), file=case.file.upper()))
        np.testing.assert_allclose(item["target"][0], case.expected, rtol=1e-6)

    def test_other_forms_are_refused_with_what_was_found(self, case: Case, tmp_path: Path) -> None:
        write_png_bytes(tmp_path / "d.png", [[(1, 2, 3), (500, 0, 65535)]], bits=16)
        with pytest.raises(DataError, match=rf"{case.name} cannot read .*: found 16-bit colour PNG with values 0 to 65535, expected "):
            find_class(case.name, family=case.family).read(tmp_path / "d.png")

    def test_other_endings_are_refused(self, case: Case, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"d\.exr is no ground truth: its ending must be \.pfm, \.png or \.npy"):
            find_class(case.name, family=case.family).read(tmp_path / "d.exr")


def test_depth_scale_leaves_pfm_alone(tmp_path: Path) -> None:
    write_pfm_bytes(tmp_path / "d.pfm", FLOATS)
    truth = find_class("MetricMonoDataset", family="mono").read(tmp_path / "d.pfm", 5000.0)
    np.testing.assert_allclose(truth.values, FLOATS_PX)  # a PFM is in metres whatever depth_scale says


@pytest.mark.parametrize(
    ("key", "write", "found", "hint"),
    [
        ("stereo/Middlebury", png16([2560, 16]), "16-bit grey PNG with values 16 to 2560", "Kitti (16-bit PNG, value / 256 px)"),
        ("stereo/Middlebury", png8([25, 224]), "8-bit grey PNG with values 25 to 224", "8-bit files hold scaled values"),
        ("stereo/Kitti", png8([25, 224]), "8-bit grey PNG with values 25 to 224", "8-bit files hold scaled values"),
        ("stereo/Kitti", coded, "8-bit colour PNG with values 0 to 250", "or GenericDataset (PFM, or 8-bit RGB PNG"),
        ("mono/NYUDV2", coded, "8-bit colour PNG with values 0 to 250", "check the order of the columns"),
        (
            "mono/NYUDV2",
            png8([25, 224]),
            "8-bit grey PNG with values 25 to 224",
            "MetricMonoDataset (PFM in metres, or grey PNG / depth_scale)",
        ),
        ("mono/IssacStereo", png16([801, 3493]), "16-bit grey PNG with values 801 to 3493", "NYUDV2Relative (16-bit PNG in millimetres"),
    ],
)
def test_a_file_of_another_class_names_the_class(tmp_path: Path, key: str, write: Callable[[Path], None], found: str, hint: str) -> None:
    write(tmp_path / "d.png")
    family, name = key.split("/")
    with pytest.raises(DataError) as error:
        find_class(name, family=family).read(tmp_path / "d.png")
    assert found in error.value.message
    assert hint in str(error.value.hint)


def test_metre_pfm_as_nyu_names_the_metric_class(tmp_path: Path) -> None:
    write_pfm_bytes(tmp_path / "d.pfm", [[2.5, inf, 4.0]])
    with pytest.raises(DataError, match=r"NYUDV2 cannot read .*: found PFM with values 2\.5 to 4") as error:
        find_class("NYUDV2", family="mono").read(tmp_path / "d.pfm")
    assert error.value.hint == "PFM is read by dataset_name MetricMonoDataset (PFM in metres, or grey PNG / depth_scale)"


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(DataError, match="unknown dataset_name Midlebury") as error:
        find_class("Midlebury", family="stereo")
    assert "did you mean Middlebury?" in str(error.value.hint)


def test_a_class_of_the_other_family_is_said_to_be_one() -> None:
    with pytest.raises(DataError, match="NYUDV2 is a mono class"):
        find_class("NYUDV2", family="stereo")
    with pytest.raises(DataError, match="Kitti is a stereo class") as error:
        find_class("Kitti", family="mono")
    assert str(error.value.hint).endswith("a stereo network is model.model_type=FoundationStereo")
