"""What every exported model has in common, whatever runs it: names of inputs, one size, a batch that may be fixed, a description.

The names are those of TAO's depth_net export (see deploy/onnx_export.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploy.sidecar import ModelFacts
from search_spaces.errors import DataError, UnsupportedError
from trials.evaluate import Predictor

INPUTS = {"stereo": ("left_image", "right_image"), "mono": ("images",)}
F32 = NDArray[np.float32]


class FilePredictor(Predictor, Protocol):
    """A predictor of an exported file.  `facts` are the file's own description, None for a file that another program wrote."""

    path: Path
    family: str
    facts: ModelFacts | None
    batch: int | None


def family_of(names: Collection[str], path: Path) -> str:
    """`stereo` or `mono` by the names of the inputs; UnsupportedError for any others."""
    for family, known in INPUTS.items():
        if set(names) == set(known):
            return family
    found = ", ".join(sorted(names))
    message = f"{path}: the model's inputs must be left_image and right_image, or images, but got {found}"
    raise UnsupportedError(message, hint="export the network with depth_net export")


def fixed_shape(shape: tuple[int | None, ...], path: Path) -> tuple[int | None, tuple[int, int]]:
    """(batch or None where it is free, (height, width)) of an input B x 3 x H x W; UnsupportedError for a free height or width."""
    batch, _, height, width = shape
    if height is None or width is None:
        message = f"{path}: the model's height and width must be fixed, but got {height or 'any'} x {width or 'any'}"
        raise UnsupportedError(
            message, hint="export it with one height and width: depth_net export export.input_height=... export.input_width=..."
        )
    return batch, (height, width)


def check_count(images: tuple[Tensor, ...], family: str, *, place: str) -> None:
    """DataError unless there are two images for a stereo network, one for a mono network."""
    wanted = len(INPUTS[family])
    if len(images) != wanted:
        raise DataError(
            f"{place}: a {family} network takes {wanted} image(s), but got {len(images)}", hint="left and right for stereo, one for mono"
        )


def as_map(output: Tensor) -> Tensor:
    """B x 1 x H x W, also of a mono network's B x H x W."""
    return output.unsqueeze(1) if output.dim() == 3 else output


def predict_in_batches(predictor: FilePredictor, images: tuple[Tensor, ...], run: Callable[[list[F32]], F32]) -> Tensor:
    """The maps of any number of images, B x 1 x H x W float32, by calls of `run` with the batch that the file takes.

    The last batch is filled up with its own last image and the surplus answers are dropped.  DataError for another size or number
    of images than the model's.
    """
    check_count(images, predictor.family, place=str(predictor.path))
    given, own = tuple(images[0].shape[-2:]), predictor.fixed_size
    if own is not None and given != own:
        message = f"{predictor.path.name} takes images of {own[0]}x{own[1]} only, but got {given[0]}x{given[1]}"
        raise DataError(message, hint=f"evaluate with augmentation.evaluation=resize augmentation.crop_size=[{own[0]},{own[1]}]")
    arrays = [image.detach().cpu().contiguous().numpy().astype(np.float32, copy=False) for image in images]
    count = arrays[0].shape[0]
    step = predictor.batch or count
    pieces = [run([_filled(array[start : start + step], step) for array in arrays]) for start in range(0, count, step)]
    return as_map(torch.from_numpy(np.concatenate(pieces)[:count]))


def _filled(array: F32, step: int) -> F32:
    missing = step - array.shape[0]
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array
