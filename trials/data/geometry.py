"""How an image was brought to the network's size, and how a prediction goes back to the ground truth's grid.

Tensor legend: B batch, 1 one channel, h w the network's grid, H W the ground truth's grid.

Evaluation modes (`dataset.<split>.augmentation.evaluation`):
    native       stereo: the full image, edge-padded to multiples of 32 (a tiny one to 64x64), cut back; mono: resized with its aspect kept
                 so that it covers crop_size, sides multiples of 14, prediction resized to the ground truth
    center_crop  the crop_size window in the middle of image and ground truth
    resize       the image squeezed to exactly crop_size; ground truth stays as it is, disparity is rescaled on the way back
    pad          the whole image, edge-padded to crop_size, cut back; resized where it is larger or its ground truth has another size
    tile         the whole image, edge-padded where it is smaller than crop_size; a stereo predictor takes it in tiles (trials/tiles.py)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional

STRIDE = {"stereo": 32, "mono": 14}
Size = tuple[int, int]  # height, width


class Geometry(NamedTuple):
    """What lies between the network's grid and the target's grid.

    `kind` is none (same grid), pad or resize.  `pad` is (left, right, top, bottom), in pixels, zero unless kind is pad.  A tuple, not
    a dataclass: Lightning rebuilds batches field by field and refuses frozen dataclasses.
    """

    kind: str
    network_size: Size
    target_size: Size
    pad: tuple[int, int, int, int] = (0, 0, 0, 0)


class Plan(NamedTuple):
    """Evaluation of one image: cut `window` (top, left, height, width), then do what `geometry` says."""

    window: tuple[int, int, int, int]
    geometry: Geometry


def covering_size(size: Size, at_least: Size, *, multiple: int = 14) -> Size:
    """The size with (nearly) the same aspect whose sides are multiples and not below `at_least`: 480x640 at 518x518 gives 518x686."""
    scale = max(at_least[0] / size[0], at_least[1] / size[1])

    def side(length: int, least: int) -> int:
        wanted = round(scale * length / multiple) * multiple  # half to even, as NumPy rounds
        return wanted if wanted >= least else math.ceil(scale * length / multiple) * multiple

    return side(size[0], at_least[0]), side(size[1], at_least[1])


def even_pad(size: Size, to: Size) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) that bring `size` to `to`; left and top get the smaller half."""
    rows, columns = to[0] - size[0], to[1] - size[1]
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def _padded(size: Size, to: Size) -> Geometry:
    pad = even_pad(size, to)
    return Geometry("pad" if any(pad) else "none", to, size, pad)


def plan_evaluation(mode: str, family: str, *, image_size: Size, target_size: Size | None, crop_size: Size) -> Plan:
    """The plan for one image; `target_size` is None without ground truth, then the prediction goes to the image's own grid."""
    goal = target_size or image_size
    whole = (0, 0, *image_size)
    fits = goal == image_size and image_size[0] <= crop_size[0] and image_size[1] <= crop_size[1]
    if mode == "pad" and fits:
        return Plan(whole, _padded(image_size, crop_size))
    if mode in {"resize", "pad"}:
        return Plan(whole, Geometry("none" if crop_size == goal == image_size else "resize", crop_size, goal))
    if mode == "tile":
        return Plan(whole, _padded(image_size, (max(image_size[0], crop_size[0]), max(image_size[1], crop_size[1]))))
    if mode == "center_crop":
        height, width = min(image_size[0], crop_size[0]), min(image_size[1], crop_size[1])
        window = ((image_size[0] - height) // 2, (image_size[1] - width) // 2, height, width)
        return Plan(window, _padded((height, width), crop_size))
    assert mode == "native", mode
    if family == "stereo":
        stride = STRIDE["stereo"]
        padded = (-(-image_size[0] // stride) * stride, -(-image_size[1] // stride) * stride)
        # one single pixel at 1/32 of the size has no statistics to normalise by
        return Plan(whole, _padded(image_size, (2 * stride, 2 * stride) if padded == (stride, stride) else padded))
    size = covering_size(image_size, crop_size, multiple=STRIDE["mono"])
    return Plan(whole, Geometry("none" if size == goal == image_size else "resize", size, goal))


def to_target_grid(prediction_B1hw: torch.Tensor, geometry: Geometry, family: str) -> torch.Tensor:
    """(B, 1, H, W): the prediction where the ground truth is.  A resized disparity is multiplied by W / w, so that it counts pixels of
    the target's grid; a resized depth keeps its values."""
    assert prediction_B1hw.ndim == 4, prediction_B1hw.shape
    assert tuple(prediction_B1hw.shape[-2:]) == geometry.network_size, (prediction_B1hw.shape, geometry)
    if geometry.kind == "none":
        return prediction_B1hw
    if geometry.kind == "pad":
        left, right, top, bottom = geometry.pad
        height, width = geometry.network_size
        return prediction_B1hw[:, :, top : height - bottom, left : width - right]
    assert geometry.kind == "resize", geometry
    if family == "mono":
        return functional.interpolate(prediction_B1hw, size=geometry.target_size, mode="bilinear", align_corners=True)
    resized = functional.interpolate(prediction_B1hw, size=geometry.target_size, mode="bilinear", align_corners=False)
    return resized * (geometry.target_size[1] / geometry.network_size[1])
