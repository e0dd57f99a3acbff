"""A search that has already come far: random trials, written and judged as the study would, without the cost of its proposals and specs."""

from __future__ import annotations

import math

import numpy as np
from optuna.storages import BaseStorage

from automl.config import StudyConfig
from automl.course import Promotion
from automl.fidelity import rule_of
from automl.ledger import ledger_of
from automl.standing import LedgerStandings
from automl.trial_record import NewTrial, TrialRecord
from bench.search.method import Clock
from bench.search.synthetic import values_at
from bench.search.task import Task
from search_spaces.spec import spec_from_dict
from trials.contract import Cause, Decision, Failure, Report


class Past:
    """Fills the record of the study that `config` names, one trial after another, with promotions as soon as they are due."""

    def __init__(self, storage: BaseStorage, config: StudyConfig, task: Task, clock: Clock) -> None:
        self._config, self._task = config, task
        self._ledger = ledger_of(storage, config, clock=clock, create=True)
        self._rule = rule_of(config)
        self._standings = LedgerStandings(self._ledger, self._rule, config.direction)

    def fill(self, trials: int) -> None:
        """Write the first `trials` trials; the baseline is the first."""
        space = self._task.space
        points = np.random.default_rng(self._config.seed).uniform(size=(trials, len(space.parameters)))
        baseline = space.values_of(spec_from_dict(self._task.spec))
        for number, point in enumerate(points):
            values = values_at(space, point) if number else baseline
            granted, folder = self._rule.first_grant(number), f"trials/{number:04d}"
            self._train(self._ledger.add(NewTrial(values=values, seed=number, folder=folder, granted=granted, exempt=number == 0)))
            while isinstance(turn := self._rule.promotable(self._standings.now()), Promotion):
                record = self._ledger.records[turn.number]
                self._ledger.grant(record, turn.to_epoch)
                self._train(record)

    def _train(self, record: TrialRecord) -> None:
        """A segment: until the trial is paused, stopped, complete or failed."""
        training = self._task.train(record.values, record.seed)
        self._ledger.start(record)
        for epoch in range(record.last_epoch + 1, self._task.epochs + 1):
            cause = training.failure or (None if math.isfinite(training.losses[epoch - 1]) else Cause.NAN)
            if cause is not None:
                self._ledger.fail(record, Failure(cause=cause, message=f"simulated: {cause.value}"))
                return
            metrics = {self._config.objective: training.losses[epoch - 1]}
            report = Report(number=record.number, epoch=epoch, step=epoch, metrics=metrics, elapsed_s=epoch * training.epoch_s)
            self._ledger.note_report(record, report, training.losses[epoch - 1])
            verdict = self._rule.judge(self._standings.course(record), self._standings.now())
            if verdict.decision is Decision.PAUSE and epoch < self._task.epochs:
                self._ledger.pause(record)
                return
            if verdict.decision is Decision.STOP and epoch < self._task.epochs:
                self._ledger.stop(record, f"{self._rule.name} rule")
                return
            self._ledger.grant(record, verdict.granted)
        assert record.value is not None
        self._ledger.complete(record, record.value)
