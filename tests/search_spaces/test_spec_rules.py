"""Rules between keys, values that follow others, warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, load_spec, read_spec, spec_warnings

CROP = "dataset.train_dataset.augmentation.crop_size"


def stereo(*overrides: str) -> Spec:
    return load_spec(None, ["model.model_type=FoundationStereo", *overrides])


def mono(*overrides: str) -> Spec:
    return load_spec(None, ["model.model_type=RelativeDepthAnything", *overrides])


@pytest.mark.parametrize(
    ("override", "words", "hint"),
    [
        ("model.max_disparity=100", "multiple of 32, but is 100", "96 or 128"),
        (f"{CROP}=[112,128]", "multiples of 32 for FoundationStereo, but the height is 112", "96 or 128"),
        (f"{CROP}=[128,20]", "but the width is 20", "is 32"),
        (f"{CROP}=[32,32]", "must be larger than 32x32", "[32, 64]"),
        ("model.encoder=vitg", "vitg is for mono models", "vits, vitb or vitl"),
        ("model.hidden_dims=[128,128,64]", "three equal multiples of 16", "[128, 128, 128]"),
        ("model.hidden_dims=[20,20,20]", "three equal multiples of 16", "[16, 16, 16]"),
        ("model.n_downsample=1", "must be 2, but is 1", "leave it out"),
        ("train.precision=bf16", "bf16 is not supported", "fp32"),
        ("dataset.dataset_name=MonoDataset", "needs dataset.dataset_name StereoDataset", "leave dataset.dataset_name out"),
        ("gen_trt_engine.tensorrt.min_batch_size=2", "(2, 1, 1)", "1, 1, 4"),
        ("model.max_disparity=417", "model.max_disparity must be at least 32 and at most 416 px, but is 417", "value is 416"),
        ("model.max_disparity=16", "model.max_disparity must be at least 32", "value is 32"),
        ("dataset.max_disparity=417", "dataset.max_disparity must be at least 1 and at most 416 px, but is 417", "value is 416"),
        ("gen_trt_engine.tensorrt.layers_precision=[conv]", "[0] must be layer:precision, but is 'conv'", "the last colon divides"),
        ("quantize.device=gpu", "must be cuda, cuda:N, cpu or trt, but is 'gpu'", "cuda:0"),
        ("quantize.layers=[{module_nam: x}]", "unknown key quantize.layers[0].module_nam", "did you mean module_name?"),
        ("quantize.layers=[{weights: {dtype: int8}}]", "quantize.layers[0] needs a module_name", "module_name: Linear"),
        ("quantize.layers=[{module_name: x, weights: int8}]", "weights must be a group of keys, but is 'int8'", "{dtype: int8}"),
        ("quantize.layers=[{module_name: x, activations: {dtype: int4}}]", "one of int8, fp8_e4m3fn, fp8_e5m2, native", "as it is"),
        ("train.checkpoint_interval=11", "11 > 10", "at most 10"),
        ("train.validation_interval=11", "11 > 10", "at most 10"),
        ("train.optim.lr_steps=[20,10]", "must rise", "[10, 20]"),
        ("dataset.train_dataset.augmentation.min_scale=0.5", "min_scale <= max_scale", "log2"),
        ("dataset.train_dataset.augmentation.color_aug_saturation=[1,0]", "must be [low, high]", "swap"),
    ],
)
def test_stereo_rules(override: str, words: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        stereo(override)
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (f"{CROP}=[128,128]", "multiples of 14 for RelativeDepthAnything"),
        ("dataset.max_depth=10", "is for metric models"),
        ("train.precision=fp16", "fp16 is not supported for RelativeDepthAnything"),
        ("train.optim.optimizer=SGD", "SGD is for FoundationStereo"),
        ("dataset.dataset_name=StereoDataset", "needs dataset.dataset_name MonoDataset"),
    ],
)
def test_mono_rules(override: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        mono(override)


def test_depth_range_must_be_in_order() -> None:
    with pytest.raises(SpecError, match=r"20 >= 10"):
        load_spec(None, ["dataset.min_depth=20"])


def test_metric_models_get_a_depth_range_and_relative_ones_none() -> None:
    metric = load_spec(None, ["dataset.max_depth=80"])
    assert (metric.dataset.min_depth, metric.dataset.max_depth) == (0.001, 80.0)
    assert (mono().dataset.min_depth, mono().dataset.max_depth) == (None, None)


def test_a_null_depth_trains_no_metric_model_and_elsewhere_leaves_the_range_to_the_weights() -> None:
    null, weights = ["dataset.max_depth=null"], {"dataset": {"min_depth": 0.5, "max_depth": 80.0}}
    with pytest.raises(SpecError, match="max_depth must be set for MetricDepthAnything, but is null") as caught:
        read_spec(None, null, action="train")
    assert "dataset.max_depth=10" in str(caught.value.hint)
    assert read_spec(None, null, template=weights, action="export").spec.dataset.max_depth == 80.0


def test_dataset_name_follows_the_model() -> None:
    assert (stereo().dataset.dataset_name, mono().dataset.dataset_name) == ("StereoDataset", "MonoDataset")


def test_model_of_the_user_beats_the_data_family_of_a_template() -> None:
    template = {"dataset": {"dataset_name": "StereoDataset"}}
    assert load_spec(None, ["model.model_type=MetricDepthAnything"], template=template).dataset.dataset_name == "MonoDataset"


def test_one_disparity_follows_the_other() -> None:
    assert stereo("model.max_disparity=192").dataset.max_disparity == 192
    assert stereo("dataset.max_disparity=100").model.max_disparity == 128
    both = stereo("dataset.max_disparity=192", "model.max_disparity=128")
    assert (both.dataset.max_disparity, both.model.max_disparity) == (192, 128)


@pytest.mark.parametrize(
    ("counted", "covered", "words"),
    [
        (192, 128, "ground truth between the two counts in loss and metrics, but the cost volume does not reach it"),
        (96, 128, "ground truth from 96 px on is left out; the cost volume beyond costs memory and time for nothing"),
        (97, 128, None),
        (128, 128, None),
    ],
)
def test_two_disparities_that_differ_are_explained(counted: int, covered: int, words: str | None) -> None:
    lines = spec_warnings(stereo(f"dataset.max_disparity={counted}", f"model.max_disparity={covered}"))
    told = f"dataset.max_disparity ({counted}) and model.max_disparity ({covered}) differ: {words}"
    assert lines == ([told] if words else [])


def test_disparity_of_the_user_beats_both_of_a_template() -> None:
    template = {"model": {"model_type": "FoundationStereo", "max_disparity": 128}, "dataset": {"max_disparity": 128}}
    assert load_spec(None, ["model.max_disparity=64"], template=template).dataset.max_disparity == 64
    assert load_spec(None, template=template).dataset.max_disparity == 128


def test_stereo_crop_default_fits_the_network() -> None:
    assert stereo().dataset.train_dataset.augmentation.crop_size == (320, 736)


def test_crop_of_native_evaluation_is_free_in_stereo() -> None:
    key = "dataset.val_dataset.augmentation"
    assert stereo(f"{key}.crop_size=[100,100]").dataset.val_dataset.augmentation.crop_size == (100, 100)
    with pytest.raises(SpecError, match="multiples of 32"):
        stereo(f"{key}.crop_size=[100,100]", f"{key}.evaluation=center_crop")


def test_warnings_name_each_idle_key_once() -> None:
    warnings = read_spec(None, ["model.model_type=RelativeDepthAnything", "model.train_iters=3", "wandb.project=x"]).warnings
    assert warnings == (
        "model.train_iters has no effect: RelativeDepthAnything does not read it",
        "wandb.project has no effect: runs are tracked in MLflow",
    )


def test_augmented_validation_is_said_to_do_nothing() -> None:
    line = spec_warnings(stereo("dataset.val_dataset.augmentation.yjitter_prob=0.2"))[0]
    assert line == "dataset.val_dataset.augmentation.yjitter_prob has no effect: val, test and infer images are never augmented"


def test_what_waits_for_another_key_is_told_until_it_has_it() -> None:
    assert spec_warnings(stereo("train.optim.momentum=0.8")) == [
        "train.optim.momentum has no effect: read only with optimizer SGD; the spec has AdamW"
    ]
    assert spec_warnings(stereo("train.optim.momentum=0.8", "train.optim.optimizer=SGD")) == []


def test_what_is_typed_is_answered_even_where_it_repeats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("model: {cv_group: 8, volume_dim: 32}\n", encoding="utf-8")
    assert read_spec(file).warnings == ()
    assert read_spec(file, ["model.cv_group=8"]).warnings == ("model.cv_group has no effect: FoundationStereo always has 8 groups",)


def test_all_splits_prepare_images_as_training_does() -> None:
    key = "augmentation.input_mean"
    loaded = read_spec(None, [f"dataset.train_dataset.{key}=[0,0,0]", f"dataset.infer_dataset.{key}=[1,1,1]"])
    means = [getattr(loaded.spec.dataset, f"{split}_dataset").augmentation.input_mean for split in ("train", "val", "test", "infer")]
    assert means == [(0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 1, 1)]
    assert "input_mean of val_dataset, test_dataset follows train_dataset: [0, 0, 0]" in loaded.assumed


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.num_gpus=1"], "has no effect: one device has nobody to share the weights with"),
        (["train.num_gpus=2"], "computes in 16 bit: on GPUs train.precision fp32 becomes fp16"),
        (["train.num_gpus=2", "model.model_type=RelativeDepthAnything"], "computes in 16 bit: on GPUs train.precision fp32 becomes bf16"),
        (["train.num_gpus=2", "train.precision=fp16"], None),
        (["train.num_nodes=2", "model.mixed_precision=true"], None),
    ],
)
def test_what_shared_weights_mean_for_a_run_is_told(overrides: list[str], words: str | None) -> None:
    lines = spec_warnings(stereo("train.distributed_strategy=fsdp", *overrides))
    assert lines == ([f"train.distributed_strategy fsdp {words}"] if words else [])
