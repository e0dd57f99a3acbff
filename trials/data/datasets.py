"""Data classes: what the ground-truth files of a named data set hold, one reader each.

A class turns a file into `Truth`: float32 values in the unit of its kind and an explicit mask of the pixels that have ground
truth at all; no sentinel values.  Kinds: `disparity` (pixels of the left image, positive), `depth` (metres), `relative`
(inverse depth of any scale, larger is nearer).  Names are those of TAO's `data_sources[*].dataset_name`, read without regard to case.

A new class is one row of CLASSES and, if its files are new, one reader.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError, nearest
from trials.data.decoders import F32, Mask, read_npy, read_pfm, read_png

_SUFFIX_HINTS = {
    ".pfm": "PFM is read by Middlebury and GenericDataset (stereo), RelativeMonoDataset and MetricMonoDataset (mono)",
    ".png": "16-bit PNG is read by Kitti and Crestereo (stereo), MetricMonoDataset and NYUDV2 (mono)",
}
RELATIVE_BOUND = 1000.0  # TAO's bound of disparity-like values
Window = tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Ground truth of one image: (H, W) values, and where the file has one."""

    values: F32
    valid: Mask


@dataclass(frozen=True, kw_only=True)
class DataClass:
    """One named data set format.

    `read(path, depth_scale)` gives Truth.  `mask_column`: a fourth column may name a mask.  `without_truth`: two columns will do
    for inference.  `takes_scale`: data_sources[*].depth_scale acts.  `evaluation_window`: rows and columns that count in
    evaluation for images of `window_size` (never in training).
    """

    name: str
    family: str
    kind: str
    files: str
    read: Callable[[Path, float | None], Truth]
    mask_column: bool = False
    without_truth: bool = False
    takes_scale: bool = False
    evaluation_window: Window | None = None
    window_size: tuple[int, int] | None = None


def find_class(name: str, *, family: str) -> DataClass:
    """The class called `name` (any case) of a family; DataError names the nearest one."""
    by_name = {data_class.name.lower(): data_class for data_class in CLASSES if data_class.family == family}
    found = by_name.get(name.lower())
    if found is not None:
        return found
    names = [data_class.name for data_class in by_name.values()]
    elsewhere = {data_class.name.lower() for data_class in CLASSES} - set(by_name)
    if name.lower() in elsewhere:
        other = "mono" if family == "stereo" else "stereo"
        raise DataError(f"dataset_name {name} is a {other} class, the spec is {family}", hint=f"{family} classes: {', '.join(names)}")
    near = nearest(name.lower(), by_name)
    hint = f"{family} classes: {', '.join(names)}"
    raise DataError(f"unknown dataset_name {name}", hint=hint if near is None else f"did you mean {by_name[near].name}? {hint}")


def class_names(family: str) -> list[str]:
    """Names of all classes of a family."""
    return [data_class.name for data_class in CLASSES if data_class.family == family]


def _present(values: F32) -> Truth:
    """Finite and above zero: the rule that all classes share."""
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(values) & (values > 0)
    return Truth(values=np.where(valid, values, np.float32(0)), valid=valid)


def _grey_png(path: Path, *, bits: int | None) -> F32:
    """The one channel of a PNG; `bits` is what the class stores (None: either)."""
    stored = read_png(path)
    if stored.ndim == 3:
        if not (np.array_equal(stored[:, :, 0], stored[:, :, 1]) and np.array_equal(stored[:, :, 0], stored[:, :, 2])):
            raise DataError(
                f"{path} is a colour image: this class reads one-channel PNG", hint="check the column order and dataset_name of this source"
            )
        stored = stored[:, :, 0]
    found = 8 * stored.dtype.itemsize
    if bits is not None and found != bits:
        raise DataError(
            f"{path} is an {found}-bit PNG with values {_range(stored)}; this class reads {bits}-bit PNG",
            hint="8-bit files hold scaled values: multiply them back to the true unit and write them as PFM or as 16-bit PNG",
        )
    # the largest 16-bit value is saturation, not a measurement (7-Scenes writes it where there is no depth)
    return np.where(stored == 65535, np.float32(0), stored.astype(np.float32))


def _range(values: np.ndarray) -> str:
    return f"{values.min()} to {values.max()}"


