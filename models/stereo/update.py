"""The recurrent update: hidden states of three scales look at the geometry and say how the disparity should move.

Follows "Selective-Stereo" (arXiv 2403.00486) for the two-kernel GRU and FoundationStereo (arXiv 2501.09898) for the
disparity head (blocks of "A ConvNet for the 2020s", arXiv 2201.03545).

Shapes: B pairs, H W rows and columns of a scale, C the hidden width; scales are ordered finest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_SCALE = 1e-6
MASK_CHANNELS = 32
MASK_SCALE = 0.25  # keeps the gradient of the mask small against that of the disparity, as in RAFT (arXiv 2003.12039)


class ConvGru(nn.Module):
    """One gated recurrent unit with convolutions of one kernel size."""

    def __init__(self, hidden: int, inputs: int, kernel: int) -> None:
        super().__init__()
        self.convz = nn.Conv2d(hidden + inputs, hidden, kernel, padding=kernel // 2)
        self.convr = nn.Conv2d(hidden + inputs, hidden, kernel, padding=kernel // 2)
        self.convq = nn.Conv2d(hidden + inputs, hidden, kernel, padding=kernel // 2)

    def gates(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the update and the reset gate as one convolution."""
        weight = torch.cat((self.convz.weight, self.convr.weight))
        bias = torch.cat((_bias(self.convz), _bias(self.convr)))
        return weight, bias

    def forward(self, hidden: Tensor, x: Tensor, mixed: Tensor, gates: tuple[Tensor, Tensor]) -> Tensor:
        """The next hidden state; the gates read `mixed`, the candidate reads reset * hidden and `x`."""
        weight, bias = gates
        opened = torch.sigmoid(F.conv2d(mixed, weight, bias, padding=weight.shape[-1] // 2))
        update, reset = opened.chunk(2, dim=1)
        candidate = torch.tanh(self.convq(torch.cat((reset * hidden, x), dim=1)))
        return hidden + update * (candidate - hidden)


@dataclass(frozen=True, kw_only=True)
class GruPlan:
    """What one scale can compute before the first iteration.

    `context` is the part of `conv0` that reads the context; `weight` the part for the inputs that change.
    """

    attention: Tensor
    context: Tensor
    weight: Tensor
    small: tuple[Tensor, Tensor]
    large: tuple[Tensor, Tensor]


class SelectiveConvGru(nn.Module):
    """A small-kernel and a large-kernel GRU, blended per pixel by the context's attention."""

    def __init__(self, hidden: int, inputs: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.ReLU())
        self.conv1 = nn.Sequential(nn.Conv2d(inputs + hidden, inputs + hidden, 3, padding=1), nn.ReLU())
        self.small_gru = ConvGru(hidden, inputs, 1)
        self.large_gru = ConvGru(hidden, inputs, 3)

    def plan(self, context_BCHW: Tensor, attention_B1HW: Tensor) -> GruPlan:
        """The share of the work that does not change from one iteration to the next."""
        first = self.conv0[0]
        assert isinstance(first, nn.Conv2d)
        width = int(context_BCHW.shape[1])
        return GruPlan(
            attention=attention_B1HW,
            context=F.conv2d(context_BCHW, first.weight[:, :width], first.bias, padding=1),
            weight=first.weight[:, width:],
            small=self.small_gru.gates(),
            large=self.large_gru.gates(),
        )

    def forward(self, hidden: Tensor, plan: GruPlan, inputs: Sequence[Tensor]) -> Tensor:
        """The next hidden state from this one and the inputs beside the context."""
        x = F.relu(plan.context + F.conv2d(torch.cat(tuple(inputs), dim=1), plan.weight, padding=1))
        mixed = self.conv1(torch.cat((x, hidden), dim=1))
        small = self.small_gru(hidden, x, mixed, plan.small)
        large = self.large_gru(hidden, x, mixed, plan.large)
        out: Tensor = large + plan.attention * (small - large)
        return out


class MotionEncoder(nn.Module):
    """One map of the hidden width from the geometry looked up and the disparity it was looked up at."""

    def __init__(self, hidden: int, lookup_channels: int) -> None:
        super().__init__()
        self.convc1 = nn.Conv2d(lookup_channels, 2 * hidden, 1)
        self.convc2 = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1)
        self.convd1 = nn.Conv2d(1, hidden // 2, 7, padding=3)
        self.convd2 = nn.Conv2d(hidden // 2, hidden // 2, 3, padding=1)
        self.conv = nn.Conv2d(2 * hidden + hidden // 2, hidden - 1, 3, padding=1)

    def forward(self, disparity_B1HW: Tensor, geometry_BCHW: Tensor) -> Tensor:
        """(B, C, H, W); the last channel is the disparity itself."""
        geometry = F.relu(self.convc2(F.relu(self.convc1(geometry_BCHW))))
        motion = F.relu(self.convd2(F.relu(self.convd1(disparity_B1HW))))
        motion = F.relu(self.conv(torch.cat((geometry, motion), dim=1)))
        return torch.cat((motion, disparity_B1HW.to(motion.dtype)), dim=1)


class ConvNextBlock(nn.Module):
    """Depthwise 7x7, then a feed-forward per pixel, scaled and added back; no norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape as given."""
        y = self.dwconv(x_BCHW).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        out: Tensor = x_BCHW + y.permute(0, 3, 1, 2)
        return out


class DisparityHead(nn.Module):
    """How far the disparity moves, in quarter-resolution pixels."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        first, last = nn.Conv2d(hidden, hidden, 3, padding=1), nn.Conv2d(hidden, 1, 3, padding=1)
        self.conv = nn.Sequential(first, nn.ReLU(), ConvNextBlock(hidden), ConvNextBlock(hidden), last)

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        out: Tensor = self.conv(hidden_BCHW)
        return out


class UpdateBlock(nn.Module):
    """One iteration over `scales` hidden states, coarse to fine, and the two heads that read the finest."""

    def __init__(self, hidden: int, lookup_channels: int, *, scales: int) -> None:
        super().__init__()
        self.encoder = MotionEncoder(hidden, lookup_channels)
        if scales > 2:
            self.gru16 = SelectiveConvGru(hidden, 2 * hidden)
        if scales > 1:
            self.gru08 = SelectiveConvGru(hidden, (3 if scales > 2 else 2) * hidden)
        self.gru04 = SelectiveConvGru(hidden, (3 if scales > 1 else 2) * hidden)
        self.disp_head = DisparityHead(hidden)
        half = hidden // 2
        self.mask = nn.Sequential(nn.Conv2d(hidden, half, 3, padding=1), nn.ReLU(), nn.Conv2d(half, MASK_CHANNELS, 3, padding=1), nn.ReLU())

    def plan(self, contexts: Sequence[Tensor], attentions: Sequence[Tensor]) -> list[GruPlan]:
        """One plan per scale, finest first."""
        units = [getattr(self, name) for name in ("gru04", "gru08", "gru16")[: len(contexts)]]
        return [unit.plan(context, attention) for unit, context, attention in zip(units, contexts, attentions, strict=True)]

    def forward(self, hidden: Sequence[Tensor], plans: Sequence[GruPlan], disparity_B1HW: Tensor, geometry: Tensor) -> list[Tensor]:
        """The next hidden states, finest first."""
        states = list(hidden)
        if len(states) > 2:
            states[2] = self.gru16(states[2], plans[2], [_halved(states[1])])
        if len(states) > 1:
            coarser = [_enlarged(states[2], states[1])] if len(states) > 2 else []
            states[1] = self.gru08(states[1], plans[1], [_halved(states[0]), *coarser])
        motion = self.encoder(disparity_B1HW, geometry)
        coarser = [_enlarged(states[1], states[0])] if len(states) > 1 else []
        states[0] = self.gru04(states[0], plans[0], [motion, *coarser])
        return states

    def mask_features(self, hidden_BCHW: Tensor) -> Tensor:
        """(B, 32, H, W), from which the upsampling weights are made."""
        out: Tensor = MASK_SCALE * self.mask(hidden_BCHW)
        return out


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=2, padding=1)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    size = (int(like.shape[-2]), int(like.shape[-1]))
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
