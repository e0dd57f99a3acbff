"""Pieces of FoundationStereo against plain forms of themselves and numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.stereo.context import ChannelAttention, SpatialAttention
from models.stereo.cost_volume import VolumeMix, expected_disparity, groupwise_correlation, shifted_right
from models.stereo.disparity_attention import DisparitySelfAttention, sinusoids
from models.stereo.features import side_size
from models.stereo.geometry import GeometryLookup, lookup_channels, read_window
from models.stereo.layers import DisparityConv3d, OneChannelConv3d
from models.stereo.update import ConvGru, SelectiveConvGru
from models.stereo.upsampling import convex_upsample

SCENE = torch.Generator().manual_seed(3)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=SCENE)


def correlation_by_loop(left: Tensor, right: Tensor, disparities: int, groups: int) -> Tensor:
    batch, channels, height, width = left.shape
    left, right = (F.normalize(x.view(batch, groups, channels // groups, height, width), dim=2) for x in (left, right))
    volume = torch.zeros(batch, groups, disparities, height, width)
    for d in range(disparities):
        volume[:, :, d, :, d:] = (left[..., d:] * right[..., : width - d]).sum(2)
    return volume


@pytest.mark.parametrize("width", [8, 32, 40])
@pytest.mark.parametrize("disparities", [1, 8, 56])
def test_correlation_equals_the_loop_over_disparities(width: int, disparities: int) -> None:
    left, right = noise(2, 32, 3, width), noise(2, 32, 3, width)
    # more disparities than columns: the slices beyond the image are zero
    wanted = torch.zeros(2, 8, disparities, 3, width)
    inside = min(disparities, width)
    wanted[:, :, :inside] = correlation_by_loop(left, right, inside, 8)
    torch.testing.assert_close(groupwise_correlation(left, right, disparities), wanted)


def test_correlation_passes_the_same_gradient_as_the_loop() -> None:
    left, right = noise(1, 16, 2, 40).double().requires_grad_(), noise(1, 16, 2, 40)
    weights = noise(1, 8, 16, 2, 40)
    (plain,) = torch.autograd.grad((correlation_by_loop(left.float(), right, 16, 8) * weights).sum(), left)
    (ours,) = torch.autograd.grad((groupwise_correlation(left, right, 16) * weights).sum(), left)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)


def test_shifted_right_moves_by_the_disparity_and_fills_with_zero() -> None:
    row = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    assert shifted_right(row, 3)[0, 0, :, 0].tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 0, 1, 2]]


def test_the_mix_equals_the_convolution_over_the_whole_volume() -> None:
    mix, correlation, left, right = VolumeMix(), noise(1, 8, 4, 3, 8), noise(1, 12, 3, 8), noise(1, 12, 3, 8)
    volume = torch.cat((correlation, left[:, :, None].expand(-1, -1, 4, -1, -1), shifted_right(right, 4)), dim=1)
    torch.testing.assert_close(mix(correlation, left, right), nn.Conv3d.forward(mix, volume))


@pytest.mark.parametrize("layer", [DisparityConv3d(5), OneChannelConv3d(5, 7)], ids=["axial", "one channel"])
def test_quick_convolutions_equal_the_plain_ones(layer: nn.Conv3d) -> None:
    volume = noise(2, 5, 8, 4, 6)
    torch.testing.assert_close(layer(volume), nn.Conv3d.forward(layer, volume), atol=1e-5, rtol=1e-5)


def test_expected_disparity_of_one_certain_bin_is_that_bin() -> None:
    scores = torch.full((1, 1, 8, 1, 2), -100.0)
    scores[0, 0, 5, 0, 0] = scores[0, 0, 2, 0, 1] = 100.0
    assert expected_disparity(scores).tolist() == [[[[5.0, 2.0]]]]


def test_equal_scores_give_the_middle() -> None:
    assert expected_disparity(torch.zeros(1, 1, 8, 1, 1)).item() == pytest.approx(3.5)


def grid_sampled(values_CN: Tensor, place: float, radius: int) -> Tensor:
    bins = values_CN.shape[1]
    x = torch.arange(-radius, radius + 1) + place
    grid = torch.stack((2 * x / (bins - 1) - 1, torch.zeros_like(x)), dim=-1)[None, None]
    return F.grid_sample(values_CN[None, :, None], grid, align_corners=True)[0, :, 0]


@pytest.mark.parametrize("place", [0.0, 3.0, 2.25, -1.5, 6.75, -30.0, 1e12])
def test_a_window_equals_bilinear_sampling_with_zeros_outside(place: float) -> None:
    values = noise(1, 3, 8, 1, 1)
    window = read_window(values, torch.full((1, 1, 1, 1, 1), place), 2)
    torch.testing.assert_close(window[0, :, :, 0, 0], grid_sampled(values[0, :, :, 0, 0], place, 2), atol=1e-5, rtol=1e-5)


def test_a_window_at_a_place_that_is_no_number_is_no_number() -> None:
    assert read_window(noise(1, 1, 8, 1, 1), torch.full((1, 1, 1, 1, 1), math.nan), 1).isnan().all()


def test_lookup_at_a_whole_disparity_reads_that_bin() -> None:
    volume, left, right = noise(1, 28, 16, 2, 32), noise(1, 24, 2, 32), noise(1, 24, 2, 32)
    found = GeometryLookup(volume, left, right, levels=2, radius=4, low_memory=False)(torch.full((1, 1, 2, 32), 6.0))
    assert found.shape == (1, lookup_channels(2, 4, 28), 2, 32) == (1, 522, 2, 32)
    torch.testing.assert_close(found[:, 4 : 28 * 9 : 9], volume[:, :, 6])  # the middle of nine places in each channel
    cosine = F.cosine_similarity(left[..., 6:], right[..., :-6], dim=1)
    torch.testing.assert_close(found[:, 28 * 9 + 4, :, 6:], cosine)
    pooled = volume[:, :, 6:8].mean(2)  # level 1: disparity 3 of pairs of bins
    torch.testing.assert_close(found[:, 29 * 9 + 4 : 29 * 9 + 28 * 9 : 9], pooled)


def test_short_memory_gives_the_same_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.stereo.geometry.POINTS_AT_ONCE", 80)
    volume, left, right, disparity = noise(2, 28, 8, 5, 32), noise(2, 24, 5, 32), noise(2, 24, 5, 32), 8 * torch.rand(2, 1, 5, 32)
    whole, pieces = (GeometryLookup(volume, left, right, levels=1, radius=2, low_memory=low)(disparity) for low in (False, True))
    assert torch.equal(whole, pieces)


def test_a_constant_map_is_upsampled_to_four_times_its_value() -> None:
    up = convex_upsample(torch.full((1, 1, 4, 5), 2.5), noise(1, 9, 16, 20))
    torch.testing.assert_close(up[..., 4:-4, 4:-4], torch.full((1, 1, 8, 12), 10.0))


def test_a_certain_mask_copies_one_neighbour() -> None:
    coarse, scores = torch.arange(9.0).view(1, 1, 3, 3), torch.zeros(1, 9, 12, 12)
    scores[:, 5] = 200.0  # row 1, column 2 of the 3x3 neighbourhood: the one to the right
    up = convex_upsample(coarse, scores)[0, 0]
    assert up[4:8, 4:8].unique().tolist() == [4 * 5.0]
    assert up[0:4, 8:12].unique().tolist() == [0.0]  # beyond the map


def test_merged_gates_equal_two_convolutions() -> None:
    gru, hidden, x, mixed = ConvGru(6, 10, 3), noise(1, 6, 4, 5), noise(1, 10, 4, 5), noise(1, 16, 4, 5)
    update, reset = torch.sigmoid(gru.convz(mixed)), torch.sigmoid(gru.convr(mixed))
    candidate = torch.tanh(gru.convq(torch.cat((reset * hidden, x), dim=1)))
    torch.testing.assert_close(gru(hidden, x, mixed, gru.gates()), (1 - update) * hidden + update * candidate)


def test_the_planned_context_equals_the_whole_convolution() -> None:
    unit, context, other, hidden = SelectiveConvGru(6, 10), noise(1, 6, 4, 5), noise(1, 4, 4, 5), noise(1, 6, 4, 5)
    x = unit.conv0(torch.cat((context, other), dim=1))
    mixed = unit.conv1(torch.cat((x, hidden), dim=1))
    small, large = (gru(hidden, x, mixed, gru.gates()) for gru in (unit.small_gru, unit.large_gru))
    weight = torch.rand(1, 1, 4, 5)
    torch.testing.assert_close(unit(hidden, unit.plan(context, weight), [other]), weight * small + (1 - weight) * large)


def test_attentions_are_weights() -> None:
    x = noise(2, 32, 4, 5)
    assert ChannelAttention(32)(x).shape == (2, 32, 1, 1)
    weights = SpatialAttention()(x)
    assert weights.shape == (2, 1, 4, 5)
    assert ((weights > 0) & (weights < 1)).all()


def test_published_head_splits_differ_in_what_a_disparity_sees() -> None:
    one, other = noise(1, 8, 28), noise(1, 8, 28)
    other[:, 0] = one[:, 0]
    across, mixed = DisparitySelfAttention(28, "across_heads"), DisparitySelfAttention(28, "mixed")
    torch.testing.assert_close(across(one)[:, 0], across(other)[:, 0])  # nvlabs: each disparity by itself
    assert not torch.allclose(mixed(one)[:, 0], mixed(other)[:, 0])  # tao: all of them


def test_positions_start_with_sine_0_and_cosine_0() -> None:
    code = sinusoids(3, 28)
    assert code[0].tolist() == [0.0, 1.0] * 14
    assert code[2, :2].tolist() == pytest.approx([math.sin(2), math.cos(2)])


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((320, 736), (336, 784)),
        ((480, 736), (560, 784)),
        ((576, 960), (672, 1008)),
        ((384, 1248), (448, 1344)),
        ((992, 1440), (1008, 1344)),
        ((1440, 992), (1344, 1008)),
    ],
)
def test_the_side_network_sees_multiples_of_112_up_to_1344(size: tuple[int, int], side: tuple[int, int]) -> None:
    assert side_size(*size) == side
