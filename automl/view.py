"""What a sampler gets to see of a search: an Optuna study in memory, built from plain observations.

The record of the search is no fit reading for a sampler: paused trials stand in it as RUNNING, and TPE takes those for bad
ones; values of different budgets stand side by side.  A view says for each trial what it may teach.  Three rules hold for
every view: a crash teaches nothing, OOM / NaN / collapse teach that the point is infeasible, and a trial outside the
search space (the baseline can be) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.objective import Direction
from search_spaces.space import Value

INFEASIBLE = "failure"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One trial as a sampler may know it.

    `params` are the drawn values as Optuna stores them.  `best_by_rung` maps each rung that was reached to the best
    objective value up to it; `complete` says that the full budget is among them.  `running` trials have no end yet.
    """

    number: int
    params: Mapping[str, Value]
    best_by_rung: Mapping[int, float]
    complete: bool = False
    running: bool = False
    infeasible: bool = False


class View(Protocol):
    """Turns observations into the trials that a sampler reads."""

    @property
    def name(self) -> str:
        """One word for the study's record."""

    def show(self, observation: Observation, observations: Sequence[Observation]) -> Shown | None:
        """What is shown of `observation` among `observations`, or None to leave it out."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """State, final value and intermediate values of one trial in a view."""

    state: TrialState
    value: float | None = None
    by_rung: Mapping[int, float] | None = None


@dataclass(frozen=True, kw_only=True)
class PrunedView:
    """Full-budget trials are COMPLETE; all others are PRUNED at the highest rung they reached.

    TPE then ranks COMPLETE trials first and the rest by rung, best value first.  A running trial counts as soon as it
    has reached a rung; before, it is RUNNING, which TPE takes as a reason to look elsewhere (constant liar).
    """

    name: str = "pruned"

    def show(self, observation: Observation, observations: Sequence[Observation]) -> Shown | None:
        """See the class."""
        del observations
        if not observation.best_by_rung:
            return Shown(state=TrialState.RUNNING) if observation.running else None
        top = max(observation.best_by_rung)
        if observation.complete:
            return Shown(state=TrialState.COMPLETE, value=observation.best_by_rung[top], by_rung=observation.best_by_rung)
        return Shown(state=TrialState.PRUNED, value=observation.best_by_rung[top], by_rung=observation.best_by_rung)


@dataclass(frozen=True, kw_only=True)
class SameRungView:
    """Values of one rung only: the highest that at least `enough` trials reached (the lowest rung until then).

    Trials that reached it are COMPLETE with their value there, so samplers without a notion of budgets (GP, CMA-ES)
    compare like with like.  Those that ended below it are PRUNED.
    """

    enough: int
    name: str = "same-rung"

    def show(self, observation: Observation, observations: Sequence[Observation]) -> Shown | None:
        """See the class."""
        if not observation.best_by_rung:
            return Shown(state=TrialState.RUNNING) if observation.running else None
        rung = self.rung(observations)
        if rung in observation.best_by_rung:
            return Shown(state=TrialState.COMPLETE, value=observation.best_by_rung[rung])
        top = max(observation.best_by_rung)
        return Shown(state=TrialState.PRUNED, value=observation.best_by_rung[top], by_rung=observation.best_by_rung)

    def rung(self, observations: Sequence[Observation]) -> int:
        """The rung whose values are shown."""
        counts: dict[int, int] = {}
        for observation in observations:
            for rung in observation.best_by_rung:
                counts[rung] = counts.get(rung, 0) + 1
        enough = [rung for rung, count in counts.items() if count >= self.enough]
        return max(enough) if enough else min(counts)


def study_in_view(
    view: View,
    observations: Sequence[Observation],
    *,
    distributions: Mapping[str, BaseDistribution],
    direction: Direction,
    sampler: BaseSampler,
) -> optuna.Study:
    """A study in memory that holds what `view` shows of `observations`, in their order, ready for `ask`."""
    study = optuna.create_study(storage=InMemoryStorage(), sampler=sampler, direction=direction)
    trials = [_frozen(view, observation, observations, distributions) for observation in observations]
    study.add_trials([trial for trial in trials if trial is not None])
    return study


def _frozen(
    view: View, observation: Observation, observations: Sequence[Observation], distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial | None:
    params = dict(observation.params)
    used = {key: distributions[key] for key in params}
    if observation.infeasible:
        return optuna.trial.create_trial(state=TrialState.PRUNED, params=params, distributions=used, constraints={INFEASIBLE: 1.0})
    shown = view.show(observation, observations)
    if shown is None:
        return None
    return optuna.trial.create_trial(
        state=shown.state,
        value=shown.value,
        params=params,
        distributions=used,
        intermediate_values=dict(shown.by_rung or {}),
    )
