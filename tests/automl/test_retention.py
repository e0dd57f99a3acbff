"""Checkpoints are kept by need: the disk budget holds, and nothing is promoted without the state it goes on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from automl.engine import run_inline
from automl.limits import Limits
from automl.reader import read_snapshot
from automl.retention import DROPPED
from automl.segments import LATEST
from automl.snapshot import EndReason, StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.objective import PEAK_MEMORY, Objective
from tests.automl.toy import ToyRun, result_of, toy_config
from trials.contract import Decision, ProgressTo, Report, ReportTo, State, TrialResult, TrialSpec
from trials.states import BEST

STATE, WEIGHTS = 3000, 1000  # bytes
GIB = 1 << 30


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.pth") if not path.is_symlink())


class HeavyRun(ToyRun):
    """Leaves files as a real segment does, the new state before the old one goes; keeps the most that ever lay on disk."""

    def __init__(self, study: Path) -> None:
        super().__init__()
        self.study, self.most, self.without_parent = study, 0, list[int]()

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        train, first = trial.folder / "train", 1
        train.mkdir(parents=True, exist_ok=True)
        if trial.resume_from is not None:
            first = int(trial.resume_from.resolve().name.split("_")[2]) + 1
        if first == 1 and (train / BEST).exists():
            self.without_parent.append(trial.number)
        for epoch in range(first, trial.max_epochs + 1):
            value = self.loss(trial.values, epoch)
            answer = report(Report(number=trial.number, epoch=epoch, step=epoch, metrics={"val/loss": value}, elapsed_s=1.0))
            link = train / LATEST.name
            old = link.resolve() if link.exists() else None
            new = train / f"model_epoch_{epoch:03d}_step_00001.pth"
            new.write_bytes(bytes(STATE))
            (train / BEST).write_bytes(bytes(WEIGHTS))
            self.most = max(self.most, used(self.study))
            link.unlink(missing_ok=True)
            link.symlink_to(new.name)
            if old is not None:
                old.unlink()
            if answer is not Decision.CONTINUE:
                state = State.PAUSED if answer is Decision.PAUSE else State.STOPPED
                return result_of(trial.number, state, checkpoint=train / BEST)
        metrics = {"val/loss": self.loss(trial.values, trial.max_epochs)}
        return result_of(trial.number, State.COMPLETE, metrics=metrics, best_epoch=trial.max_epochs, checkpoint=train / BEST)


class SpareRun(HeavyRun):
    """The baseline takes a tenth of the memory that any other trial takes."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        result = super().__call__(trial, report, progress=progress)
        return replace(result, peak_memory_mib=10.0 if trial.number == 0 else 100.0)


def search(folder: Path, budget: int | None, runs: type[HeavyRun] = HeavyRun, **changes: object) -> tuple[StudySnapshot, HeavyRun]:
    limits = Limits(disk_budget_gib=None if budget is None else budget / GIB)
    study, run = Study.create(folder, toy_config(limits=limits, **changes)), runs(folder)
    snapshot = run_inline(study, run=run)
    study.close()
    return snapshot, run


def test_states_of_ended_trials_go_at_once_but_that_of_the_best(tmp_path: Path) -> None:
    snapshot, run = search(tmp_path / "s", None, fidelity="full", trials=6)
    assert run.most == 2 * STATE + 6 * WEIGHTS + STATE  # the best, one that runs, and its new state
    assert snapshot.best is not None
    assert (snapshot.best.folder / LATEST).exists()


def test_the_budget_holds_and_no_promotion_lacks_its_parent(tmp_path: Path) -> None:
    free, wide = search(tmp_path / "free", None, trials=40, searcher="random")
    budget = 30_000
    assert wide.most > 2 * budget
    snapshot, run = search(tmp_path / "tight", budget, trials=40, searcher="random")
    assert run.most <= budget
    assert run.without_parent == []
    assert snapshot.end is not None
    assert snapshot.end.reason is EndReason.EXHAUSTED
    dropped = [trial for trial in snapshot.trials if trial.stopped_by == DROPPED]
    assert {trial.status for trial in dropped} == {TrialStatus.STOPPED}
    assert 0 < len(dropped) < 30
    assert sum(trial.epoch == 9 for trial in snapshot.trials) >= sum(trial.epoch == 9 for trial in free.trials) - 2


def test_what_could_still_win_has_its_weights(tmp_path: Path) -> None:
    snapshot, _ = search(tmp_path / "s", 30_000, trials=30, searcher="random")
    ranked = sorted((trial.value, trial.number) for trial in snapshot.trials if trial.status is TrialStatus.COMPLETE and trial.value)
    for _, number in ranked[:2]:
        assert (snapshot.trial(number).folder / "train" / BEST).is_file()
    assert all(trial.checkpoint is None or trial.checkpoint.is_file() for trial in snapshot.trials)
    assert [trial.checkpoint for trial in read_snapshot(tmp_path / "s").trials] == [trial.checkpoint for trial in snapshot.trials]


def test_the_worst_loss_keeps_its_weights_while_nothing_beats_its_memory(tmp_path: Path) -> None:
    # room for the weights of three: beside them lie the best state, twice what one trial writes, and the weights of two finalists
    budget = 3 * WEIGHTS + STATE + 2 * (STATE + WEIGHTS) + 2 * WEIGHTS
    memory = (Objective(metric=PEAK_MEMORY, direction="minimize"),)
    changes = {"lr": 1e-6, "further": memory, "fidelity": "full", "trials": 8, "searcher": "random", "finalists": 2, "finalist_seeds": 1}
    snapshot, run = search(tmp_path / "s", budget, SpareRun, **changes)
    by_loss = [number for _, number in sorted((trial.value or 0.0, trial.number) for trial in snapshot.trials)]
    assert by_loss[-1] == 0
    kept = {trial.number for trial in snapshot.trials if (trial.folder / "train" / BEST).is_file()}
    assert kept == {*by_loss[:2], 0}
    assert run.most <= budget


def test_a_budget_that_holds_not_even_one_trial_ends_the_search(tmp_path: Path) -> None:
    snapshot, _ = search(tmp_path / "s", 5_000)
    assert snapshot.end is not None
    assert snapshot.end.reason is EndReason.FAILED
    assert "extend --disk-budget raises it" in snapshot.end.message


def test_a_driver_that_died_while_dropping_drops_again(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(limits=Limits(disk_budget_gib=30_000 / GIB)))
    run = HeavyRun(tmp_path / "s")
    for _ in range(3):
        trial = study.ask()
        assert trial is not None
        study.tell(run(trial, study.report))
    paused = next(trial for trial in study.snapshot().trials if trial.status is TrialStatus.PAUSED)
    study._ledger.stop(study._ledger.records[paused.number], DROPPED)  # and dies before the files go
    study.close()
    assert (paused.folder / LATEST).exists()
    Study.open(tmp_path / "s").close()
    assert not (paused.folder / LATEST).exists()
