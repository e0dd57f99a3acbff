"""Colour pictures of disparity and depth maps.

Colours follow the depth_net programs of TAO Toolkit (Apache-2.0): `turbo` for disparity, `Spectral` for monocular depth.
Arrays: H x W maps in float32, H x W x 3 pictures in uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from trials.data.decoders import F32, U8

DISPARITY_COLOURS = "turbo"
MONO_COLOURS = "Spectral"
ERROR_COLOURS = "inferno"
GAP_PX = 4


def value_range(values_HW: F32, valid_HW: np.ndarray | None = None) -> tuple[float, float]:
    """Smallest and largest finite value where `valid_HW` (everywhere without it); (0, 1) when there is none."""
    usable = np.isfinite(values_HW) if valid_HW is None else np.isfinite(values_HW) & valid_HW
    if not usable.any():
        return 0.0, 1.0
    chosen = values_HW[usable]
    return float(chosen.min()), float(chosen.max())


def coloured(values_HW: F32, *, colours: str, low: float, high: float, valid_HW: np.ndarray | None = None) -> U8:
    """H x W x 3: `low` to `high` on a matplotlib colour map; invalid and non-finite pixels black, a constant map one colour."""
    import matplotlib

    usable = np.isfinite(values_HW) if valid_HW is None else np.isfinite(values_HW) & valid_HW
    span = high - low
    share = (np.where(usable, values_HW, low) - low) / (span if span > 0 else 1.0)
    picture: U8 = matplotlib.colormaps[colours](np.clip(share, 0.0, 1.0), bytes=True)[..., :3]
    return np.where(usable[..., None], picture, np.uint8(0))


def side_by_side(pictures: Sequence[U8]) -> U8:
    """All pictures in a row on a white gap, each scaled to the height of the first."""
    height = pictures[0].shape[0]
    gap = np.full((height, GAP_PX, 3), 255, np.uint8)
    row: list[U8] = []
    for picture in pictures:
        row.extend([gap, _to_height(picture, height)])
    return np.concatenate(row[1:], axis=1)


def _to_height(picture: U8, height: int) -> U8:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
