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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from automl.config import StudyConfig
from automl.distributions import distribution_of, drawable
from automl.snapshot import EndReason, StudyEnd, StudySnapshot, TrialStatus, TrialSummary, ranking
from automl.view import INFEASIBLE
from search_spaces.objective import Direction
from search_spaces.space import SearchSpace, Value
from trials.contract import Cause, Failure, Report

INFEASIBLE_CAUSES = frozenset({Cause.OOM, Cause.NAN, Cause.COLLAPSE})


@dataclass(kw_only=True)
class TrialRecord:
    """One trial as the driver knows it; changed by the ledger alone."""

    number: int
    trial_id: int
    values: Mapping[str, Value]
    params: Mapping[str, Value]
    seed: int
    folder: str
    exempt: bool
    parent: int | None
    status: TrialStatus
    granted: int
    origin: Mapping[str, Any] = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)
    best_epoch: int | None = None
    value: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    last_metrics: Mapping[str, float | None] = field(default_factory=dict)
    last_report: Mapping[str, Any] = field(default_factory=dict)
    last_epoch: int = 0
    checkpoint: str | None = None
    error: Failure | None = None
    stopped_by: str | None = None
    segments: int = 0
    retries: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    elapsed_s: float = 0.0
    peak_memory_mib: float | None = None

    @property
    def start(self) -> int:
        """Epochs that the trial took over with the state of another one, 0 for a trial that began by itself."""
        return int(self.origin["epoch"]) if "donor" in self.origin else 0

    @property
    def infeasible(self) -> bool:
        """True when the point itself is at fault: it ran out of memory, diverged or collapsed."""
        return self.error is not None and self.error.cause in INFEASIBLE_CAUSES


@dataclass(frozen=True, kw_only=True)
class NewTrial:
    """What is known of a trial before it starts.  `folder` is relative to the study folder, `origin` what its proposal left."""

    values: Mapping[str, Value]
    seed: int
    folder: str
    granted: int
    exempt: bool = False
    parent: int | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DriverTime:
    """When the first driver of a study began (seconds since 1970), and how many seconds its drivers have run."""

    begun: float
    seconds: float


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
        self.records: list[TrialRecord] = [self._read(trial) for trial in self.study.get_trials(deepcopy=False)]
        self.changed: set[int] = {record.number for record in self.records}  # since whoever reads it cleared it

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
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING,
                params=params,
                distributions=distributions,
                user_attrs={"trial": identity, "rung": new.granted},
            )
        )
        record = TrialRecord(
            number=number,
            trial_id=self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number),
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
        return record

    def start(self, record: TrialRecord) -> None:
        """A segment begins."""
        now = self._clock()
        record.segments += 1
        record.started_at = record.started_at if record.started_at is not None else now
        self._set(record, "segment", {"count": record.segments, "started_at": record.started_at, "last_start": now})
        record.status = TrialStatus.RUNNING

    def grant(self, record: TrialRecord, epochs: int) -> None:
        """The trial may run to `epochs` from now on; a paused one is paused no more."""
        if record.status is TrialStatus.PAUSED:  # first: a trial that is no longer paused is continued whatever else got written
            self._set(record, "paused_at", None)
            record.status = TrialStatus.WAITING
        if record.granted != epochs:
            self._set(record, "rung", epochs)
            record.granted = epochs

    def note_report(self, record: TrialRecord, report: Report, value: float | None) -> None:
        """Keep a report.  An epoch that was reported before, or a value that is not finite, leaves the curve as it is."""
        record.last_metrics = dict(report.metrics)
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
        record.elapsed_s += elapsed_s
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
        record.status = TrialStatus.PAUSED

    def wait(self, record: TrialRecord) -> None:
        """The trial was cut short and goes on before anything new starts."""
        self._set(record, "waiting_at", record.last_epoch)
        record.status = TrialStatus.WAITING

    def retry(self, record: TrialRecord, failure: Failure) -> None:
        """The machine failed, not the trial: it waits for another go without charge."""
        record.retries += 1
        self._set(record, "retries", {"count": record.retries, "last": failure_to_data(failure)})
        record.status = TrialStatus.WAITING

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
        """Why the search ended, or None while it has not."""
        data = self.study.user_attrs.get("end")
        return None if data is None else StudyEnd(reason=EndReason(data["reason"]), message=data["message"])

    def note_end(self, end: StudyEnd | None) -> None:
        """Keep why the search ended; None when it goes on again."""
        self.study.set_user_attr("end", None if end is None else {"reason": end.reason.value, "message": end.message})

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
        record.status = status

    def _note_progress(self, record: TrialRecord) -> None:
        best = {"epoch": record.best_epoch, "value": record.value, "metrics": dict(record.metrics)}
        self._set(record, "progress", {**record.last_report, "best": best})

    def _set(self, record: TrialRecord, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(record.trial_id, key, value)
        self.changed.add(record.number)

    def _read(self, trial: FrozenTrial) -> TrialRecord:
        attrs = trial.user_attrs
        identity, progress = attrs["trial"], dict(attrs.get("progress") or {})
        best, segment, effort = progress.pop("best", {}), attrs.get("segment") or {}, attrs.get("effort") or {}
        ended = attrs.get("ended") or {}
        record = TrialRecord(
            number=trial.number,
            trial_id=self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number),
            values=identity["values"],
            params=dict(trial.params),
            seed=identity["seed"],
            folder=identity["folder"],
            exempt=identity["exempt"],
            parent=identity["parent"],
            status=_status_of(trial),
            granted=attrs["rung"],
            origin=identity.get("origin", {}),
            curve=dict(sorted(trial.intermediate_values.items())),
        )
        record.best_epoch, record.value, record.metrics = best.get("epoch"), best.get("value"), best.get("metrics", {})
        record.last_report, record.last_metrics = progress, progress.get("metrics", {})
        record.last_epoch = max([progress.get("epoch", 0), record.start, *record.curve])
        record.error = failure_from_data(attrs["failure"]) if attrs.get("failure") else None
        record.segments, record.started_at = segment.get("count", 0), segment.get("started_at")
        record.retries = (attrs.get("retries") or {}).get("count", 0)
        record.ended_at, record.stopped_by = ended.get("at"), ended.get("stopped_by")
        record.elapsed_s, record.peak_memory_mib = effort.get("elapsed_s", 0.0), effort.get("peak_memory_mib")
        record.checkpoint = effort.get("checkpoint")
        return record


