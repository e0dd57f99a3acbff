"""What a search leaves on disk: full states only of trials that can go on, and of the best."""

from __future__ import annotations

from pathlib import Path

from automl.engine import run_inline
from automl.segments import LATEST
from automl.snapshot import TrialStatus, ranking
from automl.study import Study
from tests.automl.toy import ToyRun, toy_config
from trials.contract import ProgressTo, ReportTo, State, TrialResult, TrialSpec
from trials.states import full_states

FOREIGN = ("notes.txt", "model_epoch_mine.pth", "model_epoch_001_step_00001.pth.bak")


class Saving(ToyRun):
    """Leaves the files of a real segment, and some that the user put beside them; trial `interrupted` is cut short."""

    def __init__(self, *, interrupted: int | None = None) -> None:
        super().__init__()
        self.interrupted = interrupted

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        result = super().__call__(trial, report, progress=progress)
        for name in ("best.pth", "metrics.jsonl", *FOREIGN):
            (trial.folder / "train" / name).write_text("x")
        if trial.number == self.interrupted:
            return TrialResult(**{**vars(result), "state": State.INTERRUPTED})
        return result


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "train").iterdir()}


def test_a_finished_search_keeps_the_state_of_the_best_trial_of_the_full_budget_alone(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=4))
    snapshot = run_inline(study, run=Saving())
    ended = [trial for trial in ranking(snapshot.trials, "minimize") if trial.status is TrialStatus.COMPLETE]
    kept = {"best.pth", "metrics.jsonl", *FOREIGN}
    states = {LATEST.name, "model_epoch_008_step_00009.pth"}
    for trial in snapshot.trials:
        assert names(trial.folder) == (kept | states if trial.number == ended[0].number else kept)


def test_the_final_needs_none_of_the_removed_states(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=4))
    run_inline(study, run=Saving())
    study.close()
    study = Study.open(tmp_path / "s")
    final = run_inline(study.finalists(), run=Saving())
    study.close()
    assert [trial.epoch for trial in final.trials] == [9, 9]
    assert sum(bool(full_states(trial.folder / "train")) for trial in final.trials) == 1


def test_an_interrupted_search_keeps_every_state(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=4))
    snapshot = run_inline(study, run=Saving(interrupted=2))
    study.close()
    assert [len(full_states(trial.folder / "train")) for trial in snapshot.trials] == [1, 1, 1]
