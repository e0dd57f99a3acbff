"""`automl try`: the champion on one image, and what is said when there is none or the image is of the other kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from automl import cli
from automl.entry import DONE, MISUSED, run_app
from deploy.promotion import promote
from search_spaces.spec import save_spec
from tests.deploy.networks import mono_spec, network_of, save_checkpoint, stereo_spec
from tests.deploy.test_promotion import with_lists
from trials.data.sample import write_samples


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a promoted mono model and the scenes beside it."""
    folder = tmp_path_factory.mktemp("study")
    scenes = write_samples(folder / "scenes", scenes=4, height=64, width=96, max_disparity=32)
    spec = with_lists(mono_spec, scenes, "mono", "MetricMonoDataset")
    promote(save_checkpoint(network_of(spec), spec, folder / "best.pth"), folder / "promotion", spec=spec, samples=1)
    return folder


def try_it(study: Path, *arguments: str) -> int:
    return run_app(cli.app, "automl", ["try", str(study), *arguments])


def test_picture_map_and_cloud_are_written(study: Path, tmp_path: Path) -> None:
    image = study / "scenes/scene_0000/left.png"
    assert try_it(study, "--image", str(image), "--out", str(tmp_path), "dataset.focal_x=100") == DONE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left_depth.pfm", "left_depth.ply", "left_depth.png"]


def test_without_a_camera_there_is_no_cloud(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_it(study, "--image", str(study / "scenes/scene_0000/left.png"), "--out", str(tmp_path)) == DONE
    assert "no point cloud: add dataset.focal_x=... (pixels) of your camera" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--left", "a.png", "--right", "b.png"), "the champion is a mono network: it takes --image IMAGE"),
        (("--image", "none.png"), "there is no image none.png"),
        (("--image", "s3://data/a.png"), "s3://data/a.png is in an S3 store, but this needs an image of this machine"),
    ],
)
def test_other_images_are_refused(study: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    assert try_it(study, *arguments) == MISUSED
    assert told in capsys.readouterr().err


def test_a_study_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert try_it(tmp_path, "--image", "a.png") == MISUSED
    assert "holds no promoted model" in capsys.readouterr().err


def test_views_of_two_sizes_are_refused_by_their_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promotion = tmp_path / "promotion"
    save_spec(stereo_spec(), promotion / "spec.yaml")
    (promotion / "promotion.json").write_text('{"promoted": true}')
    (promotion / "model.onnx").touch()
    for name, height in (("left", 64), ("right", 80)):
        Image.new("RGB", (96, height)).save(tmp_path / f"{name}.png")
    assert try_it(tmp_path, "--left", str(tmp_path / "left.png"), "--right", str(tmp_path / "right.png")) == MISUSED
    assert capsys.readouterr().err.startswith("error: left and right differ in size: 96x64, 96x80\n")
