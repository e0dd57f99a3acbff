"""Types, ranges, options and unknown keys of the spec."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import Acts, Spec, all_fields, get_value, read_spec, spec_from_dict, spec_to_dict


def problem(data: dict[str, Any]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        spec_from_dict(data)
    return caught.value


def test_every_default_is_legal_and_round_trips() -> None:
    spec = spec_from_dict({})
    assert spec_from_dict(spec_to_dict(spec)) == spec


def test_round_trip_keeps_sources_and_free_mappings() -> None:
    data = {
        "dataset": {"train_dataset": {"data_sources": [{"data_file": "a.txt", "dataset_name": "NYUDV2", "depth_scale": 1000}]}},
        "quantize": {"backend_kwargs": {"group": 32}, "layers": [{"module_name": "Linear"}]},
    }
    spec = spec_from_dict(data)
    assert spec_from_dict(spec_to_dict(spec)) == spec
    assert spec.dataset.train_dataset.data_sources[0].depth_scale == 1000.0


def test_numbers_widen_and_true_is_no_number() -> None:
    assert isinstance(spec_from_dict({"train": {"clip_grad_norm": 1}}).train.clip_grad_norm, float)
    assert spec_from_dict({"train": {"num_epochs": 2.0}}).train.num_epochs == 2
    assert "must be a whole number, but is True" in problem({"train": {"num_epochs": True}}).message


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("train", "num_epochs", 0, "at least 1 epochs"),
        ("train", "num_epochs", 1.5, "a whole number"),
        ("train", "precision", "int3", "one of bf16, fp32, fp16"),
        ("train", "clip_grad_norm", -1, "at least 0"),
        ("train", "clip_grad_norm", float("nan"), "a number"),
        ("train", "seed", "seven", "a whole number"),
        ("train", "gpu_ids", "0", "a list"),
        ("model", "hidden_dims", [128, 128], "3 values"),
        ("model", "corr_radius", 9, "at most 8"),
        ("export", "input_channel", 2, "one of 1, 3"),
    ],
)
def test_illegal_values_are_refused(section: str, key: str, value: Any, words: str) -> None:
    error = problem({section: {key: value}})
    assert f"{section}.{key}" in error.message
    assert words in error.message


def test_a_mono_graph_may_be_as_small_as_two_patches() -> None:
    assert spec_from_dict({"export": {"input_height": 28, "input_width": 14}}).export.input_height == 28


def test_a_wrong_type_tells_what_the_key_is_for_and_its_default() -> None:
    assert problem({"train": {"num_epochs": "many"}}).hint.endswith("without the key it is 10")


def test_range_error_quotes_the_nearest_legal_value() -> None:
    error = problem({"train": {"optim": {"lr": 0.5}}})
    assert "at least 1e-06 and at most 0.01, but is 0.5" in error.message
    assert error.hint == "the nearest legal value is 0.01"


def test_zero_switches_weight_decay_off_although_it_is_out_of_range() -> None:
    assert spec_from_dict({"train": {"optim": {"weight_decay": 0}}}).train.optim.weight_decay == 0.0


def test_an_open_lower_end_is_no_legal_value_to_suggest() -> None:
    assert "nearest legal value" not in str(problem({"dataset": {"cache_limit_gib": 0}}).hint)


def test_open_lower_end_is_refused() -> None:
    assert "above 0" in problem({"train": {"optim": {"momentum": 0.0}}}).message


def test_options_take_any_case_and_the_alias_of_the_schema() -> None:
    spec = spec_from_dict({"train": {"optim": {"lr_scheduler": "MultiStep"}}, "gen_trt_engine": {"tensorrt": {"data_type": "fp16"}}})
    assert spec.train.optim.lr_scheduler == "MultiStepLR"
    assert spec.gen_trt_engine.tensorrt.data_type == "FP16"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("model.mono_backbone.encoder", "model.encoder"),
        ("dataset.val_dataset.num_workers", "dataset.val_dataset.workers"),
        ("train.lr_scheduler", "train.optim.lr_scheduler"),
        ("train.optim.learning_rate", "train.optim.lr"),
        ("train.epochs", "train.num_epochs"),
        ("model.max_disp", "model.max_disparity"),
        ("train.optim.wieght_decay", "train.optim.weight_decay"),
        ("modle", "model"),
        ("batch_size", "dataset.train_dataset.batch_size"),
        ("optim", "train.optim"),
    ],
)
def test_unknown_key_names_the_nearest(wrong: str, right: str) -> None:
    data: Any = 1
    for part in reversed(wrong.split(".")):
        data = {part: data}
    error = problem(data)
    assert error.message == f"unknown key {wrong}"
    assert error.hint == f"did you mean {right}?"


def test_one_source_may_stand_without_a_list() -> None:
    spec = spec_from_dict({"dataset": {"val_dataset": {"data_sources": {"data_file": "v.txt", "dataset_name": "NYUDV2"}}}})
    assert [source.data_file for source in spec.dataset.val_dataset.data_sources] == ["v.txt"]


def test_empty_entry_of_a_template_is_no_source() -> None:
    spec = spec_from_dict({"dataset": {"val_dataset": {"data_sources": [{"data_file": "", "dataset_name": "NYUDV2"}]}}})
    assert spec.dataset.val_dataset.data_sources == ()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"data_file": "a.txt"}, "data_sources[0] needs both data_file and dataset_name; missing: dataset_name"),
        ({"data_flie": "a.txt", "dataset_name": "FSD"}, "unknown key dataset.val_dataset.data_sources[0].data_flie"),
        ({"data_file": "a.txt", "dataset_name": "FSD", "depth_scale": 0}, "depth_scale must be a number above 0"),
        ({"data_file": 3, "dataset_name": "FSD"}, "data_file must be a text"),
        ("a.txt", "must be a mapping with data_file and dataset_name"),
    ],
)
def test_wrong_sources_are_refused(entry: Any, words: str) -> None:
    assert words in problem({"dataset": {"val_dataset": {"data_sources": [entry]}}}).message


def test_quoted_switches_of_templates_are_read() -> None:
    data = {"dataset": {"train_dataset": {"augmentation": {"do_flip": "False"}}}}
    assert spec_from_dict(data).dataset.train_dataset.augmentation.do_flip is False


@pytest.mark.parametrize(
    ("model", "word", "flips", "line"),
    [
        ("FoundationStereo", "v", True, "do_flip v is read as true: v_flip_prob decides how often"),
        ("FoundationStereo", "h", False, "do_flip h is read as false: a mirrored pair needs the right view's disparity"),
        ("FoundationStereo", "hf", False, "do_flip hf is read as false: a mirrored pair needs"),
        ("MetricDepthAnything", "hf", True, "do_flip hf is read as true: h_flip_prob decides how often"),
        ("MetricDepthAnything", "v", False, "do_flip v is read as false: depth from one image leans on which way is up"),
    ],
)
def test_flip_words_of_tao_are_read(model: str, word: str, flips: bool, line: str) -> None:
    loaded = read_spec(None, [f"model.model_type={model}", f"dataset.train_dataset.augmentation.do_flip={word}"])
    assert loaded.spec.dataset.train_dataset.augmentation.do_flip is flips
    assert any(line in assumed for assumed in loaded.assumed)


def test_empty_text_is_unset() -> None:
    assert spec_from_dict({"train": {"pretrained_model_path": ""}}).train.pretrained_model_path is None


def test_get_value_and_unknown() -> None:
    spec = spec_from_dict({})
    assert get_value(spec, "train.optim.lr") == 1e-4
    with pytest.raises(SpecError, match=r"unknown key train\.optim\.lrr"):
        get_value(spec, "train.optim.lrr")


def test_tao_flags_45_parameters_and_every_inert_key_has_a_reason() -> None:
    fields = all_fields().values()
    assert sum(1 for info in fields if info.automl) == 45
    assert [info.key for info in fields if info.rule.acts is Acts.INERT and not info.rule.why] == []
    assert [info.key for info in fields if not info.doc] == []


def test_random_augmentation_is_inert_outside_the_train_split() -> None:
    fields = all_fields()
    assert fields["dataset.train_dataset.augmentation.color_aug_prob"].acts is Acts.STEREO
    assert fields["dataset.val_dataset.augmentation.color_aug_prob"].acts is Acts.INERT
    assert fields["dataset.val_dataset.augmentation.crop_size"].acts is Acts.EVALUATION


def test_defaults_lie_in_their_own_ranges() -> None:
    outside = []
    for info in all_fields().values():
        if isinstance(info.default, int | float) and not isinstance(info.default, bool) and info.default != info.rule.off:
            low = info.low if info.low is not None else info.default
            high = info.high if info.high is not None else info.default
            outside += [] if low <= info.default <= high else [info.key]
    assert outside == []


def test_a_spec_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Spec().train.num_epochs = 3  # type: ignore[misc]
