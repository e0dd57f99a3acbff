"""Published sizes and shapes that no other test of the networks holds; networks without storage, so that the large ones cost nothing."""

from __future__ import annotations

import pytest
import torch

from models.mono.depth_anything import DepthAnything
from models.names import tao_stereo_name
from models.stereo.foundation_stereo import FoundationStereo

Shapes = dict[str, tuple[int, ...]]


def shapes_of(network: torch.nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def stereo(variant: str, encoder: str = "vits") -> Shapes:
    with torch.device("meta"):
        return shapes_of(FoundationStereo(encoder=encoder, variant=variant))


@pytest.mark.parametrize(
    ("encoder", "width", "millions"),
    [("vits", 384, (22.06, 2.73)), ("vitb", 768, (86.58, 10.89)), ("vitl", 1024, (304.37, 30.95)), ("vitg", 1536, (1136.48, 121.65))],
)
def test_depth_anything_encoder_and_head(encoder: str, width: int, millions: tuple[float, float]) -> None:
    with torch.device("meta"):
        network = DepthAnything(encoder, max_depth=None, relative=True)
    counted = [sum(value.numel() for value in part.parameters()) / 1e6 for part in (network.pretrained, network.depth_head)]
    assert counted == pytest.approx(list(millions), abs=0.006)
    assert network.pretrained.pos_embed.shape == (1, 1370, width)


def test_depth_anything_shapes_at_336() -> None:
    seen: Shapes = {}
    with torch.device("meta"), torch.no_grad():
        network = DepthAnything("vits", max_depth=None, relative=True).eval()
        for level in range(1, 5):
            path = network.depth_head.scratch.get_submodule(f"refinenet{level}")
            path.register_forward_hook(lambda _, __, out, level=level: seen.update({f"path_{level}": tuple(out.shape[-2:])}))
        network.pretrained.patch_embed.register_forward_hook(lambda _, __, out: seen.update(tokens=tuple(out.shape[1:])))
        out = network.side_features(torch.empty(1, 3, 336, 336))
    assert seen == {"tokens": (576, 384), "path_4": (24, 24), "path_3": (48, 48), "path_2": (96, 96), "path_1": (192, 192)}
    assert out.shape == (1, 32, 336, 336)


@pytest.mark.parametrize(
    ("encoder", "trainable", "total"),
    [("vits", 37.55, 62.33), ("vitb", 38.01, 135.48), ("vitl", 39.20, 374.52)],
)
def test_foundation_stereo_of_tao_in_millions(encoder: str, trainable: float, total: float) -> None:
    with torch.device("meta"):
        network = FoundationStereo(encoder=encoder, variant="tao")
    counted = [value.numel() / 1e6 for value in network.parameters() if value.requires_grad]
    assert sum(counted) == pytest.approx(trainable, abs=0.006)
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(total, abs=0.006)


def test_what_the_two_published_graphs_share() -> None:
    official, tao = stereo("nvlabs"), {tao_stereo_name(name): shape for name, shape in stereo("tao").items()}
    both = official.keys() & tao.keys()
    assert sum(official[name] == tao[name] for name in both) == 832
    assert (len(official.keys() - tao.keys()), len(tao.keys() - official.keys())) == (359, 314)
    other_shape = {name: (official[name], tao[name]) for name in both if official[name] != tao[name]}
    assert other_shape == {"cost_agg.agg_1.0.conv.weight": ((56, 112, 1, 1, 1), (112, 56, 1, 1, 1))}
