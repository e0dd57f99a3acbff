"""The facts on what acts, checked against the trainer: change each parameter alone and look whether anything is different."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces.ranges import parameter_of
from search_spaces.relevance import AUGMENTATION
from search_spaces.skill import find_skill
from search_spaces.spec import Spec, all_fields, get_value, load_spec, with_values
from trials.data.reading import Sample
from trials.data.transforms import augment_mono, augment_stereo
from trials.optim import make_optimizer, make_schedule

STEPS = 40
SETTINGS = {
    "MultiStepLR": ["train.optim.lr_steps=[10]"],
    "StepLR": ["train.optim.lr_scheduler=StepLR", "train.optim.lr_step_size=10"],
    "CosineAnnealingLR": ["train.optim.lr_scheduler=CosineAnnealingLR"],
    "SGD": ["train.optim.optimizer=SGD"],
    "flips": [f"{AUGMENTATION}.do_flip=true"],
}
# one setting in which each flagged parameter acts, if there is any
CONTEXT = {"lr_step_size": "StepLR", "min_lr": "CosineAnnealingLR", "momentum": "SGD", "h_flip_prob": "flips", "v_flip_prob": "flips"}


def base(skill: str, key: str) -> Spec:
    name = CONTEXT.get(key.rsplit(".", 1)[-1], "MultiStepLR")
    setting = SETTINGS["MultiStepLR" if name == "SGD" and skill == "mono" else name]
    template = find_skill(f"depth_net_{skill}").template()
    crop = {"stereo": "[32,64]", "mono": "[28,28]"}[skill]
    return load_spec(None, [f"{AUGMENTATION}.crop_size={crop}", *setting], template=template)


def training(spec: Spec) -> list[np.ndarray]:
    """Everything of the optimiser, its schedule and the augmentation that can be seen without training a network."""
    schedule = make_schedule(spec, STEPS)
    optimizer = make_optimizer(nn.Linear(2, 2), spec)
    group = optimizer.param_groups[0]
    settings = [group["lr"], group["weight_decay"], group.get("momentum", 0.0)]
    rates = [schedule.factor(step, base_lr=spec.train.optim.lr) for step in range(STEPS)]
    return [np.array(settings), np.array(rates), *pictures(spec)]


def pictures(spec: Spec) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    image, right = rng.integers(0, 255, (2, 64, 96, 3), dtype=np.uint8)
    target = rng.uniform(1, 60, (64, 96)).astype(np.float32)
    valid = np.tile(np.arange(96) % 48 < 20, (64, 1))
    augmentation = spec.dataset.train_dataset.augmentation
    arrays: list[np.ndarray] = []
    for seed in range(6):
        sample = Sample(image=image, right=right if spec.family == "stereo" else None, target=target, valid=valid)
        generator = np.random.default_rng(seed)
        if spec.family == "stereo":
            made = augment_stereo(sample, augmentation, rng=generator, max_disparity=128)
        else:
            made = augment_mono(sample, augmentation, rng=generator)
        arrays += [made.image, made.target, made.right if made.right is not None else made.image]  # type: ignore[list-item]
    return arrays


def differs(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def changed(skill: str, key: str, spec: Spec) -> Any:
    """Another legal value of the key, far from the spec's own."""
    parameter = parameter_of(find_skill(f"depth_net_{skill}").schema().leaves[key])
    assert parameter.low is not None
    assert parameter.high is not None
    own = float(get_value(spec, key))
    far = parameter.low if abs(own - parameter.low) > abs(own - parameter.high) else parameter.high
    return int(far) if parameter.kind == "int" else far


SEEN = [key for key, info in all_fields().items() if info.automl and key.startswith(("train.optim", AUGMENTATION))]


@pytest.mark.parametrize("skill", ["stereo", "mono"])
@pytest.mark.parametrize("key", SEEN)
def test_a_parameter_changes_training_exactly_when_the_spec_says_so(skill: str, key: str) -> None:
    torch.manual_seed(0)
    spec = base(skill, key)
    other = with_values(spec, {key: changed(skill, key, spec)})
    assert differs(training(spec), training(other)) == all_fields()[key].read_by(skill)
