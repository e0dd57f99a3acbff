"""Point clouds read back and held against points worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from search_spaces.errors import SpecError, UnsupportedError
from search_spaces.spec import Spec, spec_from_dict
from tests.trials.small import stereo_spec
from tests.trials.test_inference import infer_spec
from trials.data import build_dataset
from trials.data.decoders import F32
from trials.data.sample import SampleSet
from trials.inference import infer
from trials.point_cloud import camera_of, depth_of, write_cloud


def spec_of(model_type: str, **keys: Any) -> Spec:
    inference = {"save_ply": True, "ply_max_depth": keys.pop("farthest", None)}
    return spec_from_dict({"model": {"model_type": model_type}, "dataset": keys, "inference": inference})


def read_ply(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line.split()[-1] for line in lines if line.startswith("element vertex")))
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [(line.split()[2], kinds[line.split()[1]]) for line in lines if line.startswith("property")]
    points = np.frombuffer(body, np.dtype(fields))
    assert len(points) == count
    return np.stack([points[axis] for axis in "xyz"], 1), np.stack([points[each] for each in ("red", "green", "blue")], 1)


def test_a_stereo_cloud_by_hand(tmp_path: Path) -> None:
    # f B = 10: depths 10, 5 and 2.5 m; the centre of 3 x 1 pixels is column 1
    camera = camera_of(spec_of("FoundationStereo", focal_x=20.0, baseline=0.5))
    image = np.array([[[1, 2, 3], [4, 5, 6], [250, 128, 0]]], np.uint8)
    # column 0 with 1 px lies outside the right view; column 2 with 2 px does not
    assert write_cloud(tmp_path / "c.ply", np.array([[1.0, 1.0, 2.0]], np.float32), image, camera) == 0 + 1
    points, colours = read_ply(tmp_path / "c.ply")
    assert points.tolist() == [[0.25, 0.0, 5.0]]
    assert colours.tolist() == [[250, 128, 0]]


def test_depths_of_disparities() -> None:
    values: F32 = np.array([[0.0, np.nan, np.inf, -1.0, 0.5, 1.0, 2.0, 4.0]], np.float32)
    depth, known = depth_of(values, camera_of(spec_of("FoundationStereo", focal_x=20.0, baseline=0.5)), image_size=(1, 8))
    assert known.tolist() == [[False] * 6 + [True, True]]  # 1 px and less is too uncertain
    assert depth[known].tolist() == [5.0, 2.5]


def test_a_bound_decides_what_is_too_far() -> None:
    values: F32 = np.array([[0.0, 0.5, 1.0, 2.0]], np.float32)
    depth, known = depth_of(values, camera_of(spec_of("FoundationStereo", focal_x=20.0, baseline=0.5, farthest=10.0)), image_size=(1, 4))
    assert depth[known].tolist() == [10.0, 5.0]


def test_an_offset_of_the_principal_points_is_added_to_the_disparity() -> None:
    camera = camera_of(spec_of("FoundationStereo", focal_x=20.0, baseline=0.5, doffs=3.0))
    depth, known = depth_of(np.array([[0.0, 1.0]], np.float32), camera, image_size=(1, 2))
    assert depth[known].tolist() == [2.5]


def test_a_metric_cloud_needs_the_focal_length_alone(tmp_path: Path) -> None:
    camera = camera_of(spec_of("MetricDepthAnything", focal_x=2.0, principal_x=0.0, principal_y=1.0))
    image = np.full((2, 2, 3), 7, np.uint8)
    write_cloud(tmp_path / "c.ply", np.array([[1.0, 2.0], [4.0, np.nan]], np.float32), image, camera)
    assert read_ply(tmp_path / "c.ply")[0].tolist() == [[0.0, -0.5, 1.0], [1.0, -1.0, 2.0], [0.0, 0.0, 4.0]]


def test_a_map_of_half_the_size_gives_the_same_points(tmp_path: Path) -> None:
    camera = camera_of(spec_of("MetricDepthAnything", focal_x=100.0, principal_x=3.5, principal_y=1.5))
    image = np.zeros((4, 8, 3), np.uint8)
    write_cloud(tmp_path / "half.ply", np.full((2, 4), 10.0, np.float32), image, camera)
    points, _ = read_ply(tmp_path / "half.ply")
    # its pixels are 2 x 2 of the image: centres at columns 0.5, 2.5, ...
    assert points[0] == pytest.approx([(0.5 - 3.5) * 10 / 100, (0.5 - 1.5) * 10 / 100, 10.0])


@pytest.mark.parametrize(
    ("model_type", "keys", "words"),
    [
        ("FoundationStereo", {"focal_x": 700.0}, r"dataset\.baseline \(distance"),
        ("FoundationStereo", {"focal_x": 0.0, "baseline": 0.1}, r"dataset\.focal_x \(focal"),
        ("MetricDepthAnything", {}, r"dataset\.focal_x \(focal"),
    ],
)
def test_a_missing_camera_is_named(model_type: str, keys: dict[str, float], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        camera_of(spec_of(model_type, **keys))


def test_relative_maps_have_no_metres() -> None:
    with pytest.raises(UnsupportedError, match="unknown scale"):
        camera_of(spec_of("RelativeDepthAnything", focal_x=700.0))


def test_true_disparities_give_the_true_scene(scenes: SampleSet, tmp_path: Path) -> None:
    data = stereo_spec(scenes)
    camera = scenes.camera
    data["dataset"] |= {"focal_x": camera.focal_px, "baseline": camera.baseline_m}

    dataset = build_dataset(spec_from_dict(data), "val", training=False)
    maps = [dataset[index]["target"] for index in range(len(dataset))]

    class Truth:
        name = "truth"
        fixed_size = None

        def predict(self, images: tuple[Tensor, ...]) -> Tensor:
            return torch.stack(maps)

    written = infer(Truth(), infer_spec(scenes, data=data, save_ply=True), tmp_path)
    points, _ = read_ply(written.files[".ply"][0])
    assert written.no_points == ()
    # back through the camera, every point falls on a pixel centre
    columns = points[:, 0] / points[:, 2] * camera.focal_px + (camera.width - 1) / 2
    assert np.abs(columns - np.round(columns)).max() < 1e-3
    assert 1.0 < points[:, 2].min() < points[:, 2].max() < 10.0
