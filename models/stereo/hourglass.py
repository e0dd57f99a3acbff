"""Cost filtering: a 3-D encoder-decoder beside a transformer along disparity, summed.

Follows "FoundationStereo" (arXiv 2501.09898), hybrid cost filtering, in its two published graphs (`variant`).

Shapes: B pairs, 28 channels, D disparities, H W rows and columns at 1/4; feature maps at 1/4, 1/8, 1/16, 1/32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.stereo.disparity_attention import DisparityTransformer
from models.stereo.layers import AxialPlanarConv, ConvNorm, FeatureAttention
from models.stereo.variants import Variant

PATCH = 4  # the transformer branch works on 4 x 4 x 4 patches of the volume


class Hourglass(nn.Module):
    """Three halvings and their mirror; D, H and W must be multiples of 8."""

    def __init__(self, channels: int, features: Sequence[int], *, max_disparity: int, variant: Variant) -> None:
        super().__init__()
        norm = variant.attention_norm
        two, four, six = 2 * channels, 4 * channels, 6 * channels
        self.conv1 = _down(channels, two)
        self.conv2 = _down(two, four)
        self.conv3 = _down(four, six)
        self.conv3_up = ConvNorm(six, four, 4, dims=3, stride=2, transposed=True)
        self.conv2_up = ConvNorm(four, two, 4, dims=3, stride=2, transposed=True)
        self.conv1_up = ConvNorm(two, channels, 4, dims=3, stride=2, transposed=True)
        self.conv_out = nn.Sequential(AxialPlanarConv(channels), AxialPlanarConv(channels))
        self.agg_0 = _merge(2 * four, four, transposed=False)
        self.agg_1 = _merge(2 * two, two, transposed=variant.transposed_merge)
        self.upsample_first = variant.upsample_before_attention
        length = max_disparity // 4 if self.upsample_first else max_disparity // 16
        self.atts = nn.ModuleDict({"4": DisparityTransformer(channels, length, variant.heads)})
        patch = nn.Conv3d(channels, channels, PATCH, stride=PATCH, padding=variant.patch_padding, groups=channels)
        self.conv_patch = nn.Sequential(patch, nn.BatchNorm3d(channels))
        self.feature_att_8 = FeatureAttention(two, features[1], norm=norm)
        self.feature_att_16 = FeatureAttention(four, features[2], norm=norm)
        self.feature_att_32 = FeatureAttention(six, features[3], norm=norm)
        self.feature_att_up_16 = FeatureAttention(four, features[2], norm=norm)
        self.feature_att_up_8 = FeatureAttention(two, features[1], norm=norm)

    def forward(self, volume_BCDHW: Tensor, features: Sequence[Tensor]) -> Tensor:
        """(B, 28, D, H, W), filtered; `features` are the four maps of the left image, finest first."""
        half = self.feature_att_8(self.conv1(volume_BCDHW), features[1])
        quarter = self.feature_att_16(self.conv2(half), features[2])
        eighth = self.feature_att_32(self.conv3(quarter), features[3])
        quarter = self.agg_0(torch.cat((self.conv3_up(eighth), quarter), dim=1))
        quarter = self.feature_att_up_16(quarter, features[2])
        half = self.agg_1(torch.cat((self.conv2_up(quarter), half), dim=1))
        half = self.feature_att_up_8(half, features[1])
        out: Tensor = self.conv_out(self.conv1_up(half) + self._along_disparity(volume_BCDHW))
        return out

    def _along_disparity(self, volume_BCDHW: Tensor) -> Tensor:
        size = [int(side) for side in volume_BCDHW.shape[-3:]]
        x = self.conv_patch(volume_BCDHW)
        if self.upsample_first:
            x = F.interpolate(x, size=size, mode="trilinear", align_corners=False)
        x = self.atts["4"](x)
        return x if self.upsample_first else F.interpolate(x, size=size, mode="trilinear", align_corners=False)


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(inputs, outputs, 3, dims=3, stride=2), AxialPlanarConv(outputs))


def _merge(inputs: int, outputs: int, *, transposed: bool) -> nn.Sequential:
    mix = ConvNorm(inputs, outputs, 1, dims=3, transposed=transposed)
    return nn.Sequential(mix, AxialPlanarConv(outputs), AxialPlanarConv(outputs))
