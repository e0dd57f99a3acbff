"""Which published network a set of tensors belongs to, told from names and shapes alone.

Sources of the names: DINOv2, Depth Anything V2 and their Hugging Face forms, timm, FoundationStereo, NVIDIA TAO depth_net (all by
their state dicts).  Facts come out as `Traits`; a file and a network are described alike, so that a misfit can be named before loading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from models.backbones.dinov2 import ENCODERS

Shapes = Mapping[str, Sequence[int]]

SIDE_PREFIX = "feature.dino.depth_anything."
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_LOOKUP_CHANNELS = 29  # 28 of the cost volume and one of the all-pairs correlation, for each sampled place


class Layout(Enum):
    """A published naming, and what people call it."""

    DINOV2 = "DINOv2 encoder"
    DINOV2_HF = "DINOv2 encoder, Hugging Face names"
    DEPTH_ANYTHING = "Depth Anything V2"
    DEPTH_ANYTHING_HF = "Depth Anything V2, Hugging Face names"
    TAO_METRIC = "TAO metric Depth Anything V2"
    EDGENEXT_TIMM = "EdgeNeXt, timm names"
    EDGENEXT_TAO = "EdgeNeXt, TAO names"
    STEREO_NVLABS = "FoundationStereo, nvlabs graph"
    STEREO_TAO = "FoundationStereo, tao graph"


ENCODER_LAYOUTS = (Layout.DINOV2, Layout.DINOV2_HF)
MONO_LAYOUTS = (Layout.DEPTH_ANYTHING, Layout.TAO_METRIC, Layout.DEPTH_ANYTHING_HF)
TRUNK_LAYOUTS = (Layout.EDGENEXT_TIMM, Layout.EDGENEXT_TAO)
STEREO_LAYOUTS = (Layout.STEREO_NVLABS, Layout.STEREO_TAO)
# a layout is the first whose every mark begins some name
_MARKS = (
    (Layout.STEREO_TAO, ("cost_agg.atts.cost_vol_disp.",)),
    (Layout.STEREO_NVLABS, ("cost_agg.atts.4.", "corr_stem.1.bn.")),
    (Layout.STEREO_TAO, ("cost_agg.atts.4.",)),  # our own files of the tao graph keep nvlabs names; that graph has no norm to store there
    (Layout.TAO_METRIC, ("pretrained.blocks.0.", "metric_depth_head.")),
    (Layout.DEPTH_ANYTHING, ("pretrained.blocks.0.", "depth_head.")),
    (Layout.DINOV2, ("blocks.0.attn.qkv.", "patch_embed.proj.")),
    (Layout.DEPTH_ANYTHING_HF, ("backbone.encoder.layer.0.", "neck.fusion_stage.layers.")),
    (Layout.DINOV2_HF, ("encoder.layer.0.attention.attention.query.", "embeddings.patch_embeddings.")),
    (Layout.EDGENEXT_TIMM, ("stages.0.blocks.0.conv_dw.",)),
    (Layout.EDGENEXT_TAO, ("stages.0.0.dwconv.",)),
)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What names and shapes say; None where they say nothing.

    `width` is the encoder's, also when it is no known size; `trunk_width` that of EdgeNeXt's stem.
    """

    encoder: str | None = None
    width: int | None = None
    use_bn: bool | None = None
    use_clstoken: bool | None = None
    trunk_width: int | None = None
    variant: str | None = None
    corr_levels: int | None = None
    corr_radius: int | None = None
    hidden_dim: int | None = None
    gru_layers: int | None = None


def unwrapped_names(names: Iterable[str]) -> dict[str, str]:
    """Name in the file -> name in the network, for the tensors of the network: wrapper prefixes (`model.`, `module.`) go.

    Where some names have the prefix and others have not (a loss with weights beside the network), the others are left out.
    """
    found = {name: name for name in names}
    while True:
        prefix = next((wrapper for wrapper in _WRAPPERS if any(name.startswith(wrapper) for name in found.values())), None)
        if prefix is None:
            return found
        found = {source: name.removeprefix(prefix) for source, name in found.items() if name.startswith(prefix)}


def recognise(names: Iterable[str]) -> Layout | None:
    """The layout of unwrapped names, or None for a stranger."""
    known = list(names)
    for layout, starts in _MARKS:
        if all(any(name.startswith(start) for name in known) for start in starts):
            return layout
    return None


def describe(shapes: Shapes) -> Traits:
    """Traits of any network or file, from unwrapped names; the encoder may lie at the root, under `pretrained.` or in a stereo network."""
    side = next((prefix for prefix in (SIDE_PREFIX, "") if f"{prefix}pretrained.pos_embed" in shapes), None)
    encoder = f"{side}pretrained." if side is not None else ""
    width = _size(shapes, f"{encoder}pos_embed", -1)
    stem = next((name for name in shapes if re.search(r"(^|\.)(stem|downsample_layers\.0)\.0\.weight$", name)), None)
    gru_layers = sum(1 for name in shapes if re.search(r"^context_zqr_convs\.\d\.weight$", name))
    levels, radius = _lookup(_size(shapes, "update_block.encoder.convc1.weight", 1))
    return Traits(
        encoder=next((name for name, sizes in ENCODERS.items() if sizes.dim == width), None),
        width=width,
        use_bn=None if side is None else any("resConfUnit2.bn1." in name for name in shapes),
        use_clstoken=None if side is None else any("readout_projects." in name for name in shapes),
        trunk_width=None if stem is None else int(shapes[stem][0]),
        variant={Layout.STEREO_NVLABS: "nvlabs", Layout.STEREO_TAO: "tao"}.get(recognise(shapes) or Layout.DINOV2),
        corr_levels=levels,
        corr_radius=radius,
        hidden_dim=_size(shapes, "update_block.disp_head.conv.0.weight", 1),
        gru_layers=gru_layers or None,
    )


def _size(shapes: Shapes, name: str, axis: int) -> int | None:
    return int(shapes[name][axis]) if name in shapes else None


def _lookup(channels: int | None) -> tuple[int | None, int | None]:
    """Levels and radius from levels * (2 radius + 1) * 29 input channels: an odd count is one level, an even one two."""
    if channels is None or channels % _LOOKUP_CHANNELS:
        return None, None
    places = channels // _LOOKUP_CHANNELS
    levels = 2 if places % 2 == 0 else 1
    return levels, (places // levels - 1) // 2
