"""NePS's PriorBand over Hyperband (extra `bench-neps`): the spec's own values are its prior.

NePS (https://github.com/automl/neps, Apache-2.0) has no conditional parameters in a fidelity search: it draws all of them, and those
that are not active are left out of the training.  It evaluates a configuration at a rung and may ask for it again at a higher one;
here such a trial goes on from its checkpoint.  What it would return is the configuration with the best result told.
"""

from __future__ import annotations

import logging
import random
import warnings
from typing import Any

import numpy as np

from bench.search.method import Clock, MakeMethod, Method, NotInstalled, Segment, Setting
from bench.search.peers import noise_seed
from bench.search.syne import active_values
from search_spaces.space import Parameter
from trials.contract import Cause, Decision, State


def neps_priorband() -> MakeMethod:
    """PriorBand as it comes; NotInstalled without the package."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import neps
    except ImportError as error:
        raise NotInstalled(f"{error}; pip install -e '.[bench-neps]'") from error

    def make(setting: Setting, clock: Clock) -> Method:
        del clock
        return PriorBand(setting, neps)

    return make


class PriorBand:
    """NePS's AskAndTell over `priorband`.  It draws from the global generators of numpy, torch and random, which are seeded."""

    def __init__(self, setting: Setting, neps: Any) -> None:
        import torch

        logging.getLogger("neps").setLevel(logging.ERROR)
        random.seed(setting.seed)
        np.random.seed(setting.seed)  # noqa: NPY002 - the package draws from it
        torch.manual_seed(setting.seed)
        self._setting = setting
        self._names = {f"p{index}": parameter for index, parameter in enumerate(setting.task.space.parameters)}
        domains = {name: _domain(neps, parameter) for name, parameter in self._names.items()}
        domains["epoch"] = neps.IntegerFidelity(1, setting.task.epochs)
        space = type("Space", (neps.PipelineSpace,), domains)()
        optimizer = neps.algorithms.priorband(space, eta=setting.eta, sample_prior_first=True)
        self._told = neps.AskAndTell(optimizer)
        self._asked: dict[int, tuple[str, int]] = {}  # number -> id and epoch of its evaluation
        self._last: dict[int, float] = {}
        self._best: dict[int, float] = {}

    def ask(self) -> Segment | None:
        """See Method."""
        trial = self._told.ask()
        number = int(trial.metadata.id.split("_", maxsplit=1)[0]) - 1
        self._asked[number] = (trial.metadata.id, int(trial.config["epoch"]))
        values = active_values(self._setting.task.space, {item.key: trial.config[name] for name, item in self._names.items()})
        return Segment(number=number, values=values, seed=noise_seed(self._setting, number))

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """Go on to the rung that was asked for."""
        del elapsed_s
        self._last[number] = cost
        until = self._asked[number][1]
        return Decision.PAUSE if until <= epoch < self._setting.task.epochs else Decision.CONTINUE

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """See Method."""
        del state, elapsed_s
        name = self._asked[number][0]
        if cause is not None:
            self._best.pop(number, None)
            self._told.tell(name, RuntimeError(cause.value))
        else:
            cost = self._last[number]
            self._best[number] = min(cost, self._best.get(number, cost))
            self._told.tell(name, cost)

    def incumbent(self) -> int | None:
        """The best result told."""
        return min(self._best, key=lambda number: self._best[number], default=None)


def _domain(neps: Any, parameter: Parameter) -> Any:
    confidence: dict[str, Any] = {"prior_confidence": "medium"}
    match parameter.kind:
        case "float":
            return neps.Float(parameter.low, parameter.high, log=parameter.log, prior=parameter.default, **confidence)
        case "int":
            return neps.Integer(int(parameter.low or 0), int(parameter.high or 0), log=parameter.log, prior=parameter.default, **confidence)
        case _:
            choices = (False, True) if parameter.kind == "bool" else parameter.choices
            return neps.Categorical(choices, prior=choices.index(parameter.default), **confidence)
