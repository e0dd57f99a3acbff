"""Colour jitter of 8-bit RGB images: brightness, contrast, saturation and hue in a random order.

The four operations are those of torchvision's ColorJitter (https://github.com/pytorch/vision, BSD-3), on uint8 with lookup tables.
Random numbers come from the generator passed in; the input arrays are never written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from trials.data.decoders import U8


@dataclass(frozen=True, kw_only=True)
class ColourJitter:
    """Ranges of a jitter: factors 1 - brightness to 1 + brightness and likewise contrast, saturation between two factors, hue
    between two shifts in turns of the colour circle (5/180 of the circle is 10 degrees)."""

    brightness: float
    contrast: float
    saturation: tuple[float, float]
    hue: tuple[float, float]

    def draw(self, rng: np.random.Generator) -> JitterStep:
        """One setting of all four, and their order."""
        return JitterStep(
            order=tuple(int(k) for k in rng.permutation(4)),
            brightness=float(rng.uniform(max(0.0, 1 - self.brightness), 1 + self.brightness)),
            contrast=float(rng.uniform(max(0.0, 1 - self.contrast), 1 + self.contrast)),
            saturation=float(rng.uniform(*self.saturation)),
            hue=float(rng.uniform(*self.hue)),
        )


@dataclass(frozen=True, kw_only=True)
class JitterStep:
    """One drawn jitter, for one image or for several alike."""

    order: tuple[int, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float

    def apply(self, images: Sequence[U8]) -> list[U8]:
        """New images.  Contrast pulls towards the mean grey of all of them together, so that a pair stays a pair."""
        done = list(images)
        for operation in self.order:
            if operation == 0:
                done = [_through_table(image, self.brightness, 0.0) for image in done]
            elif operation == 1:
                grey = float(np.mean([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() for image in done]))
                done = [_through_table(image, self.contrast, (1 - self.contrast) * grey) for image in done]
            elif operation == 2:
                done = [_saturate(image, self.saturation) for image in done]
            else:
                done = [_turn_hue(image, self.hue) for image in done]
        return done


def _through_table(image: U8, factor: float, offset: float) -> U8:
    table = np.clip(np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset), 0, 255)
    return np.asarray(cv2.LUT(image, np.rint(table).astype(np.uint8)), dtype=np.uint8)


def _saturate(image: U8, factor: float) -> U8:
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, factor, grey, 1 - factor, 0.0), dtype=np.uint8)


def _turn_hue(image: U8, turns: float) -> U8:
    steps = round(turns * 256) % 256
    if steps == 0:
        return image  # there and back would cost up to two grey levels
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)  # hue 0 to 255 is the full circle
    hsv[:, :, 0] += np.uint8(steps)  # wraps around
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)
