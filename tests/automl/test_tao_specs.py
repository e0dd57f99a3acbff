"""Specs as TAO's users have them, through the console scripts: they train, are reviewed and converted; what stops them is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from automl import cli, depth_net
from automl.entry import DONE, run_app
from search_spaces.spec import load_spec
from tests.automl.samples import small_stereo_spec
from trials.data.decoders import write_png

SPECS = Path(__file__).parents[1] / "search_spaces" / "tao_specs"
SMALL_STEREO = ["model.encoder=vitt", "model.hidden_dims=[32,32,32]", "dataset.train_dataset.augmentation.crop_size=[32,64]"]
SMALL_MONO = ["model.encoder=vitt", "~model.mono_backbone.pretrained_path"]
SMALL_MONO += [f"dataset.{split}_dataset.augmentation.crop_size=[28,42]" for split in ("train", "val")]
QUICK = ["dataset.train_dataset.workers=0", "dataset.val_dataset.workers=0"]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`stereo/` and `nyu/`, each with train.txt and val.txt that the specs name; NYU's depth is in millimetres."""
    folder = tmp_path_factory.mktemp("scenes")
    small_stereo_spec(folder)
    (folder / "scenes").rename(folder / "stereo")
    nyu = folder / "nyu"
    nyu.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        write_png(nyu / f"rgb_{i}.png", rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
        write_png(nyu / f"depth_{i}.png", rng.integers(800, 6000, (480, 640), dtype=np.uint16))
    for name, rows in (("train", (0, 1)), ("val", (2,))):
        (folder / "stereo" / f"stereo_{name}.txt").rename(folder / "stereo" / f"{name}.txt")
        (nyu / f"{name}.txt").write_text("".join(f"rgb_{i}.png depth_{i}.png\n" for i in rows), encoding="utf-8")
    return folder


@pytest.fixture
def place(scenes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Goes to a fresh folder with the lists that a spec names."""

    def go(data: str) -> Path:
        shutil.copytree(scenes / data, tmp_path / "here")
        monkeypatch.chdir(tmp_path / "here")
        return tmp_path / "here"

    return go


@pytest.mark.parametrize(
    ("name", "data", "small"),
    [("stereo_smoke", "stereo", SMALL_STEREO), ("metric_finetune", "nyu", SMALL_MONO), ("relative_finetune", "nyu", SMALL_MONO)],
)
def test_the_minimal_specs_train(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str], name: str, data: str, small: list[str]
) -> None:
    folder = place(data)
    arguments = ["train", "-e", str(SPECS / f"{name}.yaml"), "train.is_dry_run=true", "train.results_dir=exactly/here", *small, *QUICK]
    assert run_app(depth_net.app, "depth_net", arguments) == DONE
    assert "Train results will be saved at: exactly/here\n" in capsys.readouterr().out
    spec = load_spec(folder / "exactly" / "here" / "experiment.yaml")
    assert spec.train.results_dir == "exactly/here"
    assert not (folder / "exactly" / "here" / "train").exists()
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("skill", "name", "data", "small"),
    [("depth_net_stereo", "stereo_smoke", "stereo", SMALL_STEREO), ("depth_net_mono", "metric_finetune", "nyu", SMALL_MONO)],
)
def test_the_minimal_specs_can_be_searched(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str], skill: str, name: str, data: str, small: list[str]
) -> None:
    folder = place(data)
    before = sorted(folder.iterdir())
    arguments = ["run", "--skill", skill, "-e", str(SPECS / f"{name}.yaml"), "--dry-run", "train.results_dir=x", *small, *QUICK]
    assert run_app(cli.app, "automl", arguments) == DONE
    assert "train.results_dir has no effect: a study's folder has its own layout" in " ".join(capsys.readouterr().out.split())
    assert sorted(folder.iterdir()) == before


def test_the_convert_spec_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scene = tmp_path / "scenes" / "chair"
    scene.mkdir(parents=True)
    names = [scene / name for name in ("im0.png", "im1.png", "disp0GT.pfm", "mask0nocc.png")]
    for file in names:
        file.touch()
    assert run_app(depth_net.app, "depth_net", ["convert", "-e", str(SPECS / "convert_stereo.yaml")]) == DONE
    assert [Path(column).name for column in (tmp_path / "out" / "lists" / "test.txt").read_text().split()] == [file.name for file in names]


def test_several_gpus_are_refused_with_the_place(refused: Refused) -> None:
    error = refused("depth_net", "train", "-e", str(SPECS / "stereo_mixture.yaml"), "results_dir=new")
    assert "train.num_gpus is 2 (" in error
    assert "stereo_mixture.yaml:38)" in error
    assert "set train.num_gpus=1 to train on the CPU" in error


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WORLD_SIZE", "2", "train.num_nodes is 2 (environment variable WORLD_SIZE)"),
        ("NUM_GPU_PER_NODE", "4", "train.num_gpus is 4 (environment variable NUM_GPU_PER_NODE)"),
    ],
)
@pytest.mark.parametrize("program", [("depth_net", "train"), ("automl", "off", "--skill", "depth_net_stereo", "--yes")])
def test_a_scheduler_s_variables_win(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, program: tuple[str, ...], name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    error = refused(*program, "-e", str(SPECS / "stereo_smoke.yaml"), "train.num_gpus=1")
    assert words in error
    assert f"unset {name}" in error


@pytest.mark.parametrize("action", ["evaluate", "inference", "export"])
def test_a_mandatory_checkpoint_is_named_with_files_that_would_do(refused: Refused, tmp_path: Path, action: str) -> None:
    (tmp_path / "old" / "train").mkdir(parents=True)
    (tmp_path / "old" / "train" / "best.pth").touch()
    error = refused("depth_net", action, "-e", str(SPECS / "mono_metric_full.yaml"), "results_dir=old")
    assert error == (
        f"error: missing mandatory value: depth_net {action} needs {action}.checkpoint\n\n"
        f"hint: add {action}.checkpoint=old/train/best.pth to the command\n"
    )


@pytest.mark.parametrize("name", ["MetricMonoDataset", "RelativeMonoDataset"])
def test_a_class_name_of_tao_s_schema_alone_gets_the_one_of_its_code(refused: Refused, name: str) -> None:
    sources = f"dataset.train_dataset.data_sources=[{{data_file:train.txt,dataset_name:Base{name}}}]"
    error = refused("depth_net", "train", "-e", str(SPECS / "metric_finetune.yaml"), sources, "~model.mono_backbone")
    assert f"unknown dataset_name Base{name}" in error
    assert f"did you mean {name}?" in error
