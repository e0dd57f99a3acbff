"""Train augmentation: geometry stays true, every live key acts, nothing is written into its input."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.spec import Acts, Augmentation, Spec, all_fields, with_values
from tests.trials.data.build import AUGMENTATION, as_tensor, mono_spec, quiet, stereo_spec, write_pair
from trials.data import Item, build_dataset
from trials.data.decoders import read_rgb, write_pfm, write_png
from trials.data.reading import Sample
from trials.data.sample import SampleSet
from trials.data.transforms import LIVE_AUGMENTATIONS, augment_mono, augment_stereo, cut


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
    found = items(aug(quiet(stereo_spec(pair)), yjitter_prob=1.0), epochs=30)
    offsets = [next(rows for rows in (-2, -1, 0, 1, 2) if explains(item, -rows)) for item in found]
    assert set(offsets) == {-2, -1, 0, 1, 2}


def test_upside_down_is_still_a_pair(pair: Path) -> None:
    plain = items(quiet(stereo_spec(pair)))[0]
    flipped = items(aug(quiet(stereo_spec(pair)), do_flip=True, v_flip_prob=1.0))[0]
    assert explains(flipped)
    torch.testing.assert_close(flipped["image"], plain["image"].flip(1))


def test_one_jitter_for_both_views_unless_asymmetric(pair: Path) -> None:
    coloured = aug(quiet(stereo_spec(pair)), color_aug_brightness=0.4, color_aug_contrast=0.4)
    assert explains(items(coloured)[0])
    assert not explains(items(aug(coloured, color_aug_prob=1.0))[0])


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


OTHER_VALUES: dict[str, Any] = {
    "color_aug_brightness": 0.1,
    "color_aug_contrast": 0.1,
    "color_aug_hue_range": [0.2, 0.3],
    "color_aug_prob": 1.0,
    "color_aug_saturation": [0.0, 0.1],
    "crop_min_valid_disp_ratio": 0.99,
    "crop_size": [32, 64],
    "do_flip": False,
    "eraser_aug_prob": 1.0,
    "evaluation": "resize",
    "gamma": [2, 2, 2, 2],
    "h_flip_prob": 1.0,
    "hshift_prob": 1.0,
    "input_mean": [0.0, 0.0, 0.0],
    "input_std": [1.0, 1.0, 1.0],
    "max_scale": -0.1,
    "max_stretch": 0.9,
    "min_scale": -0.9,
    "spatial_aug_prob": 0.0,
    "stretch_prob": 0.0,
    "v_flip_prob": 1.0,
    "yjitter_prob": 0.0,
}


def same(first: list[Item], second: list[Item]) -> bool:
    fields = [field for field in ("image", "right_image", "target", "valid") if field in first[0]]
    return all(
        a[field].shape == b[field].shape and torch.equal(a[field], b[field]) for a, b in zip(first, second, strict=True) for field in fields
    )  # type: ignore[literal-required]


def test_every_key_has_another_value() -> None:
    assert set(OTHER_VALUES) == {item.name for item in dataclasses.fields(Augmentation)}


@pytest.mark.parametrize("family", ["stereo", "mono"])
@pytest.mark.parametrize("name", sorted(OTHER_VALUES))
def test_live_keys_act_and_the_others_do_not(tmp_path: Path, name: str, family: str) -> None:
    if family == "stereo":
        write_pair(tmp_path, height=80, width=160)
        holes = np.full((80, 160), 5, np.float32)
        holes[:, ::7] = np.inf
        holes[:, :60] = np.inf
        write_pfm(tmp_path / "disparity.pfm", holes)
        spec = aug(stereo_spec(tmp_path / "list.txt"), do_flip=True)
        other = OTHER_VALUES[name]
    else:
        write_pair(tmp_path, height=80, width=160)
        (tmp_path / "mono.txt").write_text("left.png disparity.pfm\n")
        spec = aug(mono_spec(tmp_path / "mono.txt", "MetricMonoDataset"), do_flip=True)
        other = [42, 70] if name == "crop_size" else OTHER_VALUES[name]
    changed = not same(items(spec, epochs=12), items(aug(spec, **{name: other}), epochs=12))
    assert changed == (name in LIVE_AUGMENTATIONS[family])


@pytest.mark.parametrize(("family", "acts"), [("stereo", Acts.STEREO), ("mono", Acts.MONO)])
def test_the_spec_marks_the_same_keys_live(family: str, acts: Acts) -> None:
    prefix = f"{AUGMENTATION}."
    marked = {
        info.key.removeprefix(prefix)
        for info in all_fields().values()
        if info.key.startswith(prefix) and info.acts in (Acts.TRAINING, acts)
    }
    assert marked == LIVE_AUGMENTATIONS[family]


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
