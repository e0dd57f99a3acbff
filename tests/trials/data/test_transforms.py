"""Train augmentation: geometry stays true, nothing is written into its input; evaluation has none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from search_spaces.spec import Augmentation, Spec, with_values
from tests.trials.data.build import AUGMENTATION, as_tensor, mono_spec, quiet, stereo_spec, write_pair
from trials.data import Item, build_dataset
from trials.data.decoders import read_rgb, write_pfm, write_png
from trials.data.reading import Sample
from trials.data.sample import SampleSet
from trials.data.transforms import augment_mono, augment_stereo, best_valid_share, cut


def aug(spec: Spec, **values: Any) -> Spec:
    return with_values(spec, {f"{AUGMENTATION}.{name}": value for name, value in values.items()})


def items(spec: Spec, *, epochs: int = 1, seed: int = 0) -> list[Item]:
    dataset = build_dataset(spec, "train", training=True, seed=seed)
    found = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        found += [dataset[index] for index in range(len(dataset))]
    return found


def explains(item: Item, rows: int = 0) -> bool:
    """Whether left column x equals right column x - disparity (constant, whole) `rows` further down, exactly, where both are visible."""
    disparity = int(item["target"][item["valid"]].unique().item())
    image, right = item["image"][:, 4:-4], item["right_image"][:, 4 + rows : item["image"].shape[1] - 4 + rows]
    width = image.shape[2]
    low, high = max(0, disparity) + 20, width - 20  # shifted windows may repeat their edge
    return torch.equal(image[:, :, low:high], right[:, :, low - disparity : high - disparity])


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return write_pair(tmp_path, height=80, width=160, disparity=5)


def test_a_plain_crop_keeps_the_disparity(pair: Path) -> None:
    item = items(quiet(stereo_spec(pair)))[0]
    assert item["image"].shape == (3, 64, 96)
    assert item["target"].unique().tolist() == [5.0]
    assert explains(item)


@pytest.mark.parametrize("seed", range(6))
def test_a_shifted_right_view_shifts_the_disparity(pair: Path, seed: int) -> None:
    item = items(aug(quiet(stereo_spec(pair)), hshift_prob=1.0), seed=seed)[0]
    assert explains(item)


def test_shifts_go_both_ways_and_stay_in_range(pair: Path) -> None:
    found = {float(item["target"].max()) for item in items(aug(quiet(stereo_spec(pair)), hshift_prob=1.0), epochs=40)}
    assert min(found) < 5 < max(found)
    assert min(found) > 0
    assert max(found) <= 5 + 96 // 8


def test_vertical_jitter_moves_the_right_view_by_up_to_two_rows(pair: Path) -> None:
    plain, found = (items(aug(quiet(stereo_spec(pair)), yjitter_prob=share), epochs=30) for share in (0.0, 1.0))
    offsets = [next(rows for rows in (-2, -1, 0, 1, 2) if explains(item, -rows)) for item in found]
    assert set(offsets) == {-2, -1, 0, 1, 2}
    assert all(torch.equal(a["image"], b["image"]) and torch.equal(a["target"], b["target"]) for a, b in zip(plain, found, strict=True))


def test_upside_down_is_still_a_pair(pair: Path) -> None:
    plain = items(quiet(stereo_spec(pair)))[0]
    flipped = items(aug(quiet(stereo_spec(pair)), do_flip=True, v_flip_prob=1.0))[0]
    assert explains(flipped)
    torch.testing.assert_close(flipped["image"], plain["image"].flip(1))


def photometric(item: Item, disparity: np.ndarray) -> float:
    """Mean absolute difference of left and the right view moved by `disparity`, where ground truth counts and the match is inside."""
    image, right = item["image"].mean(dim=0).numpy(), item["right_image"].mean(dim=0).numpy()
    columns = np.arange(image.shape[1])
    moved = np.stack([np.interp(columns - row, columns, line) for row, line in zip(disparity, right, strict=True)])
    inside = item["valid"][0].numpy() & (columns >= np.abs(disparity)) & (columns + np.abs(disparity) < len(columns))
    return float(np.abs(image - moved)[inside].mean())


GEOMETRY = {
    "crop": {},
    "vertical flip": {"do_flip": True, "v_flip_prob": 1.0},
    "horizontal shift": {"hshift_prob": 1.0},
    "flip and shift": {"do_flip": True, "v_flip_prob": 1.0, "hshift_prob": 1.0},
}


@pytest.mark.parametrize("values", GEOMETRY.values(), ids=GEOMETRY)
def test_the_disparity_still_moves_the_right_view_onto_the_left(scenes: SampleSet, values: dict[str, Any]) -> None:
    # curved scenes with exact disparity and a mask of what both views see
    for item in items(aug(quiet(stereo_spec(scenes.list_file("nocc", "train"))), **values)):
        disparity = item["target"][0].numpy()
        true = photometric(item, disparity)
        assert true < 0.25 * photometric(item, -disparity)
        assert true < 0.5 * photometric(item, disparity[::-1])  # as if the ground truth had not been flipped along


def test_mirrored_views_are_not_a_pair(scenes: SampleSet) -> None:
    # why h_flip_prob does nothing in stereo: mirroring both views turns the sign, mirroring and swapping needs the right disparity
    spec = aug(quiet(stereo_spec(scenes.list_file("nocc", "train"))), do_flip=True, v_flip_prob=0.0, h_flip_prob=1.0)
    item = items(spec)[0]
    mirrored = Item(**{name: value.flip(-1) if isinstance(value, torch.Tensor) else value for name, value in item.items()})
    assert photometric(item, item["target"][0].numpy()) < 0.25 * photometric(mirrored, mirrored["target"][0].numpy())


def test_one_jitter_for_both_views_unless_asymmetric(pair: Path) -> None:
    coloured = aug(quiet(stereo_spec(pair)), color_aug_brightness=0.4, color_aug_contrast=0.4)
    assert explains(items(coloured)[0])
    assert not explains(items(aug(coloured, color_aug_prob=1.0))[0])


@pytest.mark.parametrize("asymmetric", [0.0, 1.0])
@pytest.mark.parametrize("view", ["image", "right_image"])
def test_both_branches_of_colour_honour_the_spec(pair: Path, asymmetric: float, view: Literal["image", "right_image"]) -> None:
    still = aug(quiet(stereo_spec(pair)), color_aug_prob=asymmetric)
    plain = items(quiet(stereo_spec(pair)))[0][view]
    assert torch.equal(items(still)[0][view], plain)  # ranges of no width
    grey = items(aug(still, color_aug_saturation=[0.0, 0.0], input_mean=[0.5] * 3, input_std=[1.0] * 3))[0][view]
    assert (grey - grey.mean(dim=0)).abs().max() < 0.02  # saturation 0 in either branch


def test_the_eraser_touches_the_right_view_alone(pair: Path) -> None:
    plain, erased = items(quiet(stereo_spec(pair)))[0], items(aug(quiet(stereo_spec(pair)), eraser_aug_prob=1.0))[0]
    torch.testing.assert_close(erased["image"], plain["image"])
    changed = (erased["right_image"] != plain["right_image"]).any(dim=0)
    assert 0 < changed.float().mean() < 0.5
    assert len(erased["right_image"][:, changed].unique(dim=1)[0]) == 1  # one colour


def test_resampling_blurs_and_does_not_move(pair: Path) -> None:
    spec = quiet(stereo_spec(pair))
    plain = items(spec)[0]
    blurred = items(aug(spec, spatial_aug_prob=1.0, min_scale=-1.0, max_scale=-0.2))[0]
    assert blurred["image"].std() < 0.8 * plain["image"].std()
    torch.testing.assert_close(blurred["target"], plain["target"])
    assert np.corrcoef(blurred["image"].flatten(), plain["image"].flatten())[0, 1] > 0.5


def test_an_image_smaller_than_the_crop_is_padded_without_ground_truth(tmp_path: Path) -> None:
    file = write_pair(tmp_path, height=40, width=60)
    item = items(quiet(stereo_spec(file)))[0]
    assert item["image"].shape == (3, 64, 96)
    assert int(item["valid"].sum()) == 40 * 60
    assert explains(item) or float(item["target"].max()) == 5.0


def test_a_crop_has_the_share_of_ground_truth_that_is_asked_for(tmp_path: Path) -> None:
    write_pair(tmp_path, height=80, width=400)
    disparity = np.full((80, 400), np.inf, np.float32)
    disparity[:, 300:] = 5
    write_pfm(tmp_path / "disparity.pfm", disparity)
    spec = quiet(stereo_spec(tmp_path / "list.txt"))
    shares = [float(item["valid"].float().mean()) for item in items(aug(spec, crop_min_valid_disp_ratio=0.9), epochs=20)]
    assert min(shares) >= 0.9
    assert min(float(item["valid"].float().mean()) for item in items(spec, epochs=20)) < 0.5


def test_the_best_crop_is_taken_when_none_has_enough() -> None:
    valid = np.zeros((64, 300), np.bool_)
    valid[:, 200:230] = True
    image = np.zeros((64, 300, 3), np.uint8)
    sample = Sample(image=image, right=image, target=valid.astype(np.float32), valid=valid)
    augmentation = dataclasses.replace(Augmentation(), crop_size=(64, 96), crop_min_valid_disp_ratio=0.9, hshift_prob=0.0)
    found = augment_stereo(sample, augmentation, rng=np.random.default_rng(0), max_disparity=64)
    assert found.valid is not None
    assert int(found.valid.sum()) == 64 * 30


def test_the_best_share_is_that_of_the_best_window() -> None:
    valid = np.zeros((64, 300), np.bool_)
    valid[:, 200:230] = True
    assert best_valid_share(valid, (64, 96)) == 30 / 96
    assert best_valid_share(valid, (128, 96)) == 30 / 96 / 2  # half of the crop is padding


def test_a_sample_is_a_function_of_seed_epoch_and_index(scenes: SampleSet) -> None:
    spec = stereo_spec(scenes.list_file("stereo", "train"))
    first, again = items(spec, epochs=2, seed=7), items(spec, epochs=2, seed=7)
    assert all(torch.equal(a["image"], b["image"]) and torch.equal(a["target"], b["target"]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0]["image"], first[3]["image"])  # epoch
    assert not torch.equal(first[0]["image"], items(spec, seed=8)[0]["image"])  # seed


def test_the_global_generator_is_not_touched(scenes: SampleSet) -> None:
    spec = stereo_spec(scenes.list_file("stereo", "train"))
    before = np.random.get_state()[2], torch.get_rng_state()  # noqa: NPY002
    items(spec)
    assert np.random.get_state()[2] == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_decoded_images_survive_augmentation(pair: Path) -> None:
    spec = aug(stereo_spec(pair), eraser_aug_prob=1.0)
    dataset = build_dataset(spec, "train", training=True)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        dataset[0]
    cached = dataset._cache.get(0, lambda: pytest.fail("was not cached"))
    np.testing.assert_array_equal(cached.right, read_rgb(pair.parent / "right.png"))
    assert not cached.image.flags.writeable


LOUD = {
    "color_aug_prob": 1.0,
    "crop_min_valid_disp_ratio": 1.0,
    "do_flip": True,
    "eraser_aug_prob": 1.0,
    "h_flip_prob": 1.0,
    "hshift_prob": 1.0,
    "min_scale": -1.0,
    "spatial_aug_prob": 1.0,
    "stretch_prob": 1.0,
    "v_flip_prob": 1.0,
    "yjitter_prob": 1.0,
}


@pytest.mark.parametrize("split", ["train", "val", "test", "infer"])
@pytest.mark.parametrize("family", ["stereo", "mono"])
def test_evaluation_is_never_augmented(scenes: SampleSet, split: str, family: str) -> None:
    file = scenes.list_file("stereo" if family == "stereo" else "mono", "val")
    plain = stereo_spec(file) if family == "stereo" else mono_spec(file, "MetricMonoDataset")
    loud = with_values(plain, {f"dataset.{split}_dataset.augmentation.{name}": value for name, value in LOUD.items()})
    one, other = (build_dataset(spec, split, training=False)[0] for spec in (plain, loud))
    for field in ("image", "right_image", "target", "valid"):
        assert (field in one) == (field in other)
        assert field not in one or torch.equal(one[field], other[field])  # type: ignore[literal-required]


def ramp_sample(height: int = 60, width: int = 90) -> Sample:
    """Image and target both hold the column number."""
    columns = np.broadcast_to(np.arange(width), (height, width))
    image = np.repeat(columns[:, :, None], 3, axis=2).astype(np.uint8)
    return Sample(image=image, right=None, target=columns.astype(np.float32), valid=columns > 3)


def mono_crop(seed: int = 0, **values: Any) -> Sample:
    augmentation = dataclasses.replace(Augmentation(), crop_size=(56, 70), **values)
    return augment_mono(ramp_sample(), augmentation, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(4))
def test_mono_image_and_depth_stay_together(seed: int) -> None:
    found = mono_crop(seed, do_flip=True)
    assert found.target is not None
    assert found.image.shape == (56, 70, 3)
    assert np.abs(found.image[:, :, 0] - found.target).max() <= 1
    np.testing.assert_array_equal(found.valid, found.target > 3)


def test_mono_flip_mirrors_image_and_depth() -> None:
    plain, flipped = mono_crop(), mono_crop(do_flip=True, h_flip_prob=1.0)
    np.testing.assert_array_equal(flipped.image, plain.image[:, ::-1])
    np.testing.assert_array_equal(flipped.target, np.asarray(plain.target)[:, ::-1])


def test_mono_depth_keeps_its_values() -> None:
    target = mono_crop().target
    assert set(np.unique(target)) <= set(range(90))  # nearest: nothing in between


def test_a_cut_outside_repeats_the_edge() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(cut(image, (-1, 0, 3, 3))[:, :, 0], [[0, 3, 3], [0, 3, 3], [6, 9, 9]])


def test_normalisation_is_that_of_imagenet(tmp_path: Path) -> None:
    image = np.full((1, 1, 3), 255, np.uint8)
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(as_tensor(image)[:, 0, 0], expected)
    write_png(tmp_path / "a.png", image)
