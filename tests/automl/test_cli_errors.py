"""What a user reads after a mistake: one `error:` line, a blank line, one `hint:` line, exit code 2, and nothing was started."""

from __future__ import annotations

import errno
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from automl import cli, depth_net
from automl.engine import run_inline
from automl.entry import FAILED, INTERRUPTED, MISUSED, run_app
from automl.own_code import PACKAGES
from automl.study import Study
from search_spaces.errors import SpecError
from tests.automl.samples import small_stereo_spec
from tests.automl.toy import ToyRun, toy_config

Errors = Callable[..., str]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def errors(refused: Errors) -> Errors:
    """Runs `automl arguments...` in an empty folder, expects exit code 2 and nothing written, gives stderr."""
    return functools.partial(refused, "automl")


def app_that_raises(error: BaseException) -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    return app


def test_an_error_of_the_user_is_two_lines_on_stderr(capsys: pytest.CaptureFixture[str]):
    assert run_app(app_that_raises(SpecError("low <= high must hold", hint="swap them")), "x", []) == MISUSED
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: low <= high must hold\n\nhint: swap them\n")


def test_an_error_without_a_hint_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert run_app(app_that_raises(SpecError("no")), "x", []) == MISUSED
    assert capsys.readouterr().err == "error: no\n"


def test_ctrl_c_ends_with_130_and_says_so(capsys: pytest.CaptureFixture[str]):
    assert run_app(app_that_raises(KeyboardInterrupt()), "x", []) == INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted\n"


def test_a_command_without_arguments_shows_its_help_alone(capsys: pytest.CaptureFixture[str]):
    assert run_app(depth_net.app, "depth_net", []) == MISUSED
    assert "error:" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device", "/data/x"), MemoryError()])
def test_a_machine_that_refuses_is_told_in_one_line(capsys: pytest.CaptureFixture[str], error: Exception):
    assert run_app(app_that_raises(error), "x", []) == FAILED
    assert capsys.readouterr().err.startswith("error: the machine failed: ")


def test_a_disk_that_cannot_be_written_needs_no_space(capsys: pytest.CaptureFixture[str]):
    assert run_app(app_that_raises(OSError(errno.EROFS, "Read-only file system", "/data/x")), "x", []) == FAILED
    told = "the machine failed: Read-only file system: /data/x\n\nhint: mount it for writing, then give the same command again\n"
    assert capsys.readouterr().err == f"error: {told}"


