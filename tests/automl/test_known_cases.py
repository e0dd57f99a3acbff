"""What is known to break depth_net elsewhere and simply works here, or goes on with a word about it; one test a row."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from automl import depth_net
from automl.entry import DONE, run_app
from search_spaces.spec import load_spec
from tests.automl.samples import untrained

Done = Callable[..., str]
DRY = "train.is_dry_run=true"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes, specs and checkpoints that every test reads."""
    return untrained(tmp_path_factory.mktemp("made"))


@pytest.fixture
def done(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Done:
    """Runs `depth_net ACTION -e FAMILY.yaml results_dir=out overrides...` in a folder of its own to its end; gives stdout."""
    for name in ("stereo.yaml", "mono.yaml"):
        shutil.copy(made / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def run(action: str, family: str, *overrides: str) -> str:
        code = run_app(depth_net.app, "depth_net", [action, "-e", f"{family}.yaml", "results_dir=out", *overrides])
        captured = capsys.readouterr()
        assert (code, captured.err) == (DONE, "")
        return captured.out

    return run


def kpi(action: str) -> dict[str, float]:
    """The metrics in the last line of an action's status.json."""
    last = json.loads(Path("out", action, "status.json").read_text().splitlines()[-1])
    assert last["status"] == "SUCCESS"
    metrics: dict[str, float] = last["kpi"]
    return metrics


def test_a_depth_range_smaller_than_the_data(done: Done):
    out = done("train", "mono", DRY, "dataset.max_depth=4")
    assert "1.339 to 6.6907 m; 51.1% valid" in out
    assert "warning: 48.9% of the ground truth is beyond dataset.max_depth = 4; 99 % of it is below 6.5127" in out


def test_no_pretrained_weights(done: Done):
    out = done("train", "stereo", DRY)
    assert "WARNING  training starts from random weights in the side network (frozen, so it never learns) and the EdgeNeXt trunk" in out
    assert "side network" in json.loads(Path("out/train/result.json").read_text())["first_weights"]


def test_the_memory_of_the_cost_volumes_is_told(done: Done):
    assert "memory   the cost volumes of a training step (2 x 64x64, 32 disparities) take about 17 MiB of " in done("train", "stereo", DRY)


def test_validation_batches_of_any_size(done: Done):
    done("train", "mono", DRY, "dataset.val_dataset.batch_size=4", "dataset.val_dataset.data_sources=${dataset.train_dataset.data_sources}")
    assert json.loads(Path("out/train/result.json").read_text())["state"] == "complete"


def test_bf16_for_mono(done: Done):
    done("train", "mono", DRY, "train.precision=bf16")


@pytest.mark.parametrize("name", ["MultiStep", "LambdaLR", "CosineAnnealingLR"])
def test_a_scheduler_that_could_not_be_named_or_run(done: Done, name: str):
    done("train", "mono", DRY, f"train.optim.lr_scheduler={name}")
    assert load_spec(Path("out/train/experiment.yaml")).train.optim.lr_scheduler == {"MultiStep": "MultiStepLR"}.get(name, name)


@pytest.mark.parametrize("ending", [".tlt", ".ckpt", ".pt", ".safetensors"])
def test_checkpoints_of_other_endings(done: Done, made: Path, tmp_path: Path, ending: str):
    model = tmp_path / f"model{ending}"
    if ending == ".safetensors":
        state = torch.load(made / "mono.pth", weights_only=True)["state_dict"]
        save_file({name.removeprefix("model."): value for name, value in state.items()}, model)
    else:
        shutil.copy(made / "mono.pth", model)
    done("evaluate", "mono", f"evaluate.checkpoint={model}")
    assert kpi("evaluate")["val/abs_rel"] > 0


def test_evaluation_in_batches(done: Done, made: Path):
    kpis = []
    for batch in (1, 2):
        sources = "dataset.test_dataset.data_sources=${dataset.train_dataset.data_sources}"
        done("evaluate", "stereo", f"evaluate.checkpoint={made}/stereo.pth", f"dataset.test_dataset.batch_size={batch}", sources)
        kpis.append(kpi("evaluate"))
    assert kpis[0] == pytest.approx(kpis[1], rel=1e-4)


@pytest.fixture(scope="module")
def pairs_of_two(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mono.pth as an ONNX file that takes two images of 42 x 56 at a time."""
    model = tmp_path_factory.mktemp("onnx") / "model.onnx"
    arguments = ["export", "-e", f"{made}/mono.yaml", f"export.checkpoint={made}/mono.pth", f"export.onnx_file={model}"]
    assert run_app(depth_net.app, "depth_net", [*arguments, "export.batch_size=2", "export.dynamic_hw=true"]) == DONE
    return model


def test_a_batch_that_the_model_file_does_not_take(done: Done, made: Path, pairs_of_two: Path, tmp_path: Path):
    image = f"{made}/scenes/scene_0000/left.png {made}/scenes/scene_0000/depth.pfm\n"
    (tmp_path / "three.txt").write_text(image * 3)
    three = "dataset.test_dataset.data_sources=[{data_file:three.txt,dataset_name:MetricMonoDataset}]"
    done("evaluate", "mono", f"evaluate.checkpoint={pairs_of_two}", three, "dataset.test_dataset.batch_size=3")
    assert json.loads(Path("out/evaluate/results.json").read_text())["num_images"] == 3


def test_a_height_and_width_that_should_be_free(done: Done, made: Path):
    out = done("export", "mono", f"export.checkpoint={made}/mono.pth", "export.onnx_file=model.onnx", "export.dynamic_hw=true")
    assert "note  export.dynamic_hw has no effect: the graph has one height and width: input_height, input_width" in out
    assert "images Nx3x42x56, outputs Nx42x56" in out


def test_images_of_another_shape_than_the_model_s(done: Done, pairs_of_two: Path):
    out = done("inference", "mono", f"inference.checkpoint={pairs_of_two}")
    assert "note  images of 96x64 are resized to 56x42, which makes things 12 % higher" in out


def test_a_shape_that_differs_by_less_than_5_percent(done: Done, made: Path):
    resize = [f"dataset.infer_dataset.augmentation.{key}" for key in ("evaluation=resize", "crop_size=[126,182]")]  # 1.44 for 1.5
    assert "resized" not in done("inference", "mono", f"inference.checkpoint={made}/mono.pth", *resize)


def test_a_range_of_disparities_that_the_model_file_decides(done: Done, made: Path):
    done("export", "stereo", f"export.checkpoint={made}/stereo.pth", "export.onnx_file=model.onnx")
    out = done("evaluate", "stereo", "evaluate.checkpoint=model.onnx", "model.max_disparity=64")
    assert "note  the file covers disparities up to 32: model.max_disparity=64 of the spec changes nothing" in out


def test_any_name_of_a_spec(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(made / "mono.yaml", "my spec.v2.yml")
    assert run_app(depth_net.app, "depth_net", ["train", "-e", "my spec.v2.yml", "results_dir=out", DRY]) == DONE


def test_scenes_whose_files_are_called_alike(done: Done, made: Path, tmp_path: Path):
    for scene in ("Adirondack", "Piano-perfect"):  # folders of Middlebury v3, each with im0.png and im1.png
        (tmp_path / scene).mkdir()
        for name, view in (("im0.png", "left.png"), ("im1.png", "right.png"), ("disp0GT.pfm", "disparity.pfm")):
            shutil.copy(made / "scenes" / "scene_0000" / view, tmp_path / scene / name)
    (tmp_path / "list.txt").write_text(
        "".join(f"{scene}/im0.png {scene}/im1.png {scene}/disp0GT.pfm\n" for scene in ("Adirondack", "Piano-perfect"))
    )
    sources = "dataset.infer_dataset.data_sources=[{data_file:list.txt,dataset_name:Middlebury}]"
    assert "wrote 2 pictures" in done("inference", "stereo", f"inference.checkpoint={made}/stereo.pth", sources)
    pictures = sorted(path.relative_to("out/inference").as_posix() for path in Path("out/inference").rglob("*.png"))
    assert pictures == ["Adirondack/im0_disp.png", "Piano-perfect/im0_disp.png"]


def test_a_second_convert_appends_nothing(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    patterns = "image_dir_pattern: [left]\nright_dir_pattern: [right]\ndepth_dir_pattern: [disparity]\n"
    endings = "image_extension: .png\ndepth_extension: .pfm\nsplit_ratio: 0.0\n"
    Path("convert.yaml").write_text(f"data_root: {made}/scenes\nresults_dir: lists\n{patterns}{endings}")
    lists = []
    for _ in range(2):
        assert run_app(depth_net.app, "depth_net", ["convert", "-e", "convert.yaml"]) == DONE
        lists.append(Path("lists/test.txt").read_text())
    assert lists[0] == lists[1]
    assert len(lists[0].splitlines()) == 4
