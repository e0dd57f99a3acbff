"""Quantised models of small networks: what is chosen, what the numbers are, what is measured, what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import pytest
import torch
from torch import nn

from deploy.calibration import calibration
from deploy.onnx_export import export_onnx
from deploy.parity import worsening
from deploy.quantize import Quantized, quantize
from deploy.quantize_backends import check_quantize
from deploy.runtime import TorchPredictor, load_predictor
from deploy.sidecar import METADATA_KEY
from models.checkpoints import read_checkpoint
from search_spaces.errors import CheckpointError, SpecError, UnsupportedError, UserError
from search_spaces.spec import Spec, with_values
from tests.deploy.networks import images_of, mono_spec, network_of, save_checkpoint, stereo_spec
from trials.data import build_dataset
from trials.data.sample import SampleSet, write_samples
from trials.evaluate import evaluate

STATIC = {"quantize.backend": "onnxruntime", "quantize.mode": "static_ptq"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return write_samples(tmp_path_factory.mktemp("scenes"), scenes=5, height=64, width=96, max_disparity=32)


def lists(scenes: SampleSet, kind: str, data_class: str) -> list[str]:
    files = {split: scenes.list_file(kind, split) for split in ("train", "val")}
    return [f"dataset.{split}_dataset.data_sources=[{{data_file: {file}, dataset_name: {data_class}}}]" for split, file in files.items()]


@pytest.fixture(scope="module")
def spec(scenes: SampleSet) -> Spec:
    return mono_spec(*lists(scenes, "mono", "MetricMonoDataset"), "dataset.val_dataset.workers=0")


@pytest.fixture(scope="module")
def network(spec: Spec) -> nn.Module:
    return network_of(spec)


@pytest.fixture(scope="module")
def checkpoint(spec: Spec, network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(network, spec, tmp_path_factory.mktemp("trial") / "best.pth")


@pytest.fixture(scope="module")
def exported(spec: Spec, network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(network, spec, tmp_path_factory.mktemp("onnx") / "model.onnx", height=28, width=42).path


@pytest.fixture(scope="module")
def packed(spec: Spec, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    pytest.importorskip("torchao", reason="torchao is not installed: pip install -e '.[quant]'")
    return quantize(checkpoint, spec, tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def static(spec: Spec, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    return quantize(exported, with_values(spec, STATIC), tmp_path_factory.mktemp("static"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def report(done: Quantized) -> dict:  # type: ignore[type-arg]
    data: dict = json.loads((done.model.parent / "quantize.json").read_text(encoding="utf-8"))  # type: ignore[type-arg]
    return data


def test_packed_weights_are_whole_steps_of_a_scale_for_each_row() -> None:
    """torchao's steps are the row's largest weight / 127.5: 2 / 127.5 makes 1 -> 63.75 -> 64 steps, and -2 the lowest step, -127."""
    quantize_weights = pytest.importorskip("deploy.quantize_weights")
    pytest.importorskip("torchao", reason="torchao is not installed: pip install -e '.[quant]'")
    network = nn.Sequential(nn.Linear(4, 2, bias=False))
    rows = [[1.0, -2.0, 0.5, 0.25], [0.1, 0.2, -0.3, 12.75]]
    network.load_state_dict({"0.weight": torch.tensor(rows)})
    tensors = quantize_weights.pack_network(network, {"0": "int8"})
    assert tensors["0.weight"].tolist() == [[64, -127, 32, 16], [1, 2, -3, 127]]
    torch.testing.assert_close(tensors["0.weight_scale"], torch.tensor([[2 / 127.5], [0.1]]))


def test_every_linear_layer_is_packed_by_default(packed: Quantized, network: nn.Module) -> None:
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    assert list(packed.kinds) == linear
    assert set(packed.kinds.values()) == {"int8"}


def test_the_packed_file_is_smaller_by_three_of_four_bytes_of_those_weights(packed: Quantized, network: nn.Module) -> None:
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    saved = sum(3 * layer.weight.numel() - 4 * layer.out_features for layer in layers)
    assert packed.size_before - packed.size_after == saved


def test_the_packed_checkpoint_is_evaluated_like_any_other(packed: Quantized, spec: Spec) -> None:
    again = evaluate(load_predictor(packed.model, spec, device="cpu"), spec, "val")
    assert packed.accepted
    assert again.metrics == packed.after


def test_what_is_loaded_lies_within_half_a_step(packed: Quantized, network: nn.Module) -> None:
    loaded = read_checkpoint(packed.model).state_dict
    name = next(iter(packed.kinds)) + ".weight"
    original = network.state_dict()[name]
    step = original.abs().amax(dim=1, keepdim=True) / 127.5
    assert not [key for key in loaded if key.endswith("_scale")]
    assert bool(((loaded[f"model.{name}"] - original).abs() <= 0.5001 * step).all())


def test_fp8_weights_come_back_as_float32(spec: Spec, network: nn.Module, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed: pip install -e '.[quant]'")
    rule = {"module_name": "*.qkv", "weights": {"dtype": "fp8_e4m3fn"}}
    done = quantize(checkpoint, with_values(spec, {"quantize.layers": [rule]}), tmp_path)
    loaded, original = read_checkpoint(done.model).state_dict, network.state_dict()
    name = next(iter(done.kinds)) + ".weight"
    assert set(done.kinds.values()) == {"fp8_e4m3fn"}
    torch.testing.assert_close(loaded[f"model.{name}"], original[name], rtol=0.07, atol=1e-4)  # 3 bits of fraction


def test_a_packed_file_with_other_numbers_than_it_says_is_refused(packed: Quantized, tmp_path: Path) -> None:
    content = torch.load(packed.model, weights_only=True)
    content["quantized"] = dict.fromkeys(content["quantized"], "fp8_e5m2")
    torch.save(content, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match="should be fp8_e5m2 values with a scale for each row"):
        read_checkpoint(tmp_path / "wrong.pth")


def test_static_int8_is_measured_and_described(static: Quantized) -> None:
    told = report(static)
    assert static.accepted, static.reason
    assert names(static.model.parent) == ["quantize.json", "quantized_model_onnxruntime.json", "quantized_model_onnxruntime.onnx"]
    assert told["size_bytes"]["after"] < 0.5 * told["size_bytes"]["before"]
    assert [row["runtime"] for row in told["latency"]["rows"]] == ["before", "after"]
    assert told["calibrated_on"].startswith("3 of 3 images of the train lists")


def test_each_chosen_node_reads_quantised_tensors(static: Quantized) -> None:
    graph = onnx.load(static.model).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    chosen = [node for node in graph.node if node.name in static.kinds]
    assert len(chosen) == len(static.kinds)
    assert {made_by[name] for node in chosen for name in node.input[:2]} == {"DequantizeLinear"}


def test_the_int8_file_brings_its_description(static: Quantized, spec: Spec) -> None:
    held = {entry.key for entry in onnx.load(static.model).metadata_props}
    again = evaluate(load_predictor(static.model, spec), spec, "val")
    assert held == {METADATA_KEY}
    assert again.metrics == static.after


def test_max_is_symmetric_as_tensorrt_wants_it(spec: Spec, exported: Path, tmp_path: Path) -> None:
    done = quantize(exported, with_values(spec, {**STATIC, "quantize.algorithm": "max", "quantize.max_metric_drop": 9.0}), tmp_path)
    model = onnx.load(done.model)
    points = [onnx.numpy_helper.to_array(value) for value in model.graph.initializer if "zero_point" in value.name]
    assert points
    assert all(not point.any() for point in points)


@pytest.mark.parametrize("algorithm", ["entropy", "percentile"])
def test_histograms_find_ranges_too(algorithm: str, spec: Spec, exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = {**STATIC, "quantize.algorithm": algorithm, "quantize.calibration_images": 1, "quantize.max_metric_drop": 9.0}
    assert quantize(exported, with_values(spec, values), tmp_path).accepted
    assert capfd.readouterr().out == ""


def test_the_rule_of_the_gate() -> None:
    assert worsening(1.0, 1.05, metric="epe", allowed=0.05) == (pytest.approx(0.05), None)
    change, reason = worsening(2.0, 2.2, metric="epe", allowed=0.05)
    assert change == pytest.approx(0.1)
    assert reason == "epe goes from 2 to 2.2, 10.0 % worse; quantize.max_metric_drop allows 5 %"
    assert worsening(2.0, None, metric="epe", allowed=0.05) == (None, "epe could not be measured after quantisation")
    assert worsening(0.0, 0.0, metric="epe", allowed=0.0) == (None, None)


def truth_of_its_own(spec: Spec, network: nn.Module, folder: Path) -> Spec:
    """`spec` with a validation list whose ground truth is what `network` predicts, so that any change of the network is a loss."""
    written = with_values(spec, {"inference.save_raw_pfm": True})
    evaluate(TorchPredictor(network, "mono", device="cpu"), written, "val", maps=folder)
    (truth,) = folder.rglob("*.pfm")
    image = build_dataset(spec, "val", training=False).rows[0].image
    (folder / "own.txt").write_text(f"{image} {truth}\n", encoding="utf-8")
    return with_values(
        spec, {"dataset.val_dataset.data_sources": [{"data_file": str(folder / "own.txt"), "dataset_name": "MetricMonoDataset"}]}
    )


def test_a_model_that_loses_too_much_is_kept_aside_with_its_figures(
    spec: Spec, network: nn.Module, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed: pip install -e '.[quant]'")
    (tmp_path / "truth").mkdir()
    done = quantize(checkpoint, truth_of_its_own(spec, network, tmp_path / "truth"), tmp_path / "out")
    told = report(done)
    assert not done.accepted
    assert names(tmp_path / "out") == ["quantize.json", "quantized_model_torchao.rejected.pth"]
    assert told["metric"]["before"] < told["metric"]["after"]
    assert "quantize.max_metric_drop allows 5 %" in told["reason"]


def test_an_interruption_leaves_nothing(spec: Spec, exported: Path, tmp_path: Path) -> None:
    @contextmanager
    def interrupted(_: str):  # type: ignore[no-untyped-def]
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        quantize(exported, with_values(spec, STATIC), tmp_path, stage=interrupted)
    assert names(tmp_path) == []


def test_a_run_works_beside_its_results_and_removes_what_a_killed_one_left(
    spec: Spec, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))  # where the system's temporary files would be
    scratch, seen = tmp_path / "out" / ".candidate", []
    scratch.mkdir(parents=True)
    (scratch / "left.onnx").write_bytes(b"gigabytes")

    @contextmanager
    def look(_: str):  # type: ignore[no-untyped-def]
        seen.append(sorted(path.name for path in scratch.rglob("*.onnx")))
        yield lambda *_: None

    quantize(exported, with_values(spec, STATIC), tmp_path / "out", stage=look)
    assert seen[:2] == [["prepared.onnx"], ["quantized_model_onnxruntime.onnx"]]
    assert not scratch.exists()


def two_convolutions(path: Path) -> Path:
    """A stereo graph of 64 x 96: the sum of one 1x1 convolution of each image."""
    weight = onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), 0.5, np.float32), "weight")
    images = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 64, 96]) for name in ("left_image", "right_image")]
    answer = onnx.helper.make_tensor_value_info("disparity", onnx.TensorProto.FLOAT, [1, 1, 64, 96])
    nodes = [onnx.helper.make_node("Conv", [value.name, "weight"], [f"{value.name}_out"], name=f"conv_{value.name}") for value in images]
    nodes.append(onnx.helper.make_node("Add", ["left_image_out", "right_image_out"], ["disparity"], name="sum"))
    graph = onnx.helper.make_graph(nodes, "two", images, [answer], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_stereo_is_calibrated_on_both_images(scenes: SampleSet, tmp_path: Path) -> None:
    spec = stereo_spec(*lists(scenes, "stereo", "GenericDataset"), "dataset.val_dataset.workers=0")
    spec = with_values(spec, {**STATIC, "quantize.max_metric_drop": 9.0})
    done = quantize(two_convolutions(tmp_path / "model.onnx"), spec, tmp_path / "out")
    with calibration(spec, (64, 96), tmp_path) as images:
        right = torch.cat([pair[1] for pair in images.images()])
    held = {value.name: onnx.numpy_helper.to_array(value) for value in onnx.load(done.model).graph.initializer}
    assert (done.metric, sorted(done.kinds)) == ("epe", ["conv_left_image", "conv_right_image"])
    assert held["right_image_scale"] == pytest.approx(float(right.max() - right.min()) / 255, rel=1e-5)
    assert load_predictor(done.model, spec).predict(images_of(spec, 1)).shape == (1, 1, 64, 96)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"quantize.backend": "modelopt.onnx"}, "needs nvidia-modelopt"),
        ({"quantize.mode": "static_ptq"}, "static_ptq is not one of backend torchao"),
        ({"quantize.algorithm": "awq_lite"}, "awq_lite is not one of backend torchao"),
        ({"quantize.backend_kwargs": {"group": 8}}, "backend_kwargs must be empty"),
        ({"quantize.device": "trt"}, "device trt is not supported"),
        ({"quantize.device": "cuda:64"}, r"device is cuda:64, but torch sees \w+ GPU"),
        ({"quantize.layers": [{"module_name": "Lineer", "weights": {"dtype": "int8"}}]}, "fits none of the parts"),
        ({"quantize.skip_names": ["Linear"]}, "nothing is left to quantise"),
        ({**STATIC}, "backend onnxruntime takes .onnx"),
        ({**STATIC, "dataset.train_dataset.data_sources": []}, "the train lists are empty"),
        ({**STATIC, "quantize.backend_kwargs": {"symetric": True}}, "symetric is not known"),
        ({**STATIC, "quantize.layers": [{"module_name": "*", "weights": {"dtype": "fp8_e5m2"}}]}, "backend onnxruntime takes int8"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(values: dict, told: str, spec: Spec, checkpoint: Path, tmp_path: Path) -> None:  # type: ignore[type-arg]
    pytest.importorskip("torchao", reason="torchao is not installed: pip install -e '.[quant]'")
    with pytest.raises((SpecError, UnsupportedError), match=told):
        check_quantize(with_values(spec, values), checkpoint, tmp_path)


def test_an_existing_model_is_kept(spec: Spec, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed: pip install -e '.[quant]'")
    (tmp_path / "quantized_model_torchao.pth").write_bytes(b"mine")
    with pytest.raises(UserError, match="not overwritten"):
        check_quantize(spec, checkpoint, tmp_path)
    check_quantize(with_values(spec, {"quantize.overwrite": True}), checkpoint, tmp_path)


def test_other_files_of_the_folder_stay(spec: Spec, exported: Path, tmp_path: Path) -> None:
    model = shutil.copyfile(exported, tmp_path / "candidate.onnx")
    quantize(model, with_values(spec, STATIC), tmp_path)
    assert names(tmp_path) == ["candidate.onnx", "quantize.json", "quantized_model_onnxruntime.json", "quantized_model_onnxruntime.onnx"]


def test_a_model_does_not_replace_itself(packed: Quantized, spec: Spec) -> None:
    with pytest.raises(UserError, match="which this run would replace"):
        check_quantize(with_values(spec, {"quantize.overwrite": True}), packed.model, packed.model.parent)


def test_without_torchao_one_error_says_how_to_get_it(
    spec: Spec, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(UnsupportedError, match="torchao, which is not installed") as caught:
        check_quantize(spec, checkpoint, tmp_path)
    assert caught.value.hint == "pip install -e '.[quant]'"
