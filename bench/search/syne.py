"""Syne Tune's asynchronous schedulers: random draws, BOHB and conformal quantile regression under its ASHA (extra `bench-syne`).

Syne Tune (https://github.com/syne-tune/syne-tune, Apache-2.0) knows no conditional parameters: it draws all of them, and those that
are not active are left out of the training.  What it would return is the configuration with the best value of all reports, as
`Tuner.best_config`.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.search.method import Clock, MakeMethod, Method, NotInstalled, Segment, Setting
from bench.search.peers import default_values, noise_seed
from search_spaces.space import Parameter, SearchSpace, Value
from trials.contract import Cause, Decision, State

CLASSES = {"syne-asha": "ASHA", "syne-bohb": "BOHB", "syne-cqr": "ASHACQR"}


def syne_method(name: str) -> MakeMethod:
    """The method `name` of CLASSES; NotInstalled without the package."""
    try:
        from syne_tune.optimizer import baselines
    except ImportError as error:
        raise NotInstalled(f"{error}; pip install -e '.[bench-syne]'") from error
    scheduler = getattr(baselines, CLASSES[name])

    def make(setting: Setting, clock: Clock) -> Method:
        del clock
        return SyneScheduler(setting, scheduler)

    return make


class SyneScheduler:
    """One of Syne Tune's multi-fidelity schedulers, called as its tuner calls it.  It draws from global generators, which are seeded."""

    def __init__(self, setting: Setting, scheduler: Any) -> None:
        random.seed(setting.seed)
        np.random.seed(setting.seed)  # noqa: NPY002 - the package draws from it
        self._setting = setting
        space = setting.task.space
        self._scheduler = scheduler(
            {parameter.key: _domain(parameter) for parameter in space.parameters},
            metric="cost",
            time_attr="epoch",
            max_t=setting.task.epochs,
            reduction_factor=setting.eta,
            random_seed=setting.seed,
            points_to_evaluate=[{**{parameter.key: parameter.default for parameter in space.parameters}, **default_values(setting)}],
        )
        self._trials: dict[int, Any] = {}
        self._last: dict[int, dict[str, float]] = {}
        self._best: dict[int, float] = {}

    def ask(self) -> Segment | None:
        """See Method."""
        from syne_tune.backend.trial_status import Trial

        suggestion = self._scheduler.suggest()
        if suggestion is None:
            return None
        number = len(self._trials)
        self._trials[number] = trial = Trial(trial_id=number, config=suggestion.config, creation_time=datetime.datetime(2026, 1, 1))
        self._scheduler.on_trial_add(trial)
        values = active_values(self._setting.task.space, suggestion.config)
        return Segment(number=number, values=values, seed=noise_seed(self._setting, number))

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """See Method."""
        del elapsed_s
        self._best[number] = min(cost, self._best.get(number, cost))
        self._last[number] = result = {"cost": cost, "epoch": epoch}
        if epoch >= self._setting.task.epochs:
            return Decision.CONTINUE  # its tuner tells the last result as complete
        answer = self._scheduler.on_trial_result(self._trials[number], result)
        return Decision.CONTINUE if answer == "CONTINUE" else Decision.STOP

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """See Method."""
        del elapsed_s
        if cause is not None:
            self._scheduler.on_trial_error(self._trials[number])
            self._best.pop(number, None)
        elif state is State.COMPLETE:
            self._scheduler.on_trial_complete(self._trials[number], self._last[number])
        else:
            self._scheduler.on_trial_remove(self._trials[number])

    def incumbent(self) -> int | None:
        """The best value of all reports."""
        return min(self._best, key=lambda number: self._best[number], default=None)


def active_values(space: SearchSpace, config: Mapping[str, Any]) -> dict[str, Value]:
    """The values of `config` that are active, in the product's own types."""
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if parameter.active_in(values):
            value = config[parameter.key]
            kinds = {"int": int, "float": float, "bool": bool, "categorical": str}
            values[parameter.key] = kinds[parameter.kind](value)
    return values


def _domain(parameter: Parameter) -> Any:
    from syne_tune import config_space as domains

    match parameter.kind:
        case "float":
            return (domains.loguniform if parameter.log else domains.uniform)(parameter.low, parameter.high)
        case "int":
            return (domains.lograndint if parameter.log else domains.randint)(int(parameter.low or 0), int(parameter.high or 0))
        case "bool":
            return domains.choice([False, True])
        case _:
            return domains.choice(list(parameter.choices))
