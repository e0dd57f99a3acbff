"""The searcher `additive`: densities of single parameters draw candidates, an additive model over all rungs chooses among them.

Candidates come from what the best trials have in common, parameter by parameter, as in the tree-structured Parzen estimator (Bergstra
et al. 2011, https://papers.nips.cc/paper/4443), so a parameter that does nothing disturbs no other.  Among the most promising ones a
Bayesian linear model chooses: the cost as a sum of one parabola per number and one level per choice, drawn from its posterior (Thompson
1933), so that workers who ask at the same time look in different places.  It learns from every rung: costs below the full budget are
carried up by the trials that reached two neighbouring rungs, and count for less the worse the one foretold the other.

Why sums and not a Gaussian process, and how the constants were chosen: docs/adr/0010-default-search.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from automl.cube import Array, Cube
from automl.proposals import Need, Proposal
from automl.view import Observation
from search_spaces.objective import Direction

STARTUP = 6  # trials that are drawn blindly, at most
_CANDIDATES = 64
_PROMISING = 24  # of the candidates, among which the model chooses
_GOOD_SHARE, _MOST_GOOD = 0.1, 25  # as in Optuna's TPE
_MODELLED = 15  # trials with a value before the model is asked
_KEPT_SHARE, _FEWEST_KEPT = 0.6, 12  # the model fits the better part: what is far off has other reasons
_NOISE_SHARE = 0.2  # of the variance of the costs
_LARGEST_RISK = 0.5  # that a candidate cannot work at all
_MOST_JUDGED, _MOST_UNJUDGED = 600, 200  # trials that are looked at, so that a proposal costs the same after 10,000 trials


def propose_additively(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The candidate that the model expects most of; before there is enough to learn from, a random draw."""
    cube, rng = Cube(need.space), np.random.default_rng(need.own_seed)
    sign = 1.0 if direction == "minimize" else -1.0
    ranked = sorted((one for one in observations if one.best_by_rung and not one.infeasible), key=lambda one: _rank(one, sign))
    unjudged = [one for one in observations if one.infeasible or (one.running and not one.best_by_rung)]
    ended = len(ranked) + sum(one.infeasible for one in unjudged)
    if not ranked or ended < min(STARTUP, need.startup):
        return Proposal(values=cube.values(rng.random(len(cube.axes))), origin={"by": "chance"})
    good = min(int(np.ceil(_GOOD_SHARE * ended)), _MOST_GOOD, len(ranked))
    judged = [_Judged.of(one, sign) for one in _thinned(ranked)]
    points = cube.points([one.observation for one in judged])
    others = np.vstack([points[good:], cube.points(unjudged[-_MOST_UNJUDGED:])])
    better, worse = Axes(points[:good], cube.choices), Axes(others, cube.choices)
    drawn = cube.settled(better.sample(_CANDIDATES, rng))
    counts = cube.counting(drawn)
    promise = np.where(counts, better.log_density(drawn) - worse.log_density(drawn), 0.0).sum(axis=1)
    active = np.where(counts, drawn, np.nan)
    impossible = cube.points([one for one in unjudged if one.infeasible][-_MOST_UNJUDGED:])
    risk = _risk(points, impossible, active, cube.choices)
    order = np.lexsort((-promise, risk > _LARGEST_RISK))
    chosen = int(order[0])
    if len(judged) >= _MODELLED:
        order = order[: max(1, min(_PROMISING, int(np.sum(risk <= _LARGEST_RISK))))]
        model = AdditiveModel.of_costs(points, carried_up(judged), cube.choices)
        chosen = int(order[int(np.argmin(model.draw(rng, active[order])))])
    return Proposal(values=cube.values(drawn[chosen]), origin={"by": "model"})


def _risk(possible: Array, impossible: Array, points: Array, choices: npt.NDArray[np.int64]) -> Array:
    """About how likely a trial at each of `points` cannot work, after those that could and those that could not."""
    if not len(impossible):
        return np.zeros(len(points))
    labels = np.concatenate((np.zeros(len(possible)), np.ones(len(impossible))))
    model = AdditiveModel.fit(np.vstack((possible, impossible)), labels, np.full(len(labels), _NOISE_SHARE), choices)
    return model.expected(points)


def _rank(observation: Observation, sign: float) -> tuple[int, float, int]:
    """Puts those that came further first, and among them the better."""
    top = max(observation.best_by_rung)
    return (-top, sign * observation.best_by_rung[top], observation.number)


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """A trial with its costs by rung, ascending."""

    observation: Observation
    costs: dict[int, float]

    @classmethod
    def of(cls, observation: Observation, sign: float) -> _Judged:
        return cls(observation=observation, costs={rung: sign * value for rung, value in sorted(observation.best_by_rung.items())})


