"""A whole search in this process: prune, fail, crash, promote, stop, interrupt, final."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from automl.engine import run_inline
from automl.events import (
    StudyEnded,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialEnded,
    TrialPromoted,
    TrialReported,
    TrialStarted,
)
from automl.reader import read_snapshot
from automl.requests import request_stop
from automl.snapshot import EndReason, StudySnapshot, TrialStatus
from automl.study import Study
from tests.automl.toy import LR, ToyRun, result_of, rising_score, toy_config
from trials.contract import Cause, Decision, ProgressTo, ReportTo, State, TrialResult, TrialSpec


def search(folder: Path, run: ToyRun | None = None, **changes: object) -> StudySnapshot:
    study = Study.create(folder, toy_config(**changes))
    try:
        return run_inline(study, run=run or ToyRun())
    finally:
        study.close()


def decisions(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    """All that two searches have to agree on."""
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.rung, t.segments, t.value, t.stopped_by) for t in snapshot.trials]


def test_a_search_ends_with_nothing_left_open(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s")
    assert snapshot.end is not None
    assert (snapshot.end.reason, snapshot.end.message) == (EndReason.EXHAUSTED, "all 12 trials were run")
    assert len(snapshot.trials) == 12
    assert {trial.status for trial in snapshot.trials} == {TrialStatus.COMPLETE, TrialStatus.STOPPED}
    assert snapshot.best is not None
    assert snapshot.best.epoch == 9


def test_segments_of_a_trial_follow_without_gap_or_overlap(tmp_path: Path) -> None:
    run = ToyRun()
    snapshot = search(tmp_path / "s", run)
    for trial in snapshot.trials:
        epochs = [epoch for number, first, last in run.log if number == trial.number for epoch in range(first, last + 1)]
        assert epochs == list(range(1, trial.epoch + 1))


def test_the_schedules_horizon_is_the_full_budget_in_every_segment(tmp_path: Path) -> None:
    horizons: list[int] = []

    class Watching(ToyRun):
        def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
            horizons.extend((trial.max_epochs, trial.spec["train"]["num_epochs"]))
            return super().__call__(trial, report, progress=progress)

    search(tmp_path / "s", Watching())
    assert set(horizons) == {9}


def test_poor_trials_cost_less_than_the_full_budget(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s")
    spent = sum(trial.epoch for trial in snapshot.trials)
    assert spent <= 12 * 9 * 0.6
    assert sum(trial.epoch == 1 for trial in snapshot.trials) >= 4


@pytest.mark.parametrize("searcher", ["tpe", "random", "qmc", "cmaes"])
def test_the_same_seed_gives_the_same_search(tmp_path: Path, searcher: str) -> None:
    first, second = (search(tmp_path / name, searcher=searcher) for name in ("a", "b"))
    assert decisions(first) == decisions(second)


def test_another_seed_gives_another_search(tmp_path: Path) -> None:
    first, second = (search(tmp_path / str(seed), seed=seed, trials=3) for seed in (1, 2))
    assert first.trials[1].values != second.trials[1].values


def test_full_fidelity_runs_everything_to_the_end(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", fidelity="full", trials=4)
    assert {trial.epoch for trial in snapshot.trials} == {9}


def test_the_median_rule_stops_for_good(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", fidelity="median")
    stopped = [trial for trial in snapshot.trials if trial.status is TrialStatus.STOPPED]
    assert {trial.stopped_by for trial in stopped} == {"median rule"}
    assert len(stopped) >= 2


def test_a_score_is_searched_upwards(tmp_path: Path) -> None:
    run = ToyRun(rising_score, objective="val/d1")
    snapshot = search(tmp_path / "s", run, objective="val/d1", direction="maximize")
    lower = search(tmp_path / "t")
    assert [dict(t.values) for t in snapshot.trials] == [dict(t.values) for t in lower.trials]
    assert snapshot.best is not None
    assert lower.best is not None
    assert snapshot.best.number == lower.best.number


def test_a_failed_trial_is_kept_and_the_search_goes_on(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", ToyRun(faults={2: Cause.OOM, 4: Cause.CRASH}))
    assert [snapshot.trial(n).status for n in (2, 4)] == [TrialStatus.FAILED] * 2
    assert [snapshot.trial(n).value for n in (2, 4)] == [None, None]
    assert snapshot.end is not None
    assert snapshot.end.reason is EndReason.EXHAUSTED


def test_without_its_baseline_a_search_still_reaches_the_full_budget(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", ToyRun(faults={0: Cause.OOM}), trials=3)
    assert [trial.status.value for trial in snapshot.trials].count("complete") == 1
    assert snapshot.best is not None
    assert snapshot.best.epoch == 9


def test_the_sampler_learns_where_trials_run_out_of_memory(tmp_path: Path) -> None:
    class Small(ToyRun):
        def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
            self.faults = {trial.number: Cause.OOM} if trial.values[LR] > 3e-5 and trial.number else {}
            return super().__call__(trial, report, progress=progress)

    snapshot = search(tmp_path / "s", Small(lambda values, epoch: abs(math.log10(values[LR]) + 5) + 1 / epoch), trials=40)
    failed = [trial.status is TrialStatus.FAILED for trial in snapshot.trials]
    assert sum(failed[20:]) < 8  # of blind draws 63 % fail


def test_a_search_where_nothing_works_says_why(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", ToyRun(faults=dict.fromkeys(range(12), Cause.DATA)))
    assert len(snapshot.trials) == 3
    assert snapshot.best is None
    assert snapshot.end is not None
    assert snapshot.end.message == "the first 3 trials all failed (data): made to fail: data"


def test_two_trials_that_fail_are_no_success(tmp_path: Path) -> None:
    snapshot = search(tmp_path / "s", ToyRun(faults={0: Cause.OOM, 1: Cause.CRASH}), trials=2)
    assert snapshot.end is not None
    assert (snapshot.end.reason, snapshot.end.message) == (EndReason.FAILED, "no trial produced val/loss (causes: crash, oom)")


def test_events_tell_the_story_in_order(tmp_path: Path) -> None:
    events: list[StudyEvent] = []
    study = Study.create(tmp_path / "s", toy_config())
    run_inline(study, run=ToyRun(), on_event=events.append)
    assert isinstance(events[0], StudyStarted)
    assert isinstance(events[-1], StudyEnded)
    starts = [event for event in events if isinstance(event, TrialStarted)]
    ends = [event for event in events if isinstance(event, TrialEnded)]
    assert [event.number for event in starts] == [event.number for event in ends]
    promoted = [event for event in events if isinstance(event, TrialPromoted)]
    resumed = [event for event in starts if event.segment > 1]
    assert [(p.number, p.from_epoch, p.to_epoch) for p in promoted] == [(s.number, s.from_epoch, s.until_epoch) for s in resumed]
    paused = [event.number for event in events if isinstance(event, TrialReported) and event.decision is Decision.PAUSE]
    waiting = [event.number for event in ends if event.status is TrialStatus.PAUSED]
    assert paused in (waiting, [*waiting, ends[-1].number])  # the last one to pause may find the search over, and then it is stopped


def test_a_stop_request_ends_the_search_at_the_next_report(tmp_path: Path) -> None:
    class Asked(ToyRun):
        def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
            if trial.number == 2:
                request_stop(tmp_path / "s")
            return super().__call__(trial, report, progress=progress)

    snapshot = search(tmp_path / "s", Asked())
    assert snapshot.end is not None
    assert (snapshot.end.reason, len(snapshot.trials)) == (EndReason.STOPPED, 3)
    assert snapshot.trial(2).status is TrialStatus.WAITING


class Interrupting(ToyRun):
    """Ctrl-C in the middle of trial 3: `run_trial` turns it into a result; `escape` lets it through instead."""

    def __init__(self, *, escape: bool) -> None:
        super().__init__()
        self.escape = escape

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        if trial.number == 3:
            if self.escape:
                raise KeyboardInterrupt
            return result_of(3, State.INTERRUPTED)
        return super().__call__(trial, report, progress=progress)


@pytest.mark.parametrize("escape", [False, True])
def test_an_interrupted_search_can_be_resumed_to_the_same_end(tmp_path: Path, escape: bool) -> None:
    events: list[StudyEvent] = []
    study = Study.create(tmp_path / "s", toy_config())
    snapshot = run_inline(study, run=Interrupting(escape=escape), on_event=events.append)
    study.close()
    assert snapshot.end is not None
    assert (snapshot.end.reason, snapshot.trial(3).status) == (EndReason.INTERRUPTED, TrialStatus.WAITING)
    assert any(isinstance(event, StudyStopping) for event in events)
    study = Study.open(tmp_path / "s")
    resumed = run_inline(study, run=ToyRun())
    study.close()
    whole = search(tmp_path / "t")
    strip = [(t.number, t.status, dict(t.values), t.curve, t.value) for t in resumed.trials]
    assert strip == [(t.number, t.status, dict(t.values), t.curve, t.value) for t in whole.trials]


def test_finalists_are_a_second_study_with_other_seeds(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(finalists=2, finalist_seeds=2))
    snapshot = run_inline(study, run=ToyRun())
    assert snapshot.best is not None
    final = run_inline(study.finalists(), run=ToyRun())
    assert [trial.parent for trial in final.trials] == [snapshot.best.number] * 2 + [final.trials[2].parent] * 2
    assert final.trials[0].folder == study.folder / "finalists" / f"{snapshot.best.number:04d}-seed2"
    assert {trial.status for trial in final.trials} == {TrialStatus.COMPLETE}
    seeds = {trial.seed for trial in final.trials} | {trial.seed for trial in snapshot.trials}
    assert len(seeds) == 16
    assert study.finalists().finished()
    study.close()
    assert read_snapshot(study.folder, finalists=True).trials == final.trials
    assert len(read_snapshot(study.folder).trials) == 12


def test_trials_run_in_the_working_folder_of_the_config(tmp_path: Path) -> None:
    seen: set[Path] = set()

    class Looking(ToyRun):
        def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
            seen.add(Path.cwd())
            return super().__call__(trial, report, progress=progress)

    here = Path.cwd()
    search(tmp_path / "s", Looking(), trials=1, working_folder=tmp_path)
    assert (seen, Path.cwd()) == ({tmp_path}, here)
