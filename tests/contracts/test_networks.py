"""What every registered network promises: shapes, the stride, gradients, ONNX parity, a state dict and weight files that go round."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deploy.onnx_export import export_onnx
from deploy.parity import Candidate, compare, tolerance_for
from deploy.runtime import OnnxPredictor, TorchPredictor
from deploy.samples import Sample
from models.registry import build_network, network_info
from models.weights import load_weights
from search_spaces.errors import UserError
from search_spaces.spec import Spec, load_spec

STEREO = ["model.model_type=FoundationStereo", "dataset.dataset_name=StereoDataset", "model.hidden_dims=[48,48,48]"]
STEREO += ["model.max_disparity=64", "dataset.max_disparity=64", "model.train_iters=2", "model.valid_iters=2"]
MONO = ["dataset.dataset_name=MonoDataset"]
NETWORKS = {
    "FoundationStereo nvlabs": [*STEREO, "model.variant=nvlabs"],
    "FoundationStereo tao": [*STEREO, "model.variant=tao"],
    "RelativeDepthAnything": [*MONO, "model.model_type=RelativeDepthAnything"],
    "MetricDepthAnything": [*MONO, "model.model_type=MetricDepthAnything", "dataset.max_depth=20"],
}
SIZES = {"stereo": (64, 96), "mono": (28, 42)}


def spec_of(name: str) -> Spec:
    split = ["64,96", "64,96"] if name.startswith("Foundation") else ["28,42", "28,42"]
    crops = [f"dataset.{part}_dataset.augmentation.crop_size=[{size}]" for part, size in zip(("train", "val"), split, strict=True)]
    return load_spec(None, ["model.encoder=vitt", *crops, *NETWORKS[name]])


@pytest.fixture(params=sorted(NETWORKS))
def spec(request: pytest.FixtureRequest) -> Spec:
    return spec_of(request.param)


@pytest.fixture
def network(spec: Spec) -> nn.Module:
    torch.manual_seed(0)
    return build_network(spec)


def images(spec: Spec, batch: int = 2, size: tuple[int, int] | None = None) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    count = 2 if spec.family == "stereo" else 1
    return tuple(torch.randn(batch, 3, *(size or SIZES[spec.family]), generator=generator) for _ in range(count))


def test_gives_one_finite_map_per_image(spec: Spec, network: nn.Module) -> None:
    output = TorchPredictor(network, spec.family, device="cpu").predict(images(spec))
    assert output.shape == (2, 1, *SIZES[spec.family])
    assert torch.isfinite(output).all()


def test_refuses_a_size_off_its_stride(spec: Spec, network: nn.Module) -> None:
    stride = network_info(spec.model.model_type).stride
    with pytest.raises(UserError, match=str(stride)):
        TorchPredictor(network, spec.family, device="cpu").predict(images(spec, size=(2 * stride, 2 * stride + 1)))


def test_gradients_reach_every_trainable_parameter_but_the_listed_ones(spec: Spec, network: nn.Module) -> None:
    network.train()
    if spec.family == "stereo":
        initial, predictions = network.unroll(*images(spec), 2)  # type: ignore[operator]
        loss = initial.square().mean() + sum(prediction.square().mean() for prediction in predictions)
    else:
        loss = network(*images(spec)).square().mean()
    loss.backward()
    without = {name for name, value in network.named_parameters() if value.requires_grad and value.grad is None}
    listed = network.unused_parameters()  # type: ignore[operator]
    trainable = {name for name, value in network.named_parameters() if value.requires_grad}
    assert without == listed & trainable


def test_onnx_answers_as_torch_does(spec: Spec, network: nn.Module, tmp_path: Path) -> None:
    height, width = SIZES[spec.family]
    report = export_onnx(network, spec, tmp_path / "model.onnx", height=height, width=width)
    candidate = Candidate(predictor=OnnxPredictor(report.path), tolerance=tolerance_for(spec))
    samples = [Sample(images=images(spec, 1)), Sample(images=images(spec, 3))]
    (check,) = compare(TorchPredictor(network, spec.family, device="cpu"), [candidate], spec, samples).values()
    assert check.passed, check.reason


def test_a_state_dict_goes_round(spec: Spec, network: nn.Module) -> None:
    torch.manual_seed(7)
    other = build_network(spec)
    other.load_state_dict(network.state_dict(), strict=True)
    expected = TorchPredictor(network, spec.family, device="cpu").predict(images(spec, 1))
    assert torch.equal(TorchPredictor(other, spec.family, device="cpu").predict(images(spec, 1)), expected)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".tlt", ".safetensors"])
def test_weights_go_round_every_kind_of_file(spec: Spec, network: nn.Module, tmp_path: Path, suffix: str) -> None:
    path, state = tmp_path / f"weights{suffix}", network.state_dict()
    if suffix == ".safetensors":
        save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    else:
        wrapped = {"pytorch-lightning_version": "2.6.5", "state_dict": {f"model.{name}": tensor for name, tensor in state.items()}}
        own = {"spec": {"model": {"model_type": spec.model.model_type}}} if suffix == ".ckpt" else {}
        torch.save(wrapped | own if suffix == ".ckpt" else dict(state), path)
    torch.manual_seed(7)
    other = build_network(spec)
    report = load_weights(other, path)
    assert (report.loaded, report.missing, report.unexpected) == (len(state), 0, 0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.state_dict().items())
