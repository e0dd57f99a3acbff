"""Context of the left image: first hidden states, context maps and attention of the recurrent update.

Follows "RAFT-Stereo" (arXiv 2109.07547) for the encoder and "Selective-Stereo" (arXiv 2403.00486) for the two
attentions, as FoundationStereo (arXiv 2501.09898) combines them.

Shapes: B images, H W pixels, S recurrent scales (1/4, 1/8, 1/16, finest first), F channels of the side network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.stereo.layers import ConvNorm, Norm, ResidualBlock

REDUCTION = 16  # of the channel attention's bottleneck


class ContextNetwork(nn.Module):
    """Two maps per scale: one becomes the hidden state, the other the context.

    The published widths 64, 96, 128 stand for 1/2, 3/4 and 1 of the hidden width.  `down` and `norm` are in the
    published files and nothing uses them.
    """

    def __init__(self, hidden: int, side_channels: int, *, scales: int, fusion_norm: Norm) -> None:
        super().__init__()
        first, second = hidden // 2, 3 * hidden // 4
        self.norm1 = nn.BatchNorm2d(first)
        self.conv1 = nn.Conv2d(3, first, 7, padding=3)
        self.layer1 = _stage(first, first, stride=1)
        self.layer2 = _stage(first, second, stride=2)
        self.layer3 = _stage(second, hidden, stride=2)
        if scales > 1:
            self.layer4 = _stage(hidden, hidden, stride=2)
        if scales > 2:
            self.layer5 = _stage(hidden, hidden, stride=2)
        self.down = nn.Sequential(nn.Conv2d(hidden, hidden, 4, stride=4), nn.BatchNorm2d(hidden))
        self.conv2 = ConvNorm(hidden + side_channels, hidden, 3, norm=fusion_norm)
        self.norm = nn.BatchNorm2d(2 * hidden)
        self.outputs04 = _heads(hidden, deep=True)
        if scales > 1:
            self.outputs08 = _heads(hidden, deep=True)
        if scales > 2:
            self.outputs16 = _heads(hidden, deep=False)
        self.scales = scales
        _initialise(self)

    def forward(self, image_B3HW: Tensor, side_BFHW: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(hidden, context) per scale, before tanh and ReLU."""
        x = F.relu(self.norm1(self.conv1(image_B3HW)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.conv2(torch.cat((x, side_BFHW.to(x.dtype)), dim=1))
        maps = [(self.outputs04[0](x), self.outputs04[1](x))]
        if self.scales > 1:
            x = self.layer4(x)
            maps.append((self.outputs08[0](x), self.outputs08[1](x)))
        if self.scales > 2:
            x = self.layer5(x)
            maps.append((self.outputs16[0](x), self.outputs16[1](x)))
        return maps


class ChannelAttention(nn.Module):
    """A weight in 0..1 per channel, from the map's mean and maximum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // REDUCTION
        self.fc = nn.Sequential(nn.Conv2d(channels, narrow, 1, bias=False), nn.ReLU(), nn.Conv2d(narrow, channels, 1, bias=False))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, 1, 1)."""
        mean, largest = x_BCHW.mean(dim=(2, 3), keepdim=True), x_BCHW.amax(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self.fc(mean) + self.fc(largest))


class SpatialAttention(nn.Module):
    """A weight in 0..1 per pixel, from mean and maximum over the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.samconv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        mean, largest = x_BCHW.mean(dim=1, keepdim=True), x_BCHW.amax(dim=1, keepdim=True)
        return torch.sigmoid(self.samconv(torch.cat((mean, largest), dim=1)))


def _stage(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(inputs, outputs, norm="batch", stride=stride), ResidualBlock(outputs, outputs, norm="batch"))


def _heads(hidden: int, *, deep: bool) -> nn.ModuleList:
    """One head for the hidden state, one for the context."""
    heads: list[nn.Module] = []
    for _ in range(2):
        last = nn.Conv2d(hidden, hidden, 3, padding=1)
        heads.append(nn.Sequential(ResidualBlock(hidden, hidden, norm="batch"), last) if deep else last)
    return nn.ModuleList(heads)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