def _thinned(ranked: Sequence[Observation]) -> Sequence[Observation]:
    """All of a few; of many the best third of what is kept, and others evenly from the rest."""
    if len(ranked) <= _MOST_JUDGED:
        return ranked
    first = _MOST_JUDGED // 3
    spread = np.linspace(first, len(ranked) - 1, _MOST_JUDGED - first).astype(int)
    return [*ranked[:first], *(ranked[index] for index in spread)]


@dataclass(frozen=True)
class Axes:
    """One density per axis: kernels at `points` (n, axes; NaN = not active there) and one broad kernel over the whole axis.

    Numbers have normal kernels cut off at the ends, each as wide as the larger gap to its neighbours; choices have counts.
    """

    points: Array
    choices: npt.NDArray[np.int64]

    def sample(self, count: int, rng: np.random.Generator) -> Array:
        """`count` points, shape (count, axes); the coordinates of a point are independent."""
        return np.stack([self._sample(axis, count, rng) for axis in range(len(self.choices))], axis=1)

    def log_density(self, points: Array) -> Array:
        """The logarithm of each coordinate's density, shape of `points`."""
        return np.stack([self._log_density(axis, points[:, axis]) for axis in range(len(self.choices))], axis=1)

    def _sample(self, axis: int, count: int, rng: np.random.Generator) -> Array:
        from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

        if self.choices[axis]:
            return np.asarray((rng.choice(self.choices[axis], size=count, p=self._shares(axis)) + 0.5) / self.choices[axis])
        centres, widths = self._kernels(axis)
        kernel = rng.integers(len(centres), size=count)
        centre, width = centres[kernel], widths[kernel]
        low, high = ndtr(-centre / width), ndtr((1.0 - centre) / width)
        return np.asarray(np.clip(centre + width * ndtri(low + rng.random(count) * (high - low)), 0.0, 1.0))

    def _log_density(self, axis: int, places: Array) -> Array:
        from scipy.special import logsumexp, ndtr

        if self.choices[axis]:
            share = self._shares(axis) * self.choices[axis]
            return np.asarray(np.log(share[np.minimum((places * len(share)).astype(int), len(share) - 1)]))
        centres, widths = self._kernels(axis)
        mass = ndtr((1.0 - centres) / widths) - ndtr(-centres / widths)
        scale = np.log(np.sqrt(2.0 * np.pi) * widths * mass)
        return np.asarray(logsumexp(-0.5 * ((places[:, None] - centres) / widths) ** 2 - scale, axis=1) - np.log(len(centres)))

    def _kernels(self, axis: int) -> tuple[Array, Array]:
        """Centres and widths; the last one is the broad one."""
        centres = np.sort(self.points[np.isfinite(self.points[:, axis]), axis])
        edges = np.concatenate(([0.0], centres, [1.0]))
        gaps = np.diff(edges)
        widths = np.clip(np.maximum(gaps[:-1], gaps[1:]), 1.0 / min(100, len(centres) + 2), 1.0)
        return np.append(centres, 0.5), np.append(widths, 1.0)

    def _shares(self, axis: int) -> Array:
        """Share of each choice, with one more trial spread over all of them."""
        here = self.points[np.isfinite(self.points[:, axis]), axis]
        found = np.bincount((here * self.choices[axis]).astype(int), minlength=self.choices[axis])[: self.choices[axis]]
        return np.asarray((found + 1.0 / self.choices[axis]) / (len(here) + 1.0))


@dataclass(frozen=True)
class Forecast:
    """The cost of each trial at the full budget as far as it can be told, and the variance of that guess."""

    costs: Array
    variances: Array


def carried_up(judged: Sequence[_Judged]) -> Forecast:
    """Costs at the highest rung of all: from rung to rung by a line through the trials that reached both.

    The fewer those are, the more the line is the diagonal through their means.  Costs above zero are taken as logarithms.
    """
    found = [np.array(list(one.costs.values())) for one in judged]
    smallest = min(float(costs.min()) for costs in found)
    logs = [np.log(costs) if smallest > 0 else costs for costs in found]
    tables = [dict(zip(one.costs, costs.tolist(), strict=True)) for one, costs in zip(judged, logs, strict=True)]
    rungs = sorted({rung for table in tables for rung in table})
    steps = [_Step.between(tables, low, high) for low, high in pairwise(rungs)]
    costs, variances = [], []
    for table in tables:
        top = max(table)
        cost, variance = table[top], 0.0
        for step in steps[rungs.index(top) :]:
            cost, variance = step.carry(cost, variance)
        costs.append(cost)
        variances.append(variance)
    return Forecast(np.array(costs), np.array(variances))


