"""One trial as the driver of a search knows it, and how it is read back from the Optuna trial that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from automl.snapshot import TrialStatus, TrialSummary
from search_spaces.space import Value
from trials.contract import Cause, Failure

INFEASIBLE_CAUSES = frozenset({Cause.OOM, Cause.NAN, Cause.COLLAPSE})


@dataclass(kw_only=True)
class TrialRecord:
    """One trial as the driver knows it; changed by the ledger alone, which counts its `revision` up at every change."""

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
    revision: int = 0
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
    stuck: int = 0  # retries since it last came on, and the epoch it was at then
    stuck_at: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    elapsed_s: float = 0.0
    peak_memory_mib: float | None = None

    @property
    def futile_retries(self) -> int:
        """Retries since the trial last finished an epoch."""
        return self.stuck if self.last_epoch == self.stuck_at else 0

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


def record_of(trial: FrozenTrial, trial_id: int) -> TrialRecord:
    """The record of a trial as Optuna keeps it under `trial_id`."""
    attrs = trial.user_attrs
    identity, progress = attrs["trial"], dict(attrs.get("progress") or {})
    best, segment, effort = progress.pop("best", {}), attrs.get("segment") or {}, attrs.get("effort") or {}
    ended = attrs.get("ended") or {}
    record = TrialRecord(
        number=trial.number,
        trial_id=trial_id,
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
    if record.status is TrialStatus.FAILED:  # else a driver died over noting it, and the trial went on
        record.error = failure_from_data(attrs["failure"]) if attrs.get("failure") else None
    record.segments, record.started_at = segment.get("count", 0), segment.get("started_at")
    retries = attrs.get("retries") or {}
    record.retries, record.stuck, record.stuck_at = retries.get("count", 0), retries.get("stuck", 0), retries.get("stuck_at", 0)
    record.ended_at, record.stopped_by = ended.get("at"), ended.get("stopped_by")
    record.elapsed_s, record.peak_memory_mib = effort.get("elapsed_s", 0.0), effort.get("peak_memory_mib")
    record.checkpoint = effort.get("checkpoint")
    return record


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


def failure_to_data(failure: Failure) -> dict[str, Any]:
    """Plain data for a failure."""
    return {"cause": failure.cause.value, "message": failure.message, "details": dict(failure.details)}


def failure_from_data(data: Mapping[str, Any]) -> Failure:
    """The failure that `failure_to_data` wrote."""
    return Failure(cause=Cause(data["cause"]), message=data["message"], details=data["details"])


def _status_of(trial: FrozenTrial) -> TrialStatus:
    match trial.state:
        case TrialState.COMPLETE:
            return TrialStatus.COMPLETE
        case TrialState.FAIL:
            return TrialStatus.FAILED
        case TrialState.PRUNED:
            return TrialStatus(trial.user_attrs["ended"]["status"])
        case _:
            return TrialStatus.PAUSED if trial.user_attrs.get("paused_at") is not None else TrialStatus.WAITING
