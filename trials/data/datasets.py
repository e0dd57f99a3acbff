"""Data classes: what the ground-truth files of a named data set hold.

A class turns a file into `Truth`: float32 values in the unit of its kind and an explicit mask of the pixels that have ground
truth at all; no sentinel values.  Kinds: `disparity` (pixels of the left image, positive), `depth` (metres), `relative`
(inverse depth of any scale, larger is nearer).  Names are those of TAO's `data_sources[*].dataset_name`, read without regard to case.

A new class is one row of CLASSES: which forms of file it reads, and what their values mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from search_spaces.errors import DataError, nearest
from trials.data.decoders import F32, Form, Mask, Stored, read_stored

RELATIVE_BOUND = 1000.0  # TAO's bound of disparity-like values
Window = tuple[int, int, int, int]  # top, bottom, left, right
Decode = Callable[[Stored | F32], F32]  # stored values to the unit of the class; 0, negative and not finite mean no ground truth


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Ground truth of one image: (H, W) values, and where the file has one."""

    values: F32
    valid: Mask


@dataclass(frozen=True, kw_only=True)
class DataClass:
    """One named data set format.

    `decoders` has an entry for each form of file that the class reads; `files` says the same in words.  `mask_column`: a fourth column
    may name a mask.  `without_truth`: two columns will do for inference.  `takes_scale`: data_sources[*].depth_scale acts.
    `evaluation_window`: rows and columns that count in evaluation for images of `window_size` (never in training).
    """

    name: str
    family: str
    kind: str
    files: str
    decoders: Mapping[Form, Decode]
    mask_column: bool = False
    without_truth: bool = False
    takes_scale: bool = False
    evaluation_window: Window | None = None
    window_size: tuple[int, int] | None = None

    def read(self, path: Path, depth_scale: float | None = None) -> Truth:
        """The ground truth of a file; PNG values are divided by `depth_scale` if there is one.

        DataError for a file that cannot be decoded, or is of a form that the class does not read: names what reads it.
        """
        form, stored = read_stored(path)
        decode = self.decoders.get(form)
        if decode is None:
            raise DataError(
                f"{self.name} cannot read {path}: found {form} with values {_range(stored)}, expected {self.files}",
                hint=self._hint(form),
            )
        values = decode(stored)
        return _present(values if depth_scale is None or form is Form.PFM else values / np.float32(depth_scale))

    def _hint(self, form: Form) -> str:
        readers = [
            f"{other.name} ({other.files})"
            for other in CLASSES
            if other.family == self.family and other.kind == self.kind and form in other.decoders
        ]
        return f"{form} is read by dataset_name {' or '.join(readers)}" if readers else _UNREAD[form]


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
        network = "FoundationStereo" if other == "stereo" else "MetricDepthAnything or RelativeDepthAnything"
        raise DataError(
            f"dataset_name {name} is a {other} class, the spec is {family}",
            hint=f"{family} classes: {', '.join(names)}; a {other} network is model.model_type={network}",
        )
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


def _range(values: npt.NDArray[np.generic]) -> str:
    """`low to high` of the finite values."""
    known = values[np.isfinite(values)]
    return f"{known.min():g} to {known.max():g}" if known.size else "that are not finite"


def _as_it_is(stored: Stored | F32) -> F32:
    return stored.astype(np.float32)


def _upside_down(stored: Stored | F32) -> F32:
    """A PFM whose rows were stored top row first."""
    return np.ascontiguousarray(stored[::-1], dtype=np.float32)


def _unsaturated(stored: Stored | F32) -> F32:
    # the largest 16-bit value is saturation, not a measurement (7-Scenes writes it where there is no depth)
    return np.where(stored == 65535, np.float32(0), stored.astype(np.float32))


def _divided_by(scale: float) -> Decode:
    return lambda stored: _unsaturated(stored) / np.float32(scale)


def _base_255(stored: Stored | F32) -> F32:
    """(R 255^2 + G 255 + B) / 1000 of 8-bit RGB; the base is 255, not 256."""
    red, green, blue = (stored[:, :, channel].astype(np.float32) for channel in range(3))
    return (red * np.float32(65025) + green * np.float32(255) + blue) / np.float32(1000)


