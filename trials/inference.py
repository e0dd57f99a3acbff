"""What a predictor sees in images with or without ground truth: pictures and, where the spec asks, raw maps and point clouds.

Each image has its outputs under one name (see `trials.output_names`): `<stem>_disp` for disparity and relative inverse depth,
`<stem>_depth` for metres.  Maps lie on the grid of the ground truth where the list has one, else on that of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search_spaces.spec import Spec, with_values
from trials.comparison import Quantity, picture_of, quantity_of
from trials.data import Batch, to_target_grid
from trials.data.decoders import F32, read_rgb, write_png
from trials.data.loader import split_of
from trials.evaluate import CountTo, Predictor, evaluation_loader, fitted_spec, images_of
from trials.output_names import CLOUD, PICTURE, output_stems, with_ending
from trials.point_cloud import Camera, camera_of, write_cloud
from trials.raw_maps import raw_endings, write_map
from trials.tiles import tiled

SPLIT = "infer"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What `infer` wrote: files by their ending, how many of them replaced an older one, and the images to look at.

    `not_finite` are images with a prediction that is NaN or infinite somewhere, `no_points` those whose cloud is empty.
    """

    files: Mapping[str, tuple[Path, ...]]
    replaced: int
    not_finite: tuple[Path, ...]
    no_points: tuple[Path, ...]


def infer(predictor: Predictor, spec: Spec, folder: Path, *, progress: CountTo | None = None) -> Written:
    """Predicts every sample of the infer split into `folder`; existing files of the same names are replaced.

    Images are taken whole: `center_crop` is read as `native`.  DataError for lists or files that cannot be used, SpecError for point
    clouds without a camera.
    """
    predictor, spec = tiled(predictor, spec, SPLIT)
    spec = _whole_images(fitted_spec(spec, SPLIT, predictor.fixed_size))
    camera = camera_of(spec) if spec.inference.save_ply else None
    quantity = quantity_of(spec)
    loader = evaluation_loader(spec, SPLIT)
    stems = output_stems(loader.dataset.rows, folder, suffix=quantity.suffix)  # type: ignore[attr-defined]  # a dataset of ours
    writer = _Writer(quantity, raw_endings(spec), camera)
    done = 0
    for batch in loader:
        prediction = predictor.predict(images_of(batch)).float().cpu()
        maps_BHW = to_target_grid(prediction, batch["geometry"], spec.family)[:, 0].numpy()
        for position, index in enumerate(batch["index"].tolist()):
            writer.write(stems[index], maps_BHW[position], batch, position)
        done += len(maps_BHW)
        if progress is not None:
            progress(done, len(stems))
    return writer.written()


class _Writer:
    """Writes the outputs of one image after the other and remembers what it did."""

    def __init__(self, quantity: Quantity, raw: tuple[str, ...], camera: Camera | None) -> None:
        self._quantity = quantity
        self._raw = raw
        self._camera = camera
        self._files: dict[str, list[Path]] = {}
        self._replaced = 0
        self._not_finite: list[Path] = []
        self._no_points: list[Path] = []

    def write(self, stem: Path, values_HW: F32, batch: Batch, position: int) -> None:
        """All outputs of the image at `position` of its batch."""
        path = Path(batch["path"][position])
        image = read_rgb(path)
        truth = {}
        if "target" in batch:
            truth = {"target_HW": batch["target"][position, 0].numpy(), "valid_HW": batch["valid"][position, 0].numpy()}
        if not np.isfinite(values_HW).all():
            self._not_finite.append(path)
        write_png(self._file(stem, PICTURE), picture_of(image, values_HW, self._quantity, **truth))
        for ending in self._raw:
            write_map(self._file(stem, ending), values_HW)
        if self._camera is not None and not write_cloud(self._file(stem, CLOUD), values_HW, image, self._camera):
            self._no_points.append(path)

    def _file(self, stem: Path, ending: str) -> Path:
        file = with_ending(stem, ending)
        self._replaced += file.exists()
        self._files.setdefault(ending, []).append(file)
        return file

    def written(self) -> Written:
        """What was done so far."""
        return Written(
            files={ending: tuple(files) for ending, files in self._files.items()},
            replaced=self._replaced,
            not_finite=tuple(self._not_finite),
            no_points=tuple(self._no_points),
        )


def _whole_images(spec: Spec) -> Spec:
    if split_of(spec, SPLIT).augmentation.evaluation != "center_crop":
        return spec
    return with_values(spec, {f"dataset.{SPLIT}_dataset.augmentation.evaluation": "native"})
