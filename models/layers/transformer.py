"""Transformer pieces: multi-head attention, two feed-forward forms, per-channel scaling, LayerNorm over channels.

Sources: "Attention is all you need" (arXiv 1706.03762), LayerScale of CaiT (arXiv 2103.17239), SwiGLU
(arXiv 2002.05202).  Attribute names are those of the published DINOv2 and EdgeNeXt state dicts.

Shapes: B batch, N tokens, C channels, H W rows and columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Softmax attention among the tokens of one image, heads side by side in the channels."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        batch, tokens, channels = x_BNC.shape
        qkv = self.qkv(x_BNC).view(batch, tokens, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, channels))
        return out


class Mlp(nn.Module):
    """Two linear maps with an exact GELU between, applied to the last axis."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class SwiGlu(nn.Module):
    """Gated feed-forward: the first half of `w12` opens the second through SiLU."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(channels, 2 * hidden)
        self.w3 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), initial))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return x * self.gamma


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W), each pixel by itself."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape as given."""
        return super().forward(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@torch.no_grad()
def draw_weights(weight: Tensor) -> None:
    """Fills `weight` with the usual start of a transformer: normal, deviation 0.02, none beyond three deviations.

    Several times faster than `trunc_normal_`, which draws every outlier again; a tensor without storage is left alone.
    """
    if not weight.is_meta:
        weight.normal_(std=0.02).clamp_(-0.06, 0.06)
