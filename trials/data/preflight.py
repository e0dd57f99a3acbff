"""The check of every data source before anything is trained: what its files hold, against what the spec expects.

`preflight` decodes a few files of each source (all of a short list, else 16 spread evenly) and says what it saw.  It refuses what
would waste a run: ground truth of which less than 1 % counts, files that cannot be read or are of another form than the class reads,
sizes that disagree, fewer samples than a batch.  What only looks wrong becomes a warning in the report.  Both name the class or the
depth_scale that fits, where the files tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError
from search_spaces.spec import Augmentation, DataSource, Spec
from search_spaces.spec.model import WIDEST
from trials.data.annotations import AnnotationList, Root, Row
from trials.data.datasets import DataClass
from trials.data.decoders import F32
from trials.data.fitting import EXPLAINED, TYPICAL_DEPTH_M, Fit, best_fit, metric_scales, stored_values
from trials.data.geometry import Size
from trials.data.input_folder import FOLDER, read_source
from trials.data.loader import class_for, sources_of, split_of
from trials.data.looking import Look, ValueRange, Warp, look_at, spread, value_range
from trials.data.objects import fetcher
from trials.data.pack import sample_bytes
from trials.data.packing import caches, check_room
from trials.data.reading import SampleReader, read_mask, truth_rule
from trials.data.transforms import best_valid_share

CHECKED_FILES = 16
LEAST_VALID_SHARE = 0.01
_LEAST_RAW = 256  # smaller PNG values may well be metres
_WIDE_LIMIT = 8  # a metric network that may say 8 times the depth there is wastes its range
_UNITS = {"disparity": "px", "depth": "m", "relative": ""}


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What one data source was seen to hold.

    `valid_share` is the share of pixels that count after the spec's limits (None without ground truth), `sizes` the image sizes (height,
    width) seen.  `warp` is None for mono.
    """

    split: str
    source: DataSource
    data_class: str
    rows: int
    checked: int
    root: Root | None
    root_choice: str
    sizes: tuple[Size, ...]
    values: ValueRange | None
    unit: str
    valid_share: float | None
    warp: Warp | None
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
        if self.warp is not None:
            parts.append(self.warp.describe())
        if self.root is not None:
            parts.append(f"paths from {self.root} ({self.root_choice})")
        return "; ".join(parts)


