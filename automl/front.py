"""Several objectives of one search: what a trial achieved in each of them, and which trials no other one beats.

A trial counts by the values of its best epoch, which the first objective picks: those of the weights that would be shipped.  Costs of the
network are the same at every epoch; peak memory is that of all its segments.  A trial with a value missing is on no front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from automl.config import StudyConfig
from automl.pareto import nondominated, representatives
from automl.snapshot import TrialStatus, TrialSummary, ranking
from search_spaces.objective import PEAK_MEMORY, Objective


class Measured(Protocol):
    """What is known of a trial: `value` is that of the first objective at its best epoch, `metrics` belong to that epoch."""

    @property
    def value(self) -> float | None:
        """The first objective."""

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """Everything reported at the best epoch."""

    @property
    def peak_memory_mib(self) -> float | None:
        """The most that any segment held."""


def further_of(trial: Measured, objectives: Sequence[Objective]) -> tuple[float | None, ...]:
    """The values of objectives other than the first, None where one is missing."""
    return tuple(trial.peak_memory_mib if one.metric == PEAK_MEMORY else trial.metrics.get(one.metric) for one in objectives)


def turned(values: Sequence[float | None], objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """`values` so that less is better in each; None when one is missing."""
    known = [one.sign * value for one, value in zip(objectives, values, strict=True) if value is not None]
    return tuple(known) if len(known) == len(values) else None


def values_of(trial: Measured, config: StudyConfig) -> dict[str, float | None]:
    """The value of each objective by name, the first one first."""
    return {
        config.objective: trial.value,
        **dict(zip((one.metric for one in config.further), further_of(trial, config.further), strict=True)),
    }


def front_of(trials: Sequence[TrialSummary], config: StudyConfig) -> tuple[TrialSummary, ...]:
    """The trials that no other one beats in every objective, best by the first objective first; none with one objective.

    Compared are those of the full budget; while there is none, those that trained longest: never a lucky low rung.
    """
    if not config.further:
        return ()
    found = [(trial, point) for trial, point in _points(trials, config) if trial.status is TrialStatus.COMPLETE]
    if not found:
        found = _points(trials, config)
        longest = max((trial.epoch for trial, _ in found), default=0)
        found = [(trial, point) for trial, point in found if trial.epoch == longest]
    kept = [found[place] for place in nondominated([point for _, point in found])]
    return tuple(trial for trial, _ in sorted(kept, key=lambda one: (one[1], one[0].number)))


def best_of(trials: Sequence[TrialSummary], config: StudyConfig, count: int) -> tuple[TrialSummary, ...]:
    """The `count` trials that stand for what a search found: its best by one objective, or those that cover most of its front."""
    if not config.further:
        return ranking(tuple(trials), config.direction)[:count]
    front = front_of(trials, config)
    points = [point for _, point in _points(front, config)]
    return tuple(front[place] for place in representatives(points, count))


def beats_everywhere(trial: Measured, other: Measured, config: StudyConfig) -> bool:
    """Whether `trial` is better than `other` in every objective; False where a value is missing."""
    mine, theirs = (turned(tuple(values_of(one, config).values()), config.objectives) for one in (trial, other))
    return mine is not None and theirs is not None and all(own < its for own, its in zip(mine, theirs, strict=True))


def _points(trials: Sequence[TrialSummary], config: StudyConfig) -> list[tuple[TrialSummary, tuple[float, ...]]]:
    """The trials that did not fail and have every value, each with its point."""
    found = [(trial, turned(tuple(values_of(trial, config).values()), config.objectives)) for trial in trials]
    return [(trial, point) for trial, point in found if point is not None and trial.status is not TrialStatus.FAILED]
