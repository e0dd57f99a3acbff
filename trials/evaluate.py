"""Metrics of anything that predicts maps, on one split: a checkpoint, an ONNX file or an engine, all by the same code.

The spec says how images meet the network (`dataset.<split>.augmentation.evaluation`); a predictor that takes one size
only gets its images resized to it.  The metrics are those of the ground truth's own grid and unit either way.

Shapes: B images, h x w the network's grid, H x W the ground truth's grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor
from torch.utils.data import DataLoader

from search_spaces.errors import DataError
from search_spaces.spec import Spec, with_values
from trials.comparison import quantity_of
from trials.data import Batch, EqualShapeBatches, Item, build_dataset, collate, evaluation_hash, to_target_grid
from trials.data.loader import split_of
from trials.output_names import output_stems, with_ending
from trials.raw_maps import raw_endings, write_map
from trials.scoring import ImageScore, Scorer
from trials.tiles import tiled
from trials.workers import EndWithTrainer, loader_workers

CountTo = Callable[[int, int], None]  # images done, images in all


class Predictor(Protocol):
    """Anything that turns normalised images into maps.  `fixed_size` is the one height and width it takes, None for any legal one."""

    name: str
    fixed_size: tuple[int, int] | None

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """(B,1,h,w): disparity in pixels of the input, metres, or relative inverse depth; `images` are (left, right) or (image,)."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Metrics (no split prefix) of `num_images` images; comparable only under an equal `evaluation_hash`.

    `images` are those of the lists in their order, also the `skipped` ones without ground truth and those in `not_finite`, whose
    predictions are NaN or infinite: neither counts in a metric.  `mode` is how images met the network.  `seconds_per_image` is the
    time inside `predict`, copies to and from a device included, reading and scoring not.
    """

    metrics: Mapping[str, float | None]
    num_images: int
    num_pixels: int
    skipped: int
    not_finite: tuple[str, ...]
    images: tuple[ImageScore, ...]
    evaluation_hash: str
    mode: str
    seconds_per_image: float


def evaluate(
    predictor: Predictor,
    spec: Spec,
    split: str,
    *,
    progress: CountTo | None = None,
    keep_going: bool = False,
    maps: Path | None = None,
) -> Evaluation:
    """Measures `predictor` on `split` (`val` or `test`).

    `maps` is a folder for raw predictions, of the kinds that the spec's inference section asks for.  NonFiniteError for a NaN
    prediction, unless `keep_going`: then its image is left out and named.  DataError for lists or files that cannot be used and when
    no image has ground truth.
    """
    predictor, spec = tiled(predictor, spec, split)
    spec = fitted_spec(spec, split, predictor.fixed_size)
    loader = evaluation_loader(spec, split)
    rows = loader.dataset.rows  # type: ignore[attr-defined]  # a dataset of ours
    endings = raw_endings(spec) if maps is not None else ()
    stems = output_stems(rows, maps, suffix=quantity_of(spec).suffix) if maps is not None and endings else []
    scorer = Scorer(spec, keep_going=keep_going)
    spent_s, done = 0.0, 0
    for batch in loader:
        if "target" not in batch:
            raise DataError(f"{batch['path'][0]} has no ground truth, so it cannot be evaluated", hint="use depth_net inference for it")
        started = time.perf_counter()
        prediction = predictor.predict(images_of(batch)).cpu()
        spent_s += time.perf_counter() - started
        on_grid = to_target_grid(prediction.float(), batch["geometry"], spec.family)
        scorer.update(on_grid, batch["target"], batch["valid"], batch["path"])
        for position, index in enumerate(batch["index"].tolist()):
            for ending in endings:
                write_map(with_ending(stems[index], ending), on_grid[position, 0].numpy())
        done += len(batch["path"])
        if progress is not None:
            progress(done, len(rows))
    if scorer.skipped == done:
        raise DataError(
            f"none of the {done} images of dataset.{split}_dataset has a valid pixel",
            hint="check the ground truth and its range in the spec",
        )
    return Evaluation(
        metrics=scorer.compute(),
        num_images=scorer.num_images,
        num_pixels=scorer.num_pixels,
        skipped=scorer.skipped,
        not_finite=scorer.not_finite,
        images=tuple(scorer.images),
        evaluation_hash=evaluation_hash(spec, split),
        mode=split_of(spec, split).augmentation.evaluation,
        seconds_per_image=spent_s / done,
    )


def fitted_spec(spec: Spec, split: str, fixed_size: tuple[int, int] | None) -> Spec:
    """`spec` as a predictor of `fixed_size` can be fed: `resize` or `pad` to that size, unless `center_crop` already gives it."""
    if fixed_size is None:
        return spec
    augmentation = split_of(spec, split).augmentation
    if augmentation.evaluation == "center_crop" and tuple(augmentation.crop_size) == fixed_size:
        return spec
    prefix = f"dataset.{split}_dataset.augmentation"
    mode = "pad" if augmentation.evaluation == "pad" else "resize"
    return with_values(spec, {f"{prefix}.evaluation": mode, f"{prefix}.crop_size": list(fixed_size)})


def stretch(size: tuple[int, int], to: tuple[int, int]) -> float:
    """How much a resize of (height, width) changes shapes: 0.2 makes them 20 % wider against their height, -0.2 20 % higher."""
    ratio = (to[1] / to[0]) / (size[1] / size[0])
    return ratio - 1 if ratio >= 1 else 1 - 1 / ratio


def evaluation_loader(spec: Spec, split: str) -> DataLoader[Item]:
    """Batches of a split in the order of its lists, each of one geometry, never augmented."""
    dataset, section = build_dataset(spec, split, training=False), split_of(spec, split)
    batches = EqualShapeBatches(dataset, section.batch_size)
    workers = loader_workers(section.workers, samples=len(dataset))
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        # a plain fork copies the locks of the predictor's threads as they are, and can wait for one for ever
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=EndWithTrainer() if workers else None,
    )


def images_of(batch: Batch) -> tuple[Tensor, ...]:
    """(left, right) of a stereo batch, (image,) of a mono one."""
    return (batch["image"], batch["right_image"]) if "right_image" in batch else (batch["image"],)
