"""What stays small in a study of thousands of trials."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage

from automl.console import screen
from automl.ledger import Ledger, ledger_of
from automl.report import DRAWN, drawn_trials
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary, ranking
from automl.status import ROWS_AT_MOST, status_data, status_view, those_that_matter
from automl.trial_record import NewTrial
from tests.automl.toy import LR, OPTIMIZER, toy_config
from trials.contract import Report


def snapshot(count: int) -> StudySnapshot:
    """Paused trials at one epoch; the best are those whose number ends with 7, and of these the first."""
    trials = tuple(
        TrialSummary(
            number=number, status=TrialStatus.PAUSED, values={LR: 1e-4, OPTIMIZER: "AdamW"}, seed=0, folder=Path(), rung=1, epoch=1,
            value=1.0 if number % 10 == 7 else 2.0,
        )
        for number in range(count)
    )  # fmt: skip
    config = toy_config(working_folder=Path())
    return StudySnapshot(folder=Path(), config=config, trials=trials, best=trials[7], active=False, end=None, taken_at=0.0)


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


@pytest.fixture
def ledger(storage: InMemoryStorage) -> Ledger:
    found = ledger_of(storage, toy_config(working_folder=Path()), clock=lambda: 0.0, create=True)
    for number in range(3):
        found.add(NewTrial(values={LR: 1e-4, OPTIMIZER: "AdamW"}, seed=number, folder=f"trials/{number:04d}", granted=9))
    return found


def test_charts_show_every_trial_of_a_study_that_is_not_large() -> None:
    small = snapshot(DRAWN)
    assert drawn_trials(small) is small.trials


def test_charts_of_a_large_study_show_the_best_and_an_even_selection() -> None:
    drawn = [trial.number for trial in drawn_trials(snapshot(4 * DRAWN))]
    assert len(drawn) == DRAWN
    assert set(range(7, DRAWN, 10)) <= set(drawn)
    quarters = [sum(DRAWN * quarter <= number < DRAWN * (quarter + 1) for number in drawn) for quarter in range(4)]
    assert quarters[0] == DRAWN // 10 + 104  # 450 of the 1,950 others, of which the first quarter has 450
    assert set(quarters[1:]) == {115, 116}


def test_the_table_of_a_large_study_shows_what_runs_the_best_and_the_newest() -> None:
    trials = snapshot(100).trials
    trials = (trials[0], replace(trials[1], status=TrialStatus.RUNNING), *trials[2:])
    shown = those_that_matter(trials, ranking(trials, "minimize"), 8)
    assert [trial.number for trial in shown] == [1, 7, 17, 27, 37, 97, 98, 99]


def test_status_says_how_many_trials_it_leaves_out_and_json_has_them(capsys: pytest.CaptureFixture[str]) -> None:
    large = snapshot(ROWS_AT_MOST + 3)
    screen().print(status_view(large))
    assert "3 others are not shown; --json has all" in capsys.readouterr().out
    assert len(status_data(large)["trials"]) == ROWS_AT_MOST + 3


def test_trials_are_known_by_where_they_stand(ledger: Ledger) -> None:
    first, second, _ = ledger.records
    ledger.start(first)
    ledger.start(second)
    ledger.pause(second)
    assert [set(ledger.standing(status)) for status in (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.PAUSED)] == [{2}, {0}, {1}]


def test_effort_is_what_the_records_add_up_to(ledger: Ledger) -> None:
    for record, epochs, elapsed_s in ((ledger.records[0], 3, 30.0), (ledger.records[1], 2, 0.0), (ledger.records[0], 5, 20.0)):
        ledger.note_report(record, Report(number=record.number, epoch=epochs, step=epochs, metrics={"val/loss": 1.0}, elapsed_s=1.0), 1.0)
        ledger.note_effort(record, elapsed_s=elapsed_s, peak_memory_mib=None, checkpoint=None)
    assert (ledger.effort.seconds, ledger.effort.epochs) == (50.0, 5)  # trial 1 has no segment that took time


def test_a_trial_that_changed_is_told_from_one_that_did_not(ledger: Ledger) -> None:
    first, second, _ = ledger.records
    before = (first.revision, second.revision)
    ledger.start(first)
    assert (first.revision > before[0], second.revision > before[1]) == (True, False)


def test_a_record_read_back_adds_up_alike(ledger: Ledger, storage: InMemoryStorage) -> None:
    record = ledger.records[0]
    ledger.start(record)
    ledger.note_effort(record, elapsed_s=10.0, peak_memory_mib=None, checkpoint=None)
    ledger.note_report(record, Report(number=0, epoch=4, step=4, metrics={"val/loss": 1.0}, elapsed_s=1.0), 1.0)
    again = ledger_of(storage, toy_config(working_folder=Path()), clock=lambda: 0.0, create=False)
    assert (again.effort.seconds, again.effort.epochs) == (ledger.effort.seconds, ledger.effort.epochs) == (10.0, 4)
