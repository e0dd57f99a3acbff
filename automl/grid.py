"""The grid searcher: every combination of a few values of each parameter, in an order that the seed shuffles.

Values of a parameter: all its choices; all steps of a range that has a step; else `grid_levels` values evenly from the lower to the
upper end, on a log scale where the range is logarithmic (whole numbers are rounded, equal ones counted once).  Only active
parameters are combined.  The order is shuffled so that a search with fewer trials than points has seen all parts of the space.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from optuna.distributions import CategoricalDistribution

from automl.distributions import distribution_of, from_unit
from automl.proposals import Need, Proposal, derive_seed
from automl.view import Observation
from search_spaces.errors import StudyError
from search_spaces.objective import Direction
from search_spaces.space import Parameter, SearchSpace, Value

MOST_POINTS = 10_000


class Grid:
    """The points of a space by index, 0 to `size` - 1; nothing is listed, so even an absurd size is known at once."""

    def __init__(self, space: SearchSpace, levels: int) -> None:
        self._parameters = space.parameters
        self._values = [values_of(parameter, levels) for parameter in space.parameters]
        self._parents = {parameter.condition.key for parameter in space.parameters if parameter.condition is not None}
        self._counts: dict[tuple[int, tuple[tuple[str, Value], ...]], int] = {}
        self.size = self._count(0, ())

    def point(self, index: int) -> dict[str, Value]:
        """The values of one point."""
        chosen: dict[str, Value] = {}
        known: tuple[tuple[str, Value], ...] = ()
        for position, parameter in enumerate(self._parameters):
            if not parameter.active_in(chosen):
                continue
            for value in self._values[position]:
                after = self._after(known, parameter, value)
                below = self._count(position + 1, after)
                if index < below:
                    chosen[parameter.key], known = value, after
                    break
                index -= below
        return chosen

    def _count(self, position: int, known: tuple[tuple[str, Value], ...]) -> int:
        """Points of the parameters from `position` on, given the chosen values that conditions look at."""
        if position == len(self._parameters):
            return 1
        if (position, known) not in self._counts:
            parameter, values = self._parameters[position], self._values[position]
            if not parameter.active_in(dict(known)):
                count = self._count(position + 1, known)
            elif parameter.key in self._parents:
                count = sum(self._count(position + 1, self._after(known, parameter, value)) for value in values)
            else:
                count = len(values) * self._count(position + 1, known)
            self._counts[position, known] = count
        return self._counts[position, known]

    def _after(self, known: tuple[tuple[str, Value], ...], parameter: Parameter, value: Value) -> tuple[tuple[str, Value], ...]:
        return (*known, (parameter.key, value)) if parameter.key in self._parents else known


def values_of(parameter: Parameter, levels: int) -> tuple[Value, ...]:
    """The values of one parameter in a grid."""
    distribution = distribution_of(parameter)
    if isinstance(distribution, CategoricalDistribution):
        return cast(tuple[Value, ...], distribution.choices)
    count = levels
    if parameter.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1  # type: ignore[attr-defined]
    positions = [place / (count - 1) for place in range(count)] if count > 1 else [0.5]
    return tuple(dict.fromkeys(_plain(from_unit(distribution, position)) for position in positions))


def _plain(value: int | float) -> int | float:
    """A number as people write it: 1e-4 and not 1.0000000000000004e-4."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def grid_size(space: SearchSpace, settings: Mapping[str, Any]) -> int:
    """How many points there are."""
    return Grid(space, settings["grid_levels"]).size


def check_grid(space: SearchSpace, settings: Mapping[str, Any]) -> None:
    """StudyError with the count for a grid that nobody could search."""
    size = grid_size(space, settings)
    if size > MOST_POINTS:
        count = f"{size:,}" if size < 10**15 else f"{size:.3g}"
        raise StudyError(
            f"the grid of {len(space.parameters)} parameters at grid_levels={settings['grid_levels']} has {count} points; "
            f"at most {MOST_POINTS:,} are searched",
            hint="search fewer parameters or levels, or fill the space evenly with the searcher qmc",
        )


def propose_point(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The next point that the spec allows and no trial has had."""
    del observations, direction
    found = _next(need)
    assert found is not None, "asked for more points than there are"
    return found


def any_point_left(need: Need) -> bool:
    """Whether there is another point."""
    return _next(need) is not None


def _next(need: Need) -> Proposal | None:
    grid = Grid(need.space, need.settings["grid_levels"])
    order = _order(need.seed, grid.size)
    done = max((origin["point"] for origin in need.origins if "point" in origin), default=-1)
    unknown = max(0, need.number - len(need.origins) - 1)  # a review shows the first points before there are any trials
    for position in range(done + 1 + unknown, grid.size):
        values = grid.point(order[position])
        if values not in need.tried and need.allowed(values):
            return Proposal(values=values, origin={"point": position})
    return None


@lru_cache(maxsize=4)
def _order(seed: int, size: int) -> tuple[int, ...]:
    order = list(range(size))
    random.Random(derive_seed(seed, "grid")).shuffle(order)
    return tuple(order)
