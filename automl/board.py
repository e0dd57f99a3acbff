"""The state of a search as its events tell it: what the live table draws and the mirror copies, without asking the study.

A board starts from the snapshot in StudyStarted and folds one event after another; it is changed by one thread.
"""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import replace

from automl.config import StudyConfig
from automl.events import StudyEnded, StudyEvent, StudyStarted, TrialEnded, TrialProgress, TrialPromoted, TrialReported, TrialStarted
from automl.snapshot import Place, TrialStatus, TrialSummary, place_of
from trials.contract import ProgressEvent, Report


class Board:
    """Trials by number with their newest state, and every report of this session.

    Order, counts and sums are kept from event to event, so that a line costs the same in a study of thousands.  Times are seconds since
    1970 by `clock`.
    """

    def __init__(self, config: StudyConfig, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.trials: dict[int, TrialSummary] = {}
        self.reports: dict[int, dict[int, Report]] = {}
        self.progress: dict[int, ProgressEvent] = {}
        self._order: list[Place] = []  # of the trials that may be called good, best first
        self._epochs = self._ended = 0
        self._earlier_s: dict[int, float] = {}  # time of the segments before the running one
        self.started_at = clock()
        self._clock = clock

    def apply(self, event: StudyEvent) -> int | None:
        """Takes note of `event`; the number of the trial that it changed, or None."""
        match event:
            case StudyStarted() | StudyEnded():
                self._clear()
                for trial in event.snapshot.trials:
                    self._put(trial)
                return None
            case TrialStarted():
                self._start(event)
            case TrialReported():
                self._report(event)
            case TrialPromoted():
                self._put(replace(self.trials[event.number], rung=event.to_epoch))
            case TrialProgress():
                self.progress[event.progress.number] = event.progress
                return None
            case TrialEnded():
                self._end(event)
            case _:
                return None
        return event.number

    def best(self) -> TrialSummary | None:
        """The best trial by `automl.snapshot.ranking`, None while none has a value."""
        return next(iter(self.ranked(1)), None)

    def ranked(self, count: int) -> tuple[TrialSummary, ...]:
        """As many trials that may be called good, best first."""
        return tuple(self.trials[number] for _, _, number in self._order[:count])

    def epochs_done(self) -> int:
        """Epochs trained so far over all trials; those that a trial took over from another one are that one's."""
        return self._epochs

    def ended(self) -> int:
        """Trials that are over."""
        return self._ended

    def _clear(self) -> None:
        self.trials, self._order = {}, []
        self._epochs = self._ended = 0

    def _put(self, trial: TrialSummary) -> None:
        """The newest state of a trial in place of the one before."""
        before = self.trials.get(trial.number)
        if before is not None:
            self._epochs -= before.epoch - before.start
            self._ended -= before.status.ended
            if (place := place_of(before, self.config.direction)) is not None:
                del self._order[bisect_left(self._order, place)]
        self.trials[trial.number] = trial
        self._epochs += trial.epoch - trial.start
        self._ended += trial.status.ended
        if (place := place_of(trial, self.config.direction)) is not None:
            insort(self._order, place)

    def _start(self, event: TrialStarted) -> None:
        now = self._clock()
        known = self.trials.get(event.number)
        if known is None:
            known = TrialSummary(
                number=event.number,
                status=TrialStatus.RUNNING,
                values=event.values,
                seed=event.seed,
                folder=event.folder,
                rung=event.until_epoch,
                started_at=now,
                parent=event.parent,
                epoch=event.from_epoch,
                start=event.from_epoch,
            )
        self._earlier_s[event.number] = known.elapsed_s
        started_at = now if known.started_at is None else known.started_at
        self._put(replace(known, status=TrialStatus.RUNNING, rung=event.until_epoch, segments=event.segment, started_at=started_at))

    def _report(self, event: TrialReported) -> None:
        report = Report(number=event.number, epoch=event.epoch, step=event.step, metrics=event.metrics, elapsed_s=event.elapsed_s)
        self.reports.setdefault(event.number, {})[event.epoch] = report
        trial = self.trials[event.number]
        curve = tuple(entry for entry in trial.curve if entry[0] != event.epoch)
        changed = replace(
            trial,
            epoch=event.epoch,
            rung=event.until_epoch,
            last_metrics=event.metrics,
            elapsed_s=self._earlier_s.get(event.number, 0.0) + event.elapsed_s,
        )
        if event.value is not None:
            changed = replace(changed, curve=(*curve, (event.epoch, event.value)))
            if trial.value is None or self._better(event.value, trial.value):
                changed = replace(changed, value=event.value, best_epoch=event.epoch, metrics=event.metrics)
        self._put(changed)

    def _end(self, event: TrialEnded) -> None:
        result = event.result
        trial = self.trials[event.number]
        changed = replace(trial, status=event.status, value=trial.value if event.value is None else event.value)
        if result.best_epoch is not None:
            changed = replace(changed, best_epoch=result.best_epoch, metrics=result.metrics, checkpoint=result.checkpoint)
        ended_at = self._clock() if event.status.ended else None
        elapsed_s = self._earlier_s.get(event.number, 0.0) + result.elapsed_s
        error = result.error if event.status.ended else None  # a lost worker is no failure of the trial
        peaks = [peak for peak in (trial.peak_memory_mib, result.peak_memory_mib) if peak is not None]
        self.progress.pop(event.number, None)
        self._put(replace(changed, error=error, ended_at=ended_at, elapsed_s=elapsed_s, peak_memory_mib=max(peaks, default=None)))

    def _better(self, value: float, than: float) -> bool:
        return value < than if self.config.direction == "minimize" else value > than
