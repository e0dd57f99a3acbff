"""The picture of one prediction beside its image and, where it is known, the ground truth and the error.

Arrays: H x W maps in float32 and masks, all on one grid; the image may have another size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from search_spaces.spec import Spec
from trials.data.decoders import F32, U8, Mask
from trials.losses import fit_scale_and_shift
from trials.pictures import ERROR_COLOURS, Bar, Panel, coloured, number, sheet, thickened, value_range

# of the range of the ground truth: smaller errors stay dark instead of filling the bar with noise
SMALLEST_ERROR_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """What the maps of a network hold: the suffix of its files, its unit and its colours."""

    suffix: str
    unit: str
    colours: str


DISPARITY = Quantity(suffix="disp", unit="px", colours="turbo")
INVERSE_DEPTH = Quantity(suffix="disp", unit="", colours="Spectral_r")
DEPTH = Quantity(suffix="depth", unit="m", colours="Spectral")


def quantity_of(spec: Spec) -> Quantity:
    """What the spec's network predicts."""
    if spec.family == "stereo":
        return DISPARITY
    return INVERSE_DEPTH if spec.is_relative else DEPTH


def picture_of(image: U8, values_HW: F32, quantity: Quantity, *, target_HW: F32 | None = None, valid_HW: Mask | None = None) -> U8:
    """image | prediction, and with ground truth image | ground truth | prediction | error.

    Ground truth and prediction share one range, that of the ground truth.  A relative prediction is shown after the scale and
    shift that fit it best.
    """
    photograph = Panel(title="image", picture=image)
    if target_HW is None or valid_HW is None or not valid_HW.any():
        low, high = value_range(values_HW)
        bar = Bar(colours=quantity.colours, low=low, high=high, unit=quantity.unit)
        return sheet([photograph, Panel(title="prediction", picture=coloured(values_HW, None, bar), bar=bar)])
    if quantity is INVERSE_DEPTH:
        values_HW = fitted(values_HW, target_HW, valid_HW)
    low, high = value_range(target_HW, valid_HW)
    bar = Bar(colours=quantity.colours, low=low, high=high, unit=quantity.unit)
    error = np.abs(values_HW - np.where(valid_HW, target_HW, values_HW))
    largest = max(value_range(error, valid_HW)[1], SMALLEST_ERROR_SHARE * (high - low))
    wrong = Bar(colours=ERROR_COLOURS, low=0.0, high=largest, unit=quantity.unit)
    mean = f"{number(float(error[valid_HW].mean(dtype=np.float64)))} {quantity.unit}".rstrip()
    predicted = "prediction, scaled and shifted to fit" if quantity is INVERSE_DEPTH else "prediction"
    return sheet(
        [
            photograph,
            Panel(title="ground truth", picture=coloured(*thickened(target_HW, valid_HW), bar), bar=bar),
            Panel(title=predicted, picture=coloured(values_HW, None, bar), bar=bar),
            Panel(title=f"error, mean {mean}", picture=coloured(*thickened(error, valid_HW), wrong), bar=wrong),
        ]
    )


def fitted(values_HW: F32, target_HW: F32, valid_HW: Mask) -> F32:
    """The map with the scale and shift that fit the ground truth best; zeros for a constant map, which has no fit."""
    known = np.isfinite(values_HW) & valid_HW
    maps = (np.where(known, each, 0).astype(np.float64)[None, None] for each in (values_HW, target_HW, known))
    scale, shift = fit_scale_and_shift(*(torch.from_numpy(each) for each in maps))
    return np.asarray(values_HW * float(scale) + float(shift), np.float32)
