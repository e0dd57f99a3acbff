"""Depth Anything V2: depth of one image, relative (inverse depth up to scale and shift) or metric (metres).

Follows "Depth Anything V2" (arXiv 2406.09414; code Apache-2.0, https://github.com/DepthAnything/Depth-Anything-V2;
weights of vits are Apache-2.0, of the larger ones CC-BY-NC-4.0).  State-dict names are the published ones:
`pretrained.*` is the DINOv2 encoder, `depth_head.*` the DPT head.

Shapes: B images, H W pixels (multiples of 14), F = features of the head.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.backbones.dinov2 import ENCODERS, DinoV2
from models.mono.dpt import DptHead


class DepthAnything(nn.Module):
    """`forward` gives the depth map, `side_features` the map that FoundationStereo takes from it.

    `max_depth` (metres) scales the metric answer; None leaves it in 0..1.  A relative network ignores it.  `recompute_blocks` trains
    the encoder in less memory and more time.
    """

    def __init__(
        self,
        encoder: str,
        *,
        max_depth: float | None,
        relative: bool,
        use_bn: bool = False,
        use_clstoken: bool = False,
        recompute_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.relative = relative
        self.max_depth = max_depth
        self.pretrained = DinoV2(encoder, recompute_blocks=recompute_blocks)
        self.depth_head = DptHead(ENCODERS[encoder], use_bn=use_bn, use_clstoken=use_clstoken, relative=relative)

    @property
    def side_channels(self) -> int:
        """Channels of `side_features`: F / 2."""
        return ENCODERS[self.encoder].features // 2

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """(B, H, W) float32 for a normalised image: inverse depth >= 0, or metres in 0..max_depth.

        UserError when H or W is no multiple of 14.
        """
        depth: Tensor = self.depth_head(self.pretrained(image_B3HW)).squeeze(1).float()
        return depth if self.relative or self.max_depth is None else depth * self.max_depth

    def side_features(self, image_B3HW: Tensor) -> Tensor:
        """(B, F/2, H, W): the fused map before the depth convolutions, which are not run."""
        return self.depth_head.features(self.pretrained(image_B3HW))

    def blocks(self) -> list[nn.Module]:
        """The parts that ranks which share the weights gather one at a time: those of the encoder."""
        return list(self.pretrained.blocks)

    def unused_parameters(self) -> frozenset[str]:
        """Names of parameters that the published files hold and no output depends on: they never receive a gradient."""
        idle = ("pretrained.mask_token", "depth_head.scratch.refinenet4.resConfUnit1.")
        return frozenset(name for name, _ in self.named_parameters() if name.startswith(idle))