def _suffix(path: Path, taken: tuple[str, ...], data_class: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in taken:
        raise DataError(
            f"{path}: {data_class} reads {' or '.join(taken)} as ground truth, not {suffix or 'a file without ending'}",
            hint=_SUFFIX_HINTS.get(suffix, "convert the ground truth to PFM"),
        )
    return suffix


def _first_channel(values: F32) -> F32:
    return values if values.ndim == 2 else np.ascontiguousarray(values[:, :, 0])


def _read_coded(path: Path, depth_scale: float | None) -> Truth:
    """PFM, or 8-bit RGB PNG with v = (R 255^2 + G 255 + B) / 1000 (base 255, not 256)."""
    del depth_scale
    if _suffix(path, (".pfm", ".png"), "this class") == ".pfm":
        return _present(_first_channel(read_pfm(path)))
    stored = read_png(path)
    grey = stored.ndim == 2 or (np.array_equal(stored[:, :, 0], stored[:, :, 1]) and np.array_equal(stored[:, :, 0], stored[:, :, 2]))
    if stored.dtype == np.uint16:
        raise DataError(
            f"{path} is a 16-bit PNG with values {_range(stored)}; this class reads PFM or disparity coded in 8-bit RGB",
            hint="dataset_name Kitti reads 16-bit PNG as value / 256 pixels, Crestereo as value / 32 pixels",
        )
    if grey:
        raise DataError(
            f"{path} is an 8-bit grey PNG with values {_range(stored)}; this class reads PFM or disparity coded in 8-bit RGB",
            hint="8-bit Middlebury PNGs hold disparity x 2, 3 or 4: divide, write PFM, or a 16-bit PNG of disparity x 256 for Kitti",
        )
    red, green, blue = (stored[:, :, channel].astype(np.float32) for channel in range(3))
    return _present((red * np.float32(65025) + green * np.float32(255) + blue) / np.float32(1000))


def _read_kitti(path: Path, depth_scale: float | None) -> Truth:
    """16-bit PNG, value / 256 pixels."""
    del depth_scale
    _suffix(path, (".png",), "Kitti")
    return _present(_grey_png(path, bits=16) / np.float32(256))


def _read_crestereo(path: Path, depth_scale: float | None) -> Truth:
    """16-bit PNG, value / 32 pixels."""
    del depth_scale
    _suffix(path, (".png",), "Crestereo")
    return _present(_grey_png(path, bits=16) / np.float32(32))


def _read_plain(path: Path, depth_scale: float | None) -> Truth:
    """PFM as it is; PNG value / depth_scale, or as it is without one."""
    if _suffix(path, (".pfm", ".png"), "this class") == ".pfm":
        return _present(_first_channel(read_pfm(path)))
    values = _grey_png(path, bits=None)
    return _present(values if depth_scale is None else values / np.float32(depth_scale))


def _read_millimetres(path: Path, depth_scale: float | None) -> Truth:
    """16-bit PNG, value / 1000 metres."""
    del depth_scale
    _suffix(path, (".png",), "NYUDV2")
    return _present(_grey_png(path, bits=16) / np.float32(1000))


def _read_inverse_millimetres(path: Path, depth_scale: float | None) -> Truth:
    """1 / metres of a NYU depth PNG; depth counts between 1 mm and 10 m."""
    return _inverse(_read_millimetres(path, depth_scale), low=0.001, high=10.0)


def _read_inverse_npy(path: Path, depth_scale: float | None) -> Truth:
    """1 / (1000 x value) of a NumPy file."""
    del depth_scale
    _suffix(path, (".npy",), "ThreeDVLM")
    return _inverse(_present(read_npy(path) * np.float32(1000)), low=0.0, high=np.inf)


def _inverse(depth: Truth, *, low: float, high: float) -> Truth:
    valid = depth.valid & (depth.values > low) & (depth.values < high)
    return Truth(values=np.where(valid, 1 / np.where(valid, depth.values, np.float32(1)), np.float32(0)), valid=valid)


def _read_pfm(path: Path, depth_scale: float | None) -> Truth:
    del depth_scale
    _suffix(path, (".pfm",), "this class")
    return _present(_first_channel(read_pfm(path)))


def _read_pfm_top_down(path: Path, depth_scale: float | None) -> Truth:
    """PFM whose rows were stored top row first."""
    del depth_scale
    _suffix(path, (".pfm",), "NvCLIP")
    return _present(_first_channel(read_pfm(path, bottom_up=False)))


_CODED = "PFM, or PNG coded in 8-bit RGB"
_NYU = (45, 471, 41, 601)  # Eigen et al. 2014, the part of the frame with registered depth
_NYU_SIZE = (480, 640)


def _stereo(name: str, files: str, read: Callable[[Path, float | None], Truth], *, mask: bool = False, alone: bool = False) -> DataClass:
    return DataClass(name=name, family="stereo", kind="disparity", files=files, read=read, mask_column=mask, without_truth=alone)


def _relative(name: str, files: str, read: Callable[[Path, float | None], Truth]) -> DataClass:
    return DataClass(name=name, family="mono", kind="relative", files=files, read=read)


CLASSES: tuple[DataClass, ...] = (
    _stereo("Middlebury", _CODED, _read_coded, mask=True),
    _stereo("Eth3d", _CODED, _read_coded, mask=True),
    _stereo("Kitti", "16-bit PNG, value / 256 px", _read_kitti),
    _stereo("GenericDataset", _CODED, _read_coded, alone=True),
    _stereo("FSD", _CODED, _read_coded),
    _stereo("IsaacRealDataset", _CODED, _read_coded),
    _stereo("Crestereo", "16-bit PNG, value / 32 px", _read_crestereo),
    _relative("RelativeMonoDataset", "PFM or PNG, values as they are", _read_plain),
    DataClass(
        name="MetricMonoDataset",
        family="mono",
        kind="depth",
        files="PFM in metres, or PNG / depth_scale",
        read=_read_plain,
        takes_scale=True,
    ),
    DataClass(
        name="NYUDV2",
        family="mono",
        kind="depth",
        files="16-bit PNG in millimetres",
        read=_read_millimetres,
        evaluation_window=_NYU,
        window_size=_NYU_SIZE,
    ),
    DataClass(
        name="NYUDV2Relative",
        family="mono",
        kind="relative",
        files="16-bit PNG in millimetres, read as 1 / m",
        read=_read_inverse_millimetres,
        evaluation_window=_NYU,
        window_size=_NYU_SIZE,
    ),
    _relative("FSD", _CODED, _read_coded),
    _relative("Crestereo", "16-bit PNG, value / 32", _read_crestereo),
    _relative("IssacStereo", "PFM", _read_pfm),
    _relative("NvCLIP", "PFM stored top row first", _read_pfm_top_down),
    _relative("Middlebury", "PFM or PNG, values as they are", _read_plain),
    _relative("ThreeDVLM", "NPY, depth in thousands", _read_inverse_npy),
)
