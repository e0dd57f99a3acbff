"""Convex upsampling: each full-resolution disparity is a weighted mean of its nine quarter-resolution neighbours.

Follows "RAFT" (arXiv 2003.12039) with the learned weights of "IGEV-Stereo" (arXiv 2303.06615), as
FoundationStereo (arXiv 2501.09898) uses them.

Shapes: B pairs, h w rows and columns at 1/4, H = 4h, W = 4w.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.stereo.layers import ConvNorm
from models.stereo.update import MASK_CHANNELS

FACTOR = 4
NEIGHBOURS = 9
STEM_CHANNELS = 32


class MaskUpBlock(nn.Module):
    """Mask features brought to half resolution and mixed with the left image's stem."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(MASK_CHANNELS, STEM_CHANNELS, 4, stride=2, norm="none", transposed=True)
        both = 2 * STEM_CHANNELS
        self.conv2 = ConvNorm(both, both, 3, norm="none", transposed=transposed, activation=not transposed)

    def forward(self, mask_BChw: Tensor, stem_BCHW: Tensor) -> Tensor:
        """(B, 64, 2h, 2w)."""
        up = self.conv1(mask_BChw)
        out: Tensor = self.conv2(torch.cat((up, stem_BCHW.to(up.dtype)), dim=1))
        return out


def mask_to_scores() -> nn.Sequential:
    """The layer from half resolution to nine scores per full-resolution pixel."""
    return nn.Sequential(nn.ConvTranspose2d(2 * STEM_CHANNELS, NEIGHBOURS, 4, stride=2, padding=1))


def left_stem(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions that halve the image."""
    first = ConvNorm(inputs, outputs, 3, stride=2, norm="instance")
    return nn.Sequential(first, nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.InstanceNorm2d(outputs), nn.ReLU())


def convex_upsample(disparity_B1hw: Tensor, scores_B9HW: Tensor) -> Tensor:
    """(B, 1, H, W) float32 in full-resolution pixels from quarter-resolution ones.

    Neighbours outside the map count as 0, as in the published network, so that the outermost four pixels lean to 0.
    """
    height, width = int(disparity_B1hw.shape[2]), int(disparity_B1hw.shape[3])
    padded = F.pad(FACTOR * disparity_B1hw.float(), (1, 1, 1, 1))
    shifts = [padded[:, 0, row : row + height, column : column + width] for row in range(3) for column in range(3)]
    neighbours = torch.stack(shifts, dim=1)[:, :, :, None, :, None]
    weights = torch.unflatten(torch.unflatten(scores_B9HW.float().softmax(dim=1), 3, (width, FACTOR)), 2, (height, FACTOR))
    return (neighbours * weights).sum(dim=1).flatten(3, 4).flatten(1, 2)[:, None]
