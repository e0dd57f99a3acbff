"""Searches without files and without training: virtual workers that take turns, epoch by epoch, on a study kept in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage

from automl.algorithms import complete_settings, find_algorithm
from automl.config import StudyConfig
from automl.fidelity import rule_of
from automl.ledger import ledger_of
from automl.snapshot import StudySnapshot
from automl.sources import SearchSource
from automl.study import Study
from tests.automl.toy import Loss, result_of, toy_config, toy_loss
from trials.contract import Cause, Decision, Failure, Report, State, TrialSpec

NOWHERE = Path("/nonexistent")


class Killed(Exception):
    """The driver is gone; what the storage and the states hold is all that is left."""


@dataclass
class Running:
    """A segment: its spec and the epochs that are trained."""

    spec: TrialSpec
    epoch: int


@dataclass
class Workers:
    """So many workers on one study; `faults` maps a trial to how it ends, at its first epoch; `beside` gives further metrics of its values.

    `kill_after` answers kills the driver; `states` are the epochs that the trials have saved, which outlive it.
    """

    count: int = 1
    loss: Loss = toy_loss
    faults: Mapping[int, Cause] = field(default_factory=dict)
    beside: Callable[[Mapping[str, Any]], Mapping[str, float | None]] = lambda values: {}
    kill_after: int | None = None
    states: dict[int, int] = field(default_factory=dict)
    answers: int = 0
    epochs: int = 0

    def run(self, study: Study) -> StudySnapshot:
        """Run `study` to its end; Killed where that was asked for."""
        busy: list[Running] = []
        while not study.finished():
            while len(busy) < self.count and (spec := study.ask()) is not None:
                started = study.trial(spec.number).start
                busy.append(Running(spec, max(self.states.get(spec.number, 0), started)))
            assert busy, "nothing runs, nothing can start, and the study is not over"
            for worker in list(busy):
                if self._step(study, worker):
                    busy.remove(worker)
        return study.snapshot()

    def _step(self, study: Study, worker: Running) -> bool:
        """Train one epoch; True when the segment is over."""
        number, objective = worker.spec.number, study.config.objective
        if number in self.faults:
            study.tell(result_of(number, State.FAILED, error=Failure(cause=self.faults[number], message="made to fail")))
            return True
        if worker.epoch < worker.spec.max_epochs:
            worker.epoch += 1
            self.epochs += 1
            value = self.loss(worker.spec.values, worker.epoch)
            metrics = {objective: value, **self.beside(worker.spec.values)}
            report = Report(number=number, epoch=worker.epoch, step=worker.epoch, metrics=metrics, elapsed_s=1.0)
            answer = study.report(report)
            self.answers += 1
            if self.answers == self.kill_after:
                raise Killed
            self.states[number] = worker.epoch
            if answer is not Decision.CONTINUE:
                study.tell(result_of(number, State.PAUSED if answer is Decision.PAUSE else State.STOPPED))
                return True
        if worker.epoch == worker.spec.max_epochs:
            study.tell(result_of(number, State.COMPLETE, metrics={objective: study.trial(number).value}))
            return True
        return False


def algorithm_config(name: str, **changes: Any) -> StudyConfig:
    """The toy config with an algorithm in it."""
    algorithm = find_algorithm(name)
    settings = complete_settings(changes.pop("settings", {}), searcher=algorithm.searcher, fidelity=algorithm.fidelity)
    return toy_config(searcher=algorithm.searcher, fidelity=algorithm.fidelity, settings=settings, **changes)


def study_in_memory(config: StudyConfig, storage: BaseStorage | None = None, clock: Callable[[], float] = time.time) -> Study:
    """A study that is kept in `storage` (a new one in memory), opened as a driver does that comes back to it."""
    kept = InMemoryStorage() if storage is None else storage
    ledger = ledger_of(kept, config, clock=clock, create=True)
    return Study(NOWHERE, config, ledger=ledger, source=SearchSource(config, rule_of(config)), clock=clock)
