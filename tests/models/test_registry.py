"""From a spec to a network."""

from __future__ import annotations

import pytest
import torch

from models.mono.depth_anything import DepthAnything
from models.registry import NETWORKS, build_network, network_info
from models.stereo.foundation_stereo import FoundationStereo
from search_spaces.errors import SpecError
from search_spaces.spec import load_spec, read_spec


def test_every_network_says_its_stride_and_output() -> None:
    facts = {name: (info.family, info.stride, info.output) for name, info in NETWORKS.items()}
    assert facts == {
        "FoundationStereo": ("stereo", 32, "disparity"),
        "MetricDepthAnything": ("mono", 14, "depth"),
        "RelativeDepthAnything": ("mono", 14, "relative"),
    }


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="FoundationSterio") as caught:
        network_info("FoundationSterio")
    assert caught.value.hint == "did you mean model.model_type=FoundationStereo?"


def test_the_metric_network_scales_by_the_dataset_range() -> None:
    spec = load_spec(None, ["model.model_type=MetricDepthAnything", "model.encoder=vitt", "dataset.min_depth=0.1", "dataset.max_depth=7"])
    network = build_network(spec)
    assert isinstance(network, DepthAnything)
    assert (network.max_depth, network.relative) == (7.0, False)


def test_backbone_switches_reach_the_mono_network() -> None:
    spec = load_spec(None, ["model.model_type=RelativeDepthAnything", "model.encoder=vitt", "model.mono_backbone.use_clstoken=true"])
    network = build_network(spec)
    assert isinstance(network, DepthAnything)
    assert network.relative
    assert network.depth_head.readout_projects is not None


def test_stereo_knobs_reach_the_network() -> None:
    knobs = ["encoder=vitt", "variant=tao", "max_disparity=64", "corr_radius=3", "valid_iters=5", "train_iters=4", "low_memory=1"]
    spec = load_spec(None, ["model.model_type=FoundationStereo", *(f"model.{knob}" for knob in knobs)])
    with torch.device("meta"):
        network = build_network(spec)
    assert isinstance(network, FoundationStereo)
    assert (network.corr_radius, network.valid_iters, network.train_iters, network.low_memory) == (3, 5, 4, True)
    assert network.state_dict()["update_block.encoder.convc1.weight"].shape[1] == 2 * 7 * 29


def test_a_seed_fixes_the_weights() -> None:
    spec = load_spec(None, ["model.model_type=RelativeDepthAnything", "model.encoder=vitt"])
    first, second = (_seeded(spec) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def _seeded(spec: object) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return build_network(spec).state_dict()  # type: ignore[arg-type]


def shapes(*overrides: str) -> dict[str, tuple[int, ...]]:
    spec = load_spec(None, ["model.model_type=FoundationStereo", "model.encoder=vitt", *overrides])
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in build_network(spec).state_dict().items()}


@pytest.mark.parametrize("key", ["model.cv_group=4", "model.volume_dim=16"])
def test_sizes_that_the_published_graph_fixes_change_nothing_and_say_so(key: str) -> None:
    assert shapes(key) == shapes()
    (line,) = [line for line in read_spec(None, ["model.model_type=FoundationStereo", key]).warnings if "has no effect" in line]
    assert line.startswith(key.partition("=")[0])


@pytest.mark.parametrize(
    "key", ["corr_radius=2", "corr_levels=1", "n_gru_layers=1", "hidden_dims=[48,48,48]", "stereo_backbone.use_bn=true"]
)
def test_sizes_that_act_change_the_layers(key: str) -> None:
    assert shapes(f"model.{key}") != shapes()


@pytest.mark.parametrize(("level", "chunks"), [(0, False), (1, True), (4, True)])
def test_low_memory_is_a_switch(level: int, chunks: bool) -> None:
    spec = load_spec(None, ["model.model_type=FoundationStereo", f"model.low_memory={level}", "model.mixed_precision=true"])
    with torch.device("meta"):
        network = build_network(spec)
    assert (network.low_memory, network.mixed_precision) == (chunks, True)


def test_only_a_quarter_of_the_size_exists() -> None:
    with pytest.raises(SpecError, match=r"model\.n_downsample must be 2, but is 1"):
        load_spec(None, ["model.model_type=FoundationStereo", "model.n_downsample=1"])
