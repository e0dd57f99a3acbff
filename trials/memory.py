"""What the cost volumes of a training step take of the memory there is, and which values take less.

The volumes are what a user chooses without knowing: they grow with crop, batch and max_disparity, and are the first to fill a device.
Features and refinement steps come on top, so that the estimate is a lower bound.
"""

from __future__ import annotations

from models.stereo.limits import STEP_PX, volume_memory_mib
from search_spaces.errors import UnsupportedError
from search_spaces.spec import Spec
from search_spaces.spec.rules import STRIDES
from trials.devices import total_memory_mib

HALF = 0.5  # 16-bit arithmetic, and the part of the memory that volumes may fill


def check_training_memory(spec: Spec) -> str | None:
    """One line on the cost volumes of a training step, None for a mono network.

    UnsupportedError, with values that fit, where they alone need more memory than there is.
    """
    need_mib, have_mib = training_volumes_mib(spec), total_memory_mib()
    if need_mib is None:
        return None
    if need_mib > have_mib:
        raise UnsupportedError(
            f"{_what(spec)} take about {_size(need_mib)}, but there are {_size(have_mib)}",
            hint=f"one of these fits: {', '.join(lighter(spec, HALF * have_mib / need_mib))}",
        )
    return f"{_what(spec)} take about {_size(need_mib)} of {_size(have_mib)}"


def out_of_memory_text(spec: Spec) -> tuple[str, str]:
    """For a run that had too little: what its cost volumes take ("" for mono), and values that take half."""
    need_mib = training_volumes_mib(spec)
    told = "" if need_mib is None else f"{_what(spec)} take about {_size(need_mib)} of {_size(total_memory_mib())}"
    again = "" if spec.train.activation_checkpoint else ", train.activation_checkpoint=true (more time)"
    return told, f"each of these takes less: {', '.join(lighter(spec, HALF))}{again}"


def training_volumes_mib(spec: Spec) -> float | None:
    """MiB of the cost volumes that a training step keeps; None for a network without any."""
    if spec.family != "stereo":
        return None
    height, width = spec.dataset.train_dataset.augmentation.crop_size
    batch = spec.dataset.train_dataset.batch_size
    exact = volume_memory_mib(height, width, spec.model.max_disparity, batch=batch, training=True)
    return HALF * exact if spec.model.mixed_precision or spec.train.precision == "fp16" else exact


def lighter(spec: Spec, share: float) -> list[str]:
    """What brings memory down to `share`, each by itself: overrides with legal values, or the only way that is left."""
    batch, crop = spec.dataset.train_dataset.batch_size, spec.dataset.train_dataset.augmentation.crop_size
    stride, overrides = STRIDES[spec.family], []
    if int(batch * share) >= 1:
        overrides.append(f"dataset.train_dataset.batch_size={int(batch * share)}")
    disparities = int(spec.model.max_disparity * share) // STEP_PX * STEP_PX
    if spec.family == "stereo" and disparities >= STEP_PX:
        overrides.append(f"model.max_disparity={disparities}")
    height, width = (max(2 * stride, int(side * share**0.5) // stride * stride) for side in crop)
    if height * width <= share * crop[0] * crop[1]:
        overrides.append(f"dataset.train_dataset.augmentation.crop_size=[{height},{width}]")
    return overrides or ["a machine with more memory"]


def _what(spec: Spec) -> str:
    height, width = spec.dataset.train_dataset.augmentation.crop_size
    batch = spec.dataset.train_dataset.batch_size
    return f"the cost volumes of a training step ({batch} x {width}x{height}, {spec.model.max_disparity} disparities)"


def _size(mib: float) -> str:
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"
