"""Which data class or depth_scale makes sense of ground truth that the named one does not explain.

Disparity is judged by the pair itself: the true one moves the right view onto the left.  Metric depth has no such witness; there the
known PNG scales are judged by the metres that they give.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from search_spaces.errors import DataError
from trials.data.annotations import Row
from trials.data.datasets import CLASSES, DataClass, Decode, Truth
from trials.data.decoders import F32, Form, read_rgb, read_stored
from trials.data.looking import ValueRange, Warp, warp_of
from trials.data.reading import TruthRule

_PNG_SCALES = {
    1000: "millimetres, as 7-Scenes and NYU, whose own class is NYUDV2",
    256: "1/256 m, as KITTI depth",
    5000: "1/5000 m, as TUM RGB-D",
}
TYPICAL_DEPTH_M = (0.1, 200.0)
_OUTDOORS_M = 40.0
EXPLAINED = 0.7  # a true disparity leaves 0.15 to 0.4 of the views' difference in camera images
# factors of the 8-bit PNGs of Middlebury: 2001 has 8, 2003 4 or 2, 2005 and 2006 3, 2 or 1
_GREY8_FACTORS = (1, 2, 3, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A way to read a pair's ground truth that explains its views, and the pixels that it gives."""

    way: str
    low: float
    high: float
    warp: Warp

    def describe(self) -> str:
        """One sentence for a hint or a warning."""
        return f"{self.way} gives {self.low:.4g} to {self.high:.4g} px and explains the views ({self.warp.describe()})"


def best_fit(row: Row, other_than: DataClass) -> Fit | None:
    """The way to read a pair's disparity, apart from that of a class, that explains the views best; None if none does."""
    assert row.target is not None
    assert row.right is not None
    try:
        image, right = read_rgb(row.image), read_rgb(row.right)
        ways = list(_ways(row, other_than))
    except DataError:
        return None  # the files themselves are broken: that was said already
    fits = []
    for way, truth in ways:
        if not (image.shape == right.shape and image.shape[:2] == truth.values.shape and truth.valid.any()):
            continue
        warp = warp_of(image, right, truth.values, truth.valid)
        if warp is not None and warp.after < EXPLAINED * warp.before:
            known = truth.values[truth.valid]
            fits.append(Fit(way=way, low=float(known.min()), high=float(known.max()), warp=warp))
    return min(fits, key=lambda fit: fit.warp.after, default=None)


def _ways(row: Row, other_than: DataClass) -> Iterator[tuple[str, Truth]]:
    """What each way is called and what it gives.  Classes that read a form alike are one way."""
    assert row.target is not None
    form, stored = read_stored(row.target)
    alike: dict[Decode, list[DataClass]] = {}
    for data_class in CLASSES:
        if data_class.family == "stereo" and form in data_class.decoders:
            alike.setdefault(data_class.decoders[form], []).append(data_class)
    for decode, classes in alike.items():
        if decode is not other_than.decoders.get(form):
            yield f"dataset_name {' or '.join(data_class.name for data_class in classes)}", classes[0].read(row.target)
    if form is Form.GREY8:
        for factor in _GREY8_FACTORS:
            values = (stored / np.float32(factor)).astype(np.float32)
            way = f"value / {factor}, written as PFM or (x 256) as 16-bit PNG for Kitti,"
            yield way, Truth(values=values, valid=values > 0)


def metric_scales(seen: ValueRange, rule: TruthRule) -> str:
    """What each known PNG scale makes of raw values, in words: those within the spec's limits first, and KITTI's ahead outdoors only."""
    low, high = max(rule.low, TYPICAL_DEPTH_M[0]), min(rule.high, TYPICAL_DEPTH_M[1])
    outdoors = rule.high > _OUTDOORS_M

    def misfit(scale: int) -> tuple[bool, bool]:
        return not (low < seen.p1 / scale and seen.p99 / scale < high), (scale == 256) != outdoors

    ordered = sorted(_PNG_SCALES, key=misfit)
    return ", or ".join(f"{scale} ({_PNG_SCALES[scale]}) for {seen.low / scale:.3g} to {seen.high / scale:.3g} m" for scale in ordered)


def stored_values(row: Row) -> tuple[Form, F32]:
    """The form of a row's ground truth and the finite values in its file, before any class reads it."""
    assert row.target is not None
    form, stored = read_stored(row.target)
    values = stored.astype(np.float32)
    return form, values[np.isfinite(values)]
