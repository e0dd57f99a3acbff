"""Pictures (and PFM files) of what a predictor sees in images with or without ground truth.

A picture shows input | ground truth (if any) | prediction | error (if ground truth), and lies under the path that its
input has below the folder common to all inputs: `<stem>_disp.png` for disparity and relative inverse depth,
`<stem>_depth.png` for metres, and the same with `.pfm` when `inference.save_raw_pfm` is set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.spec import Spec, with_values
from trials.data import Batch, to_target_grid
from trials.data.decoders import F32, U8, read_rgb, write_pfm, write_png
from trials.data.loader import split_of
from trials.evaluate import CountTo, Predictor, evaluation_loader, fitted_spec, images_of
from trials.pictures import DISPARITY_COLOURS, ERROR_COLOURS, MONO_COLOURS, coloured, side_by_side, value_range

SPLIT = "infer"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What `infer` wrote, in the order of the lists; `maps` is empty without `inference.save_raw_pfm`."""

    pictures: tuple[Path, ...]
    maps: tuple[Path, ...]


def infer(predictor: Predictor, spec: Spec, folder: Path, *, progress: CountTo | None = None) -> Written:
    """Predicts every sample of the infer lists into `folder`; existing files of the same names are replaced.

    Images are taken whole: `center_crop` is read as `native`.  DataError for lists or files that cannot be used.
    """
    spec = _whole_images(fitted_spec(spec, SPLIT, predictor.fixed_size))
    loader = evaluation_loader(spec, SPLIT)
    names = output_names([str(row.image) for row in loader.dataset.rows])  # type: ignore[attr-defined]  # a dataset of ours
    pictures: list[Path] = []
    maps: list[Path] = []
    suffix = "depth" if spec.family == "mono" and not spec.is_relative else "disp"
    for batch in loader:
        prediction = predictor.predict(images_of(batch)).float().cpu()
        on_grid = to_target_grid(prediction, batch["geometry"], spec.family)
        for position, index in enumerate(batch["index"].tolist()):
            target = folder / names[index].with_name(f"{names[index].name}_{suffix}.png")
            values = _array(on_grid[position, 0])
            write_png(target, _picture(batch, position, values, family=spec.family, relative=spec.is_relative))
            pictures.append(target)
            if spec.inference.save_raw_pfm:
                write_pfm(target.with_suffix(".pfm"), values)
                maps.append(target.with_suffix(".pfm"))
        if progress is not None:
            progress(len(pictures), len(names))
    if not pictures:
        raise DataError("no picture was written: the infer lists hold no sample", hint="fill dataset.infer_dataset.data_sources")
    return Written(pictures=tuple(pictures), maps=tuple(maps))


def output_names(paths: Sequence[str]) -> list[Path]:
    """One relative path without suffix for each input: where it lies below the folder common to all, made unique by `_2`, `_3`, ..."""
    resolved = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  resolve() would follow links out of the folder
    root = Path(os.path.commonpath([path.parent for path in resolved])) if resolved else Path()
    taken: set[Path] = set()
    names = []
    for path in resolved:
        plain = path.relative_to(root).with_suffix("")
        name, number = plain, 1
        while name in taken:
            number += 1
            name = plain.with_name(f"{plain.name}_{number}")
        taken.add(name)
        names.append(name)
    return names


def _whole_images(spec: Spec) -> Spec:
    if split_of(spec, SPLIT).augmentation.evaluation != "center_crop":
        return spec
    return with_values(spec, {f"dataset.{SPLIT}_dataset.augmentation.evaluation": "native"})


def _picture(batch: Batch, position: int, values_HW: F32, *, family: str, relative: bool) -> U8:
    """The row of pictures of one sample; ground truth and prediction share one range, except where their scales are unrelated."""
    colours = DISPARITY_COLOURS if family == "stereo" else MONO_COLOURS
    image = read_rgb(Path(batch["path"][position]))
    if "target" not in batch:
        low, high = value_range(values_HW)
        return side_by_side([image, coloured(values_HW, colours=colours, low=low, high=high)])
    target, valid = _array(batch["target"][position, 0]), batch["valid"][position, 0].numpy()
    if relative:
        values_HW = _aligned(values_HW, target, valid)
    low, high = value_range(target, valid)
    truth = coloured(target, colours=colours, low=low, high=high, valid_HW=valid)
    predicted = coloured(values_HW, colours=colours, low=low, high=high)
    error = np.abs(values_HW - np.where(valid, target, values_HW))
    wrong = coloured(error, colours=ERROR_COLOURS, low=0.0, high=value_range(error, valid)[1], valid_HW=valid)
    return side_by_side([image, truth, predicted, wrong])


def _aligned(values_HW: F32, target_HW: F32, valid_HW: np.ndarray) -> F32:
    """`values_HW` with the scale and shift that fit the ground truth best."""
    if not valid_HW.any():
        return values_HW
    chosen, wanted = values_HW[valid_HW].astype(np.float64), target_HW[valid_HW].astype(np.float64)
    spread = chosen.var()
    scale = float(((chosen - chosen.mean()) * (wanted - wanted.mean())).mean() / spread) if spread > 0 else 0.0
    return np.asarray(values_HW * scale + (wanted.mean() - scale * chosen.mean()), np.float32)


def _array(values: Tensor) -> F32:
    return np.asarray(values.numpy(), np.float32)
