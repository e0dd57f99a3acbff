"""The search space as a unit cube: what the models of ours calculate in.

A trial is a point with one coordinate per parameter: log ranges are logarithmic, whole numbers and steps lie in the middle of their share,
choices in the middle of theirs.  A parameter that is not active has no coordinate (NaN).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from automl.distributions import by_weight, distribution_of, from_unit, to_unit
from automl.view import Observation
from search_spaces.objective import Direction
from search_spaces.space import SearchSpace, Value

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cube:
    """The unit cube of a space; axes are in the order of its parameters."""

    space: SearchSpace

    @cached_property
    def axes(self) -> tuple[BaseDistribution, ...]:
        """The distribution of each parameter."""
        return tuple(distribution_of(parameter) for parameter in self.space.parameters)

    @cached_property
    def choices(self) -> npt.NDArray[np.int64]:
        """How many choices each axis has, 0 for an axis of numbers."""
        return np.array([len(axis.choices) if isinstance(axis, CategoricalDistribution) else 0 for axis in self.axes])

    def point(self, params: Mapping[str, Value]) -> Array:
        """Coordinates of drawn values, NaN where there is none."""
        keys = [parameter.key for parameter in self.space.parameters]
        found = [to_unit(axis, params[key]) if key in params else np.nan for key, axis in zip(keys, self.axes, strict=True)]
        return np.asarray(np.clip(np.array(found), 0.0, 1.0))

    def points(self, observations: Sequence[Observation]) -> Array:
        """One row of coordinates per observation, shape (n, axes)."""
        rows = [self.point(observation.params) for observation in observations]
        return np.array(rows).reshape(len(rows), len(self.axes))

    def values(self, point: Array) -> dict[str, Value]:
        """Values of the parameters that are active at a point whose coordinates are all known."""
        values: dict[str, Value] = {}
        for parameter, axis, position in zip(self.space.parameters, self.axes, point, strict=True):
            if parameter.active_in(values):
                values[parameter.key] = from_unit(axis, float(position))
        return values

    def blind(self, rng: np.random.Generator) -> dict[str, Value]:
        """Values drawn without a model: evenly, and choices by their weights."""
        drawn = rng.random(len(self.axes))
        places = zip(self.space.parameters, drawn, strict=True)
        return self.values(np.array([by_weight(parameter, float(position)) for parameter, position in places]))

    def settled(self, points: Array) -> Array:
        """`points` (n, axes) as a model sees them: in the middle of their shares, and in the middle of an axis that does not count."""
        found = np.where(np.isfinite(points), points, 0.5)
        middles = (np.minimum(np.floor(found * self._shares), self._shares - 1) + 0.5) / np.maximum(self._shares, 1)
        found = np.where(self._shares > 0, middles, found)
        return np.where(self.counting(found), found, 0.5)

    def counting(self, points: Array) -> npt.NDArray[np.bool_]:
        """Which axes count at each of `points` (n, axes) whose coordinates are all known, shape (n, axes)."""
        counts = np.ones(points.shape, dtype=bool)
        keys = [parameter.key for parameter in self.space.parameters]
        for axis, parameter in enumerate(self.space.parameters):
            condition = parameter.condition
            if condition is None:
                continue
            if condition.key not in keys:
                counts[:, axis] = False
                continue
            parent = keys.index(condition.key)
            positions = np.unique(points[:, parent])  # few: a parent has few values
            held = [position for position in positions if from_unit(self.axes[parent], float(position)) in condition.values]
            counts[:, axis] = counts[:, parent] & np.isin(points[:, parent], held)
        return counts

    @cached_property
    def _shares(self) -> npt.NDArray[np.int64]:
        """How many values each axis has in equal shares, 0 for any number."""
        return np.array([_share_count(axis) for axis in self.axes])

    def active(self, values: Mapping[str, Value]) -> npt.NDArray[np.bool_]:
        """Which axes count for `values`."""
        return np.array([parameter.key in values for parameter in self.space.parameters])


def _share_count(axis: BaseDistribution) -> int:
    if isinstance(axis, CategoricalDistribution):
        return len(axis.choices)
    assert isinstance(axis, FloatDistribution | IntDistribution)
    return 0 if axis.log or axis.step is None else round((axis.high - axis.low) / axis.step) + 1


def costs_at(observations: Sequence[Observation], rung: int, direction: Direction) -> Array:
    """The values at `rung` of observations that all reached it, signed so that less is better."""
    sign = 1.0 if direction == "minimize" else -1.0
    return np.array([sign * observation.best_by_rung[rung] for observation in observations])
