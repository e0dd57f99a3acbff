"""Self-attention along the disparity axis of a cost volume, every pixel by itself.

Follows "FoundationStereo" (arXiv 2501.09898), the disparity transformer; encoder layers as in "Attention is all you
need" (arXiv 1706.03762), norm after the residual.  The two published graphs split the heads each in its own way, and
neither is the plain attention of every head over the disparities.  The published answers confirm both (python -m
models.parity: 3e-5 px; with the plain reading the first estimate is off by 0.4 px in nvlabs, 6 px in tao, both at a
quarter of the resolution), so each graph keeps its own.

Shapes: N pixels (all pairs, rows, columns), L disparities, C channels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Heads = Literal["across_heads", "mixed"]
HEADS = 4
LAYERS = 4
DROPOUT = 0.1
WAVELENGTH = 10000.0


class DisparitySelfAttention(nn.Module):
    """Multi-head attention with the head split of a published graph.

    `across_heads` (nvlabs): each disparity by itself, its heads attend to one another.
    `mixed` (tao): the memory of (L, C) is read as (heads, L, C / heads), which mixes positions and channels.
    """

    def __init__(self, channels: int, heads: Heads) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x_NLC: Tensor) -> Tensor:
        """(N, L, C) -> (N, L, C)."""
        length, channels = int(x_NLC.shape[1]), int(x_NLC.shape[2])
        split = (length, HEADS, channels // HEADS) if self.heads == "across_heads" else (HEADS, length, channels // HEADS)
        query, key, value = (proj(x_NLC).reshape(-1, *split) for proj in (self.q_proj, self.k_proj, self.v_proj))
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.reshape(-1, length, channels))
        return out


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised."""

    def __init__(self, channels: int, heads: Heads) -> None:
        super().__init__()
        self.self_attn = DisparitySelfAttention(channels, heads)
        self.linear1 = nn.Linear(channels, channels)
        self.linear2 = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_NLC: Tensor) -> Tensor:
        """(N, L, C) -> (N, L, C)."""
        x_NLC = self.norm1(x_NLC + self.dropout(self.self_attn(x_NLC)))
        y = self.linear2(self.dropout(F.gelu(self.linear1(x_NLC))))
        out: Tensor = self.norm2(x_NLC + self.dropout(y))
        return out


class DisparityTransformer(nn.Module):
    """Encoder layers over the disparity axis with a fixed sinusoidal position code."""

    def __init__(self, channels: int, max_length: int, heads: Heads) -> None:
        super().__init__()
        self.register_buffer("positions", sinusoids(max_length, channels), persistent=False)
        self.sa = nn.ModuleList(EncoderLayer(channels, heads) for _ in range(LAYERS))

    def forward(self, volume_BCDHW: Tensor) -> Tensor:
        """Same shape as given; D at most the `max_length` it was built for."""
        channels, disparities, height, width = (int(size) for size in volume_BCDHW.shape[1:])
        x = volume_BCDHW.permute(0, 3, 4, 2, 1).reshape(-1, disparities, channels)
        positions = self.get_buffer("positions")
        x = x + positions[:disparities].to(x.dtype)
        for layer in self.sa:
            x = layer(x)
        return x.reshape(-1, height, width, disparities, channels).permute(0, 4, 3, 1, 2)


def sinusoids(length: int, channels: int) -> Tensor:
    """(length, channels): sine in even channels, cosine in odd ones, wavelengths rising geometrically."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(WAVELENGTH) / channels))
    return torch.stack((torch.sin(place * rate), torch.cos(place * rate)), dim=-1).flatten(1)
