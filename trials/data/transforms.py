"""What happens to a decoded sample before it becomes tensors: train augmentation, and the fixed preparation for evaluation.

Stereo training, in this order (TAO's set, each part honouring its keys under dataset.train_dataset.augmentation):

    crop       crop_size window, drawn again (at most 100 times) until crop_min_valid_disp_ratio of it has ground truth; the best draw if
               none has.  An image smaller than the window is edge-padded, the padding has no ground truth.
    y jitter   yjitter_prob: the right window is taken up to 2 rows higher or lower (imperfect rectification).
    h shift    hshift_prob: the right window is taken s columns further right, which adds s to every disparity; s is bounded so that
               no ground truth leaves 0 < d < max_disparity.
    v flip     v_flip_prob, only with do_flip: left, right and ground truth upside down.
    colour     color_aug_prob: two different jitters for left and right, else one jitter for both.
    eraser     eraser_aug_prob: one or two rectangles of the right view take its mean colour.
    resample   spatial_aug_prob: both views are scaled down by 2^U(min_scale, max_scale) (stretch_prob: by two different factors up to
               2^max_stretch apart), never up, and back: a blur, geometry stays.

A horizontal flip of a pair needs the disparity of the right view (mirroring swaps the views), which annotation files do not carry:
h_flip_prob does nothing in stereo.  Mono training: resize that keeps the aspect and covers crop_size (cubic; ground truth nearest), random
crop of both sides, horizontal flip by h_flip_prob with do_flip.

Cutting comes first, so that colours are worked out for the crop alone.  Each part has its own stream of random numbers: changing one
probability leaves the other parts' draws as they were.  Nothing writes into its input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from search_spaces.spec import Augmentation
from trials.data.colour import ColourJitter
from trials.data.decoders import F32, U8, Mask
from trials.data.geometry import STRIDE, Plan, covering_size
from trials.data.reading import Sample

_CROP_TRIES = 100
_YJITTER_ROWS = 2
_HSHIFT_COLUMNS = 16
_ERASER_SIDE = (50, 99)
_SMALLEST_SCALE = 0.1


def augment_stereo(sample: Sample, augmentation: Augmentation, *, rng: np.random.Generator, max_disparity: int) -> Sample:
    """A crop of crop_size with new colours; see the top of the file."""
    assert sample.right is not None
    crop_rng, shift_rng, flip_rng, colour_rng, eraser_rng, scale_rng = rng.spawn(6)
    height, width = augmentation.crop_size
    top, left = _choose_window(sample, (height, width), least_valid=augmentation.crop_min_valid_disp_ratio, rng=crop_rng)
    image = cut(sample.image, (top, left, height, width))
    target, valid = _cut_truth(sample, (top, left, height, width))
    rows, columns = _misalign(augmentation, target, valid, rng=shift_rng, max_disparity=max_disparity)
    right = cut(sample.right, (top + rows, left + columns, height, width))
    target = np.where(valid, target + np.float32(columns), np.float32(0))
    if augmentation.do_flip and flip_rng.random() < augmentation.v_flip_prob:
        image, right, target, valid = image[::-1], right[::-1], target[::-1], valid[::-1]
    image, right = _recolour(image, right, augmentation, rng=colour_rng)
    if eraser_rng.random() < augmentation.eraser_aug_prob:
        right = _erase(right, rng=eraser_rng)
    image, right = _resample((image, right), augmentation, rng=scale_rng)
    return Sample(image=image, right=right, target=target, valid=valid)


def _choose_window(sample: Sample, size: tuple[int, int], *, least_valid: float, rng: np.random.Generator) -> tuple[int, int]:
    """(top, left) of the crop; negative where the image is smaller than the crop."""
    spare = (sample.image.shape[0] - size[0], sample.image.shape[1] - size[1])
    best, best_share = (0, 0), -1.0
    for _ in range(_CROP_TRIES):
        top, left = (int(rng.integers(min(0, room), max(0, room) + 1)) for room in spare)
        if sample.valid is None or least_valid <= 0:
            return top, left
        inside = sample.valid[max(0, top) : top + size[0], max(0, left) : left + size[1]]
        share = np.count_nonzero(inside) / (size[0] * size[1])
        if share >= least_valid:
            return top, left
        if share > best_share:
            best, best_share = (top, left), share
    return best


def best_valid_share(valid: Mask, size: tuple[int, int]) -> float:
    """The largest share of ground truth that any crop of `size` has, which random draws may miss; outside the image there is none."""
    height, width = min(size[0], valid.shape[0]), min(size[1], valid.shape[1])
    sums = cv2.integral(valid.astype(np.uint8))
    counts = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return float(counts.max()) / (size[0] * size[1])


def _misalign(augmentation: Augmentation, target: F32, valid: Mask, *, rng: np.random.Generator, max_disparity: int) -> tuple[int, int]:
    """How many rows and columns the right window lies off the left one."""
    jitter, rows, shift, place = rng.random(), int(rng.integers(-_YJITTER_ROWS, _YJITTER_ROWS + 1)), rng.random(), rng.random()
    rows = rows if jitter < augmentation.yjitter_prob else 0
    if shift >= augmentation.hshift_prob:
        return rows, 0
    bound = min(_HSHIFT_COLUMNS, target.shape[1] // 8)
    low, high = -bound, bound
    if valid.any():
        known = target[valid]
        low = min(0, max(low, 1 - int(np.ceil(known.min()))))
        high = max(0, min(high, int(np.floor(max_disparity - known.max())) - 1))
    return rows, low + int(place * (high - low + 1))


def _recolour(image: U8, right: U8, augmentation: Augmentation, *, rng: np.random.Generator) -> tuple[U8, U8]:
    low, high = augmentation.color_aug_saturation
    jitter = ColourJitter(
        brightness=augmentation.color_aug_brightness,
        contrast=augmentation.color_aug_contrast,
        saturation=(low, high),
        hue=(augmentation.color_aug_hue_range[0], augmentation.color_aug_hue_range[1]),
    )
    asymmetric = rng.random() < augmentation.color_aug_prob
    first, second = jitter.draw(rng), jitter.draw(rng)
    if asymmetric:
        return first.apply([image])[0], second.apply([right])[0]
    image, right = first.apply([image, right])
    return image, right


def _erase(right: U8, *, rng: np.random.Generator) -> U8:
    height, width = right.shape[:2]
    # a rectangle of TAO's 50 to 99 px would hide most of a small crop: at most a third of its shorter side
    longest = min(_ERASER_SIDE[1], max(1, min(height, width) // 3))
    shortest = min(_ERASER_SIDE[0], (longest + 1) // 2)
    erased = right.copy()
    mean = (np.array(cv2.sumElems(erased)[:3]) / (height * width)).astype(np.uint8)
    for _ in range(int(rng.integers(1, 3))):
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        sides = rng.integers(shortest, longest + 1, size=2)
        erased[top : top + int(sides[0]), left : left + int(sides[1])] = mean
    return erased


def _resample(images: Sequence[U8], augmentation: Augmentation, *, rng: np.random.Generator) -> list[U8]:
    act, stretch = rng.random(), rng.random()
    scale = 2.0 ** rng.uniform(augmentation.min_scale, augmentation.max_scale)
    spread = 2.0 ** rng.uniform(-augmentation.max_stretch, augmentation.max_stretch, size=2)
    if act >= augmentation.spatial_aug_prob:
        return list(images)
    factors = scale * spread if stretch < augmentation.stretch_prob else np.array([scale, scale])
    factors = np.clip(factors, _SMALLEST_SCALE, 1.0)
    height, width = images[0].shape[:2]
    small = (max(1, round(width * float(factors[0]))), max(1, round(height * float(factors[1]))))
    if small == (width, height):
        return list(images)
    return [_resized(_resized(image, (small[1], small[0]), cv2.INTER_LINEAR), (height, width), cv2.INTER_LINEAR) for image in images]


def augment_mono(sample: Sample, augmentation: Augmentation, *, rng: np.random.Generator) -> Sample:
    """A crop of crop_size out of the covering resize; see the top of the file."""
    crop_rng, flip_rng = rng.spawn(2)
    height, width = augmentation.crop_size
    size = covering_size(_size(sample.image), (height, width), multiple=STRIDE["mono"])
    top, left = (int(crop_rng.integers(0, whole - part + 1)) for whole, part in zip(size, (height, width), strict=True))
    image = _resized(sample.image, size, cv2.INTER_CUBIC)[top : top + height, left : left + width]
    target, valid = sample.target, sample.valid
    if target is not None and valid is not None:
        # nearest neighbour at pixel centres; only the crop's own pixels are looked up
        rows = ((np.arange(top, top + height) + 0.5) * (target.shape[0] / size[0])).astype(np.intp)
        columns = ((np.arange(left, left + width) + 0.5) * (target.shape[1] / size[1])).astype(np.intp)
        target, valid = target[np.ix_(rows, columns)], valid[np.ix_(rows, columns)]
    if augmentation.do_flip and flip_rng.random() < augmentation.h_flip_prob:
        image = image[:, ::-1]
        target = None if target is None else target[:, ::-1]
        valid = None if valid is None else valid[:, ::-1]
    return Sample(image=image, right=None, target=target, valid=valid)


def prepare_evaluation(sample: Sample, plan: Plan, *, family: str) -> Sample:
    """The sample as `plan` says: window, then edge padding or a resize of the images alone.  No random number is drawn."""
    geometry = plan.geometry
    image, right, target, valid = sample.image, sample.right, sample.target, sample.valid
    if plan.window != (0, 0, *_size(image)):
        image, right = cut(image, plan.window), None if right is None else cut(right, plan.window)
        if target is not None:
            target, valid = _cut_truth(sample, plan.window)
    if geometry.kind == "pad":
        left, _, top, _ = geometry.pad
        window = (-top, -left, *geometry.network_size)
        image, right = cut(image, window), None if right is None else cut(right, window)
    elif geometry.kind == "resize":
        image = _fitted(image, geometry.network_size, family=family)
        right = None if right is None else _fitted(right, geometry.network_size, family=family)
    return dataclasses.replace(sample, image=image, right=right, target=target, valid=valid)


def _fitted(image: U8, size: tuple[int, int], *, family: str) -> U8:
    if family == "mono":
        return _resized(image, size, cv2.INTER_CUBIC)
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    return _resized(image, size, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _resized(image: U8, size: tuple[int, int], interpolation: int) -> U8:
    if _size(image) == size:
        return image
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=interpolation), dtype=np.uint8)


def cut(image: U8, window: tuple[int, int, int, int]) -> U8:
    """(top, left, height, width) of an image; what lies outside repeats the nearest edge pixel.  A view where nothing does."""
    top, left, height, width = window
    if top >= 0 and left >= 0 and top + height <= image.shape[0] and left + width <= image.shape[1]:
        return image[top : top + height, left : left + width]
    rows = np.clip(np.arange(top, top + height), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + width), 0, image.shape[1] - 1)
    return image[np.ix_(rows, columns)]


def _cut_truth(sample: Sample, window: tuple[int, int, int, int]) -> tuple[F32, Mask]:
    """Ground truth of a window of the image; none outside the image."""
    assert sample.target is not None
    assert sample.valid is not None
    assert sample.target.shape == _size(sample.image)
    top, left, height, width = window
    target, valid = np.zeros((height, width), np.float32), np.zeros((height, width), np.bool_)
    rows = slice(max(0, -top), max(0, min(height, sample.target.shape[0] - top)))
    columns = slice(max(0, -left), max(0, min(width, sample.target.shape[1] - left)))
    inside = (slice(top + rows.start, top + rows.stop), slice(left + columns.start, left + columns.stop))
    target[rows, columns], valid[rows, columns] = sample.target[inside], sample.valid[inside]
    return target, valid


def _size(array: npt.NDArray[np.uint8]) -> tuple[int, int]:
    return int(array.shape[0]), int(array.shape[1])


def normalise(image: U8, mean: Sequence[float], std: Sequence[float]) -> F32:
    """(3, H, W) float32: (image / 255 - mean) / std per channel."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for channel, (factor, offset) in enumerate(zip(*scale_of(mean, std), strict=True)):
        np.multiply(image[:, :, channel], factor, out=planes[channel], dtype=np.float32)
        planes[channel] += offset
    return planes


def scale_of(mean: Sequence[float], std: Sequence[float]) -> tuple[F32, F32]:
    """Factor and offset of each channel, float32: value x factor + offset is (value / 255 - mean) / std."""
    factors = [1 / (255 * spread) for spread in std]
    offsets = [-middle / spread for middle, spread in zip(mean, std, strict=True)]
    return np.array(factors, np.float32), np.array(offsets, np.float32)
