"""A TAO skill folder from elsewhere: read as it is, searched by what acts, its mistakes told and not obeyed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search_spaces.errors import SpecError
from search_spaces.skill import Skill, find_skill
from search_spaces.space import Constraint
from search_spaces.space_request import RangeChange, SpaceRequest
from search_spaces.space_review import SpaceReview
from search_spaces.spec import Spec, load_spec
from tests.search_spaces.foreign import number, train_schema, write_foreign_skill

TRAIN_AUGMENTATION = "dataset.train_dataset.augmentation"


@pytest.fixture(scope="module")
def skill(tmp_path_factory: pytest.TempPathFactory) -> Skill:
    return find_skill(write_foreign_skill(tmp_path_factory.mktemp("elsewhere") / "their-folder"))


@pytest.fixture(scope="module")
def spec(skill: Skill) -> Spec:
    return load_spec(None, template=find_skill("depth_net_stereo").template())


def asked(skill: Skill, spec: Spec, *names: str, **more: Any) -> SpaceReview:
    return skill.review(spec, request=SpaceRequest(names=names, **more))


def test_the_folder_stands_alone(skill: Skill) -> None:
    assert (skill.name, skill.network_arch, skill.task) == ("tao-train-foundation-stereo-x", "depth_net_stereo", "stereo")
    assert skill.why_not_runnable() is None
    assert len(skill.schema().automl_default_parameters) == 45


def test_each_of_the_45_acts_or_has_a_reason(skill: Skill, spec: Spec) -> None:
    review = skill.review(spec)
    blur = ("color_aug_prob", "eraser_aug_prob", "spatial_aug_prob", "stretch_prob", "yjitter_prob", "hshift_prob")
    assert {parameter.key.rpartition(".")[2] for parameter in review.space.parameters} == {
        *blur,
        *("crop_min_valid_disp_ratio", "lr", "weight_decay", "lr_decay", "corr_radius"),
    }
    assert len(review.space.parameters) + len(review.dropped) == 45
    assert all(dropped.reason for dropped in review.dropped)


def test_what_the_schema_gets_wrong_is_told(skill: Skill, spec: Spec) -> None:
    faults = "\n".join(skill.review(spec).faults)
    assert f"{TRAIN_AUGMENTATION}.min_scale and 3 more: its default -0.2 lies outside its own range [0.2, 1]" in faults
    assert "train.optim.lr_scheduler: its default MultiStepLR is none of its own options" in faults
    assert "train.optim.lr_scheduler: this trainer does not know its option CustomMultiStepLRScheduler" in faults


def test_options_are_those_of_the_trainer_and_keep_the_spec_value(skill: Skill, spec: Spec) -> None:
    choices = asked(skill, spec, "lr_scheduler").space.parameters[0].choices
    assert choices == ("MultiStepLR", "StepLR", "LambdaLR", "PolynomialLR", "OneCycleLR", "CosineAnnealingLR")
    assert asked(skill, spec, "encoder").space.parameters[0].choices == ("vits", "vitb", "vitl")


def test_probabilities_reach_both_ends_and_only_positive_values_stay_above_zero(skill: Skill, spec: Spec) -> None:
    space = skill.review(spec).space
    color = space.parameter(f"{TRAIN_AUGMENTATION}.color_aug_prob")
    assert (color.low, color.high) == (0, 1)
    decay = space.parameter("train.optim.lr_decay")
    assert (decay.low, decay.high, decay.log) == (1e-3, 1, False)


def test_weights_of_options_are_kept(skill: Skill, spec: Spec) -> None:
    assert asked(skill, spec, "optimizer").space.parameters[0].weights == (3.0, 1.0)


def test_an_open_range_asks_for_one(skill: Skill, spec: Spec) -> None:
    with pytest.raises(SpecError, match=r"train\.clip_grad_norm has an open range") as caught:
        asked(skill, spec, "clip_grad_norm")
    assert caught.value.hint == "leave it out of the list"
    changed = asked(skill, spec, changes={"clip_grad_norm": RangeChange(low=0.01, high=10, log=True)})
    clip = changed.space.parameter("train.clip_grad_norm")
    assert (clip.low, clip.high, clip.log) == (0.01, 10, True)


def test_multiples_and_relations(skill: Skill, spec: Spec) -> None:
    apart = load_spec(None, ["dataset.max_disparity=100"], template=find_skill("depth_net_stereo").template())
    size = asked(skill, apart, changes={"model.max_disparity": RangeChange(low=90, high=200)}).space.parameter("model.max_disparity")
    assert (size.low, size.step, size.default) == (96, 32, 128)
    both = asked(skill, spec, "max_scale", "min_scale").space
    assert [parameter.key.rpartition(".")[2] for parameter in both.parameters] == ["min_scale", "max_scale"]
    low, high = (f"{TRAIN_AUGMENTATION}.{name}" for name in ("min_scale", "max_scale"))
    assert both.constraints == (Constraint(key=high, relation=">", other=low),)
    with pytest.raises(SpecError, match=r"max_scale > .*min_scale must hold, but 0\.3 and 0\.5 were chosen"):
        both.validate({low: 0.5, high: 0.3})
    alone = asked(skill, spec, "max_scale").space
    assert alone.constraints == (Constraint(key=high, relation=">", other=-0.2),)


def test_parameters_that_wait_for_each_other_are_refused(tmp_path: Path, spec: Spec) -> None:
    schema = train_schema()
    optim = schema["properties"]["train"]["properties"]["optim"]["properties"]
    optim["lr"]["depends_on"], optim["weight_decay"]["depends_on"] = "weight_decay", "lr"
    skill = find_skill(write_foreign_skill(tmp_path / "circle", schema=schema))
    with pytest.raises(SpecError, match=r"train\.optim\.lr -> train\.optim\.weight_decay -> train\.optim\.lr"):
        skill.review(spec)


def test_a_chain_of_parents_stands_in_order(tmp_path: Path, spec: Spec) -> None:
    schema = train_schema()
    optim = schema["properties"]["train"]["properties"]["optim"]["properties"]
    optim["lr"]["depends_on"], optim["weight_decay"]["depends_on"] = "weight_decay", "> lr_decay"
    skill = find_skill(write_foreign_skill(tmp_path / "chain", schema=schema))
    keys = [parameter.key.rpartition(".")[2] for parameter in skill.review(spec).space.parameters]
    assert keys.index("lr_decay") < keys.index("weight_decay") < keys.index("lr")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"math_cond": "about 0"}, "math_cond 'about 0' is not understood"),
        ({"depends_on": "nobody"}, "depends_on names nobody, which the schema does not have"),
        ({"maximum": 2.0}, "its maximum 2 is above 0.01"),
        ({"minimum": 0.5}, "its minimum 0.5 is above its maximum 0.01"),
        ({"type": "real"}, "its type real is none of TAO's"),
    ],
)
def test_faults_of_one_leaf(tmp_path: Path, spec: Spec, change: dict[str, Any], fault: str) -> None:
    schema = train_schema()
    schema["properties"]["train"]["properties"]["optim"]["properties"]["lr"] |= change
    review = find_skill(write_foreign_skill(tmp_path / "faulty", schema=schema)).review(spec)
    assert [line for line in review.faults if line.startswith("train.optim.lr: ") and fault in line]


def test_a_switch_with_a_condition_that_is_not_understood_is_left_out(tmp_path: Path, spec: Spec) -> None:
    schema = train_schema()
    leaf = {"type": "bool", "default": False, "automl_enabled": True, "math_cond": "perhaps"}
    schema["properties"]["dataset"]["properties"]["train_dataset"]["properties"]["augmentation"]["properties"]["do_flip"] = leaf
    review = find_skill(write_foreign_skill(tmp_path / "switch", schema=schema)).review(spec)
    (reason,) = (dropped.reason for dropped in review.dropped if dropped.key.endswith("train_dataset.augmentation.do_flip"))
    assert "math_cond 'perhaps' is not understood" in reason


@pytest.mark.parametrize("kind", ["float", "bool"])
def test_a_type_that_the_trainer_does_not_take_is_left_out(tmp_path: Path, spec: Spec, kind: str) -> None:
    schema = train_schema()
    schema["properties"]["dataset"]["properties"]["train_dataset"]["properties"]["batch_size"] = number(kind, 1, 1, 8)
    review = find_skill(write_foreign_skill(tmp_path / "typed", schema=schema)).review(spec)
    (reason,) = (dropped.reason for dropped in review.dropped if dropped.key == "dataset.train_dataset.batch_size")
    assert reason == f"its type is {kind} in the schema, but int in this trainer"


def test_what_hangs_on_a_parameter_that_cannot_be_searched_is_left_out(tmp_path: Path, spec: Spec) -> None:
    schema = train_schema()
    optim = schema["properties"]["train"]["properties"]["optim"]["properties"]
    optim["lr_scheduler"] |= {"enum": ["Unknown"], "default": "Unknown", "automl_enabled": True}
    review = find_skill(write_foreign_skill(tmp_path / "orphan", schema=schema)).review(spec)
    reasons = {dropped.key.rpartition(".")[2]: dropped.reason for dropped in review.dropped}
    assert "lr_scheduler" in reasons
    assert reasons["min_lr"].startswith("read only with lr_scheduler CosineAnnealingLR")
