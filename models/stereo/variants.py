"""The two published graphs of FoundationStereo, as the choices in which they differ.

`nvlabs` is the graph of the paper's release (arXiv 2501.09898), `tao` that of NVIDIA TAO's depth_net (Apache-2.0).
Weights of one graph cannot give the answers of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from models.stereo.disparity_attention import Heads
from models.stereo.layers import Norm
from search_spaces.errors import SpecError, nearest


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One published graph.

    `attention_norm`: norm of the first convolution in the volume stem, the classifier, the feature attentions and the
    fusion of the context network.  `transposed_merge`: the 1x1x1 merge at 1/8 is a transposed convolution.
    `transposed_mask`: so is the 3x3 one of the upsampling mask, which then has no activation.
    `upsample_before_attention`: the disparity transformer sees the full volume instead of 4x4x4 patches.
    """

    name: str
    attention_norm: Norm
    transposed_merge: bool
    transposed_mask: bool
    upsample_before_attention: bool
    patch_padding: tuple[int, int, int]
    heads: Heads


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "nvlabs": Variant(
            name="nvlabs",
            attention_norm="batch",
            transposed_merge=False,
            transposed_mask=False,
            upsample_before_attention=False,
            patch_padding=(0, 0, 0),
            heads="across_heads",
        ),
        "tao": Variant(
            name="tao",
            attention_norm="instance",
            transposed_merge=True,
            transposed_mask=True,
            upsample_before_attention=True,
            patch_padding=(1, 1, 0),
            heads="mixed",
        ),
    }
)


def find_variant(name: str) -> Variant:
    """The graph called `name`; SpecError when there is none."""
    if name in VARIANTS:
        return VARIANTS[name]
    guess = nearest(name, VARIANTS)
    raise SpecError(
        f"model.variant must be one of {', '.join(VARIANTS)}, but got {name!r}",
        hint=f"did you mean {guess!r}?" if guess else "nvlabs is the paper's graph, tao the one of NVIDIA TAO checkpoints",
    )
