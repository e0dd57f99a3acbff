"""What a sampler gets to see of a search: an Optuna study in memory, built from plain observations.

The record of the search is no fit reading for a sampler: paused trials stand in it as RUNNING, and TPE takes those for bad
ones; values of different budgets stand side by side.  A view says for each trial what it may teach.  Three rules hold for
every view: a crash teaches nothing, OOM / NaN / collapse teach that the point is infeasible, and a trial outside the
search space (the baseline can be) is left out.

With several objectives the further ones stand beside the first in trials that are COMPLETE; the others are ranked by the first alone.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Protocol, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_spaces.objective import Direction
from search_spaces.space import Value

INFEASIBLE = "failure"
_NOTHING: dict[Any, Any] = {}  # of every trial that is shown; nobody changes one
_BEGUN = datetime(2000, 1, 1)  # Optuna asks for a time, and no sampler reads it


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One trial as a sampler may know it.

    `params` are the drawn values as Optuna stores them.  `best_by_rung` maps each rung that was reached to the best
    objective value up to it; `complete` says that the full budget is among them.  `running` trials have no end yet, paused ones
    among them.  `origin` is what its own proposal left (see `automl.proposals`).  `beside` are the values of further objectives, turned so
    that less is better; None while one of them is missing.
    """

    number: int
    params: Mapping[str, Value]
    best_by_rung: Mapping[int, float]
    complete: bool = False
    running: bool = False
    infeasible: bool = False
    beside: tuple[float, ...] | None = ()
    origin: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """State, final value and intermediate values of one trial in a view; `violated` is None where nothing is said about the point.

    `beside` are the values of further objectives of a COMPLETE trial.
    """

    state: TrialState
    value: float | None = None
    beside: tuple[float, ...] = ()
    by_rung: Mapping[int, float] | None = None
    violated: bool | None = None


class View(Protocol):
    """Turns observations into the trials that a sampler reads."""

    @property
    def name(self) -> str:
        """The word that users write."""

    def show(self, observations: Sequence[Observation], direction: Direction) -> list[Shown | None]:
        """What is shown of each observation, None to leave it out."""


@dataclass(frozen=True, kw_only=True)
class BlindView:
    """Nothing at all, for samplers that learn nothing."""

    name: str = "blind"

    def show(self, observations: Sequence[Observation], direction: Direction) -> list[Shown | None]:
        """See the class."""
        del direction
        return [None] * len(observations)


@dataclass(frozen=True, kw_only=True)
class PrunedView:
    """Full-budget trials are COMPLETE; all others are PRUNED at the highest rung they reached.

    TPE then ranks COMPLETE trials first and the rest by rung, best value first.  A running trial counts as soon as it
    has reached a rung; before, it is RUNNING, which TPE takes as a reason to look elsewhere (constant liar).
    """

    name: str = "pruned"

    def show(self, observations: Sequence[Observation], direction: Direction) -> list[Shown | None]:
        """See the class."""
        del direction
        return [_unstarted(observation) or _ended(observation) for observation in observations]


@dataclass(frozen=True, kw_only=True)
class RunningView:
    """Trials that may still go on, paused ones among them, are RUNNING; those that are over are as in the pruned view.

    It is how a search looks in the record.  TPE counts RUNNING trials among the bad ones.
    """

    name: str = "running"

    def show(self, observations: Sequence[Observation], direction: Direction) -> list[Shown | None]:
        """See the class."""
        del direction
        return [Shown(state=TrialState.RUNNING) if observation.running else _ended(observation) for observation in observations]


@dataclass(frozen=True, kw_only=True)
class SameRungView:
    """Values of one rung only: the highest that at least `enough` trials reached (the lowest rung until then).

    Trials that reached it are COMPLETE with their value there, so samplers without a notion of budgets (GP, CMA-ES)
    compare like with like.  Those that ended below it are PRUNED.  A point that cannot work is COMPLETE too, with a violated constraint
    and the worst value of all: these samplers look at no other state, and take the value for a rank or for a part of a smooth surface.
    """

    enough: int
    name: str = "same-rung"

    def show(self, observations: Sequence[Observation], direction: Direction) -> list[Shown | None]:
        """See the class."""
        rung = common_rung(observations, self.enough)
        reached = [None if rung is None else observation.best_by_rung.get(rung) for observation in observations]
        values = [value for value in reached if value is not None]
        besides = [one.beside for one, value in zip(observations, reached, strict=True) if value is not None and one.beside is not None]
        constrained = any(observation.infeasible for observation in observations)
        worst = None if not values else max(values) if direction == "minimize" else min(values)
        worst_beside = tuple(max(column) for column in zip(*besides, strict=True)) if besides else None
        found = []
        for observation, own in zip(observations, reached, strict=True):
            value, beside = (worst, worst_beside) if observation.infeasible else (own, observation.beside)
            if value is None or beside is None:
                found.append(_unstarted(observation) or _ended(observation, complete=False))
                continue
            violated = observation.infeasible if constrained else None
            found.append(Shown(state=TrialState.COMPLETE, value=value, beside=beside, violated=violated))
        return found


