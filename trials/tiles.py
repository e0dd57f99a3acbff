"""Images that are larger than the network's input, in overlapping tiles at their own scale.

A tile shows the same columns of both views.  The match of a left pixel lies up to max_disparity columns further left in the right view,
so the first max_disparity columns of a tile may have theirs outside of it: they are only looked at, and the tile before answers for them.
At the image's own left edge nothing changes: what has no match there has none in the whole image either.  Where tiles overlap beyond
that, their answers are blended by their distance to the tile's edge.

For stereo alone: a disparity is the same in a tile and in the whole image, while the distance that a network sees in a single image
follows from all of the view.

Tensor legend: B images, h w the tile, H W the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, with_values
from trials.data.geometry import Size
from trials.data.loader import split_of

if TYPE_CHECKING:
    from trials.evaluate import Predictor

MODE = "tile"
BLEND = 32  # pixels at least that both of two neighbours answer; the network works on a 32nd of the size at its coarsest
RIM = 8  # pixels at a tile's inner edges whose answers, of half the surroundings, are not used


@dataclass(frozen=True, kw_only=True)
class Span:
    """The pixels of one tile along one side of the image: it shows `start` to `end`, and answers from `used` on."""

    start: int
    used: int
    end: int


def spans(length: int, tile: int, *, lead: int = 0) -> tuple[Span, ...]:
    """The fewest tiles, evenly spread, that cover `length` >= `tile` pixels; each but the first shows `lead` more before it answers.

    SpecError for tiles that are too short to leave anything.
    """
    assert length >= tile, (length, tile)
    if length == tile:
        return (Span(start=0, used=0, end=tile),)
    step = tile - lead - BLEND
    if step < BLEND:
        why = f"leave {max(0, tile - lead)} behind the {lead} columns that only serve to find matches" if lead else "are too few"
        hint = f"tiles of {lead + 2 * BLEND} pixels or more (the model, or crop_size of a checkpoint), or augmentation.evaluation=resize"
        raise SpecError(f"tiles of {tile} pixels in {'width' if lead else 'height'} {why}: neighbours overlap by {BLEND}", hint=hint)
    count = 1 + math.ceil((length - tile) / step)
    starts = [round(number * (length - tile) / (count - 1)) for number in range(count)]
    return tuple(Span(start=start, used=start + lead if start else 0, end=start + tile) for start in starts)


class TiledPredictor:
    """A stereo predictor for images of any size from `size` on, by tiles of that size; `lead` is its largest disparity in pixels."""

    fixed_size: Size | None = None

    def __init__(self, predictor: Predictor, size: Size, *, lead: int) -> None:
        self.name = predictor.name
        self.size, self.lead = size, lead
        self._predictor = predictor

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        """(B,1,H,W): disparity in pixels of the image."""
        height, width = images[0].shape[-2:]
        total = torch.zeros(images[0].shape[0], 1, height, width)
        weights = torch.zeros(height, width)
        for row in spans(height, self.size[0]):
            for column in spans(width, self.size[1], lead=self.lead):
                place = (slice(row.start, row.end), slice(column.start, column.end))
                answer_B1hw = self._predictor.predict(tuple(image[:, :, *place].contiguous() for image in images)).float().cpu()
                weight_hw = torch.outer(_weight(row, height), _weight(column, width))
                total[:, :, *place] += answer_B1hw * weight_hw
                weights[place] += weight_hw
        return total / weights


def tiled(predictor: Predictor, spec: Spec, split: str) -> tuple[Predictor, Spec]:
    """`predictor` by tiles, and `spec` with their size, where the split asks for tiles; else both as they are.

    The size is the predictor's own; one that takes any gets tiles of the split's crop_size.
    """
    augmentation = split_of(spec, split).augmentation
    if augmentation.evaluation != MODE:
        return predictor, spec
    size = predictor.fixed_size or (augmentation.crop_size[0], augmentation.crop_size[1])
    own = getattr(getattr(predictor, "facts", None), "max_disparity", None)  # of an exported file
    lead = spec.model.max_disparity if own is None else own
    return TiledPredictor(predictor, size, lead=lead), with_values(spec, {f"dataset.{split}_dataset.augmentation.crop_size": list(size)})


def tiles_of(image: Size, size: Size, *, lead: int) -> int:
    """How many tiles of `size` an image takes; SpecError where they are too narrow for it."""
    across = spans(max(image[1], size[1]), size[1], lead=lead)
    return len(across) * len(spans(max(image[0], size[0]), size[0]))


def _weight(span: Span, length: int) -> Tensor:
    """What each pixel of the tile counts: 0 at its inner edges, rising behind `used`, falling before the end."""
    places, whole = torch.arange(span.start, span.end) + 0.5, torch.ones(span.end - span.start)
    ramp = BLEND - 2 * RIM
    rising = (places - span.used - RIM) / ramp if span.start else whole
    falling = (span.end - places - RIM) / ramp if span.end < length else whole
    return torch.minimum(rising, falling).clamp(0.0, 1.0)
