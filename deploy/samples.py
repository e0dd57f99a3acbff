"""Images on which two runtimes are held against each other: of a list, or made up where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from trials.data import Batch, build_dataset, collate
from trials.data.urls import is_url
from trials.evaluate import fitted_spec, images_of

SPLITS = ("test", "val")
_COARSE = 16  # pixels from one random value to the next
_SHIFT = 8  # of the right view, in pixels


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What `predict` takes, with any batch, and the ground truth that goes with it, None where there is none."""

    images: tuple[Tensor, ...]
    truth: Batch | None = None


def split_with_images(spec: Spec) -> str | None:
    """The first of test and val whose lists are there, or None."""
    for split in SPLITS:
        sources = getattr(spec.dataset, f"{split}_dataset").data_sources
        if sources and all(is_url(source.data_file) or Path(source.data_file).expanduser().is_file() for source in sources):
            return split
    return None


def samples_at(size: tuple[int, int], spec: Spec, split: str | None, count: int) -> Iterator[Sample]:
    """Up to `count` samples of the split as a predictor of that height and width takes them; made-up images where it is None."""
    if split is None:
        for images in made_up_images(spec.family, size, count):
            yield Sample(images=images)
    elif count:
        for batch in sample_batches(fitted_spec(spec, split, size), split, count):
            yield Sample(images=images_of(batch), truth=batch if "target" in batch else None)


def sample_batches(spec: Spec, split: str, count: int) -> Iterator[Batch]:
    """Up to `count` images (pairs) of the split, evenly spread over its list, each as a batch of one with what truth it has."""
    dataset = build_dataset(spec, split, training=False)
    total = len(dataset)
    if not total:
        raise DataError(f"dataset.{split}_dataset lists no image to compare the runtimes on", hint="give a list with at least one line")
    for index in sorted({round(index * (total - 1) / max(1, count - 1)) for index in range(min(count, total))}):
        yield collate([dataset[index]])


def made_up_images(family: str, size: tuple[int, int], count: int) -> Iterator[tuple[Tensor, ...]]:
    """`count` smooth random images 1 x 3 x H x W, the same at each call; for stereo the right view is the left one moved by 8 pixels."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        coarse = torch.randn(1, 3, size[0] // _COARSE + 2, size[1] // _COARSE + 2, generator=generator)
        image = functional.interpolate(coarse, size=size, mode="bicubic", align_corners=False)
        yield (image, image.roll(-_SHIFT, dims=3)) if family == "stereo" else (image,)
