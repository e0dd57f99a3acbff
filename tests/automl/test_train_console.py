"""`depth_net train` as a user meets it: what it continues and says so, what it refuses before it writes, how it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from automl import depth_net
from automl.entry import DONE, FAILED, run_app
from tests.automl.samples import small_mono_spec

Refused = Callable[..., str]
LATEST = Path("out/train/dn_model_latest.pth")
FIRST, SECOND = "model_epoch_000_step_00001.pth", "model_epoch_001_step_00002.pth"


def train(*overrides: str) -> int:
    return run_app(depth_net.app, "depth_net", ["train", "-e", "mono.yaml", "results_dir=out", *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sample scenes, a spec and a run of one epoch in `out`."""
    place = tmp_path_factory.mktemp("trained")
    small_mono_spec(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert train() == DONE
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run in a folder of this test alone."""
    shutil.copytree(trained, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refuses(refused: Refused, place: Path) -> Callable[..., str]:
    return lambda *overrides: refused("depth_net", "train", "-e", "mono.yaml", "results_dir=out", *overrides)


def test_a_folder_that_holds_a_run_is_left_alone(refuses: Refused) -> None:
    assert "out/train already holds a run" in refuses()


def test_auto_continues_and_says_from_where_and_what_changed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("train.resume=auto", "train.num_epochs=2", "train.optim.lr=0.0002") == DONE
    out = " ".join(capsys.readouterr().out.split())
    assert f"{FIRST} after 1 of 2 epochs" in out
    assert "train.optim.lr was 0.0001 and is 0.0002 from here on" in out
    assert "random weights" not in out
    assert LATEST.readlink() == Path(SECOND)


def test_a_finished_run_says_that_nothing_is_left(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("train.resume=must") == DONE
    assert "nothing is left to train" in capsys.readouterr().out
    lines = [json.loads(line) for line in Path("out/train/status.json").read_text().splitlines()]
    assert lines[-3]["message"] == "Nothing is left to train: 1 of 1 epochs are done."


def test_must_needs_a_state(refuses: Refused) -> None:
    assert "elsewhere/train/dn_model_latest.pth does not exist" in refuses("results_dir=elsewhere", "train.resume=must")


@pytest.mark.parametrize("resume", ["auto", "must"])
def test_a_stale_link_is_not_passed_over(place: Path, refuses: Refused, resume: str) -> None:
    Path("out/train", FIRST).unlink()
    assert f"points to {FIRST}, which is gone" in refuses(f"train.resume={resume}")


def test_a_named_state_that_is_none_is_told_what_it_is(refuses: Refused) -> None:
    err = refuses("results_dir=new", "train.resume_training_checkpoint_path=out/train/best.pth")
    assert "weights without a training state" in err
    assert "train.pretrained_model_path=out/train/best.pth" in err


def test_another_range_of_depth_does_not_take_over_a_run(refuses: Refused) -> None:
    assert "dataset.max_depth is 10 there and 80 in the spec" in refuses("train.resume=auto", "dataset.max_depth=80")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dataset.max_depth=null", "dataset.max_depth must be set for MetricDepthAnything, but is null"),
        ("train.checkpoint_interval=2", "train.checkpoint_interval <= train.num_epochs must hold, but 2 > 1"),
        ("train.validation_interval=2", "train.validation_interval <= train.num_epochs must hold, but 2 > 1"),
        ("train.precision=fp16", "train.precision fp16 is not supported for MetricDepthAnything"),
        ("train.optim.optimizer=SGD", "SGD is for FoundationStereo"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(refuses: Refused, override: str, told: str) -> None:
    assert told in refuses("results_dir=new", override)


def test_too_few_samples_name_their_list(refuses: Refused) -> None:
    err = refuses("results_dir=new", "dataset.train_dataset.batch_size=3")
    assert "smaller than the total batch size (3)" in err
    assert "mono_train.txt" in err


def test_weights_that_are_no_numbers_fail_with_what_there_was(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = torch.load("out/train/best.pth", weights_only=True)
    checkpoint["state_dict"]["model.depth_head.projects.0.bias"].fill_(float("nan"))
    torch.save(checkpoint, "nan.pth")
    assert train("results_dir=new", "train.pretrained_model_path=nan.pth") == FAILED
    err = capsys.readouterr().err
    assert "error: the training loss is nan at step 0; no step before it was finite; 100.0% of the batch's pixels are valid" in err
    assert "left.png" in err
    assert json.loads(Path("new/train/status.json").read_text().splitlines()[-1])["status"] == "FAILURE"


def test_a_network_trained_here_needs_no_depth_keys_again(place: Path) -> None:
    lists = "dataset.test_dataset.data_sources=[{data_file:scenes/mono_test.txt,dataset_name:MetricMonoDataset}]"
    Path("test.yaml").write_text("results_dir: out\ndataset: {min_depth: null, max_depth: null}\n")
    assert train("results_dir=far", "dataset.max_depth=80") == DONE
    assert run_app(depth_net.app, "depth_net", ["evaluate", "-e", "test.yaml", "evaluate.checkpoint=far/train/best.pth", lists]) == DONE
    assert "max_depth: 80.0" in Path("out/evaluate/experiment.yaml").read_text()
