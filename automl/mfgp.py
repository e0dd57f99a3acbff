"""The searcher `mfgp`: densities of single parameters draw candidates, a Gaussian process over all rungs chooses among them.

Candidates come from what the best trials have in common, parameter by parameter, as in the tree-structured Parzen estimator (Bergstra
et al. 2011, https://papers.nips.cc/paper/4443), so a parameter that does nothing disturbs no other.  Among the most promising ones a
Gaussian process (`automl.gaussian`) takes the one with the largest expected improvement (Jones et al. 1998,
https://doi.org/10.1023/A:1008306431147).  It learns from every rung: costs below the full budget are carried up by the trials that
reached two neighbouring rungs, and count for less the worse the one foretold the other.

Why this model, and how the constants were chosen: docs/adr/0010-default-search.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from automl.cube import Array, Cube
from automl.gaussian import GaussianProcess
from automl.proposals import Need, Proposal
from automl.view import Observation
from search_spaces.objective import Direction

STARTUP = 6  # trials that are drawn blindly, at most
_CANDIDATES = 256
_PROMISING = 96  # of the candidates, among which the model chooses
_GOOD_SHARE, _MOST_GOOD = 0.1, 25  # as in Optuna's TPE
_MODELLED = 8  # trials with a value before the model is asked
_MOST_JUDGED, _MOST_UNJUDGED = 300, 100  # trials that are looked at, so that a proposal costs the same after 10,000 trials
_MOST_MODELLED, _MOST_IMPOSSIBLE = 100, 25  # trials that the Gaussian process is fitted to: its cost grows with their cube


def propose_by_model(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The candidate that promises most to improve; before there is enough to learn from, a random draw."""
    cube, rng = Cube(need.space), np.random.default_rng(need.own_seed)
    sign = 1.0 if direction == "minimize" else -1.0
    ranked = sorted((one for one in observations if one.best_by_rung and not one.infeasible), key=lambda one: _rank(one, sign))
    unjudged = [one for one in observations if one.infeasible or (one.running and not one.best_by_rung)]
    ended = len(ranked) + sum(one.infeasible for one in unjudged)
    if not ranked or ended < min(STARTUP, need.startup):
        return Proposal(values=cube.values(rng.random(len(cube.axes))), origin={"by": "chance"})
    good = min(int(np.ceil(_GOOD_SHARE * ended)), _MOST_GOOD, len(ranked))
    judged = [_Judged.of(one, sign) for one in (ranked[place] for place in _selection(len(ranked), _MOST_JUDGED))]
    points = cube.points([one.observation for one in judged])
    others = np.vstack([points[good:], cube.points(unjudged[-_MOST_UNJUDGED:])])
    better, worse = Axes(points[:good], cube.choices), Axes(others, cube.choices)
    drawn = cube.settled(better.sample(_CANDIDATES, rng))
    counts = cube.counting(drawn)
    promise = np.where(counts, better.log_density(drawn) - worse.log_density(drawn), 0.0).sum(axis=1)
    impossible = cube.points([one for one in unjudged if one.infeasible][-_MOST_IMPOSSIBLE:])
    drawn = drawn[np.argsort(-promise, kind="stable")[:_PROMISING]]
    chosen = 0
    if len(judged) >= _MODELLED:
        model = CostModel.fit(cube.settled(points), carried_up(judged), cube.settled(impossible))
        chosen = int(np.argmax(model.expected_improvement(drawn)))
    return Proposal(values=cube.values(drawn[chosen]), origin={"by": "model"})


@dataclass(frozen=True)
class CostModel:
    """A Gaussian process of costs at the full budget, and the `best` mean that it has where trials were."""

    process: GaussianProcess
    best: float

    @classmethod
    def fit(cls, points: Array, forecast: Forecast, impossible: Array) -> CostModel:
        """The model of `forecast` at `points` (n, axes); each of `impossible` (m, axes) counts as the worst of all."""
        kept = np.argsort(forecast.costs, kind="stable")[_selection(len(points), _MOST_MODELLED)]
        costs = _tamed(forecast.costs[kept])
        values = np.append(costs, np.full(len(impossible), costs.max()))
        variances = np.append(forecast.variances[kept], np.zeros(len(impossible)))
        process = GaussianProcess.fit(np.vstack((points[kept], impossible)), values, variances=variances)
        return cls(process, float(process.predict(points[kept])[0].min()))

    def expected_improvement(self, points: Array) -> Array:
        """By how much the cost at each of `points` (n, axes) is expected to be below the best, shape (n,)."""
        from scipy.special import ndtr  # type: ignore[import-untyped]

        mean, deviation = self.process.predict(points)
        better = (self.best - mean) / deviation
        return np.asarray(deviation * (better * ndtr(better) + np.exp(-0.5 * better**2) / np.sqrt(2.0 * np.pi)))


def _tamed(costs: Array) -> Array:
    """`costs` with those above the median drawn in, the more the further: how bad a bad trial is says little about good ones."""
    middle = float(np.median(costs))
    unit = middle - float(costs.min()) + 1e-9
    return np.where(costs > middle, middle + 0.5 * unit * np.log1p(np.maximum(costs - middle, 0.0) / unit), costs)


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


def _selection(count: int, most: int) -> npt.NDArray[np.int64]:
    """Places of at most `most` out of `count` ranked ones: all of a few; of many the first ones, and as many evenly from the rest."""
    first = most // 2 if count > most else count
    return np.concatenate((np.arange(first), np.linspace(first, count - 1, min(count, most) - first).astype(int)))


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
        from scipy.special import ndtr, ndtri

        if self.choices[axis]:
            return np.asarray((rng.choice(self.choices[axis], size=count, p=self._shares(axis)) + 0.5) / self.choices[axis])
        centres, widths = self._kernels(axis)
        kernel = rng.integers(len(centres), size=count)
        centre, width = centres[kernel], widths[kernel]
        low, high = ndtr(-centre / width), ndtr((1.0 - centre) / width)
        return np.asarray(np.clip(centre + width * ndtri(low + rng.random(count) * (high - low)), 0.0, 1.0))

    def _log_density(self, axis: int, places: Array) -> Array:
        from scipy.special import ndtr

        if self.choices[axis]:
            share = self._shares(axis) * self.choices[axis]
            return np.asarray(np.log(share[np.minimum((places * len(share)).astype(int), len(share) - 1)]))
        centres, widths = self._kernels(axis)
        mass = ndtr((1.0 - centres) / widths) - ndtr(-centres / widths)
        scale = np.log(np.sqrt(2.0 * np.pi) * widths * mass)
        kernels = np.exp(-0.5 * ((places[:, None] - centres) / widths) ** 2 - scale)  # the broad one is nowhere near 0
        return np.asarray(np.log(kernels.mean(axis=1)))

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
