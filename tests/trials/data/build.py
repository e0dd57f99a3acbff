"""Specs and small files that the tests of trials.data are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from search_spaces.spec import Spec, spec_from_dict, with_values
from trials.data.decoders import write_pfm, write_png
from trials.data.transforms import normalise

AUGMENTATION = "dataset.train_dataset.augmentation"
QUIET = {
    f"{AUGMENTATION}.{name}": 0.0
    for name in ("yjitter_prob", "hshift_prob", "eraser_aug_prob", "spatial_aug_prob", "color_aug_prob", "color_aug_brightness")
} | {
    f"{AUGMENTATION}.color_aug_contrast": 0.0,
    f"{AUGMENTATION}.color_aug_saturation": [1.0, 1.0],
    f"{AUGMENTATION}.color_aug_hue_range": [0.0, 0.0],
}


def stereo_spec(data_file: Path, dataset_name: str = "Middlebury", *, source: dict[str, Any] | None = None, **values: Any) -> Spec:
    """FoundationStereo with one source for all splits; `values` are dotted keys with `__` for the dot."""
    return _spec({"model_type": "FoundationStereo", "encoder": "vits", "max_disparity": 64}, data_file, dataset_name, source, values)


def mono_spec(data_file: Path, dataset_name: str, *, source: dict[str, Any] | None = None, relative: bool = False, **values: Any) -> Spec:
    """Depth Anything, metric up to 10 m unless relative."""
    model = {"model_type": "RelativeDepthAnything" if relative else "MetricDepthAnything", "encoder": "vits"}
    if not relative:
        values = {"dataset__max_depth": 10.0, "dataset__min_depth": 0.001} | values
    return _spec(model, data_file, dataset_name, source, values)


def _spec(model: dict[str, Any], data_file: Path, dataset_name: str, source: dict[str, Any] | None, values: dict[str, Any]) -> Spec:
    entry = {"data_file": str(data_file), "dataset_name": dataset_name} | (source or {})
    crop = [64, 96] if model["model_type"] == "FoundationStereo" else [56, 84]
    split = {"data_sources": [entry], "augmentation": {"crop_size": crop}}
    dataset = {f"{name}_dataset": split for name in ("train", "val", "test", "infer")}
    return with_values(
        spec_from_dict({"dataset": dataset, "model": model}), {key.replace("__", "."): value for key, value in values.items()}
    )


def quiet(spec: Spec) -> Spec:
    """The spec with every random part of stereo augmentation but the crop switched off."""
    return with_values(spec, QUIET)


def write_pair(folder: Path, *, height: int = 80, width: int = 120, disparity: float = 5.0, seed: int = 0) -> Path:
    """One stereo pair of smooth noise whose right view is exact for a constant integer disparity; gives the list."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, size=(height, width + int(disparity), 3), dtype=np.uint8)
    # scene column c is left column c - shift and right column c: x_left = x_right + disparity needs right to start `disparity` further
    write_png(folder / "left.png", np.ascontiguousarray(wide[:, :width]))
    write_png(folder / "right.png", np.ascontiguousarray(wide[:, int(disparity) :]))
    write_pfm(folder / "disparity.pfm", np.full((height, width), disparity, np.float32))
    file = folder / "list.txt"
    file.write_text("left.png right.png disparity.pfm\n")
    return file


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """The image as the data set gives it."""
    return torch.from_numpy(normalise(image, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
