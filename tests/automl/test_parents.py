"""What `--parent` takes from a folder, and what it says where that is not clear."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from automl.parents import resolve, with_parent
from search_spaces.errors import CheckpointError, SpecError
from tests.s3_server import S3Server
from trials.stored_folder import StoredFolder


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    train = files(tmp_path / "run" / "train", "best.pth", "model_epoch_000_step_00004.pth", "model_epoch_001_step_00008.pth")
    (train / "dn_model_latest.pth").symlink_to("model_epoch_001_step_00008.pth")
    return train.parent


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = files(tmp_path / "study")
    files(folder / "promotion", "model.onnx")
    winner = files(folder / "trials" / "0002" / "train", "best.pth") / "best.pth"
    (folder / "choice.json").write_text(json.dumps({"checkpoint": str(winner)}))
    return folder


@pytest.mark.parametrize(
    ("pick", "name"),
    [
        ("best", "best.pth"),
        ("latest", "model_epoch_001_step_00008.pth"),
        ("epoch=0", "model_epoch_000_step_00004.pth"),
        ("step=8", "model_epoch_001_step_00008.pth"),
    ],
)
def test_a_run_gives_the_checkpoint_that_is_picked(run: Path, pick: str, name: str) -> None:
    assert resolve(run, "evaluate", pick).name == name


def test_an_epoch_that_is_not_there_names_those_that_are(run: Path) -> None:
    with pytest.raises(CheckpointError, match="there is none") as caught:
        resolve(run, "export", "epoch=7")
    assert "model_epoch_001_step_00008.pth" in str(caught.value.hint)


@pytest.mark.parametrize(("action", "name"), [("evaluate", "best.pth"), ("quantize", "best.pth"), ("gen_trt_engine", "model.onnx")])
def test_a_study_gives_its_winner(study: Path, action: str, name: str) -> None:
    assert resolve(study, action, "best").name == name


def test_two_models_are_never_chosen_between(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"2 models that evaluate takes: a\.onnx, b\.onnx"):
        resolve(files(tmp_path, "a.onnx", "b.onnx", "c.rejected.onnx"), "evaluate", "best")


@pytest.mark.parametrize(
    ("action", "pick", "name"),
    [
        ("evaluate", "onnx", "model.onnx"),
        ("inference", "int8", "model.int8.onnx"),
        ("evaluate", "engine", "model.engine"),
        ("quantize", "onnx", "model.onnx"),
        ("gen_trt_engine", "int8", "model.int8.onnx"),
    ],
)
def test_a_file_of_a_promotion_is_picked_by_its_kind(study: Path, action: str, pick: str, name: str) -> None:
    files(study / "promotion", "model.int8.onnx", "model.engine", "model.xml", "model.int8.rejected.onnx", "model.previous.onnx")
    assert resolve(study, action, pick).name == name
    assert resolve(study / "promotion", action, pick).name == name


def test_a_kind_that_is_not_there_or_not_for_the_action_is_said(study: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model that evaluate takes \(\.int8\.onnx\)"):
        resolve(study, "evaluate", "int8")
    with pytest.raises(SpecError, match="export takes no engine file"):
        resolve(study, "export", "engine")
    with pytest.raises(SpecError, match="a run, which holds checkpoints alone"):
        resolve(run, "evaluate", "onnx")


def test_a_run_holds_nothing_for_an_engine(run: Path) -> None:
    with pytest.raises(CheckpointError, match="it holds weights"):
        resolve(run, "gen_trt_engine", "best")


def test_the_file_becomes_an_override_and_is_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = with_parent("evaluate", ["a=1"], run, "best")
    assert overrides == (f"evaluate.checkpoint='{run}/train/best.pth'", "a=1")
    assert "parent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "pick", "told"), [((), "newest", "best, latest"), (("evaluate.checkpoint=a.pth",), "best", "both name the model")]
)
def test_contradictions_are_refused(run: Path, overrides: tuple[str, ...], pick: str, told: str) -> None:
    with pytest.raises(SpecError, match=told):
        with_parent("evaluate", overrides, run, pick)


def test_a_study_of_a_store_gives_the_url_of_its_winner(study: Path, s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    with StoredFolder(study.with_name("copy"), "s3://data/there") as kept:
        shutil.copytree(study, kept.folder, dirs_exist_ok=True)
        told = (kept.folder / "choice.json").read_text().replace(str(study), str(kept.folder))
        (kept.folder / "choice.json").write_text(told)
    given = with_parent("evaluate", ["a=1"], Path("s3://data/there"), "best")
    assert given == ("evaluate.checkpoint='s3://data/there/trials/0002/train/best.pth'", "a=1")
    assert capsys.readouterr().out == "parent  s3://data/there: s3://data/there/trials/0002/train/best.pth\n"
    assert with_parent("evaluate", (), Path("s3://data/there"), "onnx") == ("evaluate.checkpoint='s3://data/there/promotion/model.onnx'",)
    with pytest.raises(CheckpointError, match="--parent s3://data/none: nothing is there"):
        with_parent("evaluate", (), Path("s3://data/none"), "best")
    with pytest.raises(CheckpointError, match="s3://data/there/promotion holds no model that evaluate takes"):
        with_parent("evaluate", (), Path("s3://data/there"), "engine")
    assert s3.client.exists("data/there/choice.json")
