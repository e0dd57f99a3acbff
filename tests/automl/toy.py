"""A small real spec and search space, and a trial runner that follows a formula and leaves tiny checkpoint files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from automl.config import StudyConfig
from automl.course import Course, FidelityRule, Standings
from automl.segments import LATEST
from search_spaces.space import Condition, Parameter, SearchSpace
from search_spaces.spec import spec_from_dict, spec_to_dict, with_values
from trials.contract import (
    Cause,
    Decision,
    Failure,
    ProgressTo,
    Report,
    ReportTo,
    State,
    TrialResult,
    TrialSpec,
)
from trials.states import full_states

LR, OPTIMIZER, MOMENTUM = "train.optim.lr", "train.optim.optimizer", "train.optim.momentum"

SPACE = SearchSpace(
    skill="depth_net_stereo",
    parameters=(
        Parameter(key=LR, kind="float", low=1e-6, high=1e-2, log=True, default=1e-4),
        Parameter(key=OPTIMIZER, kind="categorical", choices=("AdamW", "SGD"), default="AdamW"),
        Parameter(key=MOMENTUM, kind="float", low=0.5, high=0.99, default=0.9, condition=Condition(key=OPTIMIZER, values=("SGD",))),
    ),
)


def toy_config(**changes: Any) -> StudyConfig:
    """A config of 12 trials of 9 epochs over SPACE; `lr` sets the baseline's learning rate."""
    spec = with_values(spec_from_dict({"model": {"model_type": "FoundationStereo"}}), {LR: changes.pop("lr", 1e-4)})
    settings: dict[str, Any] = {
        "name": "toy",
        "skill": "depth_net_stereo",
        "spec": spec_to_dict(spec),
        "space": SPACE,
        "objective": "val/loss",
        "direction": "minimize",
        "trials": 12,
        "epochs": 9,
        "seed": 1,
        "engine": "inline",
    }
    return StudyConfig(**{**settings, **changes})


def toy_loss(values: Mapping[str, Any], epoch: int) -> float:
    """A valley at lr = 1e-3, falling with the epochs; SGD is a little worse."""
    return abs(math.log10(values[LR]) + 3.0) + (0.3 if values[OPTIMIZER] == "SGD" else 0.0) + 1.0 / epoch


def rising_score(values: Mapping[str, Any], epoch: int) -> float:
    """The same as a score to maximise."""
    return 10.0 - toy_loss(values, epoch)


STEP_S = 0.05  # of a SlowRun, twice an epoch

Loss = Callable[[Mapping[str, Any], int], float]


def result_of(number: int, state: State, *, error: Failure | None = None, **changes: Any) -> TrialResult:
    """A result with nothing in it but what is given."""
    settings: dict[str, Any] = {"metrics": {}, "best_epoch": None, "checkpoint": None, "elapsed_s": 1.0, "peak_memory_mib": None}
    return TrialResult(number=number, state=state, error=error, **{**settings, **changes})


class ToyRun:
    """Trains by formula: reports each epoch, saves `dn_model_latest.pth`, obeys the answer, in the order of `run_trial`.

    `faults` maps a trial number to what happens instead of its run; `log` keeps (number, first epoch, last epoch).
    """

    def __init__(self, loss: Loss = toy_loss, *, faults: Mapping[int, Cause] | None = None, objective: str = "val/loss") -> None:
        self.loss = loss
        self.faults = dict(faults or {})
        self.objective = objective
        self.log: list[tuple[int, int, int]] = []

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        if trial.number in self.faults:
            cause = self.faults[trial.number]
            return result_of(trial.number, State.FAILED, error=Failure(cause=cause, message=f"made to fail: {cause.value}"))
        first = read_epoch(trial.resume_from) + 1
        for epoch in range(first, trial.max_epochs + 1):
            value = self.loss(trial.values, epoch)
            answer = report(Report(number=trial.number, epoch=epoch, step=epoch, metrics={self.objective: value}, elapsed_s=1.0))
            write_epoch(trial.folder, epoch)
            if answer is not Decision.CONTINUE:
                self.log.append((trial.number, first, epoch))
                state = State.PAUSED if answer is Decision.PAUSE else State.STOPPED
                return result_of(trial.number, state)
        self.log.append((trial.number, first, trial.max_epochs))
        best = min(range(1, trial.max_epochs + 1), key=lambda epoch: self.loss(trial.values, epoch))
        metrics = {self.objective: self.loss(trial.values, best)}
        return result_of(trial.number, State.COMPLETE, metrics=metrics, best_epoch=best, checkpoint=trial.folder / "train" / "best.pth")


class SlowRun(ToyRun):
    """Takes a moment to train, and another between the study's answer and the checkpoint.  Here, so that its workers import little."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def slow(sent: Report) -> Decision:
            time.sleep(STEP_S)
            decision = report(sent)
            time.sleep(STEP_S)
            return decision

        return super().__call__(trial, slow, progress=progress)


def standings_of(rule: FidelityRule, courses: Iterable[Course]) -> Standings:
    """The standings of `courses` as `rule` reads them."""
    standings = rule.standings()
    for course in courses:
        standings.put(course)
    return standings


def write_epoch(folder: Path, epoch: int) -> None:
    """A checkpoint that knows its epoch, there whole or not at all, and the only one; named as a run of one step an epoch does."""
    link, path = folder / LATEST, folder / LATEST.parent / f"model_epoch_{epoch - 1:03d}_step_{epoch:05d}.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    part, new = path.with_suffix(".part"), link.with_suffix(".new")
    part.write_text(json.dumps({"epoch": epoch}))
    part.replace(path)
    new.unlink(missing_ok=True)
    new.symlink_to(path.name)
    new.replace(link)
    for old in full_states(path.parent):
        if old.name != path.name:
            old.unlink()


def read_epoch(path: Path | None) -> int:
    """The epoch of a checkpoint, 0 when there is none."""
    return 0 if path is None else int(json.loads(path.read_text())["epoch"])
