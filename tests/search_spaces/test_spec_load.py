"""Files, overrides, templates, interpolation and saving."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.errors import SpecError
from search_spaces.spec import load_spec, read_spec, save_spec, spec_from_dict, spec_to_dict, with_values
from search_spaces.spec.overrides import parse_override, parse_value


@pytest.fixture
def write(tmp_path: Path):  # type: ignore[no-untyped-def]
    def write_text(text: str) -> Path:
        path = tmp_path / "my spec.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def test_order_is_default_template_file_command_line(write) -> None:  # type: ignore[no-untyped-def]
    template = {"train": {"num_epochs": 3, "log_every_n_steps": 7, "optim": {"lr": 1e-3}}}
    spec = load_spec(write("train: {num_epochs: 4, seed: 5}"), ["train.seed=6"], template=template)
    train = spec.train
    assert (train.log_every_n_steps, train.num_epochs, train.seed, train.optim.lr, train.validation_interval) == (7, 4, 6, 1e-3, 1)


def test_errors_name_file_and_line(write) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpecError, match=r"train\.optim\.lr must be .* \(.*my spec\.yaml:3\)"):
        load_spec(write("train:\n  optim:\n    lr: 1.0\n"))
    with pytest.raises(SpecError, match=r"unknown key model\.mono_backbone\.encoder \(.*my spec\.yaml:3\)"):
        load_spec(write("model:\n  mono_backbone:\n    encoder: vits\n"))
    with pytest.raises(SpecError, match=r"max_disparity must be a multiple of 32, but is 100 \(command line: model\.max_disparity=100\)"):
        load_spec(write("model: {model_type: FoundationStereo}"), ["model.max_disparity=100"])


def test_missing_file_and_empty_groups(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        load_spec(tmp_path / "no.yaml")
    assert load_spec(write("train:\n  optim:\n")) == load_spec(write("")) == load_spec(None)


def test_interpolation_sees_overrides_and_exponents_are_numbers(write) -> None:  # type: ignore[no-untyped-def]
    path = write("results_dir: out\ntrain: {results_dir: '${results_dir}/t', optim: {lr: 1e-5}}\n")
    spec = load_spec(path, ["results_dir=other"])
    assert (spec.train.results_dir, spec.train.optim.lr) == ("other/t", 1e-5)


def test_saved_spec_is_the_same_spec(tmp_path: Path) -> None:
    spec = load_spec(None, ["model.model_type=FoundationStereo", "dataset.test_dataset.data_sources=[{data_file:t.txt,dataset_name:FSD}]"])
    path = tmp_path / "deep" / "experiment.yaml"
    save_spec(spec, path)
    assert path.read_text().startswith("# Resolved spec")
    assert load_spec(path) == spec


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("1e-4", 1e-4),
        ("-.5", -0.5),
        ("true", True),
        ("null", None),
        ("a b", "a b"),
        ("", ""),
        ("'1'", "1"),
        ("'it\\'s'", "it's"),
        ("[320,736]", [320, 736]),
        ("[]", []),
        ("[a, [1], {}]", ["a", [1], {}]),
        ("{data_file:x.txt,dataset_name: FSD}", {"data_file": "x.txt", "dataset_name": "FSD"}),
        ("[{data_file:s3://b/x,n:'a,b'}]", [{"data_file": "s3://b/x", "n": "a,b"}]),
        ("${results_dir}/x", "${results_dir}/x"),
        ("[${a.b},2]", ["${a.b}", 2]),
        ("out/run=3", "out/run=3"),
    ],
)
def test_override_values(text: str, value: object) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize(
    "text", ["train.num_epochs", "=3", "--epochs=3", "a b=1", "a=[1", "a=[1,]", "a={1}", "a='x", "a=[1]2", "+++a=1", "~a=1", "a[=1", ".a=1"]
)
def test_malformed_overrides_are_refused(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_override(text)
    assert caught.value.hint


def test_overrides_reach_into_lists_and_groups() -> None:
    overrides = ["dataset.val_dataset.data_sources[0].data_file=v w.txt", "dataset.val_dataset.data_sources.0.dataset_name=NYUDV2"]
    spec = load_spec(None, [*overrides, "train.optim={lr: 1e-3, lr_steps: [10, 20]}", "quantize.backend_kwargs.group=8"])
    assert spec.dataset.val_dataset.data_sources[0].data_file == "v w.txt"
    assert (spec.train.optim.lr, spec.train.optim.lr_steps, spec.quantize.backend_kwargs) == (1e-3, (10, 20), {"group": 8})


def test_with_values_checks_and_leaves_the_original() -> None:
    spec = load_spec(None, ["model.model_type=FoundationStereo", "model.max_disparity=128"])
    changed = with_values(spec, {"train.optim.lr": 1e-3, "model.max_disparity": 192})
    assert (changed.train.optim.lr, changed.dataset.max_disparity, spec.train.optim.lr) == (1e-3, 192, 1e-4)
    with pytest.raises(SpecError, match=r"train\.optim\.lr must be"):
        with_values(spec, {"train.optim.lr": 1})


def test_read_spec_says_what_was_given_and_assumed() -> None:
    loaded = read_spec(None, ["model.model_type=MetricDepthAnything", "dataset.baseline=0.2"])
    assert loaded.given == {"model.model_type", "dataset.baseline"}
    assert loaded.assumed[1] == "dataset.max_depth is not set; 10 m is assumed for a metric model"
    assert loaded.warnings == ("dataset.baseline has no effect: one camera has none",)


@given(text=st.text(alphabet="ab.[]{}=:,~+'\" 09$-\\", max_size=14))
def test_any_text_is_an_override_or_a_spec_error(text: str) -> None:
    try:
        parsed = parse_override(text)
    except SpecError:
        return
    assert parsed.key


@pytest.mark.parametrize("value", ["9" * 30, "1e400", "-1e30", "null", "[]", "nan"])
@pytest.mark.parametrize("key", ["train.num_gpus", "train.optim.lr", "dataset.min_depth", "train.gpu_ids", "export.batch_size"])
def test_odd_values_are_refused_or_make_a_spec_that_round_trips(key: str, value: str) -> None:
    try:
        spec = load_spec(None, [f"{key}={value}"])
    except SpecError:
        return
    assert spec_from_dict(spec_to_dict(spec)) == spec


def test_a_key_of_encrypted_files_is_told_and_not_kept(tmp_path: Path) -> None:
    loaded = read_spec(None, ["encryption_key=secret"])
    assert loaded.warnings == ("encryption_key has no effect: encrypted files are not read",)
    save_spec(loaded.spec, tmp_path / "spec.yaml")
    assert "secret" not in (tmp_path / "spec.yaml").read_text()


def test_a_rule_of_a_network_that_nobody_named_says_how_to_name_it(tmp_path: Path) -> None:
    path = tmp_path / "stereo.yaml"
    path.write_text("dataset: {train_dataset: {augmentation: {crop_size: [64, 128]}}}\n")
    with pytest.raises(SpecError, match="multiples of 14 for MetricDepthAnything") as error:
        load_spec(path)
    assert str(error.value.hint).endswith("for stereo set model.model_type=FoundationStereo")
    with pytest.raises(SpecError, match="multiples of 14") as named:
        load_spec(path, ["model.model_type=MetricDepthAnything"])
    assert named.value.hint == "the nearest height is 56 or 70"
