"""What the user asks of the space: names, ranges, choices, priors; what is asked and cannot be is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from search_spaces.errors import SpecError
from search_spaces.skill import find_skill
from search_spaces.space import Parameter
from search_spaces.space_request import RangeChange, SpaceRequest, parse_choices, parse_prior, parse_range, request_of
from search_spaces.space_review import SpaceReview
from search_spaces.spec import Spec, load_spec, with_values

CROP = "dataset.train_dataset.augmentation.crop_size"
SKILL = find_skill("depth_net_stereo")
SPEC = load_spec(None, template=SKILL.template())


def review(
    params: str | None = None, *, ranges: tuple[str, ...] = (), choices: tuple[str, ...] = (), priors: tuple[str, ...] = ()
) -> SpaceReview:
    return SKILL.review(SPEC, request=request_of(params, ranges, choices, priors))


def one(key: str, **options: Any) -> Parameter:
    return review(key, **options).space.parameter(key)


def test_texts_of_the_command_line() -> None:
    assert parse_range("a.b=1e-5:1e-3:log") == ("a.b", RangeChange(low=1e-5, high=1e-3, log=True))
    assert parse_range("a=2:8:2") == ("a", RangeChange(low=2, high=8, step=2))
    assert parse_choices("a=[320,736],[256,512]") == ("a", RangeChange(choices=("[320, 736]", "[256, 512]")))
    assert parse_prior("a=3e-4") == ("a", 3e-4)


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_range, "lr", "not KEY="),
        (parse_range, "lr=1", "not KEY=LOW:HIGH"),
        (parse_range, "lr=a:b", "not KEY=LOW:HIGH"),
        (parse_range, "lr=1:2:logg", "not KEY=LOW:HIGH"),
        (parse_choices, "lr=1", "nothing to choose"),
        (parse_prior, "lr=", "not KEY="),
        (parse_prior, "lr=null", "gives no value"),
    ],
)
def test_texts_that_say_nothing_are_refused(parse: Callable[[str], object], text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parse(text)


def test_short_names_mean_keys_of_training() -> None:
    keys = [parameter.key for parameter in review("lr, learning_rate, yjitter_prob").space.parameters]
    assert keys == ["train.optim.lr", "dataset.train_dataset.augmentation.yjitter_prob"]


def test_a_range_adds_its_parameter_and_replaces_what_the_skill_says() -> None:
    space = review(ranges=("warmup_steps=10:40", "lr=1e-6:1e-2")).space
    assert (space.parameter("train.optim.warmup_steps").low, space.parameter("train.optim.warmup_steps").high) == (10, 40)
    assert (space.parameter("train.optim.lr").low, space.parameter("train.optim.lr").log) == (1e-6, True)
    assert "train.optim.weight_decay" in {parameter.key for parameter in space.parameters}


def test_the_range_that_was_asked_for_stays_although_the_spec_lies_outside() -> None:
    lr = one("train.optim.lr", ranges=("train.optim.lr=1e-6:1e-5",))
    assert (lr.low, lr.high, lr.default) == (1e-6, 1e-5, 1e-4)


def test_numbers_can_be_choices_and_steps_can_be_asked_for() -> None:
    assert one("train.optim.lr", choices=("train.optim.lr=1e-4,3e-4",)).choices == (1e-4, 3e-4)
    batch = one("dataset.train_dataset.batch_size", ranges=("batch_size=2:8:2",))
    assert (batch.low, batch.high, batch.step) == (2, 8, 2)


def lists(*chosen: str) -> SpaceRequest:
    return SpaceRequest(names=(CROP,), changes={CROP: RangeChange(choices=chosen)}, disabled_too=True)


def test_a_list_is_chosen_as_a_whole_and_reaches_the_spec_as_a_list() -> None:
    space = SKILL.review(SPEC, request=lists("[128, 128]", "[64, 96]")).space
    assert space.values_of(SPEC) == {CROP: "[128, 128]"}
    assert space.apply(SPEC, {CROP: "[64, 96]"}).dataset.train_dataset.augmentation.crop_size == (64, 96)


@pytest.mark.parametrize(
    ("skill", "crop", "words"),
    [("stereo", "[100, 128]", "multiples of 32"), ("mono", "[100, 126]", "multiples of 14")],
)
def test_a_choice_that_a_rule_of_the_spec_forbids_is_refused(skill: str, crop: str, words: str) -> None:
    found = find_skill(f"depth_net_{skill}")
    with pytest.raises(SpecError, match=words):
        found.review(load_spec(None, template=found.template()), request=lists("[448, 448]", crop))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ranges": ("lr=1e-7:1e-3",)}, r"train\.optim\.lr must stay inside \[1e-06, 0\.01\], but 1e-07"),
        ({"ranges": ("lr=1e-3:1e-4",)}, "low < high must hold"),
        ({"ranges": ("optimizer=1:2",)}, "has no range"),
        ({"ranges": ("batch_size=1.5:2",)}, "whole number"),
        ({"choices": ("optimizer=AdamW,Adam",)}, "has no option Adam"),
        ({"choices": ("batch_size=1,x",)}, "is a number, but 'x'"),
        ({"choices": (f"{CROP}=[64,64],[64,96]",)}, "override_automl_disabled_params"),
        ({"priors": ("lr=1",)}, r"train\.optim\.lr must be in .* but is 1"),
        ({"params": "lr", "ranges": ("weight_decay=1e-5:1e-4",)}, "not among the parameters asked for"),
        ({"ranges": ("lr=1e-5:1e-4", "lr=1e-5:1e-4")}, "two ranges"),
        (
            {"params": "valid_iters,lr,test_dataset.augmentation.stretch_prob"},
            "cannot be searched: it belongs to the test split.*; nor can model.valid_iters",
        ),
        ({"params": "  "}, "names no parameter"),
        ({"params": "crop_min_valid_disp_ratioo"}, "unknown parameter"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        review(options.pop("params", None), **options)


@pytest.mark.parametrize(("name", "meant"), [("lrr", "lr"), ("train.optim.lrr", "train.optim.lr")])
def test_a_near_miss_of_a_short_name_is_suggested(name: str, meant: str) -> None:
    with pytest.raises(SpecError, match=f"unknown parameter {name}") as error:
        review(name)
    assert error.value.hint == f"did you mean {meant}?"


def test_a_prior_is_kept_with_its_parameter() -> None:
    lr = one("train.optim.lr", priors=("train.optim.lr=3e-4",))
    assert lr.prior == 3e-4


def test_weights_need_one_number_a_choice() -> None:
    request = SpaceRequest(changes={"train.optim.optimizer": RangeChange(weights=(1.0,), choices=("AdamW", "SGD"))})
    with pytest.raises(SpecError, match="a weight above 0 for each of its 2 choices"):
        SKILL.review(SPEC, request=request)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_network_changes_only_without_weights_for_it(precision: str) -> None:
    spec: Spec = with_values(SPEC, {"train.pretrained_model_path": "fs.pth", "train.precision": precision})
    with pytest.raises(SpecError, match=r"corr_radius cannot be searched: it changes the shape of layers that fs\.pth fills"):
        SKILL.review(spec, request=SpaceRequest(names=("model.corr_radius",)))
