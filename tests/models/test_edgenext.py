"""EdgeNeXt-small trunk."""

from __future__ import annotations

import pytest
import torch

from models.backbones.edgenext import CrossCovariance, EdgeNeXt, FourierPositions


@pytest.fixture(scope="module")
def trunk() -> EdgeNeXt:
    torch.manual_seed(0)
    return EdgeNeXt()


def test_four_maps_from_a_quarter_to_a_thirtysecond(trunk: EdgeNeXt) -> None:
    maps = trunk(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [(2, 48, 16, 24), (2, 96, 8, 12), (2, 160, 4, 6), (2, 304, 2, 3)]


def test_gradients_reach_every_parameter(trunk: EdgeNeXt) -> None:
    sum(level.square().sum() for level in trunk(torch.randn(1, 3, 64, 64))).backward()
    assert [name for name, parameter in trunk.named_parameters() if parameter.grad is None] == []


def test_positions_are_brought_to_one_turn() -> None:
    code = FourierPositions(96)
    with torch.no_grad():
        code.token_projection.weight.zero_()
        code.token_projection.bias.zero_()
        code.token_projection.weight[0, 0] = 1.0  # the fastest sine of the row
    waves = code(4, 2)[0, 0]
    assert torch.allclose(waves[:, 0], torch.tensor([1.0, 0.0, -1.0, 0.0]), atol=1e-5)
    assert torch.equal(waves[:, 0], waves[:, 1])


def test_channel_attention_ignores_the_order_of_positions() -> None:
    torch.manual_seed(0)
    attention = CrossCovariance(16)
    tokens = torch.randn(1, 6, 16)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(attention(tokens)[:, order], attention(tokens[:, order]), atol=1e-6)
