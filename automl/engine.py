"""The inline engine: one trial after another in this process.  Tests, debugging and the simulator use it.

`Proceedings` is what it shares with the Ray engine: the study's answers, turned into events.
"""

from __future__ import annotations

import threading
from typing import Protocol

from automl.config import at_home
from automl.events import (
    NodeAvoided,
    OnEvent,
    RoomChanged,
    StudyEnded,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialEnded,
    TrialProgress,
    TrialPromoted,
    TrialReported,
    TrialStarted,
    ignore,
)
from automl.snapshot import StudySnapshot, TrialStatus
from automl.study import Study
from trials.contract import Decision, ProgressEvent, ProgressTo, Report, ReportTo, State, TrialResult, TrialSpec


class RunTrial(Protocol):
    """Runs one segment and gives its result; failures of the trial come back as results, never as exceptions."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        """See `trials.run.run_trial`."""


class Proceedings:
    """A study being run: each step asks the study and says what happened, one event at a time, in order."""

    def __init__(self, study: Study, on_event: OnEvent) -> None:
        self._study = study
        self._on_event = on_event
        self._order = threading.RLock()
        self._paused: dict[int, int] = {}  # number -> epoch

    def begin(self) -> None:
        """Say that the engine is up."""
        snapshot = self._study.snapshot()
        self._paused = {trial.number: trial.epoch for trial in snapshot.trials if trial.status is TrialStatus.PAUSED}
        self._say(StudyStarted(config=snapshot.config, snapshot=snapshot, resumed=self._study.resumed))

    def next_trial(self) -> TrialSpec | None:
        """The next segment, as `Study.ask`; says whether it is a promotion, and that it starts."""
        with self._order:
            spec = self._study.ask()
            if spec is None:
                return None
            trial = self._study.trial(spec.number)
            paused_at = self._paused.pop(spec.number, None)
            if paused_at is not None:
                self._say(TrialPromoted(number=spec.number, from_epoch=paused_at, to_epoch=trial.rung))
            self._say(
                TrialStarted(
                    number=trial.number,
                    values=trial.values,
                    seed=trial.seed,
                    folder=trial.folder,
                    segment=trial.segments,
                    from_epoch=0 if spec.resume_from is None else trial.epoch,
                    until_epoch=trial.rung,
                    max_epochs=spec.max_epochs,
                    parent=trial.parent,
                    donor=trial.origin.get("donor"),
                )
            )
            return spec

    def report(self, report: Report) -> Decision:
        """The study's answer to `report`."""
        with self._order:
            decision = self._study.report(report)
            trial = self._study.trial(report.number)
            if trial.status is TrialStatus.RUNNING:
                self._say(
                    TrialReported(
                        number=report.number,
                        epoch=report.epoch,
                        step=report.step,
                        metrics=dict(report.metrics),
                        value=report.metrics.get(self._study.config.objective),
                        elapsed_s=report.elapsed_s,
                        decision=decision,
                        until_epoch=trial.rung,
                    )
                )
            return decision

    def progress(self, event: ProgressEvent) -> None:
        """Pass on how far a trial is."""
        self._say(TrialProgress(progress=event))

    def end_trial(self, result: TrialResult) -> TrialStatus:
        """Take in a result; gives where the trial stands now."""
        with self._order:
            status = self._study.tell(result)
            trial = self._study.trial(result.number)
            if status is TrialStatus.PAUSED:
                self._paused[trial.number] = trial.epoch
            retry = result.state is State.FAILED and status is TrialStatus.WAITING
            self._say(TrialEnded(number=trial.number, status=status, result=result, value=trial.value, segment=trial.segments, retry=retry))
            return status

    def avoid(self, host: str, *, message: str, hint: str) -> None:
        """Say that the node at `host` gets no trial any more, and why."""
        self._say(NodeAvoided(host=host, message=message, hint=hint))

    def tell_room(self, message: str) -> None:
        """Say that the cluster has no room any more, or some again."""
        self._say(RoomChanged(message=message))

    def interrupt(self, message: str) -> None:
        """Let running trials pause at their next report and start nothing more."""
        self._study.interrupt()
        self._say(StudyStopping(message=message))

    def end(self) -> StudySnapshot:
        """Say why the search ended; gives the last snapshot."""
        snapshot = self._study.snapshot()
        assert snapshot.end is not None
        self._say(StudyEnded(end=snapshot.end, snapshot=snapshot))
        return snapshot

    def _say(self, event: StudyEvent) -> None:
        with self._order:
            self._on_event(event)


def run_inline(study: Study, *, run: RunTrial | None = None, on_event: OnEvent = ignore) -> StudySnapshot:
    """Run `study` to its end in this process and give the last snapshot.

    `run` is `trials.run.run_trial` unless another is given.  Ctrl-C ends the running trial after its last checkpoint and
    leaves a study that can be resumed.  Relative paths of the spec start from the config's working folder.
    """
    if run is None:
        from trials.run import run_trial

        run = run_trial
    proceedings = Proceedings(study, on_event)
    proceedings.begin()
    try:
        while not study.finished():
            trial = proceedings.next_trial()
            if trial is None:
                break
            with at_home(study.config):
                result = run(trial, proceedings.report, progress=proceedings.progress)
            if result.state is State.INTERRUPTED:
                proceedings.interrupt("interrupted: the running trial can be resumed from its last checkpoint")
            proceedings.end_trial(result)
    except KeyboardInterrupt:
        proceedings.interrupt("interrupted between two trials")
        _cut_short(study, proceedings)
    assert study.finished()
    return proceedings.end()


def _cut_short(study: Study, proceedings: Proceedings) -> None:
    """Mark a trial that was running when Ctrl-C hit outside of it."""
    for trial in study.snapshot().trials:
        if trial.status is TrialStatus.RUNNING:
            proceedings.end_trial(
                TrialResult(
                    number=trial.number,
                    state=State.INTERRUPTED,
                    metrics={},
                    best_epoch=None,
                    checkpoint=None,
                    elapsed_s=0.0,
                    peak_memory_mib=None,
                )
            )
