"""Search-space parameters as Optuna distributions, and as points of the unit cube.

One place decides how a parameter looks to a sampler: log scales, steps, switches and choices.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from decimal import Decimal
from itertools import accumulate
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from search_spaces.errors import SpecError
from search_spaces.space import Parameter, SearchSpace, Value


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """The Optuna distribution that `parameter` is drawn from.  A range that its step does not divide ends at the last step."""
    if parameter.kind == "bool":
        return CategoricalDistribution((False, True))
    if parameter.kind == "categorical":
        return CategoricalDistribution(parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None
    assert high is not None
    if parameter.kind == "int":
        stride = 1 if step is None else int(step)
        return IntDistribution(int(low), int(low) + (int(high) - int(low)) // stride * stride, log=parameter.log, step=stride)
    if step is not None:
        first, gap = Decimal(str(low)), Decimal(str(step))  # as written: 3 * 0.3 is 0.9 here
        high = float(first + (Decimal(str(high)) - first) // gap * gap)
    return FloatDistribution(low, high, log=parameter.log, step=step)


def drawable(parameter: Parameter, value: object) -> bool:
    """True when a sampler could have drawn `value`."""
    try:
        parameter.check(value)
    except SpecError:
        return False
    return True


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Value]:
    """Draw every active parameter of `space` from `trial`, parents first; inactive ones are neither drawn nor stored."""
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        if parameter.active_in(values):
            values[parameter.key] = _draw(trial, parameter.key, distribution_of(parameter))
    return values


def _draw(trial: Trial, key: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, distribution.choices)
        case IntDistribution():
            return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
        case FloatDistribution():
            return trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    raise TypeError(type(distribution).__name__)


def from_unit(distribution: BaseDistribution, position: float) -> Any:
    """The value at `position` in [0, 1]: equal shares for choices and whole numbers, log where the distribution is log."""
    position = min(max(position, 0.0), 1.0)
    match distribution:
        case CategoricalDistribution():
            return distribution.choices[min(int(position * len(distribution.choices)), len(distribution.choices) - 1)]
        case IntDistribution() if distribution.log:
            low, high = math.log(distribution.low - 0.5), math.log(distribution.high + 0.5)
            return min(max(round(math.exp(low + position * (high - low))), distribution.low), distribution.high)
        case FloatDistribution() if distribution.log:
            low, high = math.log(distribution.low), math.log(distribution.high)
            return min(max(math.exp(low + position * (high - low)), distribution.low), distribution.high)
        case FloatDistribution() if distribution.step is None:
            return distribution.low + position * (distribution.high - distribution.low)
        case IntDistribution() | FloatDistribution():
            step = distribution.step or 1
            count = round((distribution.high - distribution.low) / step) + 1
            return distribution.low + min(int(position * count), count - 1) * step
    raise TypeError(type(distribution).__name__)


def by_weight(parameter: Parameter, position: float) -> float:
    """A position drawn evenly from [0, 1], moved so that every choice comes as often as its weight says; as it is without weights."""
    if not parameter.weights:
        return position
    shares = [total / sum(parameter.weights) for total in accumulate(parameter.weights)]
    return (min(bisect_right(shares, position), len(shares) - 1) + 0.5) / len(shares)


def to_unit(distribution: BaseDistribution, value: Any) -> float:
    """Where a value lies in its distribution, in [0, 1]: the middle of its share for whole numbers, steps and choices."""
    if isinstance(distribution, CategoricalDistribution):
        return (distribution.choices.index(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = float(distribution.low), float(distribution.high)
    if isinstance(distribution, IntDistribution) or distribution.step is not None:
        half = 0.5 * float(distribution.step or 1)
        low, high = low - half, high + half
    if high <= low:
        return 0.5
    if distribution.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)
