"""The Optuna study that a search is kept in: written through, read back, nothing decided here.

Every trial is one Optuna trial.  Its attributes:

    trial          number, seed, folder, values, parent, exempt, origin (written with the trial, in one record)
    rung           epochs it may run to before the next decision
    segment        how often it was started, and when
    progress       the newest report with all metrics, and the best epoch with its metrics; the (first) objective of each
                   epoch is Optuna's intermediate value, which any number of objectives may have in the storage
    effort         seconds, largest memory, the best checkpoint
    paused_at      epoch at which it waits for a promotion, else null; such a trial stays RUNNING
    waiting_at     epoch at which it was cut short last (Ctrl-C, stop request); it stays RUNNING too
    retries, failure, ended

What all trials share (spec, space, objective) stands once in study.yaml; paths are relative to the study folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from automl.config import StudyConfig
from automl.distributions import distribution_of, drawable
from automl.snapshot import EndReason, StudyEnd, StudySnapshot, TrialStatus, ranking
from automl.trial_record import NewTrial, TrialRecord, failure_to_data, record_of, summary_of
from automl.view import INFEASIBLE
from search_spaces.objective import Direction
from search_spaces.space import SearchSpace
from trials.contract import Failure, Report


@dataclass(frozen=True, kw_only=True)
class DriverTime:
    """When the first driver of a study began (seconds since 1970), and how many seconds its drivers have run."""

    begun: float
    seconds: float


@dataclass(kw_only=True)
class Effort:
    """What all ended segments cost: their `seconds`, and the `epochs` of the trials that had one."""

    seconds: float
    epochs: int


class Ledger:
    """Trials of one Optuna study and their records.  One process writes; `clock` gives seconds since 1970.

    `further` are the directions of the objectives beside the first; a COMPLETE trial then has a value for each.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        space: SearchSpace,
        direction: Direction,
        clock: Callable[[], float],
        create: bool,
        further: Sequence[Direction] = (),
    ) -> None:
        self._storage = storage
        self._space = space
        self._clock = clock
        self._sign = 1.0 if direction == "minimize" else -1.0
        sampler = RandomSampler(seed=0)  # never asked; proposals come from a view
        if create:
            directions = [direction, *further]
            self.study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True, sampler=sampler)
        else:
            self.study = optuna.load_study(storage=storage, study_name=name, sampler=sampler)
        self._study_id = storage.get_study_id_from_name(name)
        self.records: list[TrialRecord] = [record_of(trial, trial._trial_id) for trial in self.study.get_trials(deepcopy=False)]
        self.changed: set[int] = {record.number for record in self.records}  # since whoever reads it cleared it
        self._over: Mapping[str, str] | None = self.study.user_attrs.get("end")
        self._standing: dict[TrialStatus, set[int]] = {status: set() for status in TrialStatus}
        for record in self.records:
            self._standing[record.status].add(record.number)
        self.effort = Effort(
            seconds=sum(record.elapsed_s for record in self.records),
            epochs=sum(record.last_epoch - record.start for record in self.records if record.elapsed_s > 0),
        )

    def standing(self, status: TrialStatus) -> Set[int]:
        """Numbers of the trials that stand so, known without a look at all of them."""
        return self._standing[status]

    def add(self, new: NewTrial) -> TrialRecord:
        """Write a new trial in one journal record, so that a killed driver leaves all of it or nothing."""
        number = len(self.records)
        params, distributions = {}, {}
        for key, value in new.values.items():
            parameter = self._space.parameter(key)
            if drawable(parameter, value):
                params[key], distributions[key] = value, distribution_of(parameter)
        identity = {
            "number": number,
            "seed": new.seed,
            "folder": new.folder,
            "values": dict(new.values),
            "parent": new.parent,
            "exempt": new.exempt,
            "origin": dict(new.origin),
        }
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs={"trial": identity, "rung": new.granted}
        )
        record = TrialRecord(
            number=number,
            trial_id=self._storage.create_new_trial(self._study_id, trial),
            values=dict(new.values),
            params=params,
            seed=new.seed,
            folder=new.folder,
            exempt=new.exempt,
            parent=new.parent,
            status=TrialStatus.WAITING,
            granted=new.granted,
            origin=dict(new.origin),
        )
        record.last_epoch = record.start
        self.records.append(record)
        self.changed.add(number)
        self._standing[record.status].add(number)
        return record

    def start(self, record: TrialRecord) -> None:
        """A segment begins."""
        now = self._clock()
        record.segments += 1
        record.started_at = record.started_at if record.started_at is not None else now
        self._set(record, "segment", {"count": record.segments, "started_at": record.started_at, "last_start": now})
        self._move(record, TrialStatus.RUNNING)

    def grant(self, record: TrialRecord, epochs: int) -> None:
        """The trial may run to `epochs` from now on; a paused one is paused no more."""
        if record.status is TrialStatus.PAUSED:  # first: a trial that is no longer paused is continued whatever else got written
            self._set(record, "paused_at", None)
            self._move(record, TrialStatus.WAITING)
        if record.granted != epochs:
            self._set(record, "rung", epochs)
            record.granted = epochs

    def note_report(self, record: TrialRecord, report: Report, value: float | None) -> None:
        """Keep a report.  An epoch that was reported before, or a value that is not finite, leaves the curve as it is."""
        record.last_metrics = dict(report.metrics)
        if record.elapsed_s > 0:
            self.effort.epochs += max(0, report.epoch - record.last_epoch)
        record.last_epoch = max(record.last_epoch, report.epoch)
        record.last_report = {"epoch": report.epoch, "step": report.step, "metrics": dict(report.metrics), "elapsed_s": report.elapsed_s}
        known = value is None or not math.isfinite(value) or report.epoch in record.curve
        if value is not None and not known and (record.value is None or self._sign * value < self._sign * record.value):
            record.best_epoch, record.value, record.metrics = report.epoch, value, dict(report.metrics)
        self._note_progress(record)
        if value is not None and not known:
            self._storage.set_trial_intermediate_value(record.trial_id, report.epoch, value)
            record.curve[report.epoch] = value

    def note_best(self, record: TrialRecord, epoch: int | None, value: float, metrics: Mapping[str, float | None]) -> None:
        """Keep a better epoch than any report told of."""
        record.best_epoch, record.value, record.metrics = epoch, value, dict(metrics)
        self._note_progress(record)

    def note_effort(self, record: TrialRecord, *, elapsed_s: float, peak_memory_mib: float | None, checkpoint: str | None) -> None:
        """Add what a segment cost, and where its best checkpoint lies."""
        if elapsed_s > 0 and record.elapsed_s == 0:
            self.effort.epochs += record.last_epoch - record.start
        record.elapsed_s += elapsed_s
        self.effort.seconds += elapsed_s
        if peak_memory_mib is not None:
            record.peak_memory_mib = max(peak_memory_mib, record.peak_memory_mib or 0.0)
        record.checkpoint = checkpoint or record.checkpoint
        effort = {"elapsed_s": record.elapsed_s, "peak_memory_mib": record.peak_memory_mib, "checkpoint": record.checkpoint}
        self._set(record, "effort", effort)

    def forget_checkpoint(self, record: TrialRecord) -> None:
        """The best weights of an ended trial are no longer there.  The files say it: Optuna lets nobody write to a finished trial."""
        record.checkpoint = None

    def pause(self, record: TrialRecord) -> None:
        """The trial waits at its rung."""
        self._set(record, "paused_at", record.last_epoch)
        self._move(record, TrialStatus.PAUSED)

    def wait(self, record: TrialRecord) -> None:
        """The trial was cut short and goes on before anything new starts."""
        self._set(record, "waiting_at", record.last_epoch)
        self._move(record, TrialStatus.WAITING)

    def retry(self, record: TrialRecord, failure: Failure) -> None:
        """The machine failed, not the trial: it waits for another go without charge."""
        record.retries, record.stuck, record.stuck_at = record.retries + 1, record.futile_retries + 1, record.last_epoch
        known = {"count": record.retries, "stuck": record.stuck, "stuck_at": record.stuck_at}
        self._set(record, "retries", {**known, "last": failure_to_data(failure)})
        self._move(record, TrialStatus.WAITING)

    def complete(self, record: TrialRecord, value: float, *further: float) -> None:
        """The trial trained for the full budget; `value` is the objective of its best epoch, `further` are the others there."""
        self._end(record, TrialStatus.COMPLETE, TrialState.COMPLETE, [value, *further])

    def stop(self, record: TrialRecord, by: str) -> None:
        """The trial ends early for good: by a rule, by the user, or because nothing promoted it."""
        record.stopped_by = by
        self._end(record, TrialStatus.STOPPED, TrialState.PRUNED, None)

    def fail(self, record: TrialRecord, failure: Failure) -> None:
        """The trial failed.  A point that cannot work is PRUNED with a violated constraint, any other fault is FAIL."""
        self._set(record, "failure", failure_to_data(failure))
        record.error = failure
        if record.infeasible:
            optuna.trial.Trial(self.study, record.trial_id).set_constraint(INFEASIBLE, 1.0)
            self._end(record, TrialStatus.FAILED, TrialState.PRUNED, None)
        else:
            self._end(record, TrialStatus.FAILED, TrialState.FAIL, None)

    def end_of_search(self) -> StudyEnd | None:
        """Why the search ended, or None while it has not; asked so often that a database is not."""
        return None if self._over is None else StudyEnd(reason=EndReason(self._over["reason"]), message=self._over["message"])

    def note_end(self, end: StudyEnd | None) -> None:
        """Keep why the search ended; None when it goes on again."""
        self._over = None if end is None else {"reason": end.reason.value, "message": end.message}
        self.study.set_user_attr("end", self._over)

    def drivers(self) -> DriverTime | None:
        """How long drivers have run, None when nobody counted."""
        data = self.study.user_attrs.get("drivers")
        return None if data is None else DriverTime(**data)

    def note_drivers(self, begun: float, seconds: float) -> None:
        """Keep how long drivers have run."""
        self.study.set_user_attr("drivers", {"begun": begun, "seconds": seconds})

    def _end(self, record: TrialRecord, status: TrialStatus, state: TrialState, values: list[float] | None) -> None:
        record.ended_at = self._clock()
        self._set(record, "ended", {"at": record.ended_at, "status": status.value, "stopped_by": record.stopped_by})
        self._storage.set_trial_state_values(record.trial_id, state, values)
        self._move(record, status)

    def _note_progress(self, record: TrialRecord) -> None:
        best = {"epoch": record.best_epoch, "value": record.value, "metrics": dict(record.metrics)}
        self._set(record, "progress", {**record.last_report, "best": best})

    def _set(self, record: TrialRecord, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(record.trial_id, key, value)
        record.revision += 1
        self.changed.add(record.number)

    def _move(self, record: TrialRecord, status: TrialStatus) -> None:
        self._standing[record.status].discard(record.number)
        self._standing[status].add(record.number)
        record.status = status


def ledger_of(storage: BaseStorage, config: StudyConfig, *, clock: Callable[[], float], create: bool) -> Ledger:
    """The record of the study that `config` names; KeyError when it is to be read and is not there."""
    further = tuple(objective.direction for objective in config.further)
    return Ledger(storage, config.record_name, space=config.space, direction=config.direction, further=further, clock=clock, create=create)


def snapshot_of(folder: Path, config: StudyConfig, ledger: Ledger, *, active: bool, now: float) -> StudySnapshot:
    """A frozen copy of all that `ledger` holds."""
    trials = tuple(summary_of(record, folder) for record in ledger.records)
    best_first = ranking(trials, config.direction)
    return StudySnapshot(
        folder=folder,
        config=config,
        trials=trials,
        best=best_first[0] if best_first else None,
        active=active,
        end=ledger.end_of_search(),
        taken_at=now,
    )
