"""How long a search is likely to go on: what its fidelity rule expects of it, corrected by how it has gone so far.

The speed is that of the trials since the first report, so that the start of Ray and of the workers is not taken for training.
"""

from __future__ import annotations

from collections.abc import Sequence

from automl.board import Board
from automl.config import StudyConfig
from automl.limits import HOUR_S
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary


def epochs_left(config: StudyConfig, trials: Sequence[TrialSummary]) -> int:
    """Epochs that are likely to come: those expected of as many trials, times how the trials so far kept to it.

    One full training counts as what the rule expected, so that the first trials do not decide alone.
    """
    from automl.fidelity import rule_of

    if len(trials) >= config.trials and all(trial.status.ended for trial in trials):
        return 0
    expected = rule_of(config).likely_epochs
    settled = [trial for trial in trials if trial.status is not TrialStatus.RUNNING]
    trained = sum(trial.epoch - trial.start for trial in settled)
    kept = (trained + config.epochs) / (expected(len(settled)) + config.epochs) if settled else 1.0
    granted = sum(trial.rung - trial.epoch for trial in trials if trial.status is TrialStatus.RUNNING)
    done = sum(trial.epoch - trial.start for trial in trials)
    return max(round(kept * expected(max(config.trials, len(trials)))) - done, granted, 0)


def seconds_left(snapshot: StudySnapshot) -> float | None:
    """Seconds until a search that runs now is likely to be over, by the time of its finished segments; None while there are none."""
    busy = [trial for trial in snapshot.trials if trial.elapsed_s > 0.0 and trial.epoch > trial.start]
    epochs = sum(trial.epoch - trial.start for trial in busy)
    if snapshot.end is not None or not epochs:
        return None
    epoch_s = sum(trial.elapsed_s for trial in busy) / epochs
    return epochs_left(snapshot.config, snapshot.trials) * epoch_s / snapshot.config.parallel


class RemainingTime:
    """Learns from one board after another report; times are seconds of the caller's clock.  Used by one thread.

    `spent_s` is what drivers had used of the search's hours by `started_at`.
    """

    def __init__(self, config: StudyConfig, *, started_at: float, spent_s: float = 0.0) -> None:
        self._config = config
        self._started_at, self._spent_s = started_at, spent_s
        self._first: tuple[float, int] | None = None  # when epochs were first reported, and how many had been trained by then
        self._before: int | None = None  # epochs of earlier sessions

    def note(self, board: Board, now: float) -> None:
        """An event changed `board`."""
        done = board.epochs_done()
        if self._before is None:
            self._before = done
        if self._first is None and done > self._before:
            self._first = (now, done)

    def epochs(self, board: Board) -> int:
        """Epochs that are likely to come."""
        return epochs_left(self._config, tuple(board.trials.values()))

    def seconds(self, board: Board, now: float) -> float | None:
        """Seconds until it is over, never beyond its limit of time; None before anything was trained."""
        if self._first is None or self._before is None:
            return None
        since, trained = self._first
        done = board.epochs_done()
        epoch_s = (now - since) / (done - trained) if done > trained else (now - self._started_at) / (done - self._before)
        limits = self._config.limits
        ends = [limits.deadline] if limits.deadline is not None else []
        ends += [self._started_at + limits.max_hours * HOUR_S - self._spent_s] if limits.max_hours is not None else []
        return max(0.0, min([self.epochs(board) * epoch_s, *(end - now for end in ends)]))
