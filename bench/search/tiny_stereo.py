"""A stereo network small enough to be trained hundreds of times on a CPU: features, correlation, soft-argmin, one refinement.

The shape of FoundationStereo without its transformer and its iterations: half a megabyte, about 10 ms a step at 64x128.
Shapes: B pairs, H x W pixels, h x w = H/4 x W/4, D disparities of the quarter-resolution map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.stereo.cost_volume import groupwise_correlation

QUARTER = 4
SHARPNESS = 8.0  # a cosine of 1 against 0 is a probability of e^8 against 1


class TinyStereo(nn.Module):
    """Disparity of the left image, in its pixels."""

    def __init__(self, *, max_disparity: int, width: int = 16) -> None:
        super().__init__()
        self.bins = max_disparity // QUARTER
        self.features = nn.Sequential(
            *(nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU()),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        )
        self.aggregation = nn.Sequential(
            *(nn.Conv2d(self.bins + 2 * width, 3 * width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(3 * width, 3 * width, 3, padding=2, dilation=2), nn.ReLU()),
            nn.Conv2d(3 * width, self.bins, 3, padding=1),
        )
        self.refinement = nn.Sequential(
            *(nn.Conv2d(4, width, 3, padding=1), nn.ReLU()),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, left_B3HW: Tensor, right_B3HW: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The initial disparity [B, 1, h, w] in quarter pixels, and the full-resolution ones [B, 1, H, W] after it."""
        left, right = self.features(left_B3HW), self.features(right_B3HW)
        scores_BDhw = SHARPNESS * groupwise_correlation(left, right, self.bins, groups=1)[:, 0]
        share_BDhw = (scores_BDhw + self.aggregation(torch.cat([scores_BDhw, left], dim=1))).softmax(dim=1)
        place_D = torch.arange(self.bins, dtype=share_BDhw.dtype)
        initial_B1hw = (share_BDhw * place_D[:, None, None]).sum(dim=1, keepdim=True)
        coarse = QUARTER * functional.interpolate(initial_B1hw, size=left_B3HW.shape[-2:], mode="bilinear", align_corners=False)
        fine = coarse + self.refinement(torch.cat([left_B3HW, coarse / (QUARTER * self.bins)], dim=1))
        return initial_B1hw, [coarse, fine]
