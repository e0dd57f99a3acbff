"""Features of both images: a frozen Depth Anything V2 beside an EdgeNeXt-small U-Net, fused at a quarter of the size.

Follows "FoundationStereo" (arXiv 2501.09898), side-tuning adapter.

Shapes: B images (left and right together), H W pixels (multiples of 32), F channels of the side network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.edgenext import WIDTHS, EdgeNeXt
from models.mono.depth_anything import DepthAnything
from models.stereo.layers import BasicBlock, ConvNorm, ResidualBlock

SIDE_STEP_PX = 112  # least common multiple of the 14 px patch and the 16 px step of the published resize
SIDE_CAP_PX = 1344


def side_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns at which the side network looks at an image of `height` x `width` pixels.

    Each side is rounded up to a multiple of 112; if the longer one then exceeds 1344, it becomes 1344 and the other
    one is scaled alike and rounded up again.
    """
    rows, columns = (math.ceil(side / SIDE_STEP_PX) * SIDE_STEP_PX for side in (height, width))
    longest = max(rows, columns)
    if longest <= SIDE_CAP_PX:
        return rows, columns
    rows, columns = (math.ceil(side * SIDE_CAP_PX / longest / SIDE_STEP_PX) * SIDE_STEP_PX for side in (rows, columns))
    return rows, columns


class SideNetwork(nn.Module):
    """Depth Anything V2 that is never trained: always in evaluation mode, without gradients."""

    def __init__(self, encoder: str, *, use_bn: bool, use_clstoken: bool) -> None:
        super().__init__()
        self.depth_anything = DepthAnything(encoder, max_depth=None, relative=True, use_bn=use_bn, use_clstoken=use_clstoken)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> SideNetwork:
        """This network, in evaluation mode whatever `mode` says."""
        del mode
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, image_B3HW: Tensor) -> Tensor:
        """(B, F, H/4, W/4) for a normalised image."""
        height, width = int(image_B3HW.shape[-2]), int(image_B3HW.shape[-1])
        resized = F.interpolate(image_B3HW, size=side_size(height, width), mode="bicubic", align_corners=False)
        features = self.depth_anything.side_features(resized)
        return F.interpolate(features, size=(height // 4, width // 4), mode="bilinear", align_corners=True)


class UpBlock(nn.Module):
    """Doubles a map, sets it beside the skip map and refines both together."""

    def __init__(self, inputs: int, skip: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, skip, 4, stride=2, norm="instance", transposed=True)
        self.conv2 = BasicBlock(2 * skip, dims=2, norm="instance")

    def forward(self, x_BCHW: Tensor, skip_BCHW: Tensor) -> Tensor:
        """(B, 2 skip, 2H, 2W)."""
        out: Tensor = self.conv2(torch.cat((self.conv1(x_BCHW), skip_BCHW), dim=1))
        return out


class Features(EdgeNeXt):
    """The trunk, its decoder and the side network; `channels` are those of the four maps it gives."""

    def __init__(self, encoder: str, *, use_bn: bool, use_clstoken: bool) -> None:
        super().__init__()
        self.dino = SideNetwork(encoder, use_bn=use_bn, use_clstoken=use_clstoken)
        self.deconv32_16 = UpBlock(WIDTHS[3], WIDTHS[2])
        self.deconv16_8 = UpBlock(2 * WIDTHS[2], WIDTHS[1])
        self.deconv8_4 = UpBlock(2 * WIDTHS[1], WIDTHS[0])
        fused = 2 * WIDTHS[0] + self.dino.depth_anything.side_channels
        self.conv4 = nn.Sequential(
            ConvNorm(fused, fused, 3, norm="instance"),
            ResidualBlock(fused, fused, norm="instance"),
            ResidualBlock(fused, fused, norm="instance"),
        )
        self.channels = (fused, 2 * WIDTHS[1], 2 * WIDTHS[2], WIDTHS[3])

    def pyramid(self, image_B3HW: Tensor) -> tuple[list[Tensor], Tensor]:
        """Four maps at 1/4, 1/8, 1/16, 1/32 with `channels`, and the side network's map (B, F, H/4, W/4)."""
        quarter, eighth, sixteenth, last = self.trunk(image_B3HW)
        sixteenth = self.deconv32_16(last, sixteenth)
        eighth = self.deconv16_8(sixteenth, eighth)
        quarter = self.deconv8_4(eighth, quarter)
        side = self.dino(image_B3HW)
        fused = self.conv4(torch.cat((quarter, side.to(quarter.dtype)), dim=1))
        return [fused, eighth, sixteenth, last], side
