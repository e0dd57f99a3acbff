"""`depth_net evaluate` and `depth_net inference` as a user runs them, on networks that were never trained."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from automl import depth_net
from automl.actions import say_stretch
from automl.console import counted, screen
from automl.entry import DONE, FAILED, INTERRUPTED, run_app
from deploy.onnx_export import export_onnx
from deploy.runtime import load_network, load_predictor
from models.registry import build_network
from search_spaces.spec import load_spec, spec_to_dict
from tests.automl.samples import small_mono_spec, small_stereo_spec
from tests.machine import onnx_name

Refused = Callable[..., str]
AUGMENTATION = "dataset.infer_dataset.augmentation"
TILES = [f"{AUGMENTATION}.evaluation=tile"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample scenes with specs, a checkpoint of each family, one of them as ONNX, and one whose answers are all NaN."""
    folder = tmp_path_factory.mktemp("made")
    for name, path in (("stereo", small_stereo_spec(folder)), ("mono", small_mono_spec(folder))):
        spec = load_spec(path)
        torch.manual_seed(0)
        state = {f"model.{key}": value for key, value in build_network(spec).state_dict().items()}
        content = {"pytorch-lightning_version": "2.6", "state_dict": state, "spec": spec_to_dict(spec)}
        torch.save(content, folder / f"{name}.pth")
        if name == "mono":
            export_onnx(load_network(folder / "mono.pth", spec), spec, folder / "mono.onnx", height=56, width=42)
            broken = {key: value * float("nan") if key.endswith("bias") else value for key, value in state.items()}
            torch.save(content | {"state_dict": broken}, folder / "nan.pth")
    return folder


@pytest.fixture(autouse=True)
def _inside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stereo.yaml", "mono.yaml"):
        (tmp_path / name).write_text((made / name).read_text())
    monkeypatch.chdir(tmp_path)


def run(action: str, family: str, model: Path, *overrides: str) -> int:
    return run_app(
        depth_net.app, "depth_net", [action, "-e", f"{family}.yaml", f"{action}.checkpoint={model}", "results_dir=out", *overrides]
    )


def statuses(action: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("out", action, "status.json").read_text().splitlines()]


def test_evaluation_says_metrics_worst_images_and_where_they_stand(made: Path, capsys: pytest.CaptureFixture[str]):
    assert run("evaluate", "stereo", made / "stereo.pth", f"dataset.test_dataset.data_sources={sources(made, 'stereo', 'train')}") == DONE
    out = capsys.readouterr().out
    assert "mean absolute disparity error" in out
    rows = list(csv.DictReader(Path("out/evaluate/per_image.csv").read_text().splitlines()))
    worst = re.findall(r"epe ([\d.]+) px +\S+left\.png", out)
    assert worst == sorted(worst, key=float, reverse=True)
    assert len(worst) == len(rows) == 2
    assert f"{max(float(row['epe']) for row in rows):.4g}" == worst[0]


def test_status_lines_have_the_form_that_tao_reads(made: Path):
    assert run("evaluate", "stereo", made / "stereo.pth") == DONE
    first, measured, last = statuses("evaluate")
    assert list(measured) == ["date", "time", "status", "verbosity", "message", "kpi"]
    assert re.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}", first["date"])
    assert re.fullmatch(r"(0|[1-9]\d?):(0|[1-9]\d?):(0|[1-9]\d?)", first["time"])
    assert [line["status"] for line in (first, measured, last)] == ["STARTED", "RUNNING", "SUCCESS"]
    assert set(measured["kpi"]) == {f"val/{name}" for name in ("loss", "epe", "bp1", "bp2", "bp3", "d1", "rmse")}


def test_a_checkpoint_and_its_onnx_file_measure_alike(made: Path):
    resize = [f"dataset.test_dataset.augmentation.{key}" for key in ("evaluation=resize", "crop_size=[56,42]")]
    results = []
    for model, overrides in ((made / "mono.onnx", []), (made / "mono.pth", resize)):
        assert run("evaluate", "mono", model, *overrides) == DONE
        results.append(json.loads(Path("out/evaluate/results.json").read_text()))
    onnx, torch_ = results
    assert (onnx["runtime"], torch_["runtime"]) == (onnx_name(), "torch")
    assert onnx["evaluation_hash"] == torch_["evaluation_hash"]
    for name in ("loss", "d1", "abs_rel", "rmse", "silog"):
        assert onnx[name] == pytest.approx(torch_[name], rel=1e-4)


