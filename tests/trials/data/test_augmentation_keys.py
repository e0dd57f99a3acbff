"""What the train schema says of each augmentation key, against the batches that training sees."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.relevance import AUGMENTATION
from search_spaces.schema import Leaf
from search_spaces.skill import find_skill
from search_spaces.spec import Spec, with_values
from tests.trials.data.build import mono_spec, stereo_spec, write_pair
from trials.data import Batch, build_dataset, collate
from trials.data.decoders import write_pfm

EPOCHS = 12
# another legal value of every key, far from the default
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


def offered(family: str) -> dict[str, Leaf]:
    """The augmentation keys of training in the skill's schema, by their last word."""
    leaves = find_skill(f"depth_net_{family}").schema().leaves
    return {key.rpartition(".")[2]: leaf for key, leaf in leaves.items() if key.startswith(f"{AUGMENTATION}.")}


CASES = [(family, name) for family in ("stereo", "mono") for name in sorted(offered(family))]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A pair whose ground truth has holes and leaves out the left third, as a list for each family."""
    holes = np.full((80, 160), 5, np.float32)
    holes[:, ::7] = np.inf
    holes[:, :60] = np.inf
    stereo = write_pair(tmp_path, height=80, width=160)
    write_pfm(tmp_path / "disparity.pfm", holes)
    (tmp_path / "mono.txt").write_text("left.png disparity.pfm\n")
    return {"stereo": stereo, "mono": tmp_path / "mono.txt"}


def flipping(family: str, file: Path) -> Spec:
    """A spec in which all parts of augmentation are on."""
    spec = stereo_spec(file) if family == "stereo" else mono_spec(file, "MetricMonoDataset")
    return with_values(spec, {f"{AUGMENTATION}.do_flip": True})


def batches(spec: Spec) -> list[Batch]:
    dataset = build_dataset(spec, "train", training=True)
    found = []
    for epoch in range(EPOCHS):
        dataset.set_epoch(epoch)
        found.append(collate([dataset[0]]))
    return found


def differ(one: Batch, other: Batch) -> bool:
    fields = [field for field in ("image", "right_image", "target", "valid") if field in one]
    return any(not torch.equal(one[field], other[field]) for field in fields)  # type: ignore[literal-required]


def test_the_schema_offers_every_key() -> None:
    assert set(offered("stereo")) == set(offered("mono")) == set(OTHER_VALUES)


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_key_acts_on_batches_if_the_schema_says_so(files: dict[str, Path], family: str, name: str) -> None:
    value = [42, 70] if (family, name) == ("mono", "crop_size") else OTHER_VALUES[name]
    spec = flipping(family, files[family])
    pairs = zip(batches(spec), batches(with_values(spec, {f"{AUGMENTATION}.{name}": value})), strict=True)
    assert any(itertools.starmap(differ, pairs)) == (offered(family)[name].overlay["acts"] == "training")


@pytest.mark.parametrize("family", ["stereo", "mono"])
def test_only_keys_that_act_are_searched(family: str) -> None:
    searched = {name for name, leaf in offered(family).items() if "searched" in leaf.overlay}
    assert searched
    assert all(offered(family)[name].overlay["acts"] == "training" for name in searched)


@pytest.mark.parametrize("family", ["stereo", "mono"])
def test_probabilities_act_only_with_their_own_switch(files: dict[str, Path], family: str) -> None:
    off = with_values(flipping(family, files[family]), {f"{AUGMENTATION}.do_flip": False})
    name = {"stereo": "v_flip_prob", "mono": "h_flip_prob"}[family]
    pairs = zip(batches(off), batches(with_values(off, {f"{AUGMENTATION}.{name}": 1.0})), strict=True)
    assert not any(itertools.starmap(differ, pairs))