def find_view(name: str, *, enough: int) -> View:
    """The view of that name; `enough` trials make a rung worth comparing at."""
    views: tuple[View, ...] = (BlindView(), PrunedView(), RunningView(), SameRungView(enough=enough))
    return next(view for view in views if view.name == name)


def common_rung(observations: Sequence[Observation], enough: int) -> int | None:
    """The highest rung that at least `enough` trials reached, else the lowest that any did, None when none did."""
    counts: dict[int, int] = {}
    for observation in observations:
        for rung in observation.best_by_rung:
            counts[rung] = counts.get(rung, 0) + 1
    return max((rung for rung, count in counts.items() if count >= enough), default=min(counts, default=None))


def _unstarted(observation: Observation) -> Shown | None:
    """A running trial without any value yet."""
    return Shown(state=TrialState.RUNNING) if observation.running and not observation.best_by_rung else None


def _ended(observation: Observation, *, complete: bool = True) -> Shown | None:
    """A trial with the value of the highest rung it reached, or None when it reached none; a point that cannot work has none."""
    if observation.infeasible:
        return Shown(state=TrialState.PRUNED, violated=True)
    if not observation.best_by_rung:
        return None
    top = max(observation.best_by_rung)
    if not (observation.complete and complete) or observation.beside is None:
        return Shown(state=TrialState.PRUNED, value=observation.best_by_rung[top], by_rung=observation.best_by_rung)
    value, by_rung = observation.best_by_rung[top], observation.best_by_rung
    return Shown(state=TrialState.COMPLETE, value=value, beside=observation.beside, by_rung=by_rung)


def study_in_view(
    view: View,
    observations: Sequence[Observation],
    *,
    distributions: Mapping[str, BaseDistribution],
    direction: Direction,
    sampler: BaseSampler,
    further: int = 0,
) -> optuna.Study:
    """A study in memory that holds what `view` shows of `observations`, in their order, ready for one `ask`.

    `further` objectives stand beside the first.
    """
    shown = zip(observations, view.show(observations, direction), strict=True)
    kept = [(observation, one) for observation, one in shown if one is not None]
    drawn_from: dict[tuple[str, ...], dict[str, BaseDistribution]] = {}
    for keys in {tuple(observation.params) for observation, _ in kept}:
        drawn_from[keys] = {key: distributions[key] for key in keys}
    trials = [
        _frozen(number, observation, one, drawn_from[tuple(observation.params)]) for number, (observation, one) in enumerate(kept, start=1)
    ]
    storage = _ShownTrials(trials)
    if not further:
        return optuna.create_study(storage=storage, study_name="view", sampler=sampler, direction=direction)
    turned: list[Direction] = ["minimize"]
    optuna.create_study(storage=storage, study_name="view", directions=[direction, *turned * further])
    return _LedByTheFirst(study_name="view", storage=storage, sampler=sampler)


class _LedByTheFirst(optuna.Study):
    """A study of several objectives whose PRUNED trials are ranked by the first: Optuna asks for `direction` there, and refuses several."""

    @property
    def direction(self) -> StudyDirection:
        """That of the first objective."""
        return self.directions[0]


class _ShownTrials(InMemoryStorage):
    """A storage in memory with trials that nobody changes: they are handed out as they are, and a large search costs no copies.

    They are numbered from 1 on; number 0 is the one trial that is asked for.
    """

    def __init__(self, shown: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._shown = shown

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """The asked trial, if there is one, and those shown."""
        own = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return own + [trial for trial in self._shown if states is None or trial.state in states]


def _frozen(number: int, observation: Observation, shown: Shown, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    """A trial as Optuna has them, without the checks and copies of its `create_trial`: most of the time in a large search is theirs."""
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=shown.state,
        value=None if shown.beside else shown.value,
        values=[shown.value, *shown.beside] if shown.beside and shown.value is not None else None,
        datetime_start=_BEGUN,
        datetime_complete=None if shown.state is TrialState.RUNNING else _BEGUN,
        params=cast(dict[str, Any], observation.params),
        distributions=distributions,
        user_attrs=_NOTHING,
        system_attrs=_NOTHING if shown.violated is None else _constraint(shown.violated),
        intermediate_values=_NOTHING if shown.by_rung is None else cast(dict[int, float], shown.by_rung),
    )


@cache
def _constraint(violated: bool) -> dict[str, Any]:
    """The attributes in which Optuna keeps what a trial says about its point; nobody changes them in a trial that is shown."""
    told = optuna.trial.create_trial(state=TrialState.PRUNED, constraints={INFEASIBLE: 1.0 if violated else -1.0})
    return told.system_attrs
