"""Colour pictures of disparity and depth maps: panels in a row, each with its title, a colour bar and the range of the bar.

Colours are matplotlib's (https://matplotlib.org, BSD-style licence): `turbo` for disparity and `Spectral` for depth, as in the
depth_net programs of TAO Toolkit (Apache-2.0); near is always the red end, so inverse depth takes `Spectral_r`, as in Depth Anything.
Arrays: H x W maps in float32, H x W x 3 pictures in uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trials.data.decoders import F32, U8, Mask

ERROR_COLOURS = "inferno"
UNKNOWN = (160, 160, 160)  # no colour of the maps is grey
PAPER, INK = (255, 255, 255), (40, 40, 40)
OUTER_PERCENT = 1.0  # at each end of a range: a few wild pixels would flatten everything else
LARGEST_PANEL_PX = 2048
WIDE = 2  # width over height from which four panels take two rows
SPARSE_SHARE = 0.5
GAP_PX = 8


@dataclass(frozen=True, kw_only=True)
class Bar:
    """The colours of a map and the values at their ends, in `unit`."""

    colours: str
    low: float
    high: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One part of a picture; a photograph has no bar."""

    title: str
    picture: U8
    bar: Bar | None = None


def value_range(values_HW: F32, valid_HW: Mask | None = None) -> tuple[float, float]:
    """The 1st and the 99th percentile of the finite values where `valid_HW` (everywhere without it); (0, 1) when there is none."""
    usable = np.isfinite(values_HW) if valid_HW is None else np.isfinite(values_HW) & valid_HW
    if not usable.any():
        return 0.0, 1.0
    low, high = np.percentile(values_HW[usable], [OUTER_PERCENT, 100 - OUTER_PERCENT])
    return float(low), float(high)


def coloured(values_HW: F32, valid_HW: Mask | None, bar: Bar) -> U8:
    """H x W x 3: values beyond the bar take its end's colour, invalid and non-finite pixels are grey, a constant map has one colour."""
    import matplotlib

    usable = np.isfinite(values_HW) if valid_HW is None else np.isfinite(values_HW) & valid_HW
    span = bar.high - bar.low
    share = (np.where(usable, values_HW, bar.low) - bar.low) / (span if span > 0 else 1.0)
    picture: U8 = matplotlib.colormaps[bar.colours](np.clip(share, 0.0, 1.0), bytes=True)[..., :3]
    return np.where(usable[..., None], picture, np.array(UNKNOWN, np.uint8))


def thickened(values_HW: F32, valid_HW: Mask) -> tuple[F32, Mask]:
    """Both as they are, or for sparse ground truth (a laser's) with each point drawn three pixels wide: single ones cannot be seen."""
    if valid_HW.mean() > SPARSE_SHARE:
        return values_HW, valid_HW
    values, valid = np.pad(values_HW, 1), np.pad(valid_HW, 1)
    wide, known = values_HW.copy(), valid_HW.copy()
    for row in range(3):
        for column in range(3):
            around = (slice(row, row + values_HW.shape[0]), slice(column, column + values_HW.shape[1]))
            fresh = valid[around] & ~known
            wide[fresh], known = values[around][fresh], known | fresh
    return wide, known


def sheet(panels: Sequence[Panel]) -> U8:
    """All panels in a row on white, four wide ones in two rows; as high as the first, scaled down together to at most 2048 pixels."""
    height, width = panels[0].picture.shape[:2]
    shrink = min(1.0, LARGEST_PANEL_PX / max(height, width))
    height = max(1, round(height * shrink))
    pictures = [_to_height(panel.picture, height) for panel in panels]
    text_px = text_size(height, min(picture.shape[1] for picture in pictures))
    columns = [
        np.concatenate([_title(panel, picture.shape[1], text_px), picture, _foot(panel.bar, picture.shape[1], text_px)])
        for panel, picture in zip(panels, pictures, strict=True)
    ]
    half = len(columns) // 2
    rows = [columns[:half], columns[half:]] if len(columns) == 4 and pictures[0].shape[1] > WIDE * height else [columns]
    return np.concatenate([_row(row, at_least=max(sum(each.shape[1] for each in row) for row in rows)) for row in rows])


def _row(columns: Sequence[U8], *, at_least: int) -> U8:
    """Panels beside each other between gaps; white on the right up to a width of `at_least` plus gaps."""
    gap = np.full((columns[0].shape[0], GAP_PX, 3), PAPER, np.uint8)
    row = np.concatenate([gap, *(part for column in columns for part in (column, gap))], axis=1)
    missing = at_least - sum(column.shape[1] for column in columns)
    return np.pad(row, ((0, 0), (0, missing), (0, 0)), constant_values=PAPER[0])


def text_size(height: int, width: int) -> int:
    """Height of the letters beside panels of a size, in pixels."""
    return int(np.clip(min(height, width) / 22, 11, 28))


def title_height(text_px: int) -> int:
    """Rows above the panels."""
    return 2 * text_px


def _title(panel: Panel, width: int, text_px: int) -> U8:
    strip = Image.new("RGB", (width, title_height(text_px)), PAPER)
    font = ImageFont.load_default(text_px)
    words = panel.title.split(", ")  # what does not fit is left out from the end
    while words and font.getlength(", ".join(words)) > width:
        words.pop()
    ImageDraw.Draw(strip).text((0, title_height(text_px) // 2), ", ".join(words), font=font, fill=INK, anchor="lm")
    return np.asarray(strip)


def _foot(bar: Bar | None, width: int, text_px: int) -> U8:
    """The bar and the numbers at its ends."""
    strip = np.full((3 * text_px, width, 3), PAPER, np.uint8)
    if bar is None:
        return strip
    top, bottom = text_px // 2, text_px // 2 + max(4, text_px * 2 // 3)
    strip[top:bottom] = coloured(np.linspace(bar.low, bar.high, width, dtype=np.float32)[None], None, bar)
    canvas = Image.fromarray(strip)
    pen, font, middle = ImageDraw.Draw(canvas), ImageFont.load_default(text_px), (bottom + strip.shape[0]) // 2
    low, high = number(bar.low), f"{number(bar.high)} {bar.unit}".rstrip()
    if font.getlength(f"{low}  {high}") > width:
        return strip
    pen.text((0, middle), low, font=font, fill=INK, anchor="lm")
    pen.text((width, middle), high, font=font, fill=INK, anchor="rm")
    return np.asarray(canvas)


def number(value: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:.3g}"


def _to_height(picture: U8, height: int) -> U8:
    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    # enlarged maps keep their pixels: a blend with the grey of unknown ones would be a colour of its own
    interpolation = cv2.INTER_AREA if picture.shape[0] > height else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation), np.uint8)
