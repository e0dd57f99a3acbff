"""The same tensors under other names: ours (those of the original releases) and TAO's, each way, and Hugging Face's into ours.

Sources of the names: timm and TAO's EdgeNeXt, FoundationStereo, NVIDIA TAO depth_net, transformers' DINOv2 and Depth Anything (all by
their state dicts).  Nothing is computed here but for the query, key and value that transformers keeps apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Rules = Sequence[tuple[re.Pattern[str], str]]

TRUNK_PREFIX = "feature."


def _rules(*pairs: tuple[str, str]) -> Rules:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


_TRUNK = _rules(
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.([123])\.", r"stages.\1.downsample."),
    (r"^stages\.(\d)\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
    (r"^stages\.(\d)\.(\d+)\.pwconv([12])\.", r"stages.\1.blocks.\2.mlp.fc\3."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^norm\.", "head.norm."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)
_TAO_TRUNK = _rules(
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.conv_dw\.", r"stages.\1.\2.dwconv."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.mlp\.fc([12])\.", r"stages.\1.\2.pwconv\3."),
    (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
    (r"^head\.norm\.", "norm."),
    (r"^head\.fc\.", "head."),
)
_ENCODER_HF = _rules(
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"^encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1$", r"blocks.\1.ls\2.gamma"),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.w12."),
    (r"^encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.w3."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."),
)
_HEAD_HF = _rules(
    (r"^neck\.reassemble_stage\.layers\.(\d)\.projection\.", r"projects.\1."),
    (r"^neck\.reassemble_stage\.layers\.(\d)\.resize\.", r"resize_layers.\1."),
    (r"^head\.conv1\.", "scratch.output_conv1."),
    (r"^head\.conv2\.", "scratch.output_conv2.0."),
    (r"^head\.conv3\.", "scratch.output_conv2.2."),
)
_CONV_HF = re.compile(r"^neck\.convs\.(\d)\.")
_FUSION_HF = re.compile(r"^neck\.fusion_stage\.layers\.(\d)\.")
_FUSION_PARTS = _rules(
    (r"^projection\.", "out_conv."),
    (r"^residual_layer([12])\.convolution([12])\.", r"resConfUnit\1.conv\2."),
    (r"^residual_layer([12])\.batch_norm([12])\.", r"resConfUnit\1.bn\2."),
)
_QUERY_HF = re.compile(r"^(?P<block>.*\.)attention\.attention\.query\.(?P<leaf>weight|bias)$")
# the norm of a convolution block; norms of other blocks are numbered (norm1) or lie at a block's root
_TAO_NORM, _NORM = ".norm.", ".bn."
_TAO_ATTENTION, _ATTENTION = "cost_agg.atts.cost_vol_disp.", "cost_agg.atts.4."


def mono_name(name: str) -> str:
    """The Depth Anything name for one of TAO's: only the metric head is called differently."""
    return re.sub(r"^metric_depth_head\.", "depth_head.", name)


def tao_mono_name(name: str, *, metric: bool) -> str:
    """TAO's name for a Depth Anything name."""
    return re.sub(r"^depth_head\.", "metric_depth_head.", name) if metric else name


def trunk_name(name: str) -> str:
    """timm's name for a TAO name of EdgeNeXt, counted from the trunk's root; other names come back as they are."""
    return _first(_TRUNK, name)


def tao_trunk_name(name: str) -> str:
    """TAO's name for a timm name of EdgeNeXt, counted from the trunk's root; other names come back as they are."""
    return _first(_TAO_TRUNK, name)


def stereo_name(name: str) -> str:
    """Our (nvlabs) name for a name of TAO's FoundationStereo; names of the nvlabs layout come back as they are."""
    if name.startswith(TRUNK_PREFIX):
        return TRUNK_PREFIX + trunk_name(name.removeprefix(TRUNK_PREFIX))
    name = name.replace(_TAO_ATTENTION, _ATTENTION)
    return name.replace(_TAO_NORM, _NORM) if name.startswith("cost_agg.") else name


def tao_stereo_name(name: str) -> str:
    """TAO's name for our name of a tensor of the tao graph."""
    if name.startswith(TRUNK_PREFIX):
        return TRUNK_PREFIX + tao_trunk_name(name.removeprefix(TRUNK_PREFIX))
    name = name.replace(_ATTENTION, _TAO_ATTENTION)
    return name.replace(_NORM, _TAO_NORM) if name.startswith("cost_agg.") else name


def encoder_from_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' DINOv2 under the original names; query, key and value become one matrix again."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        query = _QUERY_HF.match(name)
        if query:
            parts = [f"{query['block']}attention.attention.{part}.{query['leaf']}" for part in ("query", "key", "value")]
            joined = _first(_ENCODER_HF, f"{query['block']}attn.qkv.{query['leaf']}")
            found[joined] = torch.cat([tensors[part] for part in parts if part in tensors])
        elif ".attention.attention." not in name:
            found[_first(_ENCODER_HF, name)] = tensor
    return found


def mono_from_hugging_face(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' Depth Anything under the original names.  It counts fusion blocks from coarse to fine, the original the other way."""
    backbone = {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    encoder = {f"pretrained.{name}": tensor for name, tensor in encoder_from_hugging_face(backbone).items()}
    head = {f"depth_head.{_head_name(name)}": tensor for name, tensor in tensors.items() if not name.startswith("backbone.")}
    return {**encoder, **head}


def _head_name(name: str) -> str:
    conv, fusion = _CONV_HF.match(name), _FUSION_HF.match(name)
    if conv:
        return f"scratch.layer{int(conv[1]) + 1}_rn.{name[conv.end() :]}"
    if fusion:
        return f"scratch.refinenet{4 - int(fusion[1])}.{_first(_FUSION_PARTS, name[fusion.end() :])}"
    return _first(_HEAD_HF, name)


def _first(rules: Rules, name: str) -> str:
    """`name` after the first rule that fits it."""
    for pattern, replacement in rules:
        changed, count = pattern.subn(replacement, name)
        if count:
            return changed
    return name
