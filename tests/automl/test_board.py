"""What the board makes of events that are no ordinary course of a trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from automl.board import Board
from automl.events import TrialEnded, TrialStarted
from automl.snapshot import TrialStatus
from tests.automl.toy import result_of, toy_config
from trials.contract import Cause, Failure, State


def test_a_lost_worker_leaves_no_failure_and_takes_no_peak_away() -> None:
    board = Board(toy_config(trials=2, epochs=3))
    start = TrialStarted(number=1, values={}, seed=0, folder=Path(), segment=1, from_epoch=0, until_epoch=3, max_epochs=3)
    paused = TrialEnded(
        number=1, status=TrialStatus.PAUSED, result=result_of(1, State.PAUSED, peak_memory_mib=900.0), value=None, segment=1
    )
    died = result_of(1, State.FAILED, error=Failure(cause=Cause.INFRASTRUCTURE, message="the worker process died"))
    lost = TrialEnded(number=1, status=TrialStatus.WAITING, result=died, value=None, segment=2, retry=True)
    for event in (start, paused, replace(start, segment=2), lost):
        board.apply(event)
    assert (board.trials[1].error, board.trials[1].peak_memory_mib) == (None, 900.0)
