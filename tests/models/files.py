"""Weight files as other programs write them: names and containers of each publication, at small sizes."""

from __future__ import annotations

import re
from collections import Counter
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


def tao(state: Mapping[str, Tensor], **more: object) -> dict[str, object]:
    """A whole TAO checkpoint: beside the weights loops, callbacks, optimiser, schedule and precision, as its trainer leaves them."""
    moments = {0: {"step": torch.tensor(40.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}}
    group = {"lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 1e-4, "foreach": None, "params": [0]}
    schedule = {"milestones": Counter([1000]), "gamma": 0.1, "base_lrs": [1e-4], "last_epoch": 40, "_last_lr": [1e-4]}
    callback: dict[str, object] = {
        "monitor": None,
        "best_model_score": None,
        "dirpath": "/results/train",
        "best_k_models": {},
        "last_model_path": "",
    }
    rest: dict[str, object] = {
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4, "completed": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_epochs': 1}": callback},
        "optimizer_states": [{"state": moments, "param_groups": [group]}],
        "lr_schedulers": [schedule],
        "MixedPrecision": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 3},
    }
    return lightning(state, **rest, **more)


def tao_metric(state: Mapping[str, Tensor]) -> State:
    """The names that TAO gives to those of a metric Depth Anything network."""
    return renamed(state, (r"^depth_head\.", "metric_depth_head."))


def hugging_face(state: Mapping[str, Tensor]) -> State:
    """The names that transformers gives to those of Depth Anything V2; it keeps query, key and value apart."""
    found: State = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                found[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = piece.clone()
        else:
            found[name.replace(".attn.proj.", ".attention.output.dense.")] = tensor
    found = renamed(
        found,
        (r"^pretrained\.blocks\.", "backbone.encoder.layer."),
        (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
        (r"^pretrained\.norm\.", "backbone.layernorm."),
        (r"^pretrained\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
        (r"^pretrained\.pos_embed$", "backbone.embeddings.position_embeddings"),
        (r"^pretrained\.", "backbone.embeddings."),
        (r"^depth_head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
        (r"^depth_head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
        (r"^depth_head\.scratch\.output_conv1\.", "head.conv1."),
        (r"^depth_head\.scratch\.output_conv2\.0\.", "head.conv2."),
        (r"^depth_head\.scratch\.output_conv2\.2\.", "head.conv3."),
        (r"resConfUnit([12])\.conv([12])", r"residual_layer\1.convolution\2"),
        (r"\.out_conv\.", ".projection."),
    )
    for level in range(1, 5):
        found = renamed(
            found,
            (rf"^depth_head\.scratch\.refinenet{level}\.", f"neck.fusion_stage.layers.{4 - level}."),
            (rf"^depth_head\.scratch\.layer{level}_rn\.", f"neck.convs.{level - 1}."),
        )
    return found


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
