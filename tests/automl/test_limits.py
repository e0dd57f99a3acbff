"""Limits of a search: what ends it, what is kept back for its final, and how it goes on with more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from automl.config import load_config, save_config
from automl.engine import run_inline
from automl.extend import Extension, extended
from automl.limits import FinalNeed, Limits, Spent, finalists_fit, limit_reached, limits_of, parse_deadline
from automl.reader import read_snapshot
from automl.settings import read_settings, understood
from automl.snapshot import EndReason, StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, result_of, toy_config
from trials.contract import Cause, Decision, Failure, ProgressTo, Report, ReportTo, State, TrialResult, TrialSpec

HOUR_S = 3600.0


class Clock:
    """A clock that every report moves on by six minutes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class SlowRun(ToyRun):
    """Each epoch takes a tenth of an hour, and each segment says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        begun = self.clock.now

        def slowly(sent: Report) -> Decision:
            self.clock.now += 0.1 * HOUR_S
            return report(replace(sent, elapsed_s=self.clock.now - begun))

        return replace(super().__call__(trial, slowly, progress=progress), elapsed_s=self.clock.now - begun)


def search(folder: Path, limits: Limits, clock: Clock, **changes: object) -> StudySnapshot:
    study = Study.create(folder, toy_config(limits=limits, **changes), clock=clock)
    try:
        return run_inline(study, run=SlowRun(clock))
    finally:
        study.close()


def resumed(folder: Path, clock: Clock) -> StudySnapshot:
    study = Study.open(folder, clock=clock)
    try:
        return run_inline(study, run=SlowRun(clock))
    finally:
        study.close()


def test_a_limit_keeps_time_for_the_final_and_the_promotion() -> None:
    limits, need = Limits(max_hours=1.0), FinalNeed(driver_s=600.0)
    used = {1000.0: None, 2819.0: None, 2820.0: "1 h"}  # 3600 - 600 - 5 % of 3600 = 2820
    for driver_s, reached in used.items():
        assert limit_reached(limits, Spent(driver_s=driver_s, gpu_s=0.0, begun=0.0, now=0.0), need) == reached


def test_finalists_that_would_take_half_of_it_are_not_waited_for() -> None:
    limits, need = Limits(gpu_hours=1.0), FinalNeed(gpu_s=2000.0)
    spent = Spent(driver_s=0.0, gpu_s=3000.0, begun=0.0, now=0.0)
    assert limit_reached(limits, spent, need) is None
    assert not finalists_fit(limits, spent, need)


def test_a_deadline_counts_from_the_beginning() -> None:
    spent = Spent(driver_s=0.0, gpu_s=0.0, begun=1000.0, now=1950.0)
    assert limit_reached(Limits(deadline=2000.0), spent, FinalNeed()) is not None
    assert limit_reached(Limits(deadline=3000.1), replace(spent, now=2900.0), FinalNeed()) is None  # 5 % of 2000.1 is 100.01
    assert limit_reached(Limits(deadline=3000.0), replace(spent, now=2900.0), FinalNeed()) is not None


def test_a_short_limit_keeps_a_minute_and_a_very_short_one_a_fifth() -> None:
    for hours, reached_s in ((0.25, 900.0 - 60.0), (0.05, 180.0 - 36.0)):
        spent = Spent(driver_s=reached_s, gpu_s=0.0, begun=0.0, now=0.0)
        assert limit_reached(Limits(max_hours=hours), spent, FinalNeed()) is not None
        assert limit_reached(Limits(max_hours=hours), replace(spent, driver_s=reached_s - 1.0), FinalNeed()) is None


@pytest.mark.parametrize("limits", [Limits(max_hours=3.0), Limits(gpu_hours=3.0), Limits(deadline=1000.0 + 3 * HOUR_S)])
def test_a_search_ends_at_its_limit_with_everything_saved(tmp_path: Path, limits: Limits) -> None:
    snapshot = search(tmp_path / "s", limits, Clock(), gpus_per_trial=1, finalists=0, trials=100)
    assert snapshot.end is not None
    assert snapshot.end.reason is EndReason.LIMIT
    spent_h = sum(trial.elapsed_s for trial in snapshot.trials) / HOUR_S
    assert 2.8 <= spent_h <= 3.0
    assert {trial.status for trial in snapshot.trials} >= {TrialStatus.COMPLETE, TrialStatus.PAUSED}  # nothing was thrown away
    assert "3 GPU hours" in snapshot.end.message or "3 h" in snapshot.end.message or "the deadline" in snapshot.end.message


def test_a_limit_before_the_first_epoch_is_a_failure(tmp_path: Path) -> None:
    clock = Clock()
    study = Study.create(tmp_path / "s", toy_config(limits=Limits(max_hours=0.05)), clock=clock)
    clock.now += HOUR_S
    assert study.ask() is None
    assert study.end is not None
    assert study.end.message == "no trial produced val/loss within 0.05 h, after 0 of 12 trials had begun"


def test_a_limit_before_any_trial_worked_is_a_failure(tmp_path: Path) -> None:
    clock = Clock()
    study = Study.create(tmp_path / "s", toy_config(limits=Limits(max_hours=1.0)), clock=clock)
    assert study.ask() is not None
    study.report(Report(number=0, epoch=1, step=1, metrics={"val/loss": 1.0}, elapsed_s=1.0))
    clock.now += HOUR_S
    study.tell(result_of(0, State.FAILED, error=Failure(cause=Cause.NAN, message="the loss is nan")))
    assert study.end is not None
    told = "no trial produced val/loss within 1 h, after 1 of 12 trials had begun"
    assert (study.end.reason, study.end.message) == (EndReason.FAILED, told)


def test_hours_go_on_counting_after_a_resume_but_not_between(tmp_path: Path) -> None:
    clock = Clock()
    first = search(tmp_path / "s", Limits(max_hours=2.0), clock, finalists=0, trials=100)
    clock.now += 50 * HOUR_S
    again = resumed(tmp_path / "s", clock)
    assert len(again.trials) == len(first.trials)
    config = load_config(tmp_path / "s")
    save_config(extended(config, Extension(max_hours="+1")), tmp_path / "s")
    longer = resumed(tmp_path / "s", clock)
    assert sum(trial.elapsed_s for trial in longer.trials) == pytest.approx(3 * HOUR_S - 0.05 * 3 * HOUR_S, abs=0.1 * HOUR_S)
    assert longer.end is not None
    assert longer.end.reason is EndReason.LIMIT


def test_the_final_fits_into_what_was_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    study = Study.create(tmp_path / "s", toy_config(limits=Limits(max_hours=6.0), trials=100), clock=clock)
    begun = clock.now
    run_inline(study, run=SlowRun(clock))
    assert study.spending.finalists_fit()
    final = run_inline(study.finalists(), run=SlowRun(clock))
    study.close()
    assert {trial.status for trial in final.trials} == {TrialStatus.COMPLETE}
    assert 5.0 <= (clock.now - begun) / HOUR_S <= 6.0


def test_an_extended_search_doubles_nothing_and_chooses_its_finalists_again(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    study = Study.create(folder, toy_config(trials=4))
    run_inline(study, run=ToyRun())
    before = run_inline(study.finalists(), run=ToyRun())
    study.close()
    save_config(extended(load_config(folder), Extension(trials="+8")), folder)
    study, run = Study.open(folder), ToyRun()
    snapshot = run_inline(study, run=run)
    final = run_inline(study.finalists(), run=run)
    study.close()
    assert len(snapshot.trials) == 12
    assert {number for number, _, _ in run.log[: len(run.log) - len(final.trials) + 2]} == set(range(4, 12))
    assert final.trials[:2] == before.trials
    assert final.trials[2].parent == snapshot.best.number if snapshot.best else False


def test_what_cannot_be_extended_says_why() -> None:
    cases = {
        Extension(epochs=18): "horizon",
        Extension(): "nothing is to be extended",
        Extension(trials="20"): "with a plus",
        Extension(trials="+1.5"): "whole N",
        Extension(max_hours="+1"): "no limit of max hours",
    }
    for extension, message in cases.items():
        with pytest.raises(StudyError, match=message):
            extended(toy_config(), extension)
    with pytest.raises(StudyError, match="population"):
        extended(toy_config(searcher="pbt", fidelity="population"), Extension(trials="+1"))


def test_a_final_that_meets_the_limit_speaks_of_finalists(tmp_path: Path) -> None:
    clock = Clock()
    study = Study.create(tmp_path / "s", toy_config(limits=Limits(max_hours=50.0), trials=5), clock=clock)
    run_inline(study, run=SlowRun(clock))
    clock.now += 50 * HOUR_S
    end = run_inline(study.finalists(), run=SlowRun(clock)).end
    study.close()
    assert end is not None
    assert end.message == "no trial produced val/loss within 50 h, after 0 of 2 finalists had begun"


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), True])
def test_a_limit_is_a_number_above_zero(value: float) -> None:
    with pytest.raises(StudyError, match="--max-hours must be"):
        limits_of(max_hours=value)
    with pytest.raises(StudyError, match="--trial-timeout must be"):
        limits_of(trial_timeout=value)


def test_a_deadline_is_a_time_to_come() -> None:
    assert parse_deadline("2026-05-04T08:00+00:00", now=0.0) == 1777881600.0
    with pytest.raises(StudyError, match="ISO 8601"):
        parse_deadline("tomorrow", now=0.0)
    with pytest.raises(StudyError, match="is over"):
        parse_deadline("2001-01-01", now=2e9)


def test_limits_and_finalists_stand_in_the_settings_too(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("automl: {max_hours: 2, trial_timeout: 30, finalists: 3, deadline: 2999-05-04T08:00:00}\n")
    given, _ = read_settings(None, tmp_path / "s.yaml", ("automl.max_hours=3",))
    settings = understood(given)
    assert (settings.limits.max_hours, settings.limits.trial_timeout_s, settings.fields["finalists"]) == (3, 1800.0, 3)
    assert settings.limits.deadline is not None
    assert Limits(max_hours=1.0).over(settings.limits).max_hours == 1.0
    for text, message in (("automl.disk_budget=-1", "above 0.*command line"), ("automl.finalists=-1", "whole number >= 0.*command line")):
        with pytest.raises(StudyError, match=message):
            understood(read_settings(None, None, (text,))[0])


def test_limits_come_back_from_the_folder(tmp_path: Path) -> None:
    limits = Limits(max_hours=2.0, disk_budget_gib=1.5, trial_timeout_s=60.0)
    Study.create(tmp_path / "s", toy_config(limits=limits)).close()
    assert read_snapshot(tmp_path / "s").config.limits == limits
