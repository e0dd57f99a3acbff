"""Parts of FoundationStereo against their plain forms: the same numbers, then the ratio of CPU seconds.

    python bench/parts.py [--rounds 5] [--height 24] [--width 48] [--disparities 24]

Sizes are of the quarter-resolution map.  The plain forms are what the papers' formulas say literally: a loop over
disparities that normalises at every step, a stock 3-D convolution, bilinear sampling of one row per pixel.  Exit
status 1 when a part is slower than its plain form by more than noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.timing import compare, conditions
from models.stereo.cost_volume import GROUPS, groupwise_correlation, shifted_right
from models.stereo.geometry import read_window
from models.stereo.layers import DISPARITY_KERNEL, DisparityConv3d, OneChannelConv3d
from models.stereo.upsampling import convex_upsample

FLOOR = 0.8  # a ratio below it is no longer noise

Part = tuple[str, Callable[[], Tensor], Callable[[], Tensor], float]


def plain_correlation(left_BCHW: Tensor, right_BCHW: Tensor, disparities: int) -> Tensor:
    """Cosine of each group of channels, one disparity at a time."""
    left, right = torch.unflatten(left_BCHW, 1, (GROUPS, -1)), torch.unflatten(right_BCHW, 1, (GROUPS, -1))
    volume = left_BCHW.new_zeros(left.shape[0], GROUPS, disparities, *left_BCHW.shape[-2:])
    for d in range(disparities):
        here, there = left[..., d:], right[..., : right.shape[-1] - d]
        volume[:, :, d, :, d:] = (F.normalize(here, dim=2) * F.normalize(there, dim=2)).sum(dim=2)
    return volume


def plain_shift(right_BCHW: Tensor, disparities: int) -> Tensor:
    """The right map moved by d columns, one disparity at a time."""
    volume = right_BCHW.new_zeros(*right_BCHW.shape[:2], disparities, *right_BCHW.shape[-2:])
    for d in range(disparities):
        volume[:, :, d, :, d:] = right_BCHW[..., : right_BCHW.shape[-1] - d]
    return volume


def plain_window(volume_BCDHW: Tensor, place_BHW: Tensor, radius: int) -> Tensor:
    """The volume at place - r .. place + r, by bilinear sampling of one row per pixel."""
    batch, channels, bins, height, width = volume_BCDHW.shape
    rows = volume_BCDHW.permute(0, 3, 4, 1, 2).reshape(-1, channels, 1, bins)
    reach = torch.arange(-radius, radius + 1, dtype=torch.float32)
    x = (place_BHW.reshape(-1, 1) + reach) * 2 / (bins - 1) - 1
    grid = torch.stack((x, torch.zeros_like(x)), dim=-1)[:, None]
    read = F.grid_sample(rows, grid, align_corners=True)
    return read.view(batch, height, width, channels, -1).permute(0, 3, 4, 1, 2)


def plain_upsampling(disparity_B1hw: Tensor, scores_B9HW: Tensor) -> Tensor:
    """Nine unfolded neighbours, brought to full resolution, then weighted."""
    batch, _, height, width = disparity_B1hw.shape
    neighbours = F.unfold(4 * disparity_B1hw, 3, padding=1).view(batch, 9, height, width)
    return (F.interpolate(neighbours, scale_factor=4) * scores_B9HW.softmax(dim=1)).sum(dim=1, keepdim=True)


def parts(height: int, width: int, disparities: int) -> Iterator[Part]:
    """(name, plain form, our form, largest allowed difference) of every part."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(1, 128, height, width, generator=generator) for _ in range(2))
    yield (
        "group-wise correlation",
        lambda: plain_correlation(left, right, disparities),
        lambda: groupwise_correlation(left, right, disparities),
        1e-5,
    )
    few = right[:, :12]
    yield "shifted right features", lambda: plain_shift(few, disparities), lambda: shifted_right(few, disparities), 0.0
    volume = torch.randn(1, 28, disparities, height, width, generator=generator)
    axial = DisparityConv3d(28)
    stock_axial = _stock(axial, nn.Conv3d(28, 28, (DISPARITY_KERNEL, 1, 1), padding=(DISPARITY_KERNEL // 2, 0, 0)))
    yield f"({DISPARITY_KERNEL},1,1) convolution", lambda: stock_axial(volume), lambda: axial(volume), 1e-4
    thin = volume[:, :14].contiguous()
    last = OneChannelConv3d(14, 7)
    stock_last = _stock(last, nn.Conv3d(14, 1, 7, padding=3))
    yield "7x7x7 convolution to one channel", lambda: stock_last(thin), lambda: last(thin), 1e-4
    place = torch.rand(1, height, width, generator=generator) * disparities
    yield "geometry lookup", lambda: plain_window(volume, place, 4), lambda: read_window(volume, place[:, None, None], 4), 1e-4
    coarse = torch.rand(1, 1, height, width, generator=generator) * disparities
    scores = torch.randn(1, 9, 4 * height, 4 * width, generator=generator)
    yield "convex upsampling", lambda: plain_upsampling(coarse, scores), lambda: convex_upsample(coarse, scores), 1e-4


def _stock(ours: nn.Module, stock: nn.Module) -> nn.Module:
    stock.load_state_dict(ours.state_dict())
    return stock


def main() -> int:
    """Prints a line a part; 1 when one falls below the floor."""
    parser = argparse.ArgumentParser(description="parts of the stereo network against their plain forms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--height", type=int, default=24)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--disparities", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(conditions())
    print(f"quarter-resolution map {args.height}x{args.width}, {args.disparities} disparities, {args.rounds} rounds, CPU time, float32")
    slow = 0
    with torch.inference_mode():
        for name, plain, ours, tolerance in parts(args.height, args.width, args.disparities):
            ratio = compare(plain, ours, tolerance=tolerance, rounds=args.rounds)
            slow += ratio.median < FLOOR
            print(f"  {name:34s} {ratio.median:6.2f}x   plain {ratio.plain_s * 1e3:8.2f} ms   ours {ratio.ours_s * 1e3:8.2f} ms")
    return 1 if slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