def ledger_of(storage: BaseStorage, config: StudyConfig, *, clock: Callable[[], float], create: bool) -> Ledger:
    """The record of the study that `config` names; KeyError when it is to be read and is not there."""
    further = tuple(objective.direction for objective in config.further)
    return Ledger(storage, config.name, space=config.space, direction=config.direction, further=further, clock=clock, create=create)


def failure_to_data(failure: Failure) -> dict[str, Any]:
    """Plain data for a failure."""
    return {"cause": failure.cause.value, "message": failure.message, "details": dict(failure.details)}


def failure_from_data(data: Mapping[str, Any]) -> Failure:
    """The failure that `failure_to_data` wrote."""
    return Failure(cause=Cause(data["cause"]), message=data["message"], details=data["details"])


def summary_of(record: TrialRecord, folder: Path) -> TrialSummary:
    """A frozen copy of `record` with paths below the study folder."""
    return TrialSummary(
        number=record.number,
        status=record.status,
        values=dict(record.values),
        seed=record.seed,
        folder=folder / record.folder,
        rung=record.granted,
        epoch=record.last_epoch,
        value=record.value,
        best_epoch=record.best_epoch,
        metrics=dict(record.metrics),
        last_metrics=dict(record.last_metrics),
        curve=tuple(sorted(record.curve.items())),
        checkpoint=None if record.checkpoint is None else folder / record.checkpoint,
        error=record.error,
        stopped_by=record.stopped_by,
        segments=record.segments,
        retries=record.retries,
        started_at=record.started_at,
        ended_at=record.ended_at,
        elapsed_s=record.elapsed_s,
        peak_memory_mib=record.peak_memory_mib,
        parent=record.parent,
        start=record.start,
        origin=dict(record.origin),
    )


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


def _status_of(trial: FrozenTrial) -> TrialStatus:
    match trial.state:
        case TrialState.COMPLETE:
            return TrialStatus.COMPLETE
        case TrialState.FAIL:
            return TrialStatus.FAILED
        case TrialState.PRUNED:
            return TrialStatus.FAILED if trial.user_attrs.get("failure") else TrialStatus.STOPPED
        case _:
            return TrialStatus.PAUSED if trial.user_attrs.get("paused_at") is not None else TrialStatus.WAITING
