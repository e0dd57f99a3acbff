"""What passes between the one who decides and the one who trains: plain, JSON-able data.

`automl` builds a TrialSpec, an engine carries it to a worker, `trials.run.run_trial` turns it
into Reports (one after each validation) and one TrialResult.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal


class Decision(Enum):
    """What the study answers to a report."""

    CONTINUE = "continue"
    PAUSE = "pause"  # save the full state and return; a later segment may resume it
    STOP = "stop"  # this trial will not be resumed


class State(Enum):
    """How a segment of a trial ended."""

    COMPLETE = "complete"  # reached max_epochs
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # Ctrl-C or a stop request; the last checkpoint can be resumed


class Cause(Enum):
    """Why a trial failed (design decision 4)."""

    OOM = "oom"
    NAN = "nan"
    COLLAPSE = "collapse"
    DATA = "data"
    SPEC = "spec"
    CRASH = "crash"
    TIMEOUT = "timeout"  # nothing was reported for too long
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The reason of a failed trial: `message` for people, `details` for programs (sample paths, last finite step)."""

    cause: Cause
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One trial (or one more segment of it).

    `spec` is the complete resolved spec as plain data; `values` are the sampled parameters, already
    applied in it.  `folder` is the trial's results_dir.  `max_epochs` is the full budget: the schedule's horizon, never a rung.
    `objective` is the metric whose best value picks `best.pth` (`val/loss`, `val/epe`, ...); its direction comes
    from `search_spaces.objective`.  `costs` are costs of the network that its reports shall tell too (`latency_ms`, ...).
    `resume_from` is a `dn_model_latest.pth` of an earlier segment.
    """

    study: str
    number: int
    skill: str
    spec: Mapping[str, Any]
    values: Mapping[str, Any]
    max_epochs: int
    seed: int
    folder: Path
    objective: str = "val/loss"
    costs: tuple[str, ...] = ()
    resume_from: Path | None = None

    @property
    def train_folder(self) -> Path:
        """Where run_trial writes: the spec's `train.results_dir` as it stands, else `<folder>/train`."""
        own = self.spec.get("train", {}).get("results_dir")
        return Path(own) if own else self.folder / "train"


@dataclass(frozen=True, kw_only=True)
class Report:
    """Metrics after validation of `epoch` (1-based: epochs done).  `metrics` holds finite numbers only; a missing one is None.

    `elapsed_s` counts from the start of this segment.
    """

    number: int
    epoch: int
    step: int
    metrics: Mapping[str, float | None]
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a segment ended.  `metrics` are those of the best epoch by the objective; `checkpoint` is best.pth, if any.

    `elapsed_s` is the length of this segment alone; `best_epoch` is 1-based and may lie in an earlier segment.  `first_weights` says
    what the trial started from: the files of its spec, and the parts that were random.
    """

    number: int
    state: State
    metrics: Mapping[str, float | None]
    best_epoch: int | None
    checkpoint: Path | None
    elapsed_s: float
    peak_memory_mib: float | None
    error: Failure | None = None
    first_weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProgressEvent:
    """How far a run is, for a console; never more than a few a second.

    `epoch` is the one being trained (1-based), `step` counts optimiser steps of the whole run (as `total_steps` does), `loss` is
    that of the last step.  `eta_s` runs to the end of the full budget.
    """

    number: int
    phase: Literal["train", "validation"]
    epoch: int
    max_epochs: int
    step: int
    total_steps: int
    loss: float | None
    eta_s: float | None


ReportTo = Callable[[Report], Decision]
ProgressTo = Callable[[ProgressEvent], None]


def trial_spec_to_json(spec: TrialSpec) -> dict[str, Any]:
    """Plain data for `spec`; paths become strings."""
    return {
        "study": spec.study,
        "number": spec.number,
        "skill": spec.skill,
        "spec": dict(spec.spec),
        "values": dict(spec.values),
        "max_epochs": spec.max_epochs,
        "seed": spec.seed,
        "folder": str(spec.folder),
        "objective": spec.objective,
        "costs": list(spec.costs),
        "resume_from": None if spec.resume_from is None else str(spec.resume_from),
    }


def trial_spec_from_json(data: Mapping[str, Any]) -> TrialSpec:
    """The TrialSpec that `trial_spec_to_json` wrote."""
    fields = dict(data)
    fields["folder"] = Path(fields["folder"])
    fields["costs"] = tuple(fields.get("costs", ()))
    fields["resume_from"] = None if fields["resume_from"] is None else Path(fields["resume_from"])
    return TrialSpec(**fields)


def report_to_json(report: Report) -> dict[str, Any]:
    """Plain data for `report`."""
    return {
        "number": report.number,
        "epoch": report.epoch,
        "step": report.step,
        "metrics": dict(report.metrics),
        "elapsed_s": report.elapsed_s,
    }


def report_from_json(data: Mapping[str, Any]) -> Report:
    """The Report that `report_to_json` wrote."""
    return Report(**data)


def result_to_json(result: TrialResult) -> dict[str, Any]:
    """Plain data for `result`; enums become their values."""
    error = result.error
    return {
        "number": result.number,
        "state": result.state.value,
        "metrics": dict(result.metrics),
        "best_epoch": result.best_epoch,
        "checkpoint": None if result.checkpoint is None else str(result.checkpoint),
        "elapsed_s": result.elapsed_s,
        "peak_memory_mib": result.peak_memory_mib,
        "first_weights": result.first_weights,
        "error": None if error is None else {"cause": error.cause.value, "message": error.message, "details": dict(error.details)},
    }


def result_from_json(data: Mapping[str, Any]) -> TrialResult:
    """The TrialResult that `result_to_json` wrote."""
    fields = dict(data)
    fields["state"] = State(fields["state"])
    fields["checkpoint"] = None if fields["checkpoint"] is None else Path(fields["checkpoint"])
    error = fields["error"]
    if error is not None:
        fields["error"] = Failure(cause=Cause(error["cause"]), message=error["message"], details=error["details"])
    return TrialResult(**fields)
