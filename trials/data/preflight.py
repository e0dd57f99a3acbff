"""The check of every data source before anything is trained: what its files hold, against what the spec expects.

`preflight` decodes a few files of each source (all of a short list, else 16 spread evenly) and says what it saw.  It refuses what
would waste a run: ground truth of which less than 1 % counts, files that cannot be read, sizes that disagree, fewer samples than a
batch.  What only looks wrong becomes a warning in the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from search_spaces.errors import DataError
from search_spaces.spec import DataSource, Spec
from trials.data.annotations import AnnotationList, Row, read_list
from trials.data.datasets import DataClass, Truth
from trials.data.decoders import F32, U8, Mask
from trials.data.geometry import Size
from trials.data.loader import class_for, sources_of, split_of
from trials.data.reading import SampleReader, truth_rule

CHECKED_FILES = 16
LEAST_VALID_SHARE = 0.01
_VALUES_PER_FILE = 100_000
_PNG_SCALES = {1000: "millimetres, as NYU and 7-Scenes", 256: "1/256 m, as KITTI", 5000: "1/5000 m, as TUM"}
_TYPICAL_DEPTH_M = (0.1, 200.0)
_UNITS = {"disparity": "px", "depth": "m", "relative": ""}


@dataclass(frozen=True, kw_only=True)
class ValueRange:
    """Ground-truth values that a file marks as present, before the spec's limits: smallest, percentiles 1, 50, 99, largest."""

    low: float
    p1: float
    median: float
    p99: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What one data source was seen to hold.

    `valid_share` is the share of pixels that count after the spec's limits (None without ground truth), `sizes` the image sizes (height,
    width) seen.  `warp_grey` is the mean absolute grey difference of the views before and after moving the right one by the
    disparity: a true disparity makes it much smaller (None for mono).
    """

    split: str
    source: DataSource
    data_class: str
    rows: int
    checked: int
    root: Path | None
    root_choice: str
    sizes: tuple[Size, ...]
    values: ValueRange | None
    unit: str
    valid_share: float | None
    warp_grey: tuple[float, float] | None
    warnings: tuple[str, ...]

    def describe(self) -> str:
        """One line for a terminal, without the warnings."""
        sizes = " ".join(f"{width}x{height}" for height, width in self.sizes[:3]) + (" ..." if len(self.sizes) > 3 else "")
        parts = [
            f"{self.split}: {self.source.data_file}",
            f"{self.data_class}, {self.rows} {'sample' if self.rows == 1 else 'samples'}",
            sizes,
        ]
        if self.values is not None and self.valid_share is not None:
            parts += [f"{self.values.low:.5g} to {self.values.high:.5g} {self.unit}".rstrip(), f"{self.valid_share:.1%} valid"]
        if self.warp_grey is not None:
            parts.append(f"views differ by {self.warp_grey[0]:.1f} grey levels, {self.warp_grey[1]:.1f} after warping")
        if self.root is not None:
            parts.append(f"paths from {self.root} ({self.root_choice})")
        return "; ".join(parts)


def preflight(spec: Spec, splits: Iterable[str]) -> list[SourceReport]:
    """One report per data source of the splits (train, val, test, infer), in their order.  Raises DataError for what cannot be used."""
    reports: list[SourceReport] = []
    images: dict[str, set[Path]] = {}
    for split in splits:
        rows: list[Row] = []
        for number, source in enumerate(sources_of(spec, split)):
            check = _SourceCheck(spec, split, number=number, source=source)
            reports.append(check.report(shared=_shared(check.listing.rows, split, images)))
            rows.extend(check.listing.rows)
        images[split] = {row.image.resolve() for row in rows}
        _check_count(spec, split, rows)
    return reports


def _shared(rows: Sequence[Row], split: str, images: dict[str, set[Path]]) -> list[str]:
    """A warning for images that an earlier split holds too."""
    if split == "infer":
        return []
    own = {row.image.resolve() for row in rows}
    overlaps = {other: len(own & held) for other, held in images.items() if other != split}
    return [
        f"{count} of {len(own)} images are also in {other}: {split} figures will be too good" for other, count in overlaps.items() if count
    ]


def _check_count(spec: Spec, split: str, rows: Sequence[Row]) -> None:
    if split != "train":
        return
    total = split_of(spec, split).batch_size * spec.train.num_gpus
    if len(rows) < total:
        files = ", ".join(source.data_file for source in sources_of(spec, split))
        raise DataError(
            f"dataset size ({len(rows)}) is smaller than the total batch size ({total}): not enough data for training in {files}",
            hint="lower dataset.train_dataset.batch_size or add data",
        )


class _SourceCheck:
    """The check of one source; reads its list at once and its files in `report`."""

    def __init__(self, spec: Spec, split: str, *, number: int, source: DataSource) -> None:
        self.spec, self.split, self.source = spec, split, source
        self.place = f"dataset.{split}_dataset.data_sources[{number}]"
        self.data_class: DataClass = class_for(spec, source, self.place)
        self.rule = truth_rule(spec, self.data_class, evaluation=split != "train")
        self.reader = SampleReader(data_class=self.data_class, depth_scale=source.depth_scale, rule=self.rule)
        self.listing: AnnotationList = read_list(source, family=spec.family, action=split)

    def report(self, *, shared: Sequence[str]) -> SourceReport:
        """Decode the chosen rows one by one and judge what they hold."""
        looks = [_look(self.reader, row) for row in spread(self.listing.rows, CHECKED_FILES)]
        self._check_center_crop(looks)
        values = np.concatenate([look.values for look in looks])
        pixels = sum(look.pixels for look in looks)
        share = sum(look.counted for look in looks) / pixels if pixels else None
        if share is not None and share < LEAST_VALID_SHARE:
            self._refuse(share, values)
        warp = _mean_warp(looks)
        warnings = [*shared, *self._value_warnings(values, share), *self._size_warnings(looks), *self._warp_warnings(warp)]
        return SourceReport(
            split=self.split,
            source=self.source,
            data_class=self.data_class.name,
            rows=len(self.listing.rows),
            checked=len(looks),
            root=self.listing.root,
            root_choice=self.listing.root_choice,
            sizes=tuple(sorted({look.size for look in looks})),
            values=_range(values),
            unit=_UNITS[self.data_class.kind],
            valid_share=share,
            warp_grey=warp,
            warnings=tuple(warnings),
        )

    def _limits(self) -> str:
        unit = _UNITS[self.data_class.kind]
        return f"{self.rule.low:g} < value < {self.rule.high:g} {unit}".rstrip()

    def _check_center_crop(self, looks: Sequence[_Look]) -> None:
        if self.split == "train" or split_of(self.spec, self.split).augmentation.evaluation != "center_crop":
            return
        key = f"dataset.{self.split}_dataset.augmentation.evaluation"
        for look in looks:
            if look.truth_size not in (None, look.size):
                sizes = f"{look.truth_size} for {look.size} in {self.source.data_file}"
                raise DataError(f"{key}=center_crop needs ground truth of the image's size, got {sizes}", hint=f"set {key}=native")

    def _refuse(self, share: float, values: F32) -> None:
        name, file = self.data_class.name, self.source.data_file
        seen = _range(values)
        observed = "no value at all" if seen is None else f"values {seen.low:.5g} to {seen.high:.5g}, median {seen.median:.5g}"
        raise DataError(
            f"{file}: {share:.2%} of the ground truth of {name} counts ({self._limits()}); observed: {observed} ({self.place})",
            hint=self._refusal_hint(seen),
        )

    def _refusal_hint(self, seen: ValueRange | None) -> str:
        if seen is None:
            return "the ground-truth files are empty: check their paths and their unit"
        scales = self._likely_scales(seen)
        if scales:
            more = "".join(f"; {scale} is {_PNG_SCALES[scale]}" for scale in scales[1:])
            return f"these look like raw PNG values: set {self.place}.depth_scale={scales[0]} ({_PNG_SCALES[scales[0]]}{more})"
        if self.data_class.kind == "depth":
            return "set dataset.min_depth and dataset.max_depth (metres) to the range of the data, or correct depth_scale"
        if self.data_class.kind == "disparity":
            return "raise dataset.max_disparity, or use the data class whose unit fits (Kitti: 16-bit PNG / 256, Crestereo: / 32)"
        return "millimetre depth is read by NYUDV2Relative; RelativeMonoDataset takes inverse depth, larger is nearer"

    def _likely_scales(self, seen: ValueRange) -> list[int]:
        """Each depth_scale that would bring raw PNG values into the spec's range, all known ones if none does; none for true metres."""
        if not self.data_class.takes_scale or self.source.depth_scale is not None or not self._has_png() or seen.p99 < 256:
            return []
        low, high = max(self.rule.low, _TYPICAL_DEPTH_M[0]), min(self.rule.high, _TYPICAL_DEPTH_M[1])
        fitting = [scale for scale in _PNG_SCALES if low < seen.p1 / scale and seen.p99 / scale < high]
        return fitting or list(_PNG_SCALES)

    def _has_png(self) -> bool:
        return any(row.target is not None and row.target.suffix.lower() == ".png" for row in self.listing.rows)

    def _value_warnings(self, values: F32, share: float | None) -> list[str]:
        seen = _range(values)
        if seen is None or share is None:
            return []
        warnings = []
        scales = self._likely_scales(seen)
        if scales:
            warnings.append(
                f"raw PNG values up to {seen.high:.0f} are read as metres; for {_PNG_SCALES[scales[0]]} set depth_scale={scales[0]}"
            )
        beyond = float(np.mean(values >= self.rule.high))
        if beyond > LEAST_VALID_SHARE:
            key = {"disparity": "dataset.max_disparity", "depth": "dataset.max_depth"}.get(
                self.data_class.kind, "the bound of relative targets"
            )
            warnings.append(f"{beyond:.1%} of the ground truth is beyond {key} = {self.rule.high:g}; 99 % of it is below {seen.p99:.5g}")
        if self.data_class.kind == "relative" and seen.median > 255 and self._has_png():
            warnings.append(f"median {seen.median:.0f} looks like raw depth; relative targets grow towards the camera (see NYUDV2Relative)")
        if self.source.depth_scale is not None and not self._has_png():
            warnings.append("depth_scale acts on PNG alone: these PFM files are read as metres")
        if self.rule.normalise and self.data_class.kind == "depth":
            warnings.append("normalize_depth takes the metres out of the ground truth")
        return warnings

    def _size_warnings(self, looks: Sequence[_Look]) -> list[str]:
        height, width = split_of(self.spec, self.split).augmentation.crop_size
        evaluation = split_of(self.spec, self.split).augmentation.evaluation
        window = self.data_class.window_size
        warnings = []
        crops = self.split == "train" or evaluation == "center_crop"
        # mono training resizes to cover the crop, so that only the other ways can meet an image that is too small
        if crops and not (self.split == "train" and self.spec.family == "mono"):
            small = sum(look.size[0] < height or look.size[1] < width for look in looks)
            if small:
                warnings.append(
                    f"{small} of {len(looks)} images are smaller than crop_size {width}x{height} (width x height) and will be padded"
                )
        if self.split != "train" and window is not None and any(look.truth_size not in (None, window) for look in looks):
            warnings.append(
                f"the evaluation window of {self.data_class.name} is for {window[1]}x{window[0]} frames: other sizes are measured whole"
            )
        return warnings

    def _warp_warnings(self, warp: tuple[float, float] | None) -> list[str]:
        if warp is None or warp[1] < warp[0]:
            return []
        return [
            f"the disparity does not explain the views (grey difference {warp[0]:.1f} before warping, {warp[1]:.1f} after): "
            "left and right swapped, another unit, or not rectified"
        ]


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """All rows of a short list, else `count` of them spread evenly from first to last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(k * (len(rows) - 1) / (count - 1))] for k in range(count)]


def _range(values: F32) -> ValueRange | None:
    if values.size == 0:
        return None
    low, p1, median, p99, high = (float(v) for v in np.percentile(values, [0, 1, 50, 99, 100]))
    return ValueRange(low=low, p1=p1, median=median, p99=p99, high=high)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What one row holds: sizes, pixels that count, some of the present values, grey differences summed over `seen` pixels."""

    size: Size
    truth_size: Size | None
    counted: int
    pixels: int
    values: F32
    before: float
    after: float
    seen: int


