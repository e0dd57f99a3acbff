"""The cost volume: how well each left pixel fits the right one `d` columns further left, for every d.

Group-wise correlation follows "Group-wise Correlation Stereo Network" (arXiv 1903.04025), the combination and its
filtering "FoundationStereo" (arXiv 2501.09898).  No loop over disparities: a disparity slice is a diagonal of a
matrix, and a diagonal is a row of the same memory read with a row length shortened by one.

Shapes: B pairs, G groups, C channels, D disparities (quarter-resolution pixels), H W rows and columns at 1/4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.stereo.layers import BasicBlock, ConvNorm, Norm, OneChannelConv3d
from models.stereo.precision import fp32_island

GROUPS = 8
CONCAT_CHANNELS = 12
VOLUME_CHANNELS = 28
TILE = 32  # columns correlated by one small matrix product; wider tiles waste more products outside the band


def groupwise_correlation(left_BCHW: Tensor, right_BCHW: Tensor, disparities: int, *, groups: int = GROUPS) -> Tensor:
    """(B, G, D, H, W) float32: cosine of each group of channels of left[x] and right[x - d]; 0 where x < d."""
    with fp32_island(left_BCHW.device):
        return _correlation(left_BCHW.float(), right_BCHW.float(), disparities, groups)


def _correlation(left_BCHW: Tensor, right_BCHW: Tensor, disparities: int, groups: int) -> Tensor:
    width = int(left_BCHW.shape[-1])
    tiles = -(-width // TILE)
    margin = tiles * TILE - width
    left = F.normalize(torch.unflatten(left_BCHW, 1, (groups, -1)), dim=2)
    right = F.normalize(torch.unflatten(right_BCHW, 1, (groups, -1)), dim=2)
    # mirrored, so that a growing disparity is a growing column; zeros stand for what lies left of the image
    mirrored = F.pad(right, (0, margin)).flip(-1)
    mirrored = F.pad(mirrored, (0, disparities - 1))
    left_tiles = torch.unflatten(F.pad(left, (0, margin)), -1, (tiles, TILE)).permute(0, 1, 3, 4, 5, 2)  # B G H n T C
    reach = TILE + disparities - 1
    starts = [(tiles - 1 - tile) * TILE for tile in range(tiles)]
    windows = torch.stack([mirrored[..., start : start + reach] for start in starts], dim=-2)  # B G C H n R
    products = left_tiles @ windows.permute(0, 1, 3, 4, 2, 5)  # B G H n T R
    # row i of a tile holds disparity d at column T - 1 - i + d: rows shortened by one line the disparities up
    band = products.flatten(-2)[..., TILE - 1 : TILE - 1 + TILE * (reach - 1)]
    band = torch.unflatten(band, -1, (TILE, reach - 1))
    volume = band[..., :disparities].permute(0, 1, 5, 2, 3, 4).flatten(-2)
    return volume[..., :width]


def shifted_right(right_BCHW: Tensor, disparities: int) -> Tensor:
    """(B, C, D, H, W): the right map moved d columns to the right in slice d; 0 where x < d."""
    width = int(right_BCHW.shape[-1])
    padded = F.pad(right_BCHW, (disparities, 0))[:, :, :, None].expand(-1, -1, -1, disparities, -1)
    rows = torch.unflatten(padded.flatten(-2)[..., disparities:], -1, (disparities, width + disparities - 1))
    return rows[..., :width].transpose(2, 3)


class VolumeMix(nn.Conv3d):
    """The 1x1x1 convolution over [correlation, left, shifted right] without ever building that volume.

    The left part is the same for every disparity, so it is convolved once, as a picture.
    """

    def __init__(self) -> None:
        super().__init__(GROUPS + 2 * CONCAT_CHANNELS, VOLUME_CHANNELS, 1)

    def forward(self, correlation_BGDHW: Tensor, left_BCHW: Tensor, right_BCHW: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 28, D, H, W) from the correlation and the two maps of 12 channels."""
        after_left = GROUPS + CONCAT_CHANNELS
        # slices, not a split: the tracing ONNX exporter must know the shapes of weights
        correlation, left, right = self.weight[:, :GROUPS], self.weight[:, GROUPS:after_left], self.weight[:, after_left:]
        shifted = shifted_right(right_BCHW, int(correlation_BGDHW.shape[2]))
        volume = F.conv3d(torch.cat((correlation_BGDHW.to(shifted.dtype), shifted), dim=1), torch.cat((correlation, right), dim=1))
        return volume + F.conv2d(left_BCHW, left[..., 0], self.bias)[:, :, None]


class VolumeStem(nn.Sequential):
    """The mixed volume, smoothed by five 3x3x3 convolutions."""

    def __init__(self, *, norm: Norm) -> None:
        first = ConvNorm(VOLUME_CHANNELS, VOLUME_CHANNELS, 3, dims=3, norm=norm)
        blocks = [BasicBlock(VOLUME_CHANNELS, dims=3, norm="batch") for _ in range(2)]
        super().__init__(VolumeMix(), first, *blocks)

    def forward(self, correlation_BGDHW: Tensor, left_BCHW: Tensor, right_BCHW: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 28, D, H, W), see `VolumeMix`."""
        volume = self[0](correlation_BGDHW, left_BCHW, right_BCHW)
        for layer in list(self)[1:]:
            volume = layer(volume)
        out: Tensor = volume
        return out


class Classifier(nn.Sequential):
    """One score for each disparity and pixel."""

    def __init__(self, *, norm: Norm) -> None:
        half = VOLUME_CHANNELS // 2
        first = ConvNorm(VOLUME_CHANNELS, half, 3, dims=3, norm=norm)
        super().__init__(first, BasicBlock(half, dims=3, norm="batch"), OneChannelConv3d(half, 7))


def expected_disparity(scores_B1DHW: Tensor) -> Tensor:
    """(B, 1, H, W) float32 in 0..D-1: the mean disparity under the softmax of the scores."""
    with fp32_island(scores_B1DHW.device):
        probabilities = scores_B1DHW.float().squeeze(1).softmax(dim=1)
        values = torch.arange(scores_B1DHW.shape[2], device=scores_B1DHW.device, dtype=torch.float32)
        return (probabilities * values[:, None, None]).sum(dim=1, keepdim=True)
