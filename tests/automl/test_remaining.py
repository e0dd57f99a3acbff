"""How long a search is said to go on: speed from the first report on, epochs as the rule expects them and as they came."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from automl.board import Board
from automl.config import StudyConfig
from automl.events import StudyEvent, TrialEnded, TrialReported, TrialStarted
from automl.limits import Limits
from automl.remaining import RemainingTime, seconds_left
from automl.snapshot import TrialStatus
from automl.study import Study
from tests.automl.toy import ToyRun, result_of, toy_config
from trials.contract import Decision, State


class Watched:
    """A board and its remaining time, told of trials that last 2 s an epoch after a start of 30 s."""

    def __init__(self, config: StudyConfig, *, spent_s: float = 0.0) -> None:
        self.now = 30.0
        self.board = Board(config, clock=lambda: self.now)
        self.remaining = RemainingTime(config, started_at=0.0, spent_s=spent_s)
        self.remaining.note(self.board, 0.0)

    def tell(self, event: StudyEvent) -> None:
        self.board.apply(event)
        self.remaining.note(self.board, self.now)

    def trial(self, number: int, epochs: int, *, over: bool = True) -> None:
        full = self.board.config.epochs
        values = {"values": {}, "seed": 0, "folder": Path()}
        self.tell(TrialStarted(number=number, segment=1, from_epoch=0, until_epoch=full, max_epochs=full, **values))
        for epoch in range(1, epochs + 1):
            self.now += 2.0
            metrics = {"metrics": {"val/loss": 1.0}, "value": 1.0, "decision": Decision.CONTINUE, "until_epoch": full}
            self.tell(TrialReported(number=number, epoch=epoch, step=epoch, elapsed_s=2.0 * epoch, **metrics))
        if over:
            result = result_of(number, State.COMPLETE)
            self.tell(TrialEnded(number=number, status=TrialStatus.COMPLETE, result=result, value=1.0, segment=1))

    def seconds(self) -> float | None:
        return self.remaining.seconds(self.board, self.now)


def test_nothing_is_said_before_the_first_report() -> None:
    assert Watched(toy_config()).seconds() is None


def test_the_start_of_the_workers_is_not_taken_for_training() -> None:
    watched = Watched(toy_config(trials=3, epochs=5, fidelity="full"))
    watched.trial(0, 5)
    assert watched.seconds() == 10 * 2.0


def test_nothing_is_left_when_all_trials_are_over() -> None:
    """The rule expected more epochs than the two trials took."""
    watched = Watched(toy_config(trials=2, epochs=9))
    watched.trial(0, 9)
    watched.trial(1, 1)
    assert watched.seconds() == 0.0


def test_a_running_trial_counts_with_what_it_was_granted() -> None:
    watched = Watched(toy_config(trials=1, epochs=5, fidelity="full"))
    watched.trial(0, 2, over=False)
    assert watched.seconds() == 3 * 2.0


def test_trials_that_end_sooner_than_expected_shorten_the_rest() -> None:
    watched = Watched(toy_config(trials=10, epochs=4, fidelity="full"))
    for number, epochs in enumerate((4, 1, 1)):
        watched.trial(number, epochs)
    kept = (6 + 4) / (12 + 4)
    assert watched.remaining.epochs(watched.board) == round(kept * 40) - 6


def test_a_limit_of_time_ends_the_search_before() -> None:
    watched = Watched(toy_config(trials=100, epochs=4, fidelity="full", limits=Limits(max_hours=0.02)))
    watched.trial(0, 4)
    assert watched.seconds() == 72.0 - watched.now


def test_hours_of_earlier_sessions_are_gone(tmp_path: Path) -> None:
    config = toy_config(trials=100, epochs=4, fidelity="full", limits=Limits(max_hours=0.02))
    now = [1000.0]
    study = Study.create(tmp_path / "s", config, clock=lambda: now[0])
    trial = study.ask()
    assert trial is not None
    now[0] += 20.0
    study.tell(ToyRun()(trial, study.report))
    study.close()
    later = Study.open(tmp_path / "s", clock=lambda: now[0] + 900.0)
    watched = Watched(config, spent_s=later.spending.driver_s())
    later.close()
    watched.trial(0, 4)
    assert watched.seconds() == 72.0 - 20.0 - watched.now


def test_a_reader_learns_it_from_the_record(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=4, epochs=3, fidelity="full", parallel=2))
    run = ToyRun()
    for _ in range(2):
        trial = study.ask()
        assert trial is not None
        study.tell(replace(run(trial, study.report), elapsed_s=6.0))
    assert seconds_left(study.snapshot()) == 2 * 6.0 / 2
    study.close()
