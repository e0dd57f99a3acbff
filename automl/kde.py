"""The searcher `bohb`: a kernel density model of good and bad configurations at the highest rung that has enough of them.

BOHB (Falkner et al. 2018, http://proceedings.mlr.press/v80/falkner18a.html) without its scheduler, which is the rule `hyperband`.
It is ours and not Optuna's TPE, because that one divides good from bad by a fixed share that can no longer be set (TAO's
`top_n_percent`), and leaves conditional parameters out of its joint model.  TAO's own never leaves its random phase, because it waits for
`min_points_in_model` *good* points; here so many points in all suffice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automl.cube import Array, Cube, costs_at
from automl.proposals import Need, Proposal
from automl.view import Observation, common_rung
from search_spaces.objective import Direction

_WIDTH = 0.2  # of an axis, for a single kernel; taken from the points instead, it shrinks too soon and the search sticks
_FEWEST_GOOD = 5


@dataclass(frozen=True)
class Density:
    """Kernels at `centres` (n, axes; NaN = not active there) and one that covers the whole cube evenly.

    A kernel is a product over the axes: a normal distribution cut off at the ends for numbers, a share for the same choice for choices,
    even where the centre has no coordinate.
    """

    centres: Array
    choices: npt.NDArray[np.int64]

    @property
    def width(self) -> float:
        """How wide a kernel is on every axis: the fewer there are, the wider."""
        count, axes = self.centres.shape
        return float(_WIDTH * max(count, 1) ** (-1.0 / (4 + axes)))

    def log_density(self, points: Array, active: npt.NDArray[np.bool_]) -> Array:
        """The logarithm of the density at `points` (m, axes) over the axes that are `active` there, shape (m,)."""
        from scipy.special import logsumexp, ndtr  # type: ignore[import-untyped]

        width = self.width
        total = np.zeros((len(points), len(self.centres) + 1))
        for axis, choices in enumerate(self.choices):
            centre, here = self.centres[:, axis], points[:, axis, None]
            if choices:
                same = np.floor(here * choices) == np.floor(centre * choices)
                share = np.where(same, 1.0 - width * (choices - 1) / choices, width / choices) * choices
                kernel = np.log(share)
            else:
                mass = ndtr((1.0 - centre) / width) - ndtr(-centre / width)
                kernel = -0.5 * ((here - centre) / width) ** 2 - np.log(np.sqrt(2.0 * np.pi) * width * mass)
            counts = active[:, axis, None] & np.isfinite(centre)
            total[:, :-1] += np.where(counts, kernel, 0.0)
        return np.asarray(logsumexp(total, axis=1) - np.log(total.shape[1]))

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """`count` points, shape (count, axes); an axis without a coordinate is drawn evenly."""
        from scipy.special import ndtr, ndtri

        chosen = rng.integers(len(self.centres) + 1, size=count)
        even = rng.random((count, self.centres.shape[1]))
        centres = np.vstack([self.centres, np.full(self.centres.shape[1], np.nan)])[chosen]
        width = self.width
        low, high = ndtr(-centres / width), ndtr((1.0 - centres) / width)
        drawn = centres + width * ndtri(low + rng.random(centres.shape) * (high - low))
        keeps = rng.random(centres.shape) >= width  # a choice stays, or is drawn again
        drawn = np.where(self.choices > 0, np.where(keeps, centres, even), drawn)
        return np.asarray(np.clip(np.where(np.isfinite(centres), drawn, even), 0.0, 1.0))


def propose_by_density(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The most promising of `kde_samples` draws from the good configurations, or a random one.

    Good are the best `top_n_percent` of the rung.  Bad are the others, and all that did not get there: most of them were judged worse at
    a lower rung, some failed, some have only begun, and other workers need not look there again.
    """
    cube, rng, settings = Cube(need.space), np.random.default_rng(need.own_seed), need.settings
    blind = Proposal(values=cube.blind(rng), origin={"by": "chance"})
    rung = common_rung(observations, int(settings["min_points_in_model"]))
    there = [observation for observation in observations if rung in observation.best_by_rung]
    if rung is None or len(there) < settings["min_points_in_model"] or rng.random() < settings["random_share"]:
        return blind
    order = np.argsort(costs_at(there, rung, direction), kind="stable")
    good = max(_FEWEST_GOOD, int(np.ceil(len(there) * settings["top_n_percent"] / 100.0)))
    below = [observation for observation in observations if rung not in observation.best_by_rung]
    points = cube.points(there)[order]
    better = Density(points[:good], cube.choices)
    worse = Density(np.vstack([points[good:], cube.points(below)]), cube.choices)
    drawn = better.sample(int(settings["kde_samples"]), rng)
    configurations = [cube.values(point) for point in drawn]
    active = np.array([cube.active(values) for values in configurations])
    drawn = np.array([cube.point(values) for values in configurations])
    gain = better.log_density(drawn, active) - worse.log_density(drawn, active)
    return Proposal(values=configurations[int(np.argmax(gain))], origin={"by": "model", "rung": rung})
