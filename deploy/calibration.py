"""The images that an int8 model finds its ranges on: a folder, a .tar.gz of one, or the train lists.

They meet the model as images of the validation list do: resized to its size, with the same mean and standard deviation.
"""

from __future__ import annotations

import contextlib
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from search_spaces.errors import DataError, SpecError
from search_spaces.spec import Spec, get_value, with_values
from trials.data import build_dataset, collate
from trials.data.loader import DepthDataset
from trials.data.objects import names_below
from trials.data.urls import is_url
from trials.evaluate import images_of
from trials.weight_copies import local_file

ARCHIVES = (".tar.gz", ".tgz", ".tar")
_KEY = "dataset.quant_calibration_dataset.images_dir"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`count` images (pairs) of `found` in `source`, evenly spread."""

    source: str
    found: int
    indices: tuple[int, ...]
    dataset: DepthDataset

    @property
    def count(self) -> int:
        """How many images (pairs) are read."""
        return len(self.indices)

    def images(self) -> Iterator[tuple[Tensor, ...]]:
        """Each image (left and right) as normalised tensors 1 x 3 x H x W, read when its turn comes."""
        for index in self.indices:
            yield images_of(collate([self.dataset[index]]))


def check_calibration(spec: Spec) -> None:
    """SpecError or DataError when there is nothing to calibrate on, before anything is unpacked or loaded."""
    named = spec.dataset.quant_calibration_dataset.images_dir
    if not named:
        if not spec.dataset.train_dataset.data_sources:
            raise SpecError(
                f"static_ptq needs images to calibrate on, but {_KEY} and the train lists are empty",
                hint=f"add {_KEY}=photos, a folder or a .tar.gz of images as the model will see them",
            )
        return
    if is_url(named):
        _check_stored(spec, named)
        return
    path = Path(named).expanduser()
    if not path.is_dir() and not (path.is_file() and path.name.lower().endswith(ARCHIVES)):
        what = "is no archive of a known kind" if path.is_file() else "does not exist"
        raise DataError(f"{_KEY}: {path} {what}", hint=f"give a folder of images or an archive ending in {', '.join(ARCHIVES)}")


@contextlib.contextmanager
def calibration(spec: Spec, size: tuple[int, int], scratch: Path) -> Iterator[Calibration]:
    """The calibration images of `spec` at (height, width); an archive lies unpacked in the folder `scratch` until the end.

    DataError for a folder without images or pairs, and for an archive that is broken, unsafe or larger than the disk.
    """
    check_calibration(spec)
    named = spec.dataset.quant_calibration_dataset.images_dir
    if not named:
        lists = ", ".join(source.data_file for source in spec.dataset.train_dataset.data_sources)
        yield _calibration(_at_size(spec, "train", size), "train", f"the train lists ({lists})")
        return
    source = named if is_url(named) else str(Path(named).expanduser())
    with contextlib.ExitStack() as stack:
        folder = source
        if source.lower().endswith(ARCHIVES) and not Path(source).is_dir():
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=scratch))
            unpack(local_file(spec, source, key=_KEY), Path(folder))
        values = {"dataset.infer_dataset.data_sources": [], "inference.input_dir": folder}
        try:
            found = _calibration(with_values(_at_size(spec, "infer", size), values), "infer", source)
        except DataError as error:
            raise DataError(f"{_KEY}: {error.message}".replace(folder, source), hint=error.hint) from error
        yield found


def _check_stored(spec: Spec, url: str) -> None:
    """DataError unless there is an archive, or a folder, at `url`; an archive is fetched now."""
    if url.lower().endswith(ARCHIVES):
        local_file(spec, url, key=_KEY)
    elif not names_below(url):
        raise DataError(
            f"{_KEY}: there is nothing below {url}", hint=f"give a folder of images or an archive ending in {', '.join(ARCHIVES)}"
        )


def unpack(archive: Path, folder: Path) -> None:
    """The files of a tar archive below `folder`; DataError, with nothing written, for links, devices and paths that lead out of it."""
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            for member in members:
                _check_member(member, archive)
            need, free = sum(member.size for member in members), shutil.disk_usage(folder).free
            if need > free:
                raise DataError(
                    f"{archive} holds {need / 2**30:.1f} GiB, but {folder.parent} has {free / 2**30:.1f} GiB left",
                    hint="unpack it where there is room and give the folder, or another results_dir",
                )
            tar.extractall(folder, members=members, filter="data")
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}", hint="pack it again: tar czf images.tar.gz folder") from error


def _check_member(member: tarfile.TarInfo, archive: Path) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    why = None
    if path.is_absolute() or ".." in path.parts:
        why = "leads out of the folder that it is unpacked in"
    elif not (member.isfile() or member.isdir()):
        why = "is a link" if member.issym() or member.islnk() else "is neither a file nor a folder"
    if why:
        raise DataError(f"{archive} is refused: {member.name} {why}", hint="pack plain image files: tar czhf images.tar.gz folder")


def _at_size(spec: Spec, split: str, size: tuple[int, int]) -> Spec:
    prefix, images = f"dataset.{split}_dataset.augmentation", "dataset.val_dataset.augmentation"
    return with_values(
        spec,
        {
            f"{prefix}.evaluation": "resize",
            f"{prefix}.crop_size": list(size),
            f"{prefix}.input_mean": list(get_value(spec, f"{images}.input_mean")),
            f"{prefix}.input_std": list(get_value(spec, f"{images}.input_std")),
        },
    )


def _calibration(spec: Spec, split: str, source: str) -> Calibration:
    dataset = build_dataset(spec, split, training=False)
    found = len(dataset)
    if not found:
        raise DataError(f"{source} lists no image to calibrate on", hint=f"set {_KEY}")
    count = min(spec.quantize.calibration_images, found)
    indices = tuple(sorted({round(number * (found - 1) / max(1, count - 1)) for number in range(count)}))
    return Calibration(source=source, found=found, indices=indices, dataset=dataset)
