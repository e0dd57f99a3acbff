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

from models.stereo.layers import ConvNorm, FeatureAttention, Norm, ResidualBlock3d
from models.stereo.precision import fp32_island

GROUPS = 8
CONCAT_CHANNELS = 12
VOLUME_CHANNELS = 28
TILE = 32  # columns correlated by one small matrix product; wider tiles waste more products outside the band


def groupwise_correlation(left_BCHW: Tensor, right_BCHW: Tensor, disparities: int, *, groups: int = GROUPS) -> Tensor:
    """(B, G, D, H, W) float32: cosine of each group of channels of left[x] and right[x - d]; 0 where x < d."""
    width = left_BCHW.shape[-1]
    tiles = -(-width // TILE)
    margin = tiles * TILE - width
    left = F.normalize(left_BCHW.float().unflatten(1, (groups, -1)), dim=2)
    right = F.normalize(right_BCHW.float().unflatten(1, (groups, -1)), dim=2)
    # mirrored, so that a growing disparity is a growing column; zeros stand for what lies left of the image
    mirrored = F.pad(right, (0, margin)).flip(-1)
    mirrored = F.pad(mirrored, (0, disparities - 1))
    left_tiles = F.pad(left, (0, margin)).unflatten(-1, (tiles, TILE)).permute(0, 1, 3, 4, 5, 2)  # B G H n T C
    reach = TILE + disparities - 1
    starts = [(tiles - 1 - tile) * TILE for tile in range(tiles)]
    windows = torch.stack([mirrored[..., start : start + reach] for start in starts], dim=-2)  # B G C H n R
    products = left_tiles @ windows.permute(0, 1, 3, 4, 2, 5)  # B G H n T R
    # row i of a tile holds disparity d at column T - 1 - i + d: rows shortened by one line the disparities up
    band = products.flatten(-2)[..., TILE - 1 : TILE - 1 + TILE * (reach - 1)].unflatten(-1, (TILE, reach - 1))
    volume = band[..., :disparities].permute(0, 1, 5, 2, 3, 4).flatten(-2)
    return volume[..., :width]


def shifted_right(right_BCHW: Tensor, disparities: int) -> Tensor:
    """(B, C, D, H, W): the right map moved d columns to the right in slice d; 0 where x < d."""
    width = right_BCHW.shape[-1]
    padded = F.pad(right_BCHW, (disparities, 0))[:, :, :, None].expand(-1, -1, -1, disparities, -1)
    rows = padded.flatten(-2)[..., disparities:].unflatten(-1, (disparities, width + disparities - 1))
    return rows[..., :width].transpose(2, 3)


class CostVolume(nn.Module):
    """Modules of the published `corr_stem`; its first layer mixes correlation and concatenated features."""

    def __init__(self) -> None:
        super().__init__()
