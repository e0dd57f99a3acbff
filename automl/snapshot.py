"""What a study looks like at one moment: plain, frozen data that consoles, reports and `automl status` read.

A snapshot is a copy; nothing in it changes while the search goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from automl.config import StudyConfig
from search_spaces.objective import Direction
from search_spaces.space import Value
from trials.contract import Failure

Place = tuple[float, int, int]


class TrialStatus(Enum):
    """Where a trial stands, in the words that users see."""

    RUNNING = "running"
    PAUSED = "paused"  # waits at a rung; a promotion continues it
    WAITING = "waiting"  # cut short by Ctrl-C, a stop request or a dead process; continues before anything new starts
    COMPLETE = "complete"  # trained for the full budget
    STOPPED = "stopped"  # ended early: by the rule, by the user, or never promoted
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """True when no further segment of this trial can run."""
        return self in {TrialStatus.COMPLETE, TrialStatus.STOPPED, TrialStatus.FAILED}


class EndReason(Enum):
    """Why a search came to its end."""

    EXHAUSTED = "exhausted"  # every trial asked for was run
    LIMIT = "limit"  # a limit of time was reached; finalists and promotion follow, and `automl extend` goes on
    STOPPED = "stopped"  # `automl stop`; can be resumed
    INTERRUPTED = "interrupted"  # Ctrl-C; can be resumed
    FAILED = "failed"  # the first trials all failed for one cause, or none produced a metric

    @property
    def is_success(self) -> bool:
        """True when the search ran as far as it was meant to, so that finalists, choice and promotion follow."""
        return self in {EndReason.EXHAUSTED, EndReason.LIMIT}


@dataclass(frozen=True, kw_only=True)
class StudyEnd:
    """The reason in one word and in one sentence for people."""

    reason: EndReason
    message: str


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """One trial.

    `epoch` is the number of epochs done, `rung` the number of epochs it may run to before the study decides again.
    `metrics` belong to `best_epoch`; `value` is the objective there; `last_metrics` are those of the newest report.
    `curve` holds the objective after each validated epoch.  `started_at` and `ended_at` are seconds since 1970.
    `parent` is the number of the search trial that a finalist repeats.  `origin` is what its proposal left: `donor` is the trial
    whose state a member of a population took over, and `start` the epochs that it took over with it.
    """

    number: int
    status: TrialStatus
    values: Mapping[str, Value]
    seed: int
    folder: Path
    rung: int
    epoch: int = 0
    value: float | None = None
    best_epoch: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    last_metrics: Mapping[str, float | None] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    checkpoint: Path | None = None
    error: Failure | None = None
    stopped_by: str | None = None
    segments: int = 0
    retries: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    elapsed_s: float = 0.0
    peak_memory_mib: float | None = None
    parent: int | None = None
    start: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudySnapshot:
    """A whole study.  `best` is the first of `ranking`.

    `active` is True while a driver holds the study; `end` is None until the search came to its end.
    """

    folder: Path
    config: StudyConfig
    trials: tuple[TrialSummary, ...]
    best: TrialSummary | None
    active: bool
    end: StudyEnd | None
    taken_at: float

    @property
    def epochs_trained(self) -> int:
        """Epochs trained in all; those that a trial took over with another one's state are that one's."""
        return sum(trial.epoch - trial.start for trial in self.trials)

    @property
    def begun(self) -> str:
        """How many trials there are of how many: `7 of 10`, or `14 in 10 places` where trials take the places of others."""
        asked = self.config.trials
        return f"{len(self.trials)} of {asked}" if len(self.trials) <= asked else f"{len(self.trials)} in {asked} places"

    def trial(self, number: int) -> TrialSummary:
        """The trial `number`; KeyError when there is none."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        raise KeyError(number)


def ranking(trials: tuple[TrialSummary, ...], direction: Direction) -> tuple[TrialSummary, ...]:
    """Trials that may be called good, best first: by the objective, then the longer trained, then the lower number.

    A trial that stopped early with a better value than one of the full budget comes before it: the value is that of a
    checkpoint, measured as any other, and training on can only add a better one (docs/adr/0010-default-search.md).  Failed
    trials and trials without a value are left out.
    """
    placed = [(place, trial) for trial in trials if (place := place_of(trial, direction)) is not None]
    return tuple(trial for _, trial in sorted(placed, key=lambda one: one[0]))


def place_of(trial: TrialSummary, direction: Direction) -> Place | None:
    """What `ranking` sorts a trial by, the least first; None for one that is left out."""
    if trial.value is None or trial.status is TrialStatus.FAILED:
        return None
    return (trial.value if direction == "minimize" else -trial.value, -trial.epoch, trial.number)
