"""Drivers killed with SIGKILL at awkward points: the resumed search is the one that would have been."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from automl.engine import run_inline
from automl.journal import JOURNAL_FILE
from automl.reader import read_snapshot
from automl.segments import LATEST
from automl.snapshot import StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, toy_config

ROOT = Path(__file__).resolve().parents[2]


def kill_at(folder: Path, number: int, epoch: int, when: str) -> None:
    """Let a driver run in `folder` until it dies there."""
    command = [sys.executable, "-m", "tests.automl.killed_driver", str(folder), str(number), str(epoch), when]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=240).returncode == -signal.SIGKILL


def go_on(folder: Path) -> StudySnapshot:
    study = Study.open(folder)
    try:
        return run_inline(study, run=ToyRun())
    finally:
        study.close()


def outcome(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    return [(t.number, t.status, dict(t.values), t.seed, t.value, t.epoch, t.rung, t.stopped_by) for t in snapshot.trials]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudySnapshot:
    """The same search, never disturbed."""
    study = Study.create(tmp_path_factory.mktemp("whole") / "s", toy_config())
    snapshot = run_inline(study, run=ToyRun())
    study.close()
    return snapshot


@pytest.mark.parametrize(
    ("number", "epoch", "when"),
    [(0, 4, "reporting"), (3, 1, "answered"), (2, 2, "answered"), (8, 1, "told")],
    ids=["in the baseline", "after a pause was answered", "inside a promotion", "between two trials"],
)
def test_a_killed_driver_changes_nothing(tmp_path: Path, whole: StudySnapshot, number: int, epoch: int, when: str) -> None:
    kill_at(tmp_path / "s", number, epoch, when)
    resumed = go_on(tmp_path / "s")
    assert outcome(resumed) == outcome(whole)


def test_a_search_survives_several_deaths_and_a_torn_record(tmp_path: Path, whole: StudySnapshot) -> None:
    kill_at(tmp_path / "s", 1, 1, "answered")
    with (tmp_path / "s" / JOURNAL_FILE).open("ab") as stream:
        stream.write(b'{"op_code":6,"worker')
    kill_at(tmp_path / "s", 5, 1, "reporting")
    assert outcome(go_on(tmp_path / "s")) == outcome(whole)


def test_without_its_checkpoint_a_trial_starts_again_under_its_number(tmp_path: Path, whole: StudySnapshot) -> None:
    kill_at(tmp_path / "s", 0, 4, "answered")
    (tmp_path / "s" / "trials" / "0000" / LATEST).unlink()
    resumed = go_on(tmp_path / "s")
    assert outcome(resumed) == outcome(whole)
    assert resumed.trial(0).segments == 2


def test_a_finished_search_has_nothing_to_resume(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=2))
    run_inline(study, run=ToyRun())
    study.close()
    run = ToyRun()
    study = Study.open(tmp_path / "s")
    snapshot = run_inline(study, run=run)
    study.close()
    assert run.log == []
    assert {trial.status for trial in snapshot.trials} <= {TrialStatus.COMPLETE, TrialStatus.STOPPED}


@pytest.mark.parametrize("written", [None, b"", b'{"op_code": 0, "worker_id'])
def test_a_driver_that_died_before_its_first_word_has_lost_nothing(tmp_path: Path, written: bytes | None, whole: StudySnapshot) -> None:
    folder = tmp_path / "s"
    Study.create(folder, toy_config()).close()
    (folder / JOURNAL_FILE).unlink() if written is None else (folder / JOURNAL_FILE).write_bytes(written)
    before = read_snapshot(folder)
    assert (before.trials, before.active, before.end) == ((), False, None)
    study = Study.open(folder)
    assert outcome(run_inline(study, run=ToyRun())) == outcome(whole)
    study.close()


def test_a_study_whose_record_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=1))
    run_inline(study, run=ToyRun())
    study.close()
    (study.folder / JOURNAL_FILE).unlink()
    with pytest.raises(StudyError, match=r"the record of the study in .*s is gone: study\.journal is not there"):
        read_snapshot(study.folder)
