"""The last words about a search: each cause of failure once, and what to run next."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from automl.console import screen
from automl.engine import run_inline
from automl.limits import Limits
from automl.snapshot import EndReason, StudyEnd, TrialStatus
from automl.status import PROMOTION_FILE
from automl.study import Study
from automl.summary import failure_rows, print_summary
from tests.automl.toy import ToyRun, toy_config
from trials.contract import Cause


def test_failures_alike_are_told_once(tmp_path: Path) -> None:
    faults = {1: Cause.OOM, 2: Cause.OOM, 4: Cause.NAN, 5: Cause.OOM, 6: Cause.OOM}
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config(trials=8)), run=ToyRun(faults=faults))
    assert failure_rows(snapshot.trials) == {
        "trials 1, 2, 5 and 1 more": "oom: made to fail: oom",
        "trial 4": "nan: made to fail: nan",
    }


def test_a_finalist_that_failed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=5, epochs=3, finalists=2))
    snapshot = run_inline(study, run=ToyRun())
    run_inline(study.finalists(), run=ToyRun(faults=dict.fromkeys(range(2), Cause.OOM)))
    assert snapshot.end is not None
    print_summary(screen(), snapshot, snapshot.end, complete=True)
    assert "finalists 0, 1  oom: made to fail: oom" in capsys.readouterr().out


def test_a_search_that_was_given_up_can_be_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config()), run=ToyRun(faults=dict.fromkeys(range(12), Cause.DATA)))
    assert snapshot.end is not None
    print_summary(screen(), snapshot, snapshot.end, complete=True)
    out = capsys.readouterr().out
    assert "trials 0, 1, 2" in out
    assert "try again" in out
    assert "converged?" not in out


def test_a_reason_longer_than_the_screen_is_told_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config()), run=ToyRun())
    reason = "the first trials all failed for one cause: " + 20 * "a long diagnosis, "
    print_summary(screen(), snapshot, StudyEnd(reason=EndReason.FAILED, message=reason), complete=True)
    assert reason in capsys.readouterr().out


def test_commands_can_be_copied_whatever_the_folder_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "my study", toy_config()), run=ToyRun())
    assert snapshot.end is not None
    print_summary(screen(), snapshot, snapshot.end, complete=True)
    assert f"automl dashboard '{tmp_path / 'my study'}'\n" in capsys.readouterr().out


@pytest.mark.parametrize(("fidelity", "told"), [("full", "12; "), ("asha", ", without early stopping 12; ")])
def test_epochs_that_early_stopping_saved_are_told_if_there_are_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fidelity: str, told: str
) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config(trials=4, epochs=3, fidelity=fidelity)), run=ToyRun())
    assert snapshot.end is not None
    print_summary(screen(), snapshot, snapshot.end, complete=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "epochs  " in line]
    assert told in line
    assert ("without" in line) == (fidelity == "asha")


def test_a_promoted_model_can_be_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config()), run=ToyRun())
    assert snapshot.end is not None
    verdict = {"promoted": True, "model": "model.onnx", "reason": "", "metrics": {}, "latency": {"rows": []}}
    (tmp_path / "s" / PROMOTION_FILE).parent.mkdir()
    (tmp_path / "s" / PROMOTION_FILE).write_text(json.dumps(verdict | {"check": {"max_abs": 0.0, "mean_abs": 0.0, "unit": "px"}}))
    print_summary(screen(), snapshot, snapshot.end, complete=True)
    assert f"automl try {tmp_path / 's'} --left LEFT --right RIGHT\n" in capsys.readouterr().out


def test_a_limit_that_was_too_short_wants_more_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config(limits=Limits(max_hours=1e-9))), run=ToyRun())
    assert snapshot.end is not None
    print_summary(screen(), snapshot, snapshot.end, complete=True)
    out = capsys.readouterr().out
    assert "--max-hours +1e-09" in out
    assert "try again" not in out


def test_values_that_came_midway_are_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config(trials=3, epochs=3)), run=ToyRun())
    assert snapshot.best is not None
    assert snapshot.end is not None
    member = replace(snapshot.best, start=2, origin={"donor": 4, "epoch": 2})
    print_summary(screen(), replace(snapshot, best=member), snapshot.end, complete=True)
    assert "since epoch 2; before, it was trial 4" in capsys.readouterr().out


def test_what_a_disk_budget_cost_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config(trials=3, epochs=3)), run=ToyRun())
    trials = tuple(replace(trial, status=TrialStatus.STOPPED, stopped_by="disk budget") for trial in snapshot.trials[1:])
    assert snapshot.end is not None
    print_summary(screen(), replace(snapshot, trials=(snapshot.trials[0], *trials)), snapshot.end, complete=True)
    out = capsys.readouterr().out
    assert "2 trials lost a checkpoint to it" in out
    assert "--disk-budget GIB" in out


def test_a_disk_budget_that_was_too_small_wants_more_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = Limits(max_hours=1.0, disk_budget_gib=1e-9)
    snapshot = run_inline(Study.create(tmp_path / "s", toy_config(trials=1, limits=limits)), run=ToyRun())
    end = StudyEnd(reason=EndReason.FAILED, message="checkpoints that must be kept need more")
    print_summary(screen(), snapshot, end, complete=True)
    out = capsys.readouterr().out
    assert "--disk-budget GIB" in out
    assert "more time" not in out
