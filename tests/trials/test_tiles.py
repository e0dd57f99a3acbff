"""Tiles: which columns answer, that no match is lost, and that the whole image's answer comes back."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, load_spec
from trials.data.sample import write_samples
from trials.evaluate import Predictor, evaluate
from trials.tiles import BLEND, Span, TiledPredictor, spans, tiles_of

REACH = 24  # the largest disparity that the matcher looks for
PATCH = 5


class BlockMatcher:
    """Finds the disparity whose patch in the right view differs least: it knows nothing beyond `REACH` columns and half a patch."""

    name = "block matcher"

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self.fixed_size = size
        self.calls = 0

    def predict(self, images: tuple[Tensor, ...]) -> Tensor:
        left, right = images
        assert self.fixed_size in (None, tuple(left.shape[-2:]))
        self.calls += 1
        costs = []
        for disparity in range(REACH + 1):
            moved = functional.pad(right, (disparity, 0, 0, 0), value=9.0)[..., : left.shape[-1]]
            difference = (left - moved).abs().mean(1, keepdim=True)
            costs.append(functional.avg_pool2d(difference, PATCH, 1, PATCH // 2, count_include_pad=False))
        return torch.cat(costs, 1).argmin(1, keepdim=True).float()


def pair(height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """A random texture, the view from the right of it, and the disparity: steps of 3 to 19 pixels."""
    generator = torch.Generator().manual_seed(0)
    right = torch.randn(1, 3, height, width, generator=generator)
    disparity = torch.tensor([3, 19, 11, 7]).repeat_interleave(-(-width // 4))[:width].expand(height, width)
    columns = (torch.arange(width) - disparity).clamp(min=0)
    left = right[0].gather(2, columns.expand(3, -1, -1))[None]
    return left, right, disparity.float()[None, None]


def test_an_image_of_the_tile_s_size_is_one_tile() -> None:
    assert spans(96, 96, lead=64) == (Span(start=0, used=0, end=96),)


def test_tiles_overlap_by_the_largest_disparity_and_the_blend() -> None:
    # a step is at most 192 - 64 - 32 = 96 wide: 208 further pixels take three of them, evenly spread
    found = spans(400, 192, lead=64)
    assert [(span.start, span.used, span.end) for span in found] == [(0, 0, 192), (69, 133, 261), (139, 203, 331), (208, 272, 400)]
    assert all(after.used + BLEND <= before.end for before, after in itertools.pairwise(found))


def test_tiles_that_only_serve_to_find_matches_are_refused() -> None:
    assert spans(128, 128, lead=128)
    with pytest.raises(SpecError, match=r"tiles of 128 pixels in width leave 28 behind the 100 columns") as caught:
        spans(200, 128, lead=100)
    assert "tiles of 164 pixels or more" in str(caught.value.hint)


def test_tiles_are_counted_in_rows_and_columns() -> None:
    assert tiles_of((150, 400), (96, 192), lead=64) == 2 * 4
    assert tiles_of((50, 60), (96, 192), lead=64) == 1


@pytest.mark.parametrize("size", [(64, 200), (130, 96), (130, 200)])
def test_what_a_local_matcher_finds_in_tiles_is_what_it_finds_in_the_whole(size: tuple[int, int]) -> None:
    left, right, _ = pair(*size)
    matcher = BlockMatcher((64, 96))
    tiled = TiledPredictor(matcher, (64, 96), lead=REACH + PATCH).predict((left, right))
    whole = BlockMatcher().predict((left, right))
    assert matcher.calls == tiles_of(size, (64, 96), lead=REACH + PATCH)
    torch.testing.assert_close(tiled, whole)


def test_without_the_lead_matches_would_be_lost() -> None:
    left, right, truth = pair(64, 200)
    errors = [(TiledPredictor(BlockMatcher(), (64, 96), lead=lead).predict((left, right)) - truth).abs().mean() for lead in (0, REACH)]
    assert errors[0] > 4 * errors[1]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = write_samples(tmp_path_factory.mktemp("scenes"), scenes=3, height=96, width=224, max_disparity=REACH)
    return str(made.list_file("stereo", "train"))


def asked(scenes: str, *overrides: str) -> Spec:
    source = f"dataset.test_dataset.data_sources=[{{data_file: {scenes}, dataset_name: GenericDataset}}]"
    sizes = ["model.max_disparity=32", "dataset.max_disparity=32", "dataset.test_dataset.workers=0"]
    kind = ["dataset.dataset_name=StereoDataset", "model.model_type=FoundationStereo"]
    return load_spec(None, [*kind, source, *sizes, "dataset.test_dataset.augmentation.crop_size=[64,128]", *overrides])


def epe(predictor: Predictor, spec: Spec) -> float:
    value = evaluate(predictor, spec, "test").metrics["epe"]
    assert value is not None
    return value


def test_evaluation_by_tiles_measures_what_the_whole_image_gives(scenes: str) -> None:
    key = "dataset.test_dataset.augmentation.evaluation"
    native = epe(BlockMatcher(), asked(scenes, f"{key}=native"))
    tiled = epe(BlockMatcher((64, 128)), asked(scenes, f"{key}=tile"))
    resized = epe(BlockMatcher((64, 128)), asked(scenes, f"{key}=resize"))
    assert tiled == pytest.approx(native, rel=1e-6)
    assert resized > 1.2 * native


def test_small_images_are_padded_to_one_tile(scenes: str) -> None:
    spec = asked(scenes, "dataset.test_dataset.augmentation.evaluation=tile", "dataset.test_dataset.augmentation.crop_size=[128,256]")
    matcher = BlockMatcher((128, 256))
    assert evaluate(matcher, spec, "test").num_images == matcher.calls


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("dataset.val_dataset.augmentation.evaluation=tile",), "tile is for evaluate and inference"),
        (("dataset.dataset_name=MonoDataset", "model.model_type=RelativeDepthAnything"), "tile is for stereo"),
    ],
)
def test_tiles_where_they_make_no_sense_are_refused(overrides: tuple[str, ...], told: str) -> None:
    tile = ["dataset.test_dataset.augmentation.evaluation=tile"]
    stereo = ["dataset.dataset_name=StereoDataset", "model.model_type=FoundationStereo"]
    with pytest.raises(SpecError, match=told):
        load_spec(None, [*stereo, *tile, *overrides])
