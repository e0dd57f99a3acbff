"""Relevance proved against the trainer: each parameter is changed alone, and somebody looks whether training is any different.

What is offered must change the network, the optimiser, the schedule, the clipping or the training batch; what is dropped must change
none of them; and nothing may ever change how validation and test images are prepared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models.registry import build_network
from search_spaces.ranges import parameter_of
from search_spaces.relevance import AUGMENTATION, Relevance
from search_spaces.skill import find_skill
from search_spaces.spec import Spec, all_fields, get_value, load_spec, with_values
from trials.data.geometry import plan_evaluation
from trials.data.reading import Sample
from trials.data.transforms import augment_mono, augment_stereo, normalise, prepare_evaluation
from trials.module import DepthModule
from trials.optim import make_optimizer, make_schedule

STEPS = 40
CONTEXTS = {
    "the template": [],
    "MultiStepLR within the run": ["train.optim.lr_steps=[10]"],
    "StepLR": ["train.optim.lr_scheduler=StepLR", "train.optim.lr_step_size=10"],
    "CosineAnnealingLR": ["train.optim.lr_scheduler=CosineAnnealingLR"],
    "SGD": ["train.optim.optimizer=SGD"],
    "flips": [f"{AUGMENTATION}.do_flip=true"],
}
CROPS = {"stereo": "[32,64]", "mono": "[28,28]"}
FAMILIES = tuple(CROPS)
TAO = tuple(key for key, info in all_fields().items() if info.automl)
SCHEMAS = {family: find_skill(f"depth_net_{family}").schema() for family in FAMILIES}
OFFERED = {family: [key for key, leaf in SCHEMAS[family].leaves.items() if "searched" in leaf.overlay] for family in FAMILIES}
Seen = list[Any]


def base(family: str, context: str) -> Spec:
    setting = [] if (family, context) == ("mono", "SGD") else CONTEXTS[context]
    crops = [f"dataset.{split}_dataset.augmentation.crop_size={CROPS[family]}" for split in ("train", "val", "test")]
    return load_spec(None, ["model.encoder=vitt", *crops, *setting], template=find_skill(f"depth_net_{family}").template())


def training(spec: Spec) -> Seen:
    """Network, optimiser, schedule, clipping and batch, as plain data."""
    network = _network(spec.model, spec)
    optimizer = make_optimizer(network, spec)
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    schedule = make_schedule(spec, STEPS)
    rates = [schedule.factor(step, base_lr=spec.train.optim.lr) for step in range(STEPS)]
    layers = [(name, tuple(value.shape)) for name, value in network.state_dict().items()]
    return [layers, groups, rates, _clipped(spec), spec.dataset.train_dataset.batch_size, *_pictures(spec)]


NETWORKS: dict[object, nn.Module] = {}


def _network(section: object, spec: Spec) -> nn.Module:
    """The network of a spec, shapes alone; it is a function of the spec's model section."""
    if section not in NETWORKS:
        with torch.device("meta"):
            NETWORKS[section] = build_network(spec)
    return NETWORKS[section]


def _clipped(spec: Spec) -> list[float]:
    """Norms of gradients of norm 1 and 1e-3 after the module's clipping."""
    layer = nn.Linear(1, 1, bias=False)
    module = DepthModule(layer, spec, total_steps=STEPS)
    norms = []
    for size in (100.0, 1e-3):
        layer.weight.grad = torch.full((1, 1), size)
        module.configure_gradient_clipping(torch.optim.SGD(layer.parameters(), lr=1.0))
        norms.append(float(layer.weight.grad))
    return norms


def _sample(family: str) -> Sample:
    """A random image with ground truth in half of its columns."""
    rng = np.random.default_rng(0)
    image, right = rng.integers(0, 255, (2, 64, 96, 3), dtype=np.uint8)
    target = rng.uniform(1, 60, (64, 96)).astype(np.float32)
    valid = np.tile(np.arange(96) % 48 < 20, (64, 1))
    return Sample(image=image, right=right if family == "stereo" else None, target=target, valid=valid)


def _arrays(sample: Sample) -> list[bytes]:
    return [part.tobytes() for part in (sample.image, sample.right, sample.target, sample.valid) if part is not None]


def _pictures(spec: Spec) -> list[bytes]:
    augmentation, found = spec.dataset.train_dataset.augmentation, []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        if spec.family == "stereo":
            made = augment_stereo(_sample("stereo"), augmentation, rng=rng, max_disparity=spec.dataset.max_disparity)
        else:
            made = augment_mono(_sample("mono"), augmentation, rng=rng)
        found += _arrays(made)
    return found


def exam(spec: Spec) -> Seen:
    """How an image of the validation and the test list meets the network, and which pixels of it count."""
    found: Seen = [spec.dataset.max_disparity, spec.dataset.min_depth, spec.dataset.max_depth, spec.model.valid_iters]
    for split in ("val", "test"):
        augmentation = getattr(spec.dataset, f"{split}_dataset").augmentation
        plan = plan_evaluation(
            augmentation.evaluation, spec.family, image_size=(64, 96), target_size=(64, 96), crop_size=augmentation.crop_size
        )
        prepared = prepare_evaluation(_sample(spec.family), plan, family=spec.family)
        found += [*_arrays(prepared), normalise(prepared.image, augmentation.input_mean, augmentation.input_std).tobytes()]
    return found


def another(family: str, key: str, spec: Spec) -> Any:
    """Another legal value of the key, far from the spec's own."""
    parameter = parameter_of(Relevance(spec=spec, wanted=(key,), total_steps=STEPS).capped(SCHEMAS[family].leaves[key]))
    own = get_value(spec, key)
    if parameter.kind == "bool":
        return not own
    if parameter.kind == "categorical":
        return next(choice for choice in parameter.choices if choice != own)
    assert parameter.low is not None
    assert parameter.high is not None
    far = parameter.low if own - parameter.low > parameter.high - own else parameter.high
    return int(far) if parameter.kind == "int" else far


def acts(spec: Spec, key: str) -> bool:
    """What is said of the key."""
    return Relevance(spec=spec, wanted=(key,), total_steps=STEPS).reason_against(key) is None


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_said_to_act_changes_training_and_what_is_dropped_changes_nothing(family: str, context: str) -> None:
    spec = base(family, context)
    before, questions = training(spec), exam(spec)
    offered = [key for key in OFFERED[family] if key not in TAO and acts(spec, key)]
    # in the other contexts only what depends on them can be different
    keys = [*TAO, *offered] if context == "the template" else [key for key in TAO if key.startswith(("train.optim", AUGMENTATION))]
    wrong = []
    for key in keys:
        other = with_values(spec, {key: another(family, key, spec)})
        if (training(other) != before) is not acts(spec, key) or exam(other) != questions:
            wrong.append(key)
    assert wrong == []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_offered_parameter_acts_in_some_context(family: str) -> None:
    specs = [base(family, context) for context in CONTEXTS]
    assert [key for key in OFFERED[family] if not any(acts(spec, key) for spec in specs)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fields_say_which_family_reads_a_key(family: str) -> None:
    specs = [base(family, context) for context in CONTEXTS]
    trained = [key for key in TAO if key.startswith(("train.optim", AUGMENTATION))]
    assert {key for key in trained if any(acts(spec, key) for spec in specs)} == {
        key for key in trained if all_fields()[key].read_by(family)
    }