def test_a_model_file_decides_the_depth_range(made: Path, tmp_path: Path):
    data = {
        "dataset": {"test_dataset": {"data_sources": json.loads(sources(made, "mono", "test")), "augmentation": {"crop_size": [56, 42]}}}
    }
    (tmp_path / "mono.yaml").write_text(json.dumps(data))
    for model in ("mono.pth", "mono.onnx"):
        assert run("evaluate", "mono", made / model) == DONE
        spec = load_spec(Path("out/evaluate/experiment.yaml"))
        assert (spec.dataset.min_depth, spec.dataset.max_depth) == (0.001, 10.0)


def test_a_model_file_says_whose_sizes_are_legal(made: Path):
    spec = yaml.safe_load(Path("stereo.yaml").read_text())
    del spec["model"]["model_type"], spec["dataset"]["dataset_name"]
    Path("stereo.yaml").write_text(yaml.safe_dump(spec))  # its crops are no multiples of 14, as the network would be that nobody names
    assert run("evaluate", "stereo", made / "stereo.pth") == DONE


def test_images_are_prepared_as_in_training(made: Path, tmp_path: Path):
    content = torch.load(made / "mono.pth", weights_only=True)
    content["spec"]["dataset"]["train_dataset"]["augmentation"]["input_mean"] = [0.1, 0.2, 0.3]
    torch.save(content, tmp_path / "other.pth")
    data = {
        "dataset": {"test_dataset": {"data_sources": json.loads(sources(made, "mono", "test")), "augmentation": {"crop_size": [56, 42]}}}
    }
    (tmp_path / "mono.yaml").write_text(json.dumps(data))
    assert run("evaluate", "mono", Path("other.pth")) == DONE
    assert load_spec(Path("out/evaluate/experiment.yaml")).dataset.test_dataset.augmentation.input_mean == (0.1, 0.2, 0.3)


def test_mono_images_are_brought_to_the_size_of_training(made: Path, tmp_path: Path):
    content = torch.load(made / "mono.pth", weights_only=True)
    content["spec"]["dataset"]["train_dataset"]["augmentation"]["crop_size"] = [42, 56]
    torch.save(content, tmp_path / "small.pth")
    (tmp_path / "mono.yaml").write_text(
        json.dumps({"dataset": {"test_dataset": {"data_sources": json.loads(sources(made, "mono", "test"))}}})
    )
    assert run("evaluate", "mono", Path("small.pth")) == DONE
    assert load_spec(Path("out/evaluate/experiment.yaml")).dataset.test_dataset.augmentation.crop_size == (42, 56)


def test_nan_predictions_fail_the_evaluation_and_leave_valid_files(made: Path, capsys: pytest.CaptureFixture[str]):
    assert run("evaluate", "mono", made / "nan.pth") == FAILED
    assert "images is not finite: " in capsys.readouterr().err
    summary = json.loads(Path("out/evaluate/results.json").read_text())
    assert (summary["abs_rel"], summary["num_images"], summary["not_finite"] > 0) == (None, 0, True)
    assert statuses("evaluate")[-1]["status"] == "FAILURE"
    assert statuses("evaluate")[-1]["message"].startswith("Non-finite value: the prediction of ")


def test_nan_predictions_fail_the_inference_with_the_pictures_there(made: Path, capsys: pytest.CaptureFixture[str]):
    assert run("inference", "mono", made / "nan.pth") == FAILED
    assert "those pixels are grey" in capsys.readouterr().err
    assert list(Path("out/inference").rglob("*.png"))
    assert statuses("inference")[-1]["status"] == "FAILURE"


def test_inference_on_a_folder_says_what_it_wrote_and_replaced(made: Path, capsys: pytest.CaptureFixture[str]):
    folder = ["dataset.infer_dataset.data_sources=[]", f"inference.input_dir={made}/scenes/scene_0000", "inference.save_raw_pfm=true"]
    assert run("inference", "stereo", made / "stereo.pth", *folder) == DONE
    assert "wrote 1 picture, 1 PFM map in out/inference\n" in capsys.readouterr().out
    assert run("inference", "stereo", made / "stereo.pth", *folder) == DONE
    assert "; 2 of them replaced older files" in capsys.readouterr().out


