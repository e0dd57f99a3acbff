"""What the study asks, answers and remembers, without an engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from automl.config import CONFIG_FILE, load_config
from automl.journal import JOURNAL_FILE
from automl.reader import read_snapshot
from automl.requests import StopRequest, read_stop, request_stop
from automl.snapshot import EndReason, TrialStatus, ranking
from automl.study import MAX_RETRIES, Study
from search_spaces.errors import StudyError
from search_spaces.spec import get_value, spec_from_dict, spec_to_dict
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, result_of, rising_score, toy_config, write_epoch
from trials.contract import Cause, Decision, Failure, Report, State, TrialSpec


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.create(tmp_path / "study", toy_config())


def asked(study: Study) -> TrialSpec:
    spec = study.ask()
    assert spec is not None
    return spec


def send(study: Study, spec: TrialSpec, epoch: int, value: float | None) -> Decision:
    return study.report(Report(number=spec.number, epoch=epoch, step=epoch, metrics={"val/loss": value}, elapsed_s=1.0))


def pause(study: Study, value: float) -> TrialSpec:
    """Run the next new trial to its first rung, where it pauses."""
    spec = asked(study)
    assert send(study, spec, 1, value) is Decision.PAUSE
    write_epoch(spec.folder, 1)
    study.tell(result_of(spec.number, State.PAUSED))
    return spec


def finish(study: Study, spec: TrialSpec, value: float) -> TrialStatus:
    send(study, spec, 9, value)
    return study.tell(result_of(spec.number, State.COMPLETE, metrics={"val/loss": value}, best_epoch=9))


def stored(study: Study) -> list[optuna.trial.FrozenTrial]:
    """The trials as any Optuna program reads them."""
    storage = JournalStorage(JournalFileBackend(str(study.folder / JOURNAL_FILE)))
    return optuna.load_study(study_name="toy", storage=storage).trials


def test_trial_0_is_the_spec_as_it_stands(study: Study) -> None:
    spec = asked(study)
    assert (spec.number, dict(spec.values)) == (0, {LR: 1e-4, OPTIMIZER: "AdamW"})
    assert study.trial(0).rung == 9


def test_a_baseline_outside_the_space_runs_as_it_stands(tmp_path: Path) -> None:
    low = replace(SPACE.parameter(LR), high=1e-3)
    study = Study.create(tmp_path / "s", toy_config(lr=5e-3, space=replace(SPACE, parameters=(low, *SPACE.parameters[1:]))))
    spec = asked(study)
    assert get_value(spec_from_dict(spec.spec), LR) == 5e-3
    assert stored(study)[0].params == {OPTIMIZER: "AdamW"}
    finish(study, spec, 1.0)
    assert 1e-6 <= asked(study).values[LR] <= 1e-3


def test_a_trial_carries_its_values_folder_seed_and_full_horizon(study: Study) -> None:
    finish(study, asked(study), 1.0)
    trial = asked(study)
    spec = spec_from_dict(trial.spec)
    assert get_value(spec, LR) == trial.values[LR]
    assert trial.folder == study.folder / "trials" / "0001" == Path(str(spec.results_dir))
    assert (spec.train.num_epochs, spec.train.seed, trial.max_epochs) == (9, trial.seed, 9)


def test_only_active_parameters_are_stored(study: Study) -> None:
    for _ in range(10):
        asked(study)
    for trial in stored(study):
        assert (MOMENTUM in trial.params) == (trial.params[OPTIMIZER] == "SGD")


def test_a_paused_trial_stays_running_with_its_epoch(study: Study) -> None:
    finish(study, asked(study), 1.0)
    pause(study, 5.0)
    trial = stored(study)[1]
    assert (trial.state, trial.user_attrs["paused_at"], trial.intermediate_values) == (TrialState.RUNNING, 1, {1: 5.0})


def test_a_promotion_resumes_the_checkpoint_before_anything_new(study: Study) -> None:
    finish(study, asked(study), 0.9)  # its curve has no epoch 1, so its value there is 0.9
    first = pause(study, 1.0)
    second = pause(study, 1.5)
    for value in (1.6, 1.7, 1.8):
        last = pause(study, value)
    promoted = asked(study)
    assert (promoted.number, promoted.resume_from) == (first.number, first.folder / "train" / "dn_model_latest.pth")
    assert promoted.seed == first.seed
    assert study.trial(first.number).rung == 3
    assert {second.number, last.number} == {2, 5}


def test_an_epoch_may_be_reported_twice(study: Study) -> None:
    spec = asked(study)
    send(study, spec, 1, 0.5)
    assert send(study, spec, 1, 0.7) is Decision.CONTINUE
    assert study.trial(0).curve == ((1, 0.5),)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_value_that_is_no_number_is_never_stored(study: Study, value: float | None) -> None:
    spec = asked(study)
    assert send(study, spec, 1, value) is Decision.CONTINUE
    assert (study.trial(0).curve, study.trial(0).value) == ((), None)


def test_a_complete_trial_has_the_value_of_its_best_epoch(study: Study) -> None:
    spec = asked(study)
    for epoch, value in enumerate((0.9, 0.4, 0.6), start=1):
        send(study, spec, epoch, value)
    study.tell(result_of(0, State.COMPLETE, metrics={"val/loss": 0.4}, best_epoch=2))
    assert (stored(study)[0].value, study.trial(0).best_epoch) == (0.4, 2)


def test_a_complete_trial_without_a_metric_is_a_failure(study: Study) -> None:
    asked(study)
    assert study.tell(result_of(0, State.COMPLETE)) is TrialStatus.FAILED


@pytest.mark.parametrize("cause", [Cause.OOM, Cause.NAN, Cause.COLLAPSE])
def test_an_infeasible_point_is_pruned_with_a_violated_constraint(study: Study, cause: Cause) -> None:
    asked(study)
    status = study.tell(result_of(0, State.FAILED, error=Failure(cause=cause, message="too big")))
    trial = stored(study)[0]
    assert (status, trial.state, trial.constraints) == (TrialStatus.FAILED, TrialState.PRUNED, {"failure": 1.0})
    assert trial.user_attrs["failure"]["cause"] == cause.value


@pytest.mark.parametrize("cause", [Cause.CRASH, Cause.DATA, Cause.SPEC])
def test_a_fault_that_says_nothing_of_the_point_is_fail(study: Study, cause: Cause) -> None:
    asked(study)
    study.tell(result_of(0, State.FAILED, error=Failure(cause=cause, message="broken")))
    assert (stored(study)[0].state, stored(study)[0].constraints) == (TrialState.FAIL, {})


def test_a_driver_that_died_over_noting_a_failure_leaves_none(study: Study) -> None:
    """The failure is written before the end of the trial; a trial without an end goes on, and completes."""
    storage = JournalStorage(JournalFileBackend(str(study.folder / JOURNAL_FILE)))
    asked(study)
    failure = {"cause": "oom", "message": "too big", "details": {}}
    storage.set_trial_user_attr(
        storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name("toy"), 0), "failure", failure
    )
    study.close()
    study = Study.open(study.folder)
    assert finish(study, asked(study), 1.0) is TrialStatus.COMPLETE
    study.close()
    assert read_snapshot(study.folder).trial(0).error is None


def test_a_fault_of_the_machine_is_retried_without_charge_up_to_a_limit(study: Study) -> None:
    broken = Failure(cause=Cause.INFRASTRUCTURE, message="worker died")
    for attempt in range(MAX_RETRIES):
        assert asked(study).number == 0
        assert study.tell(result_of(0, State.FAILED, error=broken)) is TrialStatus.WAITING
        assert study.trial(0).retries == attempt + 1
    asked(study)
    assert study.tell(result_of(0, State.FAILED, error=broken)) is TrialStatus.FAILED


def test_a_trial_that_comes_on_between_faults_of_the_machine_is_retried_again(study: Study) -> None:
    broken = Failure(cause=Cause.INFRASTRUCTURE, message="the node was taken away")
    for epoch in range(1, MAX_RETRIES + 2):
        send(study, asked(study), epoch, 1.0)
        assert study.tell(result_of(0, State.FAILED, error=broken)) is TrialStatus.WAITING
    study.close()
    study = Study.open(study.folder)
    for _ in range(MAX_RETRIES - 1):  # one was counted in this epoch before
        asked(study)
        assert study.tell(result_of(0, State.FAILED, error=broken)) is TrialStatus.WAITING
    asked(study)
    assert study.tell(result_of(0, State.FAILED, error=broken)) is TrialStatus.FAILED
    assert study.trial(0).retries == 2 * MAX_RETRIES


def test_a_report_that_comes_after_its_segment_was_given_up_changes_nothing(study: Study) -> None:
    finish(study, asked(study), 1.0)
    failed, lost = asked(study), asked(study)
    study.tell(result_of(1, State.FAILED, error=Failure(cause=Cause.TIMEOUT, message="nothing was reported")))
    study.tell(result_of(2, State.FAILED, error=Failure(cause=Cause.INFRASTRUCTURE, message="worker died")))
    assert [send(study, spec, 1, 0.1) for spec in (failed, lost)] == [Decision.PAUSE, Decision.PAUSE]
    assert [study.trial(number).curve for number in (1, 2)] == [(), ()]


@pytest.mark.parametrize(("saved", "status", "then"), [(True, TrialStatus.PAUSED, 2), (False, TrialStatus.WAITING, 1)])
def test_a_worker_that_dies_after_the_report_of_a_rung(study: Study, saved: bool, status: TrialStatus, then: int) -> None:
    finish(study, asked(study), 1.0)
    spec = asked(study)
    assert send(study, spec, 1, 2.0) is Decision.PAUSE
    if saved:
        write_epoch(spec.folder, 1)
    died = result_of(1, State.FAILED, error=Failure(cause=Cause.INFRASTRUCTURE, message="worker died"))
    assert study.tell(died) is status
    assert (study.trial(1).retries, study.trial(1).epoch, asked(study).number) == (1, 1, then)


def test_three_failures_alike_end_a_search_that_never_worked(study: Study) -> None:
    for number in range(3):
        asked(study)
        study.tell(result_of(number, State.FAILED, error=Failure(cause=Cause.DATA, message="no such list")))
    assert study.finished()
    assert study.end is not None
    assert (study.end.reason, study.end.message) == (EndReason.FAILED, "the first 3 trials all failed (data): no such list")


def test_what_failed_trials_had_reported_is_no_reason_to_go_on(study: Study) -> None:
    for number in range(3):
        assert not study.finished()
        send(study, asked(study), 1, 0.5)
        study.tell(result_of(number, State.FAILED, error=Failure(cause=Cause.NAN, message="the loss is nan at step 9")))
    assert study.finished()
    assert study.end is not None
    assert study.end.message == "the first 3 trials all failed (nan): the loss is nan at step 9"


def test_five_crashes_in_a_row_end_a_search_that_worked(study: Study) -> None:
    finish(study, asked(study), 1.0)
    for _ in range(5):
        assert not study.finished()
        number = asked(study).number
        study.tell(result_of(number, State.FAILED, error=Failure(cause=Cause.DATA, message="the disk is gone")))
    assert study.finished()
    assert study.end is not None
    assert (study.end.reason, study.end.message) == (EndReason.FAILED, "5 trials in a row failed (data): the disk is gone")
    study.close()
    assert asked(Study.open(study.folder)).number == 6  # another try


def test_points_that_cannot_work_are_no_reason_to_stop(study: Study) -> None:
    finish(study, asked(study), 1.0)
    for _ in range(8):
        study.tell(result_of(asked(study).number, State.FAILED, error=Failure(cause=Cause.OOM, message="too big")))
    assert not study.finished()


def test_different_failures_do_not_end_the_search(study: Study) -> None:
    for number, cause in enumerate((Cause.DATA, Cause.OOM, Cause.DATA)):
        asked(study)
        study.tell(result_of(number, State.FAILED, error=Failure(cause=cause, message="x")))
    assert not study.finished()


def test_stopping_one_trial_prunes_it_and_the_search_goes_on(study: Study) -> None:
    spec = asked(study)
    request_stop(study.folder, trial=0)
    assert send(study, spec, 1, 0.5) is Decision.STOP
    assert study.tell(result_of(0, State.STOPPED)) is TrialStatus.STOPPED
    assert (study.trial(0).stopped_by, stored(study)[0].state) == ("user", TrialState.PRUNED)
    assert asked(study).number == 1


def test_stopping_a_paused_trial_needs_no_worker(study: Study) -> None:
    finish(study, asked(study), 1.0)
    pause(study, 5.0)
    request_stop(study.folder, trial=1)
    asked(study)
    assert study.trial(1).status is TrialStatus.STOPPED


def test_stopping_the_study_pauses_what_runs_and_starts_nothing(study: Study) -> None:
    spec = asked(study)
    request_stop(study.folder)
    assert study.ask() is None
    assert send(study, spec, 1, 0.5) is Decision.PAUSE
    study.tell(result_of(0, State.PAUSED))
    assert study.finished()
    assert study.end is not None
    assert study.end.reason is EndReason.STOPPED


def test_a_stopped_study_goes_on_where_it_was(study: Study) -> None:
    spec = asked(study)
    request_stop(study.folder)
    send(study, spec, 1, 0.5)
    write_epoch(spec.folder, 1)
    study.tell(result_of(0, State.PAUSED))
    study.close()
    again = Study.open(study.folder)
    assert (again.end, read_stop(study.folder)) == (None, StopRequest())
    spec = asked(again)
    assert (spec.number, spec.resume_from) == (0, spec.folder / "train" / "dn_model_latest.pth")


@pytest.mark.parametrize("searcher", ["tpe", "gp"])
def test_what_the_spec_forbids_is_drawn_again_and_costs_no_trial(tmp_path: Path, searcher: str) -> None:
    spec = spec_to_dict(spec_from_dict({"model": {"model_type": "MetricDepthAnything"}}))
    study = Study.create(tmp_path / "s", toy_config(spec=spec, searcher=searcher))
    for _ in range(6):
        assert asked(study).values[OPTIMIZER] == "AdamW"  # SGD is for FoundationStereo alone


def test_an_existing_study_is_never_overwritten(study: Study) -> None:
    with pytest.raises(StudyError) as caught:
        Study.create(study.folder, toy_config())
    assert "automl resume" in str(caught.value.hint)
    assert "--results" in str(caught.value.hint)


def test_an_unknown_searcher_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StudyError):
        Study.create(tmp_path / "s", toy_config(searcher="guess"))
    assert not (tmp_path / "s").exists()


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study in"):
        Study.open(tmp_path)
    with pytest.raises(StudyError, match="no study in"):
        read_snapshot(tmp_path)


def test_the_config_comes_back_as_it_was_written(study: Study) -> None:
    assert load_config(study.folder) == study.config


def test_a_space_changed_by_hand_is_refused(study: Study) -> None:
    path = study.folder / CONFIG_FILE
    path.write_text(path.read_text().replace("0.01", "0.02"))
    with pytest.raises(StudyError, match="fingerprint"):
        load_config(study.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"trials": 0}, "trials must be"), ({"min_epochs": 10}, "min_epochs <= epochs"), ({"engine": "rya"}, "unknown engine")],
)
def test_impossible_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        toy_config(**changes)


def test_a_snapshot_is_the_same_for_driver_and_reader(study: Study) -> None:
    finish(study, asked(study), 1.0)
    pause(study, 5.0)
    asked(study)
    mine, theirs = study.snapshot(), read_snapshot(study.folder)
    assert mine.trials == theirs.trials
    assert (mine.best, theirs.active) == (theirs.best, True)


def test_a_dead_drivers_trial_counts_as_waiting(study: Study) -> None:
    asked(study)
    study.close()
    snapshot = read_snapshot(study.folder)
    assert (snapshot.active, snapshot.trials[0].status) == (False, TrialStatus.WAITING)


def test_a_better_value_is_better_however_short_the_training(study: Study) -> None:
    finish(study, asked(study), 1.0)
    assert study.snapshot().best == study.trial(0)
    number = pause(study, 0.9).number
    assert study.snapshot().best == study.trial(number)


def test_of_equal_values_the_longer_training_is_better(study: Study) -> None:
    finish(study, asked(study), 1.0)
    pause(study, 1.0)
    assert study.snapshot().best == study.trial(0)


def test_a_score_is_maximised(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(objective="val/d1", direction="maximize"))
    spec = asked(study)
    for epoch in (1, 2):
        value = rising_score(spec.values, epoch)
        study.report(Report(number=0, epoch=epoch, step=epoch, metrics={"val/d1": value}, elapsed_s=1.0))
    assert (study.trial(0).best_epoch, study.trial(0).value) == (2, 8.5)
    assert ranking(study.snapshot().trials, "maximize")[0].number == 0


def test_the_search_is_kept_as_one_optuna_study(study: Study) -> None:
    finish(study, asked(study), 1.0)
    lines = [json.loads(line) for line in (study.folder / JOURNAL_FILE).read_text().splitlines()]
    assert sum(line["op_code"] == 4 for line in lines) == 1  # one record makes the whole trial
    assert stored(study)[0].user_attrs["trial"]["folder"] == "trials/0000"
