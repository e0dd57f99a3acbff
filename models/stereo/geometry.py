"""Geometry lookup: what volume and correlation say around the present disparity of every pixel.

Follows "Iterative Geometry Encoding Volume" (arXiv 2303.06615).  A pixel reads 2r + 1 places one bin apart, all with
the same fraction, so 2r + 2 neighbouring values and one linear blend give the same as bilinear sampling.

Shapes: B pairs, C = 28 channels, D disparities, H W rows and columns at 1/4, R = W right columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from models.stereo.precision import fp32_island

POINTS_AT_ONCE = 102_400  # pixels per piece when memory is short


def lookup_channels(levels: int, radius: int, volume_channels: int) -> int:
    """Channels that `GeometryLookup` gives: per level 2r + 1 places in every channel of the volume and in the correlation."""
    return levels * (2 * radius + 1) * (volume_channels + 1)


def all_pairs(left_BCHW: Tensor, right_BCHW: Tensor) -> Tensor:
    """(B, H, R, W): cosine of every right column with every left column of the same row."""
    left = F.normalize(left_BCHW, dim=1).permute(0, 2, 1, 3)
    right = F.normalize(right_BCHW, dim=1).permute(0, 2, 3, 1)
    return right @ left


class GeometryLookup:
    """Pyramids over one batch's filtered volume and all-pairs correlation; call it with a disparity.

    Float32 throughout.  Each level halves the bins along disparity, or along the right image's columns.
    """

    def __init__(self, volume_BCDHW: Tensor, left_BCHW: Tensor, right_BCHW: Tensor, *, levels: int, radius: int, low_memory: bool) -> None:
        self.radius = radius
        self.low_memory = low_memory
        with fp32_island(volume_BCDHW.device):
            self.volumes = [volume_BCDHW.float()]
            self.correlations = [all_pairs(left_BCHW.float(), right_BCHW.float())]
            for _ in range(1, levels):
                self.volumes.append(F.avg_pool3d(self.volumes[-1], (2, 1, 1)))
                self.correlations.append(F.avg_pool2d(self.correlations[-1], (2, 1)))

    def __call__(self, disparity_B1HW: Tensor) -> Tensor:
        """(B, levels * (2r+1) * 29, H, W) float32: per level the volume (channel by channel), then the correlation."""
        height, width = int(disparity_B1HW.shape[2]), int(disparity_B1HW.shape[3])
        step = max(1, POINTS_AT_ONCE // width) if self.low_memory else height
        with fp32_island(disparity_B1HW.device):
            pieces = [self._rows(disparity_B1HW, slice(row, row + step)) for row in range(0, height, step)]
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=2)

    def _rows(self, disparity_B1HW: Tensor, rows: slice) -> Tensor:
        disparity_BHW = disparity_B1HW[:, 0, rows].float()
        column = torch.arange(disparity_BHW.shape[-1], device=disparity_BHW.device, dtype=torch.float32)
        found = []
        for level, (volume, correlation) in enumerate(zip(self.volumes, self.correlations, strict=True)):
            scale = 2**level
            bins = (disparity_BHW / scale)[:, None, None]
            columns = ((column - disparity_BHW) / scale)[:, :, None]
            found.append(read_window(volume[:, :, :, rows], bins, self.radius).flatten(1, 2))
            found.append(read_window(correlation[:, rows], columns, self.radius).transpose(1, 2))
        return torch.cat(found, dim=1)


def read_window(values: Tensor, place: Tensor, radius: int) -> Tensor:
    """Values at place - r .. place + r along axis 2, linearly blended; what lies outside counts as 0.

    `values` is (B, C, N, ...), `place` the same with 1 in place of N (C may be 1); the answer has 2r + 1 in place of N.
    """
    bins = int(values.shape[2])
    first = place.floor()
    fraction = place - first
    reach = torch.arange(-radius, radius + 2, device=values.device).view(-1, *(1 for _ in values.shape[3:]))
    index = first.long() + reach
    inside = ((index >= 0) & (index < bins)).to(values.dtype)
    # clamped as integers: a disparity that is not finite then gives NaN instead of a read outside the memory
    index = index.clamp(0, bins - 1).expand(-1, values.shape[1], *(-1 for _ in values.shape[2:]))
    taps = values.gather(2, index)
    lower, upper = inside.narrow(2, 0, 2 * radius + 1) * (1 - fraction), inside.narrow(2, 1, 2 * radius + 1) * fraction
    return taps.narrow(2, 0, 2 * radius + 1) * lower + taps.narrow(2, 1, 2 * radius + 1) * upper