def _inverse_thousand(stored: Stored | F32) -> F32:
    """1 / (1000 x value)."""
    return _inverse(stored.astype(np.float32) * np.float32(1000), low=0.0, high=np.inf)


def _inverse_millimetres(stored: Stored | F32) -> F32:
    """1 / metres of millimetres; depth counts between 1 mm and 10 m."""
    return _inverse(_unsaturated(stored) / np.float32(1000), low=0.001, high=10.0)


def _inverse(depth: F32, *, low: float, high: float) -> F32:
    with np.errstate(invalid="ignore"):
        valid = (depth > low) & (depth < high)
    return np.where(valid, 1 / np.where(valid, depth, np.float32(1)), np.float32(0))


# what to do about a form that no class of the family and kind reads
_UNREAD = {
    Form.PFM: "write the ground truth in the form that the class expects",
    Form.NPY: "write the ground truth as PFM",
    Form.GREY8: "8-bit files hold scaled values: bring them back to the true unit, write PFM or the 16-bit PNG that is expected",
    Form.GREY16: "write the ground truth as PFM",
    Form.COLOUR8: "this looks like a picture: check the order of the columns, ground truth comes after the images",
    Form.COLOUR16: "this looks like a picture: check the order of the columns, ground truth comes after the images",
}

_CODED = "PFM, or 8-bit RGB PNG with the value (R 255^2 + G 255 + B) / 1000"
_READS_CODED = {Form.PFM: _as_it_is, Form.COLOUR8: _base_255}
_READS_PLAIN = {Form.PFM: _as_it_is, Form.GREY8: _as_it_is, Form.GREY16: _unsaturated}
_NYU_WINDOW = (45, 471, 41, 601)  # Eigen et al. 2014, the part of the frame with registered depth
_NYU_SIZE = (480, 640)


def _stereo(name: str, files: str, decoders: Mapping[Form, Decode], *, mask: bool = False, alone: bool = False) -> DataClass:
    return DataClass(name=name, family="stereo", kind="disparity", files=files, decoders=decoders, mask_column=mask, without_truth=alone)


def _relative(name: str, files: str, decoders: Mapping[Form, Decode]) -> DataClass:
    return DataClass(name=name, family="mono", kind="relative", files=files, decoders=decoders)


def _nyu(name: str, kind: str, files: str, decode: Decode) -> DataClass:
    decoders = {Form.GREY16: decode}
    return DataClass(
        name=name, family="mono", kind=kind, files=files, decoders=decoders, evaluation_window=_NYU_WINDOW, window_size=_NYU_SIZE
    )


CLASSES: tuple[DataClass, ...] = (
    _stereo("Middlebury", _CODED, _READS_CODED, mask=True),
    _stereo("Eth3d", _CODED, _READS_CODED, mask=True),
    _stereo("Kitti", "16-bit PNG, value / 256 px", {Form.GREY16: _divided_by(256)}),
    _stereo("GenericDataset", _CODED, _READS_CODED, alone=True),
    _stereo("FSD", _CODED, _READS_CODED),
    _stereo("IsaacRealDataset", _CODED, _READS_CODED),
    _stereo("Crestereo", "16-bit PNG, value / 32 px", {Form.GREY16: _divided_by(32)}),
    _relative("RelativeMonoDataset", "PFM or grey PNG, values as they are", _READS_PLAIN),
    DataClass(
        name="MetricMonoDataset",
        family="mono",
        kind="depth",
        files="PFM in metres, or grey PNG / depth_scale",
        decoders=_READS_PLAIN,
        takes_scale=True,
    ),
    _nyu("NYUDV2", "depth", "16-bit PNG in millimetres", _divided_by(1000)),
    _nyu("NYUDV2Relative", "relative", "16-bit PNG in millimetres, read as 1 / m", _inverse_millimetres),
    _relative("FSD", _CODED, _READS_CODED),
    _relative("Crestereo", "16-bit PNG, value / 32", {Form.GREY16: _divided_by(32)}),
    _relative("IssacStereo", "PFM", {Form.PFM: _as_it_is}),
    _relative("NvCLIP", "PFM stored top row first", {Form.PFM: _upside_down}),
    _relative("Middlebury", "PFM or grey PNG, values as they are", _READS_PLAIN),
    _relative("ThreeDVLM", "NPY, value v read as 1 / (1000 v)", {Form.NPY: _inverse_thousand}),
)
