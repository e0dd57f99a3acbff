"""EdgeNeXt-small trunk: four feature maps of an image at 1/4, 1/8, 1/16 and 1/32.

Follows "EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile Vision Applications"
(arXiv 2206.10589).  State-dict names are those of timm's `edgenext_small` (Apache-2.0,
https://github.com/huggingface/pytorch-image-models) without its classifier `head.*`.

Shapes: B images, C channels, H W rows and columns of a stage, N = H*W positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.transformer import LayerNorm2d, Mlp, draw_weights

WIDTHS = (48, 96, 160, 304)
EXPANSION = 4
HEADS = 8
LAYER_SCALE = 1e-6
FOURIER_WIDTH = 32
FOURIER_TEMPERATURE = 10000.0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One stage: number of blocks, kernel of the plain ones, and how the closing attention block splits its channels."""

    blocks: int
    kernel: int
    scales: int | None
    positions: bool = False


PLANS = (
    _Plan(blocks=3, kernel=3, scales=None),
    _Plan(blocks=3, kernel=5, scales=2, positions=True),
    _Plan(blocks=9, kernel=7, scales=3),
    _Plan(blocks=3, kernel=9, scales=4),
)


class ConvBlock(nn.Module):
    """Depthwise convolution, then LayerNorm and feed-forward per pixel, scaled and added back."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.conv_dw = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, EXPANSION * width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape as given."""
        mixed = self.gamma * self.mlp(self.norm(self.conv_dw(x_BCHW).permute(0, 2, 3, 1)))
        out: Tensor = x_BCHW + mixed.permute(0, 3, 1, 2)
        return out


class CrossCovariance(nn.Module):
    """Attention among the channels of one head, instead of among positions (XCiT, arXiv 2106.09681)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        batch, positions, width = x_BNC.shape
        qkv = self.qkv(x_BNC).view(batch, positions, 3, HEADS, width // HEADS).permute(2, 0, 3, 4, 1)
        query, key, value = qkv.unbind(0)  # (B, heads, C / heads, N)
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        weights = (query @ key.transpose(-2, -1) * self.temperature).softmax(dim=-1)
        out: Tensor = self.proj((weights @ value).permute(0, 3, 1, 2).reshape(batch, positions, width))
        return out


class FourierPositions(nn.Module):
    """Sines and cosines of row and column in 0..2 pi, projected to the stage's width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * FOURIER_WIDTH, width, 1)

    def forward(self, rows: int, columns: int) -> Tensor:
        """(1, C, rows, columns)."""
        weight = self.token_projection.weight
        vertical = _waves(rows, weight.device)[:, :, None].expand(-1, -1, columns)
        horizontal = _waves(columns, weight.device)[:, None, :].expand(-1, rows, -1)
        out: Tensor = self.token_projection(torch.cat((vertical, horizontal))[None].to(weight.dtype))
        return out


def _waves(length: int, device: torch.device) -> Tensor:
    """(FOURIER_WIDTH, length): sine in even rows, cosine in odd ones, of positions 1..length brought to 0..2 pi."""
    place = torch.arange(1, length + 1, dtype=torch.float32, device=device)
    place = place / (length + 1e-6) * (2 * math.pi)
    power = 2 * (torch.arange(FOURIER_WIDTH, device=device) // 2) / FOURIER_WIDTH
    angle = place[None, :] / (FOURIER_TEMPERATURE**power)[:, None]
    return torch.stack((angle[0::2].sin(), angle[1::2].cos()), dim=1).flatten(0, 1)


class SplitAttentionBlock(nn.Module):
    """SDTA: cumulative depthwise convolutions over channel chunks, then channel attention, then feed-forward."""

    def __init__(self, width: int, scales: int, positions: bool) -> None:
        super().__init__()
        chunk = math.ceil(width / scales)
        self.gamma_xca = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.gamma = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.convs = nn.ModuleList(nn.Conv2d(chunk, chunk, 3, padding=1, groups=chunk) for _ in range(scales - 1))
        self.pos_embd: FourierPositions | None = FourierPositions(width) if positions else None
        self.norm_xca = nn.LayerNorm(width, eps=1e-6)
        self.xca = CrossCovariance(width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, EXPANSION * width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape as given."""
        rows, columns = (int(side) for side in x_BCHW.shape[-2:])
        chunks = x_BCHW.chunk(len(self.convs) + 1, dim=1)
        parts = [self.convs[0](chunks[0])]
        for conv, chunk in zip(list(self.convs)[1:], chunks[1:-1], strict=True):
            parts.append(conv(parts[-1] + chunk))
        mixed = torch.cat((*parts, chunks[-1]), dim=1)
        if self.pos_embd is not None:
            mixed = mixed + self.pos_embd(rows, columns)
        tokens = mixed.flatten(2).transpose(1, 2)
        tokens = tokens + self.gamma_xca * self.xca(self.norm_xca(tokens))
        tokens = self.gamma * self.mlp(self.norm(tokens))
        out: Tensor = x_BCHW + tokens.transpose(1, 2).reshape(x_BCHW.shape)
        return out


class Stage(nn.Module):
    """Halves the size (not in the first stage), then runs its blocks."""

    def __init__(self, number: int) -> None:
        super().__init__()
        plan, width = PLANS[number], WIDTHS[number]
        self.downsample: nn.Module = nn.Identity()
        if number > 0:
            before = WIDTHS[number - 1]
            self.downsample = nn.Sequential(LayerNorm2d(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2))
        plain = plan.blocks if plan.scales is None else plan.blocks - 1
        blocks: list[nn.Module] = [ConvBlock(width, plan.kernel) for _ in range(plain)]
        if plan.scales is not None:
            blocks.append(SplitAttentionBlock(width, plan.scales, plan.positions))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The stage's own width at half the size given (the same size in the first stage)."""
        out: Tensor = self.blocks(self.downsample(x_BCHW))
        return out


class EdgeNeXt(nn.Module):
    """The trunk.  A network that keeps it flat among its own layers inherits from this class and calls `trunk`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 4, stride=4), LayerNorm2d(WIDTHS[0], eps=1e-6))
        self.stages = nn.Sequential(*(Stage(number) for number in range(len(PLANS))))
        for module in (*self.stem.modules(), *self.stages.modules()):
            if isinstance(module, nn.Conv2d | nn.Linear):
                draw_weights(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Four maps of a normalised image, see `trunk`."""
        return self.trunk(image_B3HW)

    def trunk(self, image_B3HW: Tensor) -> list[Tensor]:
        """(B, 48, H/4, W/4), (B, 96, H/8, W/8), (B, 160, H/16, W/16), (B, 304, H/32, W/32); H and W multiples of 32."""
        x = self.stem(image_B3HW)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