def test_the_camera_that_tao_writes_is_questioned(made: Path, capsys: pytest.CaptureFixture[str]):
    camera = ["inference.save_ply=true", "dataset.baseline=0.193001", "dataset.focal_x=1998.842"]
    assert run("inference", "stereo", made / "stereo.pth", *camera) == DONE
    assert "are they your camera's?" in capsys.readouterr().out


def test_a_changed_shape_is_said(made: Path, capsys: pytest.CaptureFixture[str]):
    assert run("inference", "mono", made / "mono.onnx") == DONE
    assert re.search(r"images of \d+x\d+ are resized to 42x56, which makes things \d+ % higher", capsys.readouterr().out)


def test_of_many_sizes_the_worst_is_said(made: Path, capsys: pytest.CaptureFixture[str]):
    """The model takes 42x56 (width x height): 46x56 becomes 10 % higher, 84x56 100 %, and 43x57 nearly keeps its shape."""
    spec = load_spec(made / "mono.yaml")
    predictor = load_predictor(made / "mono.onnx", spec, split="infer", runtime="cpu")
    say_stretch(predictor, spec, "infer", {(56, 46), (56, 84), (57, 43)}, screen())
    (line,) = capsys.readouterr().out.splitlines()
    assert "images of 84x56 are resized to 42x56" in line
    assert line.endswith("100 % higher (the most of 2 such sizes): expect worse results than at their own shape")


def test_tiles_are_said(made: Path, capsys: pytest.CaptureFixture[str]):
    assert run("inference", "stereo", made / "stereo.pth", *TILES, f"{AUGMENTATION}.crop_size=[64,96]") == DONE
    assert "images of 96x64 are taken as 1 tile of 96x64, at their own scale: disparities up to 32 px" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "overrides", "words"),
    [
        ("evaluate", ["evaluate.checkpoint=m.engine"], "evaluate.checkpoint: weight file m.engine does not exist"),
        ("inference", ["inference.trt_engine=m.engine"], "inference.trt_engine: weight file m.engine does not exist"),
        ("inference", ["inference.checkpoint=MADE/stereo.pth", "inference.save_ply=true"], "needs dataset.focal_x"),
        ("inference", ["inference.checkpoint=MADE/stereo.pth", "inference.input_dir=."], "are both set"),
        ("inference", ["inference.checkpoint=MADE/stereo.pth", "dataset.infer_dataset.data_sources=[]"], "inference.input_dir=..."),
        ("inference", ["inference.checkpoint=MADE/stereo.pth", *TILES, f"{AUGMENTATION}.crop_size=[64,64]"], "tiles of 64 pixels in width"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(made: Path, refused: Refused, action: str, overrides: list[str], words: str):
    given = [override.replace("MADE", str(made)) for override in overrides]
    assert words in refused("depth_net", action, "-e", "stereo.yaml", "results_dir=new", *given)


def test_images_that_no_memory_can_hold_are_refused(made: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trials.devices.total_memory_mib", lambda: 2.0)  # the volumes of 64 x 96 pixels and 32 disparities take 1.3
    given = ["-e", "stereo.yaml", "results_dir=new", f"inference.checkpoint={made}/stereo.pth"]
    error = refused("depth_net", "inference", *given)
    assert "images of 96x64 with model.max_disparity 32 need at least" in error
    assert "evaluation=resize dataset.infer_dataset.augmentation.crop_size=[64,64]" in error


@pytest.mark.parametrize("action", ["evaluate", "inference"])
def test_ctrl_c_is_a_failure_and_said(made: Path, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def interrupt(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.runtime.TorchPredictor.predict", interrupt)
    assert run(action, "stereo", made / "stereo.pth") == INTERRUPTED
    assert capsys.readouterr().err.startswith("error: interrupted\n\nhint: ")
    assert statuses(action)[-1]["message"] == f"User/System interruption: {action} was interrupted."


def test_a_log_file_hears_of_progress_every_half_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    times = iter([0.0, 10.0, 40.0, 60.0])
    monkeypatch.setattr("automl.console.time.monotonic", lambda: next(times))
    with counted(screen(), "evaluates") as count:
        for done in (1, 2, 3):
            count(done, 4)
    assert capsys.readouterr().out.strip() == "evaluates 2/4, 40 s left"


def sources(made: Path, family: str, split: str) -> str:
    name = "GenericDataset" if family == "stereo" else "MetricMonoDataset"
    return json.dumps([{"data_file": f"{made}/scenes/{family}_{split}.txt", "dataset_name": name}])
