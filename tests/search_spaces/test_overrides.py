"""key=value on the command line, as TAO's users type it: every form, and errors that name what was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.errors import SpecError
from search_spaces.spec import Spec, get_value, read_spec

VAL = "dataset.val_dataset.data_sources"


def typed(*overrides: str, file: Path | None = None) -> Spec:
    return read_spec(file, overrides).spec


def problem(*overrides: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        typed(*overrides)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.num_epochs=2", 2),
        ("train.optim.lr=1e-5", 1e-5),
        ("train.is_dry_run=True", True),
        ("model.encoder=ViTs", "vits"),
        ("dataset.train_dataset.augmentation.crop_size=[322,742]", (322, 742)),
        ("train.optim.lr_steps=[10, 20]", (10, 20)),
        ("train.pretrained_model_path=null", None),
        ("train.pretrained_model_path=", None),
        ("train.pretrained_model_path=None", None),
        ("train.pretrained_model_path=a b/c.pth", "a b/c.pth"),
        ("train.pretrained_model_path='a b.pth'", "a b.pth"),
        ('train.pretrained_model_path="it\'s.pth"', "it's.pth"),
        ("train.pretrained_model_path=runs/lr=1e-4/best.pth", "runs/lr=1e-4/best.pth"),
        ("train.pretrained_model_path=s3://bucket:9000/x.pth", "s3://bucket:9000/x.pth"),
        ("train.pretrained_model_path=C:\\data\\new\\x.pth", "C:\\data\\new\\x.pth"),
        ('train.pretrained_model_path="C:\\data\\new x.pth"', "C:\\data\\new x.pth"),
        ("train.pretrained_model_path=a#b.pth", "a#b.pth"),
        ("train.pretrained_model_path=größe.pth", "größe.pth"),
        ("+train.seed=7", 7),
        ("++train.seed=7", 7),
        ("train.num_epochs=1e1", 10),
    ],
)
def test_a_value_arrives_as_it_was_meant(override: str, value: object) -> None:
    assert get_value(typed(override), override.partition("=")[0].lstrip("+")) == value


@pytest.mark.parametrize(
    "override",
    [
        f"{VAL}=[{{data_file:x.txt,dataset_name:NYUDV2}}]",
        f"{VAL}=[{{data_file: x.txt, dataset_name: NYUDV2}}]",
        f'{VAL}=[{{"data_file":"x.txt","dataset_name":"NYUDV2"}}]',
        f"{VAL}={{data_file:x.txt,dataset_name:NYUDV2}}",
    ],
)
def test_a_list_of_dicts(override: str) -> None:
    assert [(source.data_file, source.dataset_name) for source in typed(override).dataset.val_dataset.data_sources] == [("x.txt", "NYUDV2")]


@pytest.mark.parametrize("path", ["C:\\lists\\v.txt", "s3://b/v.txt", "a=b.txt"])
def test_paths_inside_a_list(path: str) -> None:
    source = typed(f"{VAL}=[{{data_file:{path},dataset_name:NYUDV2}}]").dataset.val_dataset.data_sources[0]
    assert source.data_file == path


@pytest.mark.parametrize("form", [f"{VAL}.0.data_file=new.txt", f"{VAL}[0].data_file=new.txt"])
def test_a_position_in_a_list_of_the_file(tmp_path: Path, form: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("dataset: {val_dataset: {data_sources: [{data_file: old.txt, dataset_name: NYUDV2}]}}\n", encoding="utf-8")
    source = typed(form, file=file).dataset.val_dataset.data_sources[0]
    assert (source.data_file, source.dataset_name) == ("new.txt", "NYUDV2")


def test_positions_build_a_list_and_a_tilde_takes_one_away() -> None:
    two = [f"{VAL}.{i}.{name}" for i in (0, 1) for name in (f"data_file={i}.txt", "dataset_name=NYUDV2")]
    assert len(typed(*two).dataset.val_dataset.data_sources) == 2
    assert [source.data_file for source in typed(*two, f"~{VAL}.0").dataset.val_dataset.data_sources] == ["1.txt"]


def test_the_last_of_two_wins() -> None:
    assert typed("train.seed=1", "train.seed=2").train.seed == 2


def test_a_tilde_or_a_mark_goes_back_to_the_default(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("train: {num_epochs: 3, seed: 5, optim: {lr: 1e-3}}\n", encoding="utf-8")
    loaded = read_spec(file, ["~train.num_epochs", "train.seed=???", "~train.optim"])
    assert (loaded.spec.train.num_epochs, loaded.spec.train.seed, loaded.spec.train.optim.lr) == (10, 1234, 1e-4)
    assert "train.num_epochs" not in loaded.given


def test_a_reference_to_another_key() -> None:
    assert typed("results_dir=out", "train.results_dir=${results_dir}/x").train.results_dir == "out/x"
    assert typed("train.num_epochs=4", "train.checkpoint_interval=${train.num_epochs}").train.checkpoint_interval == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.results_dir=${results_dir}/x", "train.results_dir is made of results_dir, which is not set"),
        ("results_dir=${nothing.here}", "results_dir holds a ${...} that cannot be resolved: Interpolation key 'nothing.here' not found"),
        ("results_dir=${oc.env:NO_SUCH}", "results_dir holds a ${...} that cannot be resolved: Environment variable 'NO_SUCH' not found"),
        ("train.num_epochs=", "train.num_epochs must be a whole number, but is ''"),
        ("train.optim={lr: 5}", "train.optim.lr must be at least 1e-06 and at most 0.01, but is 5"),
        ("train.gpu_ids=[0,a]", "train.gpu_ids[1] must be a whole number, but is 'a'"),
        ("train.gpu_ids=0", "train.gpu_ids must be a list, but is 0"),
        ("train=3", "train must be a group of keys, but is 3"),
        ("train.sede=3", "unknown key train.sede"),
        ("train.num_epochs.a.b=3", "unknown key train.num_epochs.a.b"),
        ("train.optim=null", "train.optim must be a group of keys, but is null"),
        (f"{VAL}.1.data_file=x", f"{VAL}.1.data_file points past the end of a list of 0"),
        (f"{VAL}.0.data_file=x", f"{VAL}[0] needs both data_file and dataset_name; missing: dataset_name"),
    ],
)
def test_an_error_names_what_was_typed(override: str, message: str) -> None:
    assert problem(override).message == f"{message} (command line: {override})"


def test_a_long_override_is_cut_short() -> None:
    assert problem(f"train.gpu_ids=[{'0,' * 40}a]").message.endswith(f"(command line: train.gpu_ids=[{'0,' * 21}...)")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        (
            "+new.key=3",
            "+ adds no key that does not exist; the names are TAO's, in groups: dataset, model, train, evaluate, inference, export",
        ),
        ("+train.optim.wieght_decay=0", "did you mean train.optim.weight_decay?"),
        ("train.num_epochs = 3", "write train.num_epochs=3"),
        ("train.num-epochs=3", "write train.num_epochs=3"),
        ("3", "without blanks around ="),
        ("--train.num_epochs=3", "write train.num_epochs=value, without dashes"),
        ("train.num_epochs", "write train.num_epochs=value, or ~train.num_epochs to go back to the default"),
        ("~train.num_epochs=3", "write ~train.num_epochs, or train.num_epochs=3"),
        (f"{VAL}=[{{data_file=x.txt}}]", "dicts {a:1,b:2}"),
        ("dataset.train_dataset.augmentation.crop_size=320,736", "for example [320,736]"),
        ("train.gpu_ids=(0,1)", "for example [0,1]"),
        ("dataset.val_dataset.num_workers=2", "did you mean dataset.val_dataset.workers?"),
        ("model.mono_backbone.encoder=vits", "did you mean model.encoder?"),
        ("model.mono_backbone.path=x", "model.mono_backbone has pretrained_path, use_bn, use_clstoken"),
        ("train.verbose=true", "the names are TAO's"),
        ("train.optim.lr_scheduler=CustomMultiStepLRScheduler", "did you mean MultiStepLR?"),
        ("train.optim.lr='0.1'", "remove the quotes of '0.1'"),
    ],
)
def test_the_hint_says_how_it_is_written(override: str, hint: str) -> None:
    assert hint in (problem(override).hint or "")
