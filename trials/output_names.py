"""Where the outputs of each image go: a tree like that of the inputs, one name for each row, no input overwritten.

An output lies below the results folder as its image lies below the folder common to all images of the list, under the image's
own stem and what the map is: `sceneA/im0.png` becomes `sceneA/im0_disp.png`, `sceneA/im0_disp.pfm`, ...
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from search_spaces.errors import DataError
from trials.data.annotations import Row

PICTURE, PFM, NPY, CLOUD = ".png", ".pfm", ".npy", ".ply"


def output_stems(rows: Sequence[Row], folder: Path, *, suffix: str) -> list[Path]:
    """One path without ending for each row, all different; DataError where a file of the list would be overwritten."""
    stems = [folder / name.with_name(f"{name.name}_{suffix}") for name in output_names([row.image for row in rows])]
    inputs = {_absolute(path) for row in rows for path in row.files()}
    for stem in stems:
        for ending in (PICTURE, PFM, NPY, CLOUD):
            if _absolute(with_ending(stem, ending)) in inputs:
                raise DataError(
                    f"{with_ending(stem, ending)} is a file of the list: the results would overwrite it", hint="choose another results_dir"
                )
    return stems


def output_names(images: Sequence[Path]) -> list[Path]:
    """One relative path without ending for each image.

    Images of one folder that differ in their ending alone carry it in the name (`im0_png`, `im0_jpg`); an image that is listed again
    gets a number (`im0_2`).
    """
    paths = [_absolute(image) for image in images]
    if not paths:
        return []
    root = Path(os.path.commonpath([path.parent for path in paths]))
    endings = Counter(path.with_suffix("") for path in dict.fromkeys(paths))
    taken: set[Path] = set()
    names = []
    for path in paths:
        stem = path.relative_to(root).with_suffix("")
        alone = endings[path.with_suffix("")] == 1
        plain = stem if alone else stem.with_name(f"{stem.name}_{path.suffix.removeprefix('.')}")
        name, number = plain, 1
        while name in taken:
            number += 1
            name = plain.with_name(f"{plain.name}_{number}")
        taken.add(name)
        names.append(name)
    return names


def with_ending(stem: Path, ending: str) -> Path:
    """`stem` with `ending` behind it; dots of the stem stay."""
    return stem.with_name(stem.name + ending)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links out of the folder
