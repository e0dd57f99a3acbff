"""Weight files as other programs write them: names and containers of each publication, at small sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbones.edgenext import EdgeNeXt
from models.mono.depth_anything import DepthAnything
from models.stereo.foundation_stereo import FoundationStereo

State = dict[str, Tensor]


def mono(seed: int, *, relative: bool = True, use_bn: bool = False, max_depth: float = 10.0) -> DepthAnything:
    torch.manual_seed(seed)
    return DepthAnything("vitt", max_depth=None if relative else max_depth, relative=relative, use_bn=use_bn)


def stereo(seed: int, **knobs: object) -> FoundationStereo:
    torch.manual_seed(seed)
    return FoundationStereo(**({"encoder": "vitt", "max_disparity": 64} | knobs))  # type: ignore[arg-type]


def edgenext(seed: int) -> State:
    torch.manual_seed(seed)
    return dict(EdgeNeXt().state_dict())


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def lightning(state: Mapping[str, Tensor], **more: object) -> dict[str, object]:
    return {"pytorch-lightning_version": "2.5.0", "epoch": 3, "global_step": 40, "state_dict": prefixed(state, "model."), **more}


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def renamed(state: Mapping[str, Tensor], *rules: tuple[str, str]) -> State:
    result: State = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)  # noqa: PLW2901
        result[name] = tensor
    return result


def tao_trunk(state: Mapping[str, Tensor]) -> State:
    """The names that TAO gives to timm's."""
    return renamed(
        state,
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
        (r"\.conv_dw\.", ".dwconv."),
        (r"\.mlp\.fc([12])\.", r".pwconv\1."),
    )


def tao_stereo(state: Mapping[str, Tensor]) -> State:
    """The names that TAO gives to those of the paper's release."""
    trunk = {name: tensor for name, tensor in state.items() if name.startswith(("feature.stem.", "feature.stages."))}
    rest = {name: tensor for name, tensor in state.items() if name not in trunk}
    rest = renamed(rest, (r"^(cost_agg\..*)\.bn\.", r"\1.norm."), (r"^cost_agg\.atts\.4\.", "cost_agg.atts.cost_vol_disp."))
    return {**rest, **prefixed(tao_trunk(without_prefix(trunk, "feature.")), "feature.")}


def same(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    own = network.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)