def test_a_reader_that_went_away_ends_it_without_a_word():
    script = Path(sys.executable).with_name("depth_net")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([script, "train", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (FAILED, "")


def test_a_defect_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_app(app_that_raises(ZeroDivisionError()), "x", [])
    assert FAILED == 1  # what the interpreter exits with


def test_no_skill(errors: Errors):
    assert "depth_net_mono, depth_net_stereo" in errors("run")


def test_unknown_skill(errors: Errors):
    assert "did you mean depth_net_stereo?" in errors("run", "--skill", "depth_net_sterio")


def test_missing_spec_file(errors: Errors):
    assert "there is no spec file nowhere.yaml" in errors("run", "--skill", "depth_net_stereo", "-e", "nowhere.yaml")
    told = errors("run", "--skill", "depth_net_stereo", "-e", ".")
    assert "-e takes a spec file, but . is a folder\n\nhint: name the file in it: -e spec.yaml" in told


def test_unknown_key(errors: Errors):
    assert "did you mean train.num_epochs?" in errors("run", "--skill", "depth_net_stereo", "train.num_epoch=3")


def test_no_training_list(errors: Errors):
    assert "depth_net sample" in errors("run", "--skill", "depth_net_stereo")


def test_missing_list_file(errors: Errors):
    source = "[{data_file:gone.txt,dataset_name:GenericDataset}]"
    lists = [f"dataset.{split}_dataset.data_sources={source}" for split in ("train", "val")]
    assert "gone.txt" in errors("run", "--skill", "depth_net_stereo", *lists)


@pytest.mark.parametrize("command", ["run", "off"])
def test_no_validation_list_names_both_ways_out(command: str, errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    err = errors(command, "--skill", "depth_net_stereo", "-e", str(spec), "dataset.val_dataset.data_sources=[]")
    assert "--val-fraction 0.2" in err
    assert "--metric train/loss" in err


def test_val_fraction_beside_a_validation_list(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    assert "names a validation list already" in errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--val-fraction", "0.2")


def test_a_test_metric_cannot_be_the_objective(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    assert "use val/epe" in errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--metric", "test/epe")


def test_an_unknown_metric_gets_the_nearest_one(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    assert "did you mean val/epe?" in errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--metric", "val/epp")


def test_a_spec_of_the_other_family(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    assert "is for mono networks" in errors("run", "--skill", "depth_net_mono", "-e", str(spec))


def test_option_and_override_that_contradict_each_other(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    err = errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--epochs", "2", "train.num_epochs=3")
    assert "--epochs 2 and train.num_epochs=3 say different things" in err


def test_a_winner_is_trained_again_on_the_lists_of_its_study(errors: Errors):
    assert "--from takes the lists from the study" in errors("off", "--from", "study", "--val-fraction", "0.2")


def test_an_override_that_contradicts_an_option_when_a_winner_is_trained_again(errors: Errors, tmp_path: Path):
    study = Study.create(tmp_path / "s", toy_config(trials=1))
    run_inline(study, run=ToyRun())
    study.close()
    err = errors("off", "--from", "s", "--epochs", "5", "train.num_epochs=7")
    assert "--epochs 5 and train.num_epochs=7 say different things" in err


def test_an_unknown_searcher_gets_the_nearest_one(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    assert "tpe" in errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--searcher", "tpee")


def test_the_question_needs_a_terminal(errors: Errors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("automl.launch.measure", lambda spec: None)
    spec = small_stereo_spec(tmp_path)
    assert "add --yes" in errors("run", "--skill", "depth_net_stereo", "-e", str(spec))


def test_json_without_dry_run(errors: Errors):
    assert "--dry-run" in errors("run", "--skill", "depth_net_stereo", "--json")


def test_a_folder_that_holds_a_study(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text("name: x\n")
    err = errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--results", "mine")
    assert "`automl resume mine`" in err
    assert "--results" in err


def test_a_command_in_a_hint_can_be_pasted_whatever_the_folder_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    study = Study.create(tmp_path / "my study", toy_config())
    assert run_app(cli.app, "automl", ["resume", str(study.folder)]) == MISUSED
    study.close()
    assert f"`automl stop '{study.folder}'`" in capsys.readouterr().err


def test_no_command_is_shown_with_a_path_as_it_is():
    """A `place` is a path as a shell reads it."""
    bare = re.compile(r"`(?:automl|depth_net) \w+ \{(?!shell_word|(?:self\._)?place\}).*?\}")
    sources = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert not [found for path in sources for found in bare.findall(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("words", [["run", "--results", ""], ["run", "--results="], ["off", "--from", ""]])
def test_an_option_without_a_value_is_not_the_current_folder(words: list[str], errors: Errors):
    assert errors(*words).startswith(f"error: there is an empty value after {words[1].rstrip('=')}\n\nhint: is a variable of")


def test_an_empty_argument_is_no_folder(errors: Errors):
    assert errors("status", "").startswith("error: there is an empty value after status\n")


def test_a_name_that_is_longer_than_a_file_system_takes(errors: Errors):
    assert errors("status", "x" * 300).startswith("error: a name is longer than a file system takes: xxx")


def test_a_name_that_no_record_could_hold(errors: Errors):
    assert "is not text in UTF-8: 'x\\udcff'" in errors("status", os.fsdecode(b"x\xff"))


@pytest.mark.parametrize("words", [["run", "--skill", "depth_net_stereo", "-e", "s3://data/spec.yaml"]])
def test_what_has_to_be_here_is_no_url(words: list[str], errors: Errors):
    assert "s3://data/spec.yaml is in an S3 store, but this needs a spec of this machine" in errors(*words)


def test_scenes_do_not_go_to_a_store(refused: Errors):
    assert "s3://bucket/x is in an S3 store" in refused("depth_net", "sample", "--out", "s3://bucket/x")


def test_a_file_where_the_folder_should_be(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    (tmp_path / "taken").write_text("")
    assert "is not a folder" in errors("run", "--skill", "depth_net_stereo", "-e", str(spec), "--results", "taken")


def test_a_link_that_leads_nowhere(errors: Errors, tmp_path: Path):
    spec = small_stereo_spec(tmp_path)
    (tmp_path / "link").symlink_to("nothing")
    assert "link is a link to a place that is not there" in errors(
        "run", "--skill", "depth_net_stereo", "-e", str(spec), "--results", "link/study"
    )


@pytest.mark.parametrize("command", [["status"], ["resume"], ["stop"], ["logs", "0"]])
def test_a_folder_without_a_study(command: list[str], errors: Errors, tmp_path: Path):
    name, *rest = command
    assert "no study in nothing" in errors(name, "nothing", *rest)


def test_a_dashboard_without_a_database(errors: Errors):
    assert "no mlflow.db" in errors("dashboard", "nothing")


def test_depth_net_evaluate_without_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spec = small_stereo_spec(tmp_path)
    assert run_app(depth_net.app, "depth_net", ["evaluate", "-e", str(spec), f"results_dir={tmp_path}"]) == MISUSED
    assert "depth_net evaluate needs evaluate.checkpoint" in capsys.readouterr().err


def test_depth_net_evaluate_of_an_engine_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    spec = small_stereo_spec(tmp_path)
    arguments = ["evaluate", "-e", str(spec), "evaluate.trt_engine=model.engine", f"results_dir={tmp_path}"]
    assert run_app(depth_net.app, "depth_net", arguments) == MISUSED
    assert "evaluate.trt_engine: weight file model.engine does not exist" in capsys.readouterr().err
