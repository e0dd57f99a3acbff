"""Peers that are installed with the product: random search, Ray's asynchronous Hyperband, Optuna's TPE with two pruners.

Each gets the same space, the default configuration first, the same workers and reduction factor, and is driven through its
own classes.  What a peer would return is what its own API calls the best: Optuna the best COMPLETE trial, Ray Tune
(`ResultGrid.get_best_result`, scope "last") the best last result of any trial.  None of them resumes a stopped trial.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from automl.distributions import suggest
from bench.search.method import Clock, Method, Segment, Setting
from bench.search.synthetic import values_at
from search_spaces.space import Value
from search_spaces.spec import spec_from_dict
from trials.contract import Cause, Decision, State


def default_values(setting: Setting) -> dict[str, Value]:
    """The spec's own values: what every method tries first."""
    return setting.task.space.values_of(spec_from_dict(setting.task.spec))


def noise_seed(setting: Setting, number: int) -> int:
    """The seed of trial `number`: another noise for every trial and every repetition."""
    return int(np.random.SeedSequence([setting.seed, number]).generate_state(1)[0])


class Drawn(ABC):
    """What methods without a memory of their own share: numbers, the last cost of each trial, random draws."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.last: dict[int, float] = {}
        self.ended: set[int] = set()
        self._numbers = 0
        self._rng = np.random.default_rng([setting.seed, 17])

    def ask(self) -> Segment:
        """See Method."""
        number, self._numbers = self._numbers, self._numbers + 1
        values = default_values(self.setting) if number == 0 else self.draw()
        return Segment(number=number, values=values, seed=noise_seed(self.setting, number))

    def draw(self) -> Mapping[str, Value]:
        """The configuration of a new trial: independent draws."""
        return values_at(self.setting.task.space, self._rng.uniform(size=len(self.setting.task.space.parameters)))

    @abstractmethod
    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """See Method."""

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """See Method."""
        del elapsed_s
        self.ended.add(number)
        if cause is not None or state is State.FAILED:
            self.last.pop(number, None)

    @abstractmethod
    def incumbent(self) -> int | None:
        """See Method."""


class RandomSearch(Drawn):
    """Independent draws, every one trained to the end; the best finished one is returned."""

    def __init__(self, setting: Setting, clock: Clock) -> None:
        del clock
        super().__init__(setting)
        self._best: dict[int, float] = {}

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """Go on, always."""
        del epoch, elapsed_s
        self.last[number] = min(cost, self.last.get(number, math.inf))
        return Decision.CONTINUE

    def incumbent(self) -> int | None:
        """The best of the finished ones."""
        return min((number for number in self.last if number in self.ended), key=lambda number: self.last[number], default=None)


class RayAsha(Drawn):
    """Random draws under Ray's AsyncHyperBandScheduler class, called as Tune's controller calls it."""

    def __init__(self, setting: Setting, clock: Clock, *, eta: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler

        del clock
        super().__init__(setting)
        self._scheduler = AsyncHyperBandScheduler(
            metric="cost", mode="min", max_t=setting.task.epochs, grace_period=1, reduction_factor=eta
        )
        self._trials: dict[int, Any] = {}

    def ask(self) -> Segment:
        """See Method."""
        segment = super().ask()
        self._trials[segment.number] = trial = SimpleNamespace(trial_id=str(segment.number))
        self._scheduler.on_trial_add(None, trial)
        return segment

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """What the scheduler answers; it stops every trial at the full budget, which is its end here too."""
        del elapsed_s
        self.last[number] = cost
        answer = self._scheduler.on_trial_result(None, self._trials[number], {"training_iteration": epoch, "cost": cost})
        going_on = answer == self._scheduler.CONTINUE or epoch >= self.setting.task.epochs
        return Decision.CONTINUE if going_on else Decision.STOP

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """See Method."""
        super().tell(number, state, cause, elapsed_s)
        self._scheduler.on_trial_remove(None, self._trials.pop(number))

    def incumbent(self) -> int | None:
        """The best last result."""
        return min(self.last, key=lambda number: self.last[number], default=None)


class OptunaPruned:
    """Optuna's TPE sampler and one of its pruners through ask, report, should_prune and tell."""

    def __init__(self, setting: Setting, pruner: BasePruner) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._setting = setting
        self._study = optuna.create_study(
            study_name=f"{setting.task.name}-{setting.seed}",
            sampler=TPESampler(seed=setting.seed),
            pruner=pruner,
            direction="minimize",
        )
        self._study.enqueue_trial(default_values(setting))
        self._trials: dict[int, optuna.Trial] = {}
        self._last: dict[int, float] = {}

    def ask(self) -> Segment:
        """See Method."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        values = suggest(trial, self._setting.task.space)
        return Segment(number=trial.number, values=values, seed=noise_seed(self._setting, trial.number))

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """See Method."""
        del elapsed_s
        trial = self._trials[number]
        self._last[number] = cost
        trial.report(cost, epoch)
        return Decision.STOP if epoch < self._setting.task.epochs and trial.should_prune() else Decision.CONTINUE

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """A failure is told as FAIL, as `Study.optimize` does it."""
        del elapsed_s
        trial = self._trials.pop(number)
        if cause is not None:
            self._study.tell(trial, state=TrialState.FAIL)
        elif state is State.COMPLETE:
            self._study.tell(trial, self._last[number])
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def incumbent(self) -> int | None:
        """`study.best_trial`."""
        try:
            return self._study.best_trial.number
        except ValueError:
            return None


def tpe_hyperband(setting: Setting, clock: Clock) -> Method:
    """Optuna's TPE with its HyperbandPruner."""
    del clock
    return OptunaPruned(setting, HyperbandPruner(min_resource=1, max_resource=setting.task.epochs, reduction_factor=setting.eta))


def tpe_median(setting: Setting, clock: Clock) -> Method:
    """Optuna's TPE with its MedianPruner, as it comes."""
    del clock
    return OptunaPruned(setting, MedianPruner())
