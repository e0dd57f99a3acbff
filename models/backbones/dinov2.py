"""DINOv2 vision transformer: four intermediate token maps of an image.

Follows "DINOv2: Learning Robust Visual Features without Supervision" (arXiv 2304.07193; code and weights
Apache-2.0, https://github.com/facebookresearch/dinov2).  State-dict names are the published ones, so a released
file loads as it is.  `vitt` is no published size: it is ours, so that smoke runs and tests are quick on a CPU.

Shapes: B images, H W pixels (multiples of 14), h w patches, N = 1 + h*w tokens (class token first), C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models.layers.transformer import LayerScale, Mlp, SelfAttention, SwiGlu, draw_weights
from search_spaces.errors import UserError

PATCH_PX = 14
STORED_GRID = 37  # published position embeddings belong to 518 x 518 pixels
GRID_OFFSET = 0.1  # the published code adds it to the grid before it computes the resize factor; results depend on it


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Sizes of one encoder and of the DPT head that was published with it.  `taken` are 0-based block numbers."""

    dim: int
    depth: int
    heads: int
    taken: tuple[int, int, int, int]
    features: int
    out_channels: tuple[int, int, int, int]
    swiglu_hidden: int | None = None


ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "vitt": Encoder(dim=96, depth=4, heads=3, taken=(0, 1, 2, 3), features=32, out_channels=(12, 24, 48, 96)),
        "vits": Encoder(dim=384, depth=12, heads=6, taken=(2, 5, 8, 11), features=64, out_channels=(48, 96, 192, 384)),
        "vitb": Encoder(dim=768, depth=12, heads=12, taken=(2, 5, 8, 11), features=128, out_channels=(96, 192, 384, 768)),
        "vitl": Encoder(dim=1024, depth=24, heads=16, taken=(4, 11, 17, 23), features=256, out_channels=(256, 512, 1024, 1024)),
        "vitg": Encoder(
            dim=1536, depth=40, heads=24, taken=(9, 19, 29, 39), features=384, out_channels=(1536, 1536, 1536, 1536), swiglu_hidden=4096
        ),
    }
)


class PatchEmbed(nn.Module):
    """One token for each 14 x 14 square of the image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=PATCH_PX, stride=PATCH_PX)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h*w, C), row by row."""
        tokens: Tensor = self.proj(image_B3HW)
        return tokens.flatten(2).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each with a scaled residual."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(encoder.dim, eps=1e-6)
        self.attn = SelfAttention(encoder.dim, encoder.heads)
        self.ls1 = LayerScale(encoder.dim, 1.0)
        self.norm2 = nn.LayerNorm(encoder.dim, eps=1e-6)
        hidden = encoder.swiglu_hidden
        self.mlp: nn.Module = Mlp(encoder.dim, 4 * encoder.dim) if hidden is None else SwiGlu(encoder.dim, hidden)
        self.ls2 = LayerScale(encoder.dim, 1.0)

    def forward(self, x_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        x_BNC = x_BNC + self.ls1(self.attn(self.norm1(x_BNC)))
        out: Tensor = x_BNC + self.ls2(self.mlp(self.norm2(x_BNC)))
        return out


@dataclass(frozen=True, kw_only=True)
class TokenMap:
    """One taken level: `patches_BCHW` on the patch grid, and the class token `token_BC` beside it."""

    patches_BCHW: Tensor
    token_BC: Tensor


class DinoV2(nn.Module):
    """The encoder; `forward` gives the four levels that the DPT head reads.

    `mask_token` belongs to the published file and to self-supervised training; nothing here reads it.  With `recompute_blocks`
    training keeps only the tokens between blocks and runs each block again in the backward pass: same gradients, less memory.
    """

    def __init__(self, encoder: str, *, recompute_blocks: bool = False) -> None:
        super().__init__()
        self.encoder = ENCODERS[encoder]
        self.recompute_blocks = recompute_blocks
        dim = self.encoder.dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + STORED_GRID**2, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.patch_embed = PatchEmbed(dim)
        self.blocks = nn.ModuleList(Block(self.encoder) for _ in range(self.encoder.depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self._initialise()

    def forward(self, image_B3HW: Tensor) -> list[TokenMap]:
        """Levels from shallow to deep for a normalised image; UserError when H or W is no multiple of 14."""
        height, width = int(image_B3HW.shape[-2]), int(image_B3HW.shape[-1])
        check_size(height, width)
        rows, columns = height // PATCH_PX, width // PATCH_PX
        patches = self.patch_embed(image_B3HW)
        tokens = torch.cat((self.cls_token.expand(patches.shape[0], -1, -1).to(patches.dtype), patches), dim=1)
        tokens = tokens + self.positions(rows, columns).to(tokens.dtype)
        levels = []
        for number, block in enumerate(self.blocks):
            tokens = self._through(block, tokens)
            if number in self.encoder.taken:
                normed = self.norm(tokens)
                # a view: the head's convolutions then run channels-last without a copy
                patches_BCHW = normed[:, 1:].transpose(1, 2).reshape(-1, self.encoder.dim, rows, columns)
                levels.append(TokenMap(patches_BCHW=patches_BCHW, token_BC=normed[:, 0]))
        return levels

    def _through(self, block: nn.Module, tokens_BNC: Tensor) -> Tensor:
        if self.recompute_blocks and torch.is_grad_enabled():
            # a block draws no random numbers, so their state need not be kept
            again: Tensor = checkpoint(block, tokens_BNC, use_reentrant=False, preserve_rng_state=False)
            return again
        out: Tensor = block(tokens_BNC)
        return out

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embedding (1, 1 + rows*columns, C) in float32; the stored one untouched for a 37 x 37 grid."""
        if rows == columns == STORED_GRID:
            return self.pos_embed.float()
        stored = self.pos_embed.float()
        grid = stored[:, 1:].transpose(1, 2).reshape(1, -1, STORED_GRID, STORED_GRID)
        factor = ((rows + GRID_OFFSET) / STORED_GRID, (columns + GRID_OFFSET) / STORED_GRID)
        resized = F.interpolate(grid, scale_factor=factor, mode="bicubic", align_corners=False, antialias=False)
        return torch.cat((stored[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)

    def _initialise(self) -> None:
        draw_weights(self.pos_embed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                draw_weights(module.weight)
                nn.init.zeros_(module.bias)


def check_size(height: int, width: int) -> None:
    """Nothing, or UserError that names the nearest size the patch grid allows."""
    if height % PATCH_PX == 0 and width % PATCH_PX == 0:
        return
    legal = tuple(max(PATCH_PX, round(side / PATCH_PX) * PATCH_PX) for side in (height, width))
    raise UserError(
        f"height and width of the image must be multiples of {PATCH_PX}, but got {height}x{width}",
        hint=f"the nearest legal size is {legal[0]}x{legal[1]}",
    )
