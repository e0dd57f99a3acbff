"""Every data class against one file worked out by hand: units and mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search_spaces.errors import DataError
from trials.data.datasets import CLASSES, DataClass, find_class
from trials.data.decoders import write_pfm, write_png

Case = tuple[str, str, Callable[[Path], None], list[float]]
RGB = np.array([[[1, 2, 3], [0, 0, 0], [0, 40, 0]]], np.uint8)
CODED = [65.538, 0.0, 10.2]  # (R 255^2 + G 255 + B) / 1000; zero is no ground truth
FLOATS = np.array([[2.5, np.inf, -1.0]], np.float32)


def png(values: list[int]) -> Callable[[Path], None]:
    return lambda path: write_png(path, np.array([values], np.uint16))


def pfm(path: Path) -> None:
    write_pfm(path, FLOATS)


def upright(path: Path) -> None:
    path.write_bytes(b"Pf\n1 3\n-1\n" + FLOATS.tobytes())


def npy(path: Path) -> None:
    np.save(path, np.array([[0.002, 0.0, np.nan]], np.float32))


CASES: list[Case] = [
    *((f"stereo/{name}", "d.png", lambda path: write_png(path, RGB), CODED) for name in ("Middlebury", "Eth3d", "GenericDataset", "FSD")),
    ("stereo/IsaacRealDataset", "d.PFM", pfm, [2.5, 0, 0]),
    ("stereo/Kitti", "d.png", png([2560, 0, 65535]), [10.0, 0, 0]),
    ("stereo/Crestereo", "d.png", png([320, 0, 16]), [10.0, 0, 0.5]),
    ("mono/RelativeMonoDataset", "d.png", png([200, 0, 3]), [200.0, 0, 3.0]),
    ("mono/MetricMonoDataset", "d.pfm", pfm, [2.5, 0, 0]),
    ("mono/NYUDV2", "d.png", png([2500, 0, 800]), [2.5, 0, 0.8]),
    ("mono/NYUDV2Relative", "d.png", png([2500, 0, 10000]), [0.4, 0, 0]),
    ("mono/FSD", "d.png", lambda path: write_png(path, RGB), CODED),
    ("mono/Crestereo", "d.png", png([320, 0, 16]), [10.0, 0, 0.5]),
    ("mono/IssacStereo", "d.pfm", pfm, [2.5, 0, 0]),
    ("mono/NvCLIP", "d.pfm", upright, [2.5, 0, 0]),
    ("mono/Middlebury", "d.pfm", pfm, [2.5, 0, 0]),
    ("mono/ThreeDVLM", "d.npy", npy, [0.5, 0, 0]),
]


def test_every_class_has_a_case() -> None:
    assert sorted(f"{data_class.family}/{data_class.name}" for data_class in CLASSES) == sorted(case[0] for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
class TestDataClass:
    """What every data class promises: values in its unit, present where the file has them, zero elsewhere."""

    def truth(self, case: Case, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        case[2](folder / case[1])
        truth = data_class(case).read(folder / case[1], None)
        return truth.values.ravel(), truth.valid.ravel()

    def test_units(self, case: Case, tmp_path: Path) -> None:
        np.testing.assert_allclose(self.truth(case, tmp_path)[0], case[3], rtol=1e-6)

    def test_mask(self, case: Case, tmp_path: Path) -> None:
        np.testing.assert_array_equal(self.truth(case, tmp_path)[1], np.array(case[3]) > 0)

    def test_other_files_are_refused(self, case: Case, tmp_path: Path) -> None:
        (tmp_path / "d.exr").write_bytes(b"x")
        with pytest.raises(DataError, match=r"reads .* as ground truth, not \.exr"):
            data_class(case).read(tmp_path / "d.exr", None)

    def test_any_case_of_the_name_will_do(self, case: Case) -> None:
        family, name = case[0].split("/")
        assert find_class(name.upper(), family=family).name == name


def data_class(case: Case) -> DataClass:
    family, name = case[0].split("/")
    return find_class(name, family=family)


def test_depth_scale_turns_png_values_into_metres(tmp_path: Path) -> None:
    write_png(tmp_path / "d.png", np.array([[5000, 0]], np.uint16))
    truth = find_class("MetricMonoDataset", family="mono").read(tmp_path / "d.png", 5000.0)
    np.testing.assert_array_equal(truth.values, [[1.0, 0.0]])


def test_grey_middlebury_png_is_refused_with_its_range(tmp_path: Path) -> None:
    write_png(tmp_path / "d.png", np.array([[25, 224]], np.uint8))
    with pytest.raises(DataError, match="8-bit grey PNG with values 25 to 224") as error:
        find_class("Middlebury", family="stereo").read(tmp_path / "d.png", None)
    assert "PFM" in str(error.value.hint)


def test_sixteen_bit_png_as_middlebury_names_the_class_that_fits(tmp_path: Path) -> None:
    write_png(tmp_path / "d.png", np.array([[2560]], np.uint16))
    with pytest.raises(DataError, match="16-bit PNG") as error:
        find_class("Middlebury", family="stereo").read(tmp_path / "d.png", None)
    assert "Kitti" in str(error.value.hint)


def test_eight_bits_are_not_kitti(tmp_path: Path) -> None:
    write_png(tmp_path / "d.png", np.array([[25, 224]], np.uint8))
    with pytest.raises(DataError, match="8-bit PNG with values 25 to 224"):
        find_class("Kitti", family="stereo").read(tmp_path / "d.png", None)


def test_colour_as_depth_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "d.png", RGB)
    with pytest.raises(DataError, match="is a colour image"):
        find_class("NYUDV2", family="mono").read(tmp_path / "d.png", None)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(DataError, match="unknown dataset_name Midlebury") as error:
        find_class("Midlebury", family="stereo")
    assert "did you mean Middlebury?" in str(error.value.hint)


def test_a_class_of_the_other_family_is_said_to_be_one() -> None:
    with pytest.raises(DataError, match="NYUDV2 is a mono class"):
        find_class("NYUDV2", family="stereo")
