"""One `predict` over torch and ONNX Runtime, and what is said when a file and a spec do not fit."""

from __future__ import annotations

import sysconfig
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from deploy.onnx_export import export_onnx
from deploy.runtime import OnnxPredictor, TorchPredictor, check_facts, load_predictor
from deploy.torch_runtime import has_compiler
from search_spaces.errors import CheckpointError, DataError, SpecError, UnsupportedError
from search_spaces.spec import Spec
from tests.deploy.networks import images_of, mono_spec, network_of, save_checkpoint, stereo_spec
from tests.machine import onnx_name


@pytest.fixture(scope="module")
def spec() -> Spec:
    return mono_spec()


@pytest.fixture(scope="module")
def network(spec: Spec) -> nn.Module:
    return network_of(spec)


@pytest.fixture(scope="module")
def pairs_of_two(spec: Spec, network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose batch is fixed at 2."""
    return export_onnx(network, spec, tmp_path_factory.mktemp("two") / "model.onnx", height=28, width=42, batch=2).path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_fixed_batch_takes_any_number_of_images(spec: Spec, network: nn.Module, pairs_of_two: Path, count: int) -> None:
    images = images_of(spec, count)
    answered = OnnxPredictor(pairs_of_two).predict(images)
    torch.testing.assert_close(answered, TorchPredictor(network, "mono", device="cpu").predict(images), atol=1e-4, rtol=1e-4)


def test_it_knows_its_size_family_and_facts(pairs_of_two: Path) -> None:
    predictor = OnnxPredictor(pairs_of_two)
    assert (predictor.fixed_size, predictor.family, predictor.batch, predictor.name) == ((28, 42), "mono", 2, onnx_name())
    assert predictor.facts is not None
    assert predictor.facts.max_depth == 20


def test_another_size_is_refused(spec: Spec, pairs_of_two: Path) -> None:
    with pytest.raises(DataError, match="28x42 only, but got 42x42"):
        OnnxPredictor(pairs_of_two).predict(images_of(spec, 1, size=(42, 42)))


def test_a_missing_right_image_is_refused() -> None:
    spec = stereo_spec()
    with pytest.raises(DataError, match=r"2 image\(s\), but got 1"):
        TorchPredictor(network_of(spec), "stereo", device="cpu").predict(images_of(spec, 1)[:1])


def test_torch_answers_with_one_channel(spec: Spec, network: nn.Module) -> None:
    assert TorchPredictor(network, "mono", device="cpu").predict(images_of(spec, 3)).shape == (3, 1, 28, 42)


def test_a_checkpoint_is_loaded_by_its_ending(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    predictor = load_predictor(save_checkpoint(network, spec, tmp_path / "best.pth"), spec, device="cpu")
    images = images_of(spec, 1)
    assert torch.equal(predictor.predict(images), TorchPredictor(network, "mono", device="cpu").predict(images))


def test_a_checkpoint_of_another_network_is_explained(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(network, spec, tmp_path / "best.pth")
    with pytest.raises(CheckpointError, match=r"dataset\.max_depth is 20") as caught:
        load_predictor(checkpoint, mono_spec("dataset.max_depth=10"))
    assert caught.value.hint == "add dataset.max_depth=20.0"


def test_an_onnx_file_of_another_network_is_explained(pairs_of_two: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.encoder is vitt in the file, vits in the spec") as caught:
        load_predictor(pairs_of_two, mono_spec("model.encoder=vits"))
    assert caught.value.hint == "add model.encoder=vitt"


def test_the_other_graph_of_foundation_stereo_is_explained(pairs_of_two: Path) -> None:
    facts = OnnxPredictor(pairs_of_two).facts
    assert facts is not None
    facts = replace(facts, model_type="FoundationStereo", variant="nvlabs", min_depth=None, max_depth=None)
    model: Any = SimpleNamespace(path=pairs_of_two, family="stereo", facts=facts)
    with pytest.raises(CheckpointError, match=r"model\.variant is nvlabs in the file, tao in the spec") as caught:
        check_facts(model, stereo_spec("model.variant=tao"), "val")
    assert caught.value.hint == "add model.variant=nvlabs"


def test_a_mono_file_does_not_fit_a_stereo_spec(pairs_of_two: Path) -> None:
    with pytest.raises(CheckpointError, match="mono in the file, stereo in the spec"):
        load_predictor(pairs_of_two, stereo_spec())


def test_a_missing_file_is_said(spec: Spec, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_predictor(tmp_path / "none.pth", spec)


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(("name", "told"), [("model.engine", "tensorrt"), ("model.zip", r"\.zip")])
def test_a_kind_of_file_that_nothing_runs_is_said(spec: Spec, tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UnsupportedError, match=told):
        load_predictor(tmp_path / name, spec)


def test_a_file_that_is_no_onnx_is_said(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="cannot load the model"):
        load_predictor(tmp_path / "model.onnx", spec)


def test_a_strangers_graph_is_refused_by_its_inputs(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 28, 42])
    answer = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 28, 42])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [value], [answer])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "model.onnx")
    with pytest.raises(UnsupportedError, match="but got x"):
        OnnxPredictor(tmp_path / "model.onnx")


def test_a_published_range_is_not_contradicted(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "depth_anything_v2_metric_vkitti_vits.pth"  # published for 80 m, the spec says 20
    torch.save(network.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"reaches to 80 m, but dataset\.max_depth is 20") as caught:
        load_predictor(path, spec)
    assert caught.value.hint == "add dataset.max_depth=80"


def test_bf16_is_near_and_not_the_same(spec: Spec, network: nn.Module) -> None:
    images = images_of(spec, 2)
    exact = TorchPredictor(network, "mono", device="cpu").predict(images)
    rounded = TorchPredictor(network, "mono", device="cpu", runtime="bf16").predict(images)
    assert 0 < float((rounded - exact).abs().max()) < 0.005 * float(exact.max())


@pytest.mark.skipif(
    not has_compiler("cpu") or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="torch.compile takes a C++ compiler and the headers of Python: apt-get install g++ python3-dev",
)
def test_compiled_gives_the_same_answer() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 1, 3, padding=1)
    image = (torch.rand(1, 3, 6, 8),)
    compiled = TorchPredictor(network, "mono", device="cpu", runtime="compiled")
    torch.testing.assert_close(compiled.predict(image), TorchPredictor(network, "mono", device="cpu").predict(image))
    assert compiled.name == "torch compiled"


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/compiler")
    with pytest.raises(UnsupportedError, match=r"needs g\+\+ or clang\+\+"):
        TorchPredictor(nn.Identity(), "mono", device="cpu", runtime="compiled")


def test_compiling_needs_the_headers_of_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "/bin/sh")
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(UnsupportedError, match=r"needs Python\.h"):
        TorchPredictor(nn.Identity(), "mono", device="cpu", runtime="compiled")


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_each_device_has_its_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, variable: str) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_compiler(device)
    monkeypatch.setenv(variable, "/bin/sh")
    assert has_compiler(device)


@pytest.mark.parametrize(("runtime", "told"), [("bf16", "not for .onnx files"), ("tensorrt", "TensorrtExecutionProvider, but it has")])
def test_a_runtime_that_a_file_does_not_have_is_refused(
    monkeypatch: pytest.MonkeyPatch, spec: Spec, pairs_of_two: Path, runtime: str, told: str
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises((SpecError, UnsupportedError), match=told):
        load_predictor(pairs_of_two, spec, runtime=runtime)


@pytest.mark.usefixtures("without_gpu")
def test_cuda_without_a_gpu_is_refused(network: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="torch sees none"):
        TorchPredictor(network, "mono", runtime="cuda")
