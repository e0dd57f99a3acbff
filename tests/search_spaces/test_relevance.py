"""What is searched and what is left out, with reasons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.skill import find_skill
from search_spaces.space_request import SpaceRequest
from search_spaces.space_review import SpaceReview
from search_spaces.spec import Acts, all_fields, load_spec

AUGMENTATION = "dataset.train_dataset.augmentation"
BLUR = ("color_aug_prob", "eraser_aug_prob", "spatial_aug_prob", "stretch_prob", "yjitter_prob")


def review(skill: str, *overrides: str, steps: int | None = None, names: tuple[str, ...] = ()) -> SpaceReview:
    found = find_skill(f"depth_net_{skill}")
    return found.review(load_spec(None, overrides, template=found.template()), total_steps=steps, request=SpaceRequest(names=names))


def keys(result: SpaceReview) -> list[str]:
    return [parameter.key for parameter in result.space.parameters]


def reason(result: SpaceReview, key: str) -> str:
    return next(item.reason for item in result.dropped if item.key == key)


def test_default_stereo_space() -> None:
    optim = ["train.optim.lr", "train.optim.weight_decay", "train.optim.lr_decay"]
    assert keys(review("stereo")) == optim + [f"{AUGMENTATION}.{name}" for name in BLUR]


def test_default_mono_space() -> None:
    optim = ["train.optim.lr", "train.optim.weight_decay", "train.optim.lr_decay"]
    assert keys(review("mono")) == [*optim, "train.optim.warmup_steps", "train.clip_grad_norm", f"{AUGMENTATION}.do_flip"]


@pytest.mark.parametrize("skill", ["stereo", "mono"])
def test_each_of_the_45_is_searched_or_has_a_reason(skill: str) -> None:
    result = review(skill)
    flagged = {info.key for info in all_fields().values() if info.automl}
    assert flagged <= set(keys(result)) | {item.key for item in result.dropped}
    assert not set(keys(result)) & {item.key for item in result.dropped}
    assert all(item.reason for item in result.dropped)


@pytest.mark.parametrize("skill", ["stereo", "mono"])
def test_nothing_of_the_evaluation_is_searched(skill: str) -> None:
    for key in keys(review(skill)):
        assert all_fields()[key].acts in (Acts.TRAINING, Acts.STEREO, Acts.MONO)
        assert not key.startswith(("dataset.val", "dataset.test", "dataset.infer"))


def test_learning_rate_is_logarithmic_and_starts_at_the_spec() -> None:
    lr = review("stereo", "train.optim.lr=0.0003").space.parameter("train.optim.lr")
    assert (lr.log, lr.default) == (True, 0.0003)


def test_range_grows_to_hold_the_spec_value() -> None:
    lr = review("stereo", "train.optim.lr=0.008").space.parameter("train.optim.lr")
    assert (lr.low, lr.high) == (5e-6, 0.008)


@pytest.mark.parametrize(
    ("overrides", "steps", "key", "words"),
    [
        ((), None, "train.optim.momentum", "only with optimizer SGD; the spec has AdamW"),
        ((), None, "train.optim.min_lr", "only with lr_scheduler CosineAnnealingLR; the spec has MultiStepLR"),
        ((), 300, "train.optim.lr_decay", "the first decay comes after 1000 steps, the run has 300"),
        (("train.optim.lr_scheduler=PolynomialLR",), None, "train.optim.lr_decay", "MultiStepLR or StepLR; the spec has PolynomialLR"),
        (("train.optim.weight_decay=0",), None, "train.optim.weight_decay", "switched off in the spec"),
        ((f"{AUGMENTATION}.max_stretch=0",), None, f"{AUGMENTATION}.stretch_prob", "the spec switches off"),
        (("train.pretrained_model_path=fs.pth",), None, "model.corr_radius", "changes the shape of layers that fs.pth fills"),
        ((), None, "model.corr_radius", "not searched by default: changes the network"),
        ((), None, "model.cv_group", "always has 8 groups"),
        ((), None, "dataset.val_dataset.augmentation.stretch_prob", "belongs to the val split"),
        ((), None, f"{AUGMENTATION}.h_flip_prob", "a mirrored pair needs the right view's disparity"),
        ((), None, f"{AUGMENTATION}.v_flip_prob", "only with do_flip true; the spec has false"),
    ],
)
def test_reasons_in_stereo(overrides: tuple[str, ...], steps: int | None, key: str, words: str) -> None:
    assert words in reason(review("stereo", *overrides, steps=steps), key)


def test_schedule_parameters_come_with_their_scheduler() -> None:
    assert "train.optim.min_lr" in keys(review("stereo", "train.optim.lr_scheduler=CosineAnnealingLR"))
    assert "train.optim.lr_step_size" in keys(review("stereo", "train.optim.lr_scheduler=StepLR"))


def test_ranges_in_steps_end_within_the_run() -> None:
    result = review("mono", "train.optim.lr_scheduler=StepLR", steps=100)
    assert result.space.parameter("train.optim.warmup_steps").high == 50
    # the spec's own period of 1000 stays in the range, as the baseline
    assert result.space.parameter("train.optim.lr_step_size").low == 50


def test_named_parameters_replace_the_default_and_keep_their_conditions() -> None:
    names = ("train.optim.momentum", "train.optim.optimizer", "train.optim.lr_scheduler", "train.optim.min_lr")
    result = review("stereo", names=names)
    assert set(keys(result)) == set(names)
    momentum = result.space.parameter("train.optim.momentum").condition
    assert momentum is not None
    assert (momentum.key, momentum.values) == ("train.optim.optimizer", ("SGD",))
    assert keys(result).index("train.optim.optimizer") < keys(result).index("train.optim.momentum")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train.optim.lrr", "unknown parameter train.optim.lrr"),
        ("model.volume_dim", "cannot be searched: FoundationStereo always has 28 channels"),
        ("dataset.max_disparity", "changes how results are measured"),
        ("train.num_epochs", "--epochs sets it"),
        ("dataset.train_dataset.workers", "speed or files"),
        ("train.optim.lr_steps", "the schema marks it as not searchable"),
        ("model.max_disparity", "moves together with dataset.max_disparity"),
        ("dataset.val_dataset.augmentation.stretch_prob", "belongs to the val split"),
        ("model.valid_iters", "evaluation is fixed"),
    ],
)
def test_names_that_cannot_be_searched(name: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        review("stereo", names=(name,))


def test_skill_and_spec_must_be_of_one_family() -> None:
    with pytest.raises(SpecError, match=r"skill depth_net_stereo is for stereo networks, but model\.model_type is MetricDepthAnything"):
        find_skill("depth_net_stereo").review(load_spec(None))


def test_foreign_schema_without_our_overlay_is_searched_by_what_acts(tmp_path: Path) -> None:
    own = find_skill("depth_net_stereo")
    shutil.copytree(own.root, tmp_path / "foreign")
    path = tmp_path / "foreign" / "schemas" / "train.schema.json"
    schema = json.loads(path.read_text(), object_hook=lambda node: {name: value for name, value in node.items() if name != "x_automl"})
    schema["properties"]["automl_disabled_parameters"] = ["train"]
    path.write_text(json.dumps(schema))
    foreign = find_skill(tmp_path / "foreign")
    result = foreign.review(load_spec(None, template=foreign.template()))
    searched = {*BLUR, "hshift_prob", "crop_min_valid_disp_ratio", "lr", "weight_decay", "lr_decay", "corr_radius"}
    assert {key.rsplit(".", 1)[-1] for key in keys(result)} == searched
    assert result.space.parameter("train.optim.lr").log
    assert len(keys(result)) + len(result.dropped) == 45


def test_baseline_is_a_legal_point_of_the_space() -> None:
    for skill in ("stereo", "mono"):
        found = find_skill(f"depth_net_{skill}")
        spec = load_spec(None, template=found.template())
        space = found.review(spec, total_steps=100).space
        assert space.apply(spec, space.values_of(spec)) == spec
