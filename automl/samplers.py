"""Samplers without memory, for searches that can be killed and resumed at any point.

WeightedDraws: independent draws, choices by their weights.  JointTPE: Optuna's TPE, told which parameters are drawn together instead of
finding out from all trials each time.
SobolPoints: trial n gets the n-th point of one scrambled Sobol sequence (Owen 1998; scipy.stats.qmc) over all parameters,
active or not.  CmaEsReplay: CMA-ES (Hansen 2016, https://arxiv.org/abs/1604.00772; package `cmaes`) whose state is
computed again from the finished trials at each proposal, so no pickled optimiser is ever stored or loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from automl.distributions import by_weight, distribution_of, from_unit, to_unit
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    import cmaes

_FIRST_STEP = 0.2  # of the unit cube: wide enough to leave the best startup point, narrow enough to stay near it


class JointTPE(TPESampler):
    """TPE that draws the parameters without a condition together, the others one by one."""

    def __init__(self, space: SearchSpace, *, startup: int, seed: int) -> None:
        super().__init__(n_startup_trials=startup, seed=seed)
        found = {parameter.key: distribution_of(parameter) for parameter in space.parameters if parameter.condition is None}
        self._joint = {key: found[key] for key in sorted(found) if not found[key].single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters without a condition."""
        del study, trial
        return dict(self._joint)


class WeightedDraws(RandomSampler):
    """Independent draws, choices by the weights that they have."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(seed=seed)
        self._weighted = {parameter.key: parameter for parameter in space.parameters if parameter.weights}
        self._own = np.random.default_rng(seed)

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """A value by weight, or an even draw where there are no weights."""
        if param_name in self._weighted:
            return from_unit(param_distribution, by_weight(self._weighted[param_name], self._own.random()))
        return super().sample_independent(study, trial, param_name, param_distribution)


class SobolPoints(BaseSampler):
    """Gives trial `number` (1, 2, ...; 0 is the baseline) its own point of the sequence that `seed` scrambles."""

    def __init__(self, space: SearchSpace, *, seed: int, number: int) -> None:
        from scipy.stats import qmc  # type: ignore[import-untyped]

        points = qmc.Sobol(max(1, len(space.parameters)), scramble=True, rng=np.random.default_rng(seed))
        if number > 1:
            points.fast_forward(number - 1)
        places = zip(space.parameters, points.random(1)[0].tolist(), strict=False)
        self._position = {parameter.key: by_weight(parameter, position) for parameter, position in places}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: each parameter reads its own coordinate."""
        del study, trial
        return {}

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Nothing: each parameter reads its own coordinate."""
        del study, trial, search_space
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """The value at this parameter's coordinate."""
        del study, trial
        return from_unit(param_distribution, self._position[param_name])


class CmaEsReplay(BaseSampler):
    """CMA-ES over the numeric parameters that are always active; the others are drawn at random.

    Reads COMPLETE trials in their order, a population at a time.  The first mean is the best of the first `startup` ones.
    """

    def __init__(self, space: SearchSpace, *, seed: int, startup: int) -> None:
        self._startup = startup
        self._seed = seed
        self._blind = RandomSampler(seed=seed)
        numeric = [parameter for parameter in space.parameters if parameter.condition is None and parameter.kind in {"float", "int"}]
        found = {parameter.key: distribution_of(parameter) for parameter in numeric}
        self._axes = {key: distribution for key, distribution in found.items() if not distribution.single()}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The axes of the search."""
        del study, trial
        return dict(self._axes)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """A draw from the distribution that the finished trials lead to; nothing before `startup` of them are there."""
        del trial
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(search_space) < 2 or len(trials) < self._startup:
            return {}
        sign = 1.0 if study.direction.name == "MINIMIZE" else -1.0
        points = [self._point(trial) for trial in trials]
        costs = [sign * trial.values[0] for trial in trials]
        drawn = self._replayed(points, costs).ask()
        return {key: from_unit(axis, float(x)) for (key, axis), x in zip(self._axes.items(), drawn, strict=True)}

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """A random draw."""
        return self._blind.sample_independent(study, trial, param_name, param_distribution)

    def _point(self, trial: FrozenTrial) -> npt.NDArray[np.float64]:
        return np.array([min(max(to_unit(axis, trial.params[key]), 0.0), 1.0) for key, axis in self._axes.items()])

    def _replayed(self, points: Sequence[npt.NDArray[np.float64]], costs: Sequence[float]) -> cmaes.CMA:
        import cmaes  # it loads scipy.stats, which takes longer than all of this file

        first = min(range(self._startup), key=lambda index: costs[index])
        bounds = np.array([[0.0, 1.0]] * len(self._axes))
        optimiser = cmaes.CMA(mean=points[first].copy(), sigma=_FIRST_STEP, bounds=bounds, seed=self._seed)
        size = optimiser.population_size
        for start in range(0, len(points) - size + 1, size):
            optimiser.tell([(points[index], costs[index]) for index in range(start, start + size)])
        return optimiser
