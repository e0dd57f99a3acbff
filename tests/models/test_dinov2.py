"""DINOv2: token layout, position embedding, sizes."""

from __future__ import annotations

import pytest
import torch

from models.backbones.dinov2 import ENCODERS, Block, DinoV2, Encoder
from search_spaces.errors import UserError


@pytest.fixture(scope="module")
def small() -> DinoV2:
    torch.manual_seed(0)
    return DinoV2("vitt").eval()


def test_levels_lie_on_the_patch_grid(small: DinoV2) -> None:
    levels = small(torch.randn(2, 3, 28, 42))
    assert [tuple(level.patches_BCHW.shape) for level in levels] == [(2, 96, 2, 3)] * 4
    assert levels[0].token_BC.shape == (2, 96)


def test_the_first_patch_is_the_upper_left_corner(small: DinoV2) -> None:
    image = torch.zeros(1, 3, 28, 42)
    marked = image.clone()
    marked[:, :, :14, :14] = 3.0
    change = (small.patch_embed(marked) - small.patch_embed(image)).abs().sum(dim=-1)[0]
    assert change.nonzero().flatten().tolist() == [0]


def test_stored_positions_are_untouched_on_their_own_grid(small: DinoV2) -> None:
    assert torch.equal(small.positions(37, 37), small.pos_embed)


def test_positions_of_another_grid_keep_the_class_position(small: DinoV2) -> None:
    positions = small.positions(5, 9)
    assert positions.shape == (1, 1 + 45, 96)
    assert torch.equal(positions[:, 0], small.pos_embed[:, 0])


def test_the_offset_of_the_published_code_is_part_of_the_resize(small: DinoV2) -> None:
    grid = small.pos_embed[:, 1:].transpose(1, 2).reshape(1, 96, 37, 37)
    plain = torch.nn.functional.interpolate(grid, size=(5, 9), mode="bicubic", align_corners=False)
    difference = (small.positions(5, 9)[:, 1:] - plain.flatten(2).transpose(1, 2)).abs().max()
    assert difference > 1e-4


def test_a_size_off_the_patch_grid_names_the_nearest_one(small: DinoV2) -> None:
    with pytest.raises(UserError, match="multiples of 14, but got 100x518") as caught:
        small(torch.zeros(1, 3, 100, 518))
    assert caught.value.hint == "the nearest legal size is 98x518"


def test_the_gated_block_keeps_the_published_names() -> None:
    sizes = Encoder(dim=12, depth=1, heads=3, taken=(0, 0, 0, 0), features=8, out_channels=(4, 4, 4, 4), swiglu_hidden=16)
    block = Block(sizes)
    assert {"mlp.w12.weight", "mlp.w3.weight", "ls1.gamma", "attn.qkv.bias"} <= set(block.state_dict())
    assert block(torch.randn(1, 5, 12)).shape == (1, 5, 12)


def test_every_encoder_ends_with_a_taken_block() -> None:
    assert all(sizes.taken[-1] == sizes.depth - 1 for sizes in ENCODERS.values())