def preflight(spec: Spec, splits: Iterable[str]) -> list[SourceReport]:
    """One report per data source of the splits (train, val, test, infer), in their order.  Raises DataError for what cannot be used."""
    reports: list[SourceReport] = []
    images: dict[str, set[Path]] = {}
    packed: list[tuple[Sequence[Row], SampleReader, int]] = []
    for split in splits:
        rows: list[Row] = []
        for number, source in enumerate(sources_of(spec, split)):
            check = _SourceCheck(spec, split, number=number, source=source)
            reports.append(check.report(shared=_shared(check.listing.rows, split, images)))
            rows.extend(check.listing.rows)
            if caches(spec, split):
                packed.append((check.listing.rows, check.reader, check.decoded_bytes))
        images[split] = {row.image.resolve() for row in rows}
        _check_count(spec, split, rows)
    if packed:
        check_room(spec, packed)
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
    """The check of one source; reads its list at once and its files in `report`, after which `decoded_bytes` is known."""

    def __init__(self, spec: Spec, split: str, *, number: int, source: DataSource) -> None:
        self.spec, self.split, self.source = spec, split, source
        self.place = f"dataset.{split}_dataset.data_sources[{number}]"
        self.data_class: DataClass = class_for(spec, source, self.place)
        self.rule = truth_rule(spec, self.data_class, evaluation=split != "train")
        self.reader = SampleReader(data_class=self.data_class, depth_scale=source.depth_scale, rule=self.rule)
        self.listing: AnnotationList = read_source(source, family=spec.family, action=split, fetch=fetcher(spec))
        self.checked = spread(self.listing.rows, CHECKED_FILES)

    def report(self, *, shared: Sequence[str]) -> SourceReport:
        """Decode the chosen rows one by one and judge what they hold."""
        looks = [self._look(row) for row in self.checked]
        paired = self.spec.family == "stereo"
        mean = sum(sample_bytes(look.size, look.truth_size, paired=paired) for look in looks) / len(looks)
        self.decoded_bytes = int(mean * len({tuple(row.files()) for row in self.listing.rows}))
        self._check_center_crop(looks)
        values = np.concatenate([look.values for look in looks])
        masks = [look.valid for look in looks if look.valid is not None]
        pixels = sum(mask.size for mask in masks)
        share = sum(int(np.count_nonzero(mask)) for mask in masks) / pixels if pixels else None
        if share is not None and share < LEAST_VALID_SHARE:
            self._refuse(share, values)
        warp = _mean_warp(looks)
        warnings = [*shared, *self._value_warnings(values), *self._size_warnings(looks), *self._warp_warnings(warp)]
        return SourceReport(
            split=self.split,
            source=self.source,
            data_class=FOLDER if self.listing.root_choice == FOLDER else self.data_class.name,
            rows=len(self.listing.rows),
            checked=len(looks),
            root=self.listing.root,
            root_choice=self.listing.root_choice,
            sizes=tuple(sorted({look.size for look in looks})),
            values=value_range(values),
            unit=_UNITS[self.data_class.kind],
            valid_share=share,
            warp=warp,
            warnings=tuple(warnings),
        )

    @property
    def _augmentation(self) -> Augmentation:
        return split_of(self.spec, self.split).augmentation

    def _look(self, row: Row) -> Look:
        try:
            return look_at(self.reader, row)
        except DataError as error:
            fit = self._best_fit(row)
            raise DataError(error.message, hint=error.hint if fit is None else fit.describe()) from error

    def _best_fit(self, row: Row) -> Fit | None:
        """Another way to read the row's disparity that explains the views."""
        if self.spec.family != "stereo" or row.target is None:
            return None
        return best_fit(row, self.data_class)

    def _check_center_crop(self, looks: Sequence[Look]) -> None:
        if self.split == "train" or self._augmentation.evaluation != "center_crop":
            return
        key = f"dataset.{self.split}_dataset.augmentation.evaluation"
        for look in looks:
            if look.truth_size not in (None, look.size):
                sizes = f"{look.truth_size} for {look.size} in {self.source.data_file}"
                raise DataError(f"{key}=center_crop needs ground truth of the image's size, got {sizes}", hint=f"set {key}=native")

    def _refuse(self, share: float, values: F32) -> None:
        mask = self.checked[0].mask
        kept = 1.0 if mask is None else float(np.mean(read_mask(mask)))
        if kept < LEAST_VALID_SHARE:
            raise DataError(
                f"{self.source.data_file}: {share:.2%} of the ground truth of {self.data_class.name} counts, because the mask {mask} is "
                f"255 at {kept:.2%} of its pixels ({self.place})",
                hint="a mask of non-occluded pixels holds 255 where both views see; without the fourth column every pixel counts",
            )
        unit = _UNITS[self.data_class.kind]
        seen = value_range(values)
        form, stored = stored_values(self.checked[0])
        inside = value_range(stored)
        if seen is not None:
            observed = f"{form} read as {seen.low:.5g} to {seen.high:.5g} {unit}".rstrip() + f", median {seen.median:.5g}"
        elif inside is None:
            observed = f"{form} without any finite value"
        else:
            observed = f"{form} without a value above 0: it holds {inside.low:.5g} to {inside.high:.5g}"
        limits = f"{self.rule.low:g} < value < {self.rule.high:g} {unit}".rstrip()
        raise DataError(
            f"{self.source.data_file}: {share:.2%} of the ground truth of {self.data_class.name} counts ({limits}); "
            f"observed: {observed} ({self.place})",
            hint=self._refusal_hint(seen, negative=inside is not None and inside.low < 0),
        )

    def _refusal_hint(self, seen: ValueRange | None, *, negative: bool) -> str:
        fit = self._best_fit(self.checked[0])
        if fit is not None:
            return fit.describe()
        if seen is None:
            mend = "ground truth is positive: store the values without their sign" if negative else "check their paths"
            return f"there is nothing in the ground-truth files: {mend}"
        if self.data_class.kind == "depth":
            return self._depth_hint(seen)
        if self.data_class.kind == "disparity":
            return f"{_enough_disparity(seen)}, or the data class has another unit (Kitti: 16-bit PNG / 256, Crestereo: / 32)"
        return "millimetre depth is read by NYUDV2Relative; RelativeMonoDataset takes inverse depth below 1000, larger is nearer"

    def _depth_hint(self, seen: ValueRange) -> str:
        if self._raw_png(seen):
            return f"these look like raw PNG values: {self._scales(seen)}"
        if seen.p1 > TYPICAL_DEPTH_M[1] and not self._has_png():
            return "PFM holds metres, and these look like millimetres: divide by 1000 (depth_scale acts on PNG alone)"
        return "set dataset.min_depth and dataset.max_depth (metres) to the range of the data, or correct the class or its depth_scale"

    def _scales(self, seen: ValueRange) -> str:
        return f"set {self.place}.depth_scale={metric_scales(seen, self.rule)}"

    def _raw_png(self, seen: ValueRange) -> bool:
        """Whether PNG values too large for metres are read without a scale."""
        return self.data_class.takes_scale and self.source.depth_scale is None and self._has_png() and seen.p99 >= _LEAST_RAW

    def _has_png(self) -> bool:
        return any(row.target is not None and row.target.suffix.lower() == ".png" for row in self.listing.rows)

    def _value_warnings(self, values: F32) -> list[str]:
        seen = value_range(values)
        if seen is None:
            return []
        warnings = []
        beyond = float(np.mean(values >= self.rule.high))
        if beyond > LEAST_VALID_SHARE:
            key, mend = {
                "disparity": ("dataset.max_disparity", f"; {_enough_disparity(seen)}"),
                "depth": ("dataset.max_depth", ""),
                "relative": ("the bound of relative targets", ""),
            }[self.data_class.kind]
            warnings.append(
                f"{beyond:.1%} of the ground truth is beyond {key} = {self.rule.high:g}; 99 % of it is below {seen.p99:.5g}{mend}"
            )
        if self.data_class.kind == "depth":
            warnings += self._depth_warnings(seen, values)
        if self.data_class.kind == "relative" and seen.median >= _LEAST_RAW and self._has_png():
            warnings.append(f"median {seen.median:.0f} looks like raw depth; relative targets grow towards the camera (see NYUDV2Relative)")
        return warnings

    def _depth_warnings(self, seen: ValueRange, values: F32) -> list[str]:
        warnings = []
        scale = self.source.depth_scale
        near = float(np.mean(values <= self.rule.low))
        if self._raw_png(seen):
            warnings.append(f"raw PNG values up to {seen.high:.0f} are read as metres; {self._scales(seen)}")
        elif self.data_class.takes_scale and scale is None and self._has_png():
            warnings.append("PNG values are whole metres without depth_scale")
        elif seen.p99 * _WIDE_LIMIT < self.rule.high < np.inf:
            warnings.append(
                f"99 % of the ground truth is below {seen.p99:.3g} m, dataset.max_depth is {self.rule.high:g}: check the unit, or lower it"
            )
        if near > LEAST_VALID_SHARE:
            warnings.append(f"{near:.1%} of the ground truth is not above dataset.min_depth = {self.rule.low:g}")
        if scale is not None and not self._has_png():
            warnings.append("depth_scale acts on PNG alone: these PFM files are read as metres")
        if self.rule.normalise:
            warnings.append("normalize_depth takes the metres out of the ground truth")
        return warnings

    def _size_warnings(self, looks: Sequence[Look]) -> list[str]:
        height, width = self._augmentation.crop_size
        window = self.data_class.window_size
        warnings = []
        crops = self.split == "train" or self._augmentation.evaluation == "center_crop"
        # mono training resizes to cover the crop, so that only the other ways can meet an image that is too small
        if crops and not (self.split == "train" and self.spec.family == "mono"):
            small = sum(look.size[0] < height or look.size[1] < width for look in looks)
            if small:
                warnings.append(
                    f"{small} of {len(looks)} images are smaller than crop_size {width}x{height} (width x height) and will be padded"
                )
        least = self._augmentation.crop_min_valid_disp_ratio
        if self.split == "train" and self.spec.family == "stereo" and least > 0:
            shares = [best_valid_share(look.valid, (height, width)) for look in looks if look.valid is not None]
            short = sum(share < least for share in shares)
            if short:
                warnings.append(
                    f"{short} of {len(shares)} images have no crop with {least:g} of ground truth (crop_min_valid_disp_ratio), the poorest "
                    f"at most {min(shares):.2g}: the best of 100 draws is taken there"
                )
        if self.split != "train" and window is not None and any(look.truth_size not in (None, window) for look in looks):
            warnings.append(
                f"the evaluation window of {self.data_class.name} is for {window[1]}x{window[0]} frames: other sizes are measured whole"
            )
        return warnings

    def _warp_warnings(self, warp: Warp | None) -> list[str]:
        if warp is None or warp.after < EXPLAINED * warp.before:
            return []
        fit = self._best_fit(self.checked[0])
        if fit is not None and fit.warp.after < EXPLAINED * warp.after:
            return [f"{self.data_class.name} does not explain the views ({warp.describe()}); {fit.describe()}"]
        if warp.after < warp.before:
            return []
        return [f"the disparity does not explain the views ({warp.describe()}): left and right swapped, another unit, or not rectified"]


def _enough_disparity(seen: ValueRange) -> str:
    enough = 32 * (int(seen.p99) // 32 + 1)
    if enough > WIDEST:
        return f"max_disparity goes no higher than {WIDEST}"
    return f"model.max_disparity={enough} would take 99 % of it"


def _mean_warp(looks: Sequence[Look]) -> Warp | None:
    warps = [look.warp for look in looks if look.warp is not None]
    if not warps:
        return None
    return Warp(before=sum(warp.before for warp in warps) / len(warps), after=sum(warp.after for warp in warps) / len(warps))
