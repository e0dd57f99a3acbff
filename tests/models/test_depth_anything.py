"""Depth Anything V2: ranges, gradients, the side features, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.mono.depth_anything import DepthAnything
from models.mono.dpt import Fusion


def small(*, relative: bool, max_depth: float | None = None, use_bn: bool = False, use_clstoken: bool = False) -> DepthAnything:
    torch.manual_seed(0)
    return DepthAnything("vitt", max_depth=max_depth, relative=relative, use_bn=use_bn, use_clstoken=use_clstoken).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(2, 3, 28, 42, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("encoder", "names", "millions"), [("vits", 239, 24.79), ("vitb", 239, 97.47), ("vitl", 407, 335.32), ("vitg", 631, 1258.13)]
)
def test_published_sizes(encoder: str, names: int, millions: float) -> None:
    with torch.device("meta"):
        network = DepthAnything(encoder, max_depth=None, relative=True)
    assert len(network.state_dict()) == names
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def test_relative_depth_is_never_negative(image: torch.Tensor) -> None:
    depth = small(relative=True)(image)
    assert depth.shape == (2, 28, 42)
    assert depth.min() >= 0


def test_an_untrained_relative_network_is_not_dead(image: torch.Tensor) -> None:
    assert (small(relative=True)(image) > 0).float().mean() > 0.9


def test_metric_depth_stays_within_its_range(image: torch.Tensor) -> None:
    depth = small(relative=False, max_depth=20.0)(image)
    assert 0 < depth.min() < depth.max() < 20.0


def test_metric_depth_is_the_unit_map_times_max_depth(image: torch.Tensor) -> None:
    unit, scaled = small(relative=False), small(relative=False, max_depth=80.0)
    assert torch.allclose(unit(image) * 80.0, scaled(image))


def test_an_image_does_not_depend_on_its_batch(image: torch.Tensor) -> None:
    network = small(relative=True)
    assert torch.allclose(network(image)[1], network(image[1:])[0], atol=1e-6)


@pytest.mark.parametrize("use_bn", [False, True])
@pytest.mark.parametrize("use_clstoken", [False, True])
def test_gradients_reach_all_but_the_idle_parameters(image: torch.Tensor, use_bn: bool, use_clstoken: bool) -> None:
    network = small(relative=True, use_bn=use_bn, use_clstoken=use_clstoken).train()
    network(image).sum().backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert without == network.unused_parameters()
    assert "pretrained.mask_token" in without


def test_side_features_are_the_map_before_the_depth_convolutions(image: torch.Tensor) -> None:
    network = small(relative=True)
    side = network.side_features(image)
    assert side.shape == (2, network.side_channels, 28, 42)
    assert torch.allclose(network.depth_head.scratch.output_conv2(side)[:, 0], network(image))


def test_the_class_token_changes_the_answer_when_asked_for(image: torch.Tensor) -> None:
    network = small(relative=True, use_clstoken=True)
    assert network.depth_head.readout_projects is not None
    levels = network.pretrained(image)
    before = network.depth_head(levels)
    for level in levels:
        level.token_BC.neg_()
    assert not torch.allclose(before, network.depth_head(levels))


def test_the_small_convolution_commutes_with_the_resize() -> None:
    torch.manual_seed(0)
    fusion, path = Fusion(8, use_bn=False), torch.randn(1, 8, 3, 4)
    published = fusion.out_conv(torch.nn.functional.interpolate(fusion.resConfUnit2(path), (6, 8), mode="bilinear", align_corners=True))
    assert torch.allclose(fusion(path, None, (6, 8)), published, atol=1e-6)


def test_half_precision_gives_float32_near_the_full_answer(image: torch.Tensor) -> None:
    network = small(relative=True)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        depth = network(image)
    assert depth.dtype == torch.float32
    assert torch.allclose(depth, network(image), rtol=0.03)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_onnx_gives_the_same_map(image: torch.Tensor, tmp_path: Path, dynamo: bool) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    network, path = small(relative=False, max_depth=10.0, use_clstoken=True), tmp_path / "network.onnx"
    torch.onnx.export(network, (image,), str(path), input_names=["images"], opset_version=18, dynamo=dynamo)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answer = session.run(None, {"images": image.numpy()})[0]
    assert np.abs(answer - network(image).detach().numpy()).max() < 1e-4