@dataclass(frozen=True)
class _Step:
    """The line from one rung to the next: `above` at `below`, its `slope`, and the variance around it."""

    below: float
    above: float
    slope: float
    variance: float

    @classmethod
    def between(cls, tables: Sequence[dict[int, float]], low: int, high: int) -> _Step:
        all_low = np.array([table[low] for table in tables if low in table])
        pairs = np.array([(table[low], table[high]) for table in tables if low in table and high in table]).reshape(-1, 2)
        if not len(pairs):
            return cls(0.0, 0.0, 1.0, float(all_low.var()) if len(all_low) else 0.0)
        below, above = pairs.mean(axis=0)
        x, y = pairs[:, 0] - below, pairs[:, 1] - above
        spread = float(all_low.var()) if len(all_low) > 2 else 0.1
        trust = 3.0 * spread + 1e-6  # three trials' worth of the diagonal
        slope = (float(x @ y) + trust) / (float(x @ x) + trust)
        rest = y - slope * x
        return cls(float(below), float(above), slope, (float(rest @ rest) + 0.3 * spread + 1e-4) / (len(pairs) + 2))

    def carry(self, cost: float, variance: float) -> tuple[float, float]:
        """A cost and its variance one rung up."""
        return self.above + self.slope * (cost - self.below), self.slope**2 * variance + self.variance


@dataclass(frozen=True)
class AdditiveModel:
    """Values as `middle` plus weights times `_features`; weights are normal: their `mean`, and the Cholesky `factor` of their precision."""

    mean: Array
    factor: Array
    middle: float
    choices: npt.NDArray[np.int64]

    @classmethod
    def of_costs(cls, points: Array, forecast: Forecast, choices: npt.NDArray[np.int64]) -> AdditiveModel:
        """What the better part of the trials tells of costs."""
        kept = np.argsort(forecast.costs, kind="stable")[: max(_FEWEST_KEPT, int(_KEPT_SHARE * len(points)))]
        costs = forecast.costs[kept]
        return cls.fit(points[kept], costs, _NOISE_SHARE * float(costs.var()) + 1e-6 + forecast.variances[kept], choices)

    @classmethod
    def fit(cls, points: Array, values: Array, variances: Array, choices: npt.NDArray[np.int64]) -> AdditiveModel:
        """The posterior after `values` at `points` (n, axes) with noise of `variances`; beforehand the weights are small."""
        features, weight = _features(points, choices), 1.0 / variances
        middle = float(weight @ values / weight.sum())
        prior = np.sqrt(features.shape[1]) / (float(values.var()) + 1e-12)
        precision = (features * weight[:, None]).T @ features + prior * np.eye(features.shape[1])
        mean = np.linalg.solve(precision, features.T @ (weight * (values - middle)))
        return cls(mean, np.linalg.cholesky(precision), middle, choices)

    def expected(self, points: Array) -> Array:
        """The values at `points` (n, axes) by the mean weights."""
        return np.asarray(_features(points, self.choices) @ self.mean + self.middle)

    def draw(self, rng: np.random.Generator, points: Array) -> Array:
        """The values at `points` (n, axes) by weights drawn from their distribution."""
        weights = self.mean + np.linalg.solve(self.factor.T, rng.normal(size=len(self.mean)))
        return np.asarray(_features(points, self.choices) @ weights + self.middle)


def _features(points: Array, choices: npt.NDArray[np.int64]) -> Array:
    """A constant, a straight and a bent line per number, a switch per choice; nothing of what is not active (NaN)."""
    here = np.isfinite(points)
    settled = np.where(here, points, 0.5)
    line = np.where(here, 2.0 * settled - 1.0, 0.0)[:, choices == 0]
    bend = np.where(here, (2.0 * settled - 1.0) ** 2 - 1.0 / 3.0, 0.0)[:, choices == 0]
    switches = [
        here[:, axis, None] & (np.minimum((settled[:, axis] * count).astype(int), count - 1)[:, None] == np.arange(count))
        for axis, count in enumerate(choices)
        if count
    ]
    return np.hstack([np.ones((len(points), 1)), line, bend, *(switch.astype(float) for switch in switches)])
