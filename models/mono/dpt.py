"""DPT head: four token maps become one dense map.

Follows "Vision Transformers for Dense Prediction" (arXiv 2103.13413) in the form of Depth Anything V2
(arXiv 2406.09414, code Apache-2.0, https://github.com/DepthAnything/Depth-Anything-V2).  State-dict names are the
published ones.

Shapes: B images, h w patches (14 x 14 pixels), F = features of the encoder's head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.dinov2 import PATCH_PX, Encoder, TokenMap


class ResidualConvUnit(nn.Module):
    """ReLU, 3x3, ReLU, 3x3 and the input added back; `use_bn` puts a batch norm behind each convolution."""

    def __init__(self, features: int, use_bn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.bn1: nn.Module | None = nn.BatchNorm2d(features) if use_bn else None
        self.bn2: nn.Module | None = nn.BatchNorm2d(features) if use_bn else None

    def forward(self, x_BFHW: Tensor) -> Tensor:
        """Same shape as given."""
        out: Tensor = self.conv1(F.relu(x_BFHW))
        if self.bn1 is not None:
            out = self.bn1(out)
        out = self.conv2(F.relu(out))
        if self.bn2 is not None:
            out = self.bn2(out)
        return out + x_BFHW


class Fusion(nn.Module):
    """Adds the skip level to the coarser path, refines, and brings it to the next size.

    The published head resizes before `out_conv`.  A 1x1 convolution and a bilinear resize commute (the resize
    weights of a pixel sum to one), so here the convolution runs first, on a quarter of the pixels.
    """

    def __init__(self, features: int, use_bn: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = ResidualConvUnit(features, use_bn)
        self.resConfUnit2 = ResidualConvUnit(features, use_bn)

    def forward(self, path_BFHW: Tensor, skip_BFHW: Tensor | None, size: tuple[int, int]) -> Tensor:
        """The fused map at `size` (rows, columns); the coarsest level has no skip and leaves `resConfUnit1` unused."""
        if skip_BFHW is not None:
            path_BFHW = path_BFHW + self.resConfUnit1(skip_BFHW)
        refined = self.out_conv(self.resConfUnit2(path_BFHW))
        return F.interpolate(refined, size=size, mode="bilinear", align_corners=True)


class Scratch(nn.Module):
    """The layers that the published files keep under `scratch`."""

    def __init__(self, encoder: Encoder, use_bn: bool, relative: bool) -> None:
        super().__init__()
        features = encoder.features
        for level, channels in enumerate(encoder.out_channels, start=1):
            self.add_module(f"layer{level}_rn", nn.Conv2d(channels, features, 3, padding=1, bias=False))
        for level in range(1, 5):
            self.add_module(f"refinenet{level}", Fusion(features, use_bn))
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        depth = nn.Conv2d(32, 1, 1)
        if relative:
            # ours: an untrained map starts near 1; around 0 the last ReLU could be shut everywhere and nothing would learn
            nn.init.ones_(depth.bias)  # type: ignore[arg-type]
        last: nn.Module = nn.ReLU() if relative else nn.Sigmoid()
        self.output_conv2 = nn.Sequential(nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), depth, last)

    def reduce(self, level: int, x: Tensor) -> Tensor:
        """Level 1..4 brought to F channels."""
        out: Tensor = self.get_submodule(f"layer{level}_rn")(x)
        return out

    def fuse(self, level: int, path: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        """`Fusion.forward` of level 1..4."""
        out: Tensor = self.get_submodule(f"refinenet{level}")(path, skip, size)
        return out


class DptHead(nn.Module):
    """`features` gives the fused map, `forward` the one-channel answer."""

    def __init__(self, encoder: Encoder, *, use_bn: bool, use_clstoken: bool, relative: bool) -> None:
        super().__init__()
        channels = encoder.out_channels
        self.projects = nn.ModuleList(nn.Conv2d(encoder.dim, width, 1) for width in channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            ]
        )
        self.readout_projects: nn.ModuleList | None = None
        if use_clstoken:
            self.readout_projects = nn.ModuleList(nn.Sequential(nn.Linear(2 * encoder.dim, encoder.dim), nn.GELU()) for _ in channels)
        self.scratch = Scratch(encoder, use_bn, relative)

    def forward(self, levels: Sequence[TokenMap]) -> Tensor:
        """(B, 1, 14h, 14w): >= 0 for a relative head, 0..1 for a metric one."""
        out: Tensor = self.scratch.output_conv2(self.features(levels))
        return out

    def features(self, levels: Sequence[TokenMap]) -> Tensor:
        """(B, F/2, 14h, 14w): the fused map before the two output convolutions."""
        rows, columns = (int(side) for side in levels[0].patches_BCHW.shape[-2:])
        skips = [self.scratch.reduce(number + 1, self._level(number, level)) for number, level in enumerate(levels)]
        sizes = [(int(skip.shape[-2]), int(skip.shape[-1])) for skip in skips]
        path = self.scratch.fuse(4, skips[3], None, sizes[2])
        path = self.scratch.fuse(3, path, skips[2], sizes[1])
        path = self.scratch.fuse(2, path, skips[1], sizes[0])
        path = self.scratch.fuse(1, path, skips[0], (2 * sizes[0][0], 2 * sizes[0][1]))
        out = self.scratch.output_conv1(path)
        return F.interpolate(out, size=(PATCH_PX * rows, PATCH_PX * columns), mode="bilinear", align_corners=True)

    def _level(self, number: int, level: TokenMap) -> Tensor:
        patches = level.patches_BCHW
        if self.readout_projects is not None:
            tokens = patches.permute(0, 2, 3, 1)
            token = level.token_BC[:, None, None, :].expand_as(tokens)
            patches = self.readout_projects[number](torch.cat((tokens, token), dim=-1)).permute(0, 3, 1, 2)
        out: Tensor = self.resize_layers[number](self.projects[number](patches))
        return out