def _look(reader: SampleReader, row: Row) -> _Look:
    sample = reader.read(row)
    size = (int(sample.image.shape[0]), int(sample.image.shape[1]))
    if sample.target is None or sample.valid is None:
        nothing = np.zeros(0, np.float32)
        return _Look(size=size, truth_size=None, counted=0, pixels=0, values=nothing, before=0.0, after=0.0, seen=0)
    before, after, seen = (
        (0.0, 0.0, 0) if sample.right is None else _grey_differences(sample.image, sample.right, sample.target, sample.valid)
    )
    return _Look(
        size=size,
        truth_size=(int(sample.target.shape[0]), int(sample.target.shape[1])),
        counted=int(np.count_nonzero(sample.valid)),
        pixels=sample.valid.size,
        values=_few(reader.read_truth(row)),
        before=before,
        after=after,
        seen=seen,
    )


def _few(truth: Truth) -> F32:
    """Present values, thinned out, with the smallest and the largest."""
    values: F32 = truth.values[truth.valid]
    if values.size <= _VALUES_PER_FILE:
        return values
    return np.concatenate([values[:: values.size // _VALUES_PER_FILE], [values.min(), values.max()]]).astype(np.float32)


def _mean_warp(looks: Sequence[_Look]) -> tuple[float, float] | None:
    seen = sum(look.seen for look in looks)
    return (sum(look.before for look in looks) / seen, sum(look.after for look in looks) / seen) if seen else None


def _grey_differences(image: U8, right: U8, disparity: F32, valid: Mask) -> tuple[float, float, int]:
    """Summed absolute grey differences over ground-truth pixels whose match lies in the right view: views as they are, and right moved
    onto left; and the number of pixels."""
    left, plain, moved = _moved(image, right, disparity)
    inside = valid & (np.arange(left.shape[1]) >= disparity)
    return float(np.abs(left - plain)[inside].sum()), float(np.abs(left - moved)[inside].sum()), int(np.count_nonzero(inside))


def _moved(left: U8, right: U8, disparity: F32) -> tuple[F32, F32, F32]:
    """Left and right as grey, and right sampled where the disparity says that left's pixels lie."""
    grey_left, grey_right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in (left, right))
    rows, columns = np.indices(disparity.shape, dtype=np.float32)
    moved = cv2.remap(grey_right, columns - disparity, rows, cv2.INTER_LINEAR)
    return grey_left, grey_right, np.asarray(moved, dtype=np.float32)
