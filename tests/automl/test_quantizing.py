"""`depth_net quantize` as a user meets it: exit codes, what is said, what is left in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from automl.depth_net import app
from automl.entry import DONE, FAILED, MISUSED, run_app
from deploy.onnx_export import export_onnx
from search_spaces.spec import spec_to_dict
from tests.deploy.networks import mono_spec, network_of, save_checkpoint
from trials.data.sample import write_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """spec.yaml, best.pth and model.onnx of a small metric network with scenes of its own."""
    folder = tmp_path_factory.mktemp("quantize")
    scenes = write_samples(folder / "scenes", scenes=5, height=64, width=96, max_disparity=32)
    sources = [
        f"dataset.{split}_dataset.data_sources=[{{data_file: {scenes.list_file('mono', split)}, dataset_name: MetricMonoDataset}}]"
        for split in ("train", "val")
    ]
    spec = mono_spec(*sources, "dataset.val_dataset.workers=0")
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec_to_dict(spec)), encoding="utf-8")
    network = network_of(spec)
    save_checkpoint(network, spec, folder / "best.pth")
    export_onnx(network, spec, folder / "model.onnx", height=28, width=42)
    return folder


def run(folder: Path, out: Path, *overrides: str) -> int:
    return run_app(app, "depth_net", ["quantize", "-e", str(folder / "spec.yaml"), f"results_dir={out}", *overrides])


def static(folder: Path) -> list[str]:
    return [f"quantize.model_path={folder / 'model.onnx'}", "quantize.backend=onnxruntime", "quantize.mode=static_ptq"]


def states(out: Path) -> list[str]:
    return [json.loads(line)["status"] for line in (out / "quantize" / "status.json").read_text(encoding="utf-8").splitlines()]


def test_a_model_within_the_gate(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, tmp_path, *static(folder), "quantize.max_metric_drop=9") == DONE
    said = capsys.readouterr().out
    assert states(tmp_path) == ["STARTED", "SUCCESS"]
    assert "calibrated on 3 of 3 images of the train lists" in said
    assert all(word in said for word in ("abs_rel", "size", "latency", "quantized_model_onnxruntime.onnx"))
    assert sorted(path.name for path in (tmp_path / "quantize").iterdir()) == [
        "experiment.yaml",
        "quantize.json",
        "quantized_model_onnxruntime.json",
        "quantized_model_onnxruntime.onnx",
        "status.json",
    ]


def test_a_model_beyond_the_gate_ends_with_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = folder / "own"  # the network's own maps as ground truth: whatever changes is a loss
    assert (
        run_app(
            app,
            "depth_net",
            [
                "inference",
                "-e",
                str(folder / "spec.yaml"),
                f"results_dir={own}",
                f"inference.checkpoint={folder / 'model.onnx'}",
                f"inference.input_dir={folder / 'scenes' / 'scene_0000'}",
                "inference.save_raw_pfm=true",
            ],
        )
        == DONE
    )
    truth = next(iter(sorted((own / "inference").rglob("left*.pfm"))))
    (own / "val.txt").write_text(f"{folder / 'scenes' / 'scene_0000' / 'left.png'} {truth}\n", encoding="utf-8")
    sources = f"dataset.val_dataset.data_sources=[{{data_file: {own / 'val.txt'}, dataset_name: MetricMonoDataset}}]"
    capsys.readouterr()
    assert run(folder, tmp_path, *static(folder), sources) == FAILED
    assert "error: the quantised model is rejected: abs_rel goes from" in capsys.readouterr().err
    assert states(tmp_path) == ["STARTED", "FAILURE"]
    assert (tmp_path / "quantize" / "quantized_model_onnxruntime.rejected.onnx").is_file()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([], "needs quantize.model_path"),
        (["quantize.model_path=none.pth"], "quantize.model_path: weight file none.pth does not exist"),
        (["quantize.backend=modelopt.onnx", "quantize.model_path={folder}/best.pth"], "needs nvidia-modelopt"),
        (
            [
                "quantize.backend=onnxruntime",
                "quantize.mode=static_ptq",
                "quantize.model_path={folder}/model.onnx",
                "dataset.val_dataset.data_sources=[]",
            ],
            "needs dataset.val_dataset.data_sources",
        ),
    ],
    ids=["no model", "no such file", "modelopt", "no validation list"],
)
def test_a_mistake_leaves_no_folder(
    overrides: list[str], told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, tmp_path / "out", *(text.format(folder=folder) for text in overrides)) == MISUSED
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
