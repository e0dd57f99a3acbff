"""Searchers that trust the better end of what a Gaussian process holds possible: `bfbo`, and how `pb2` explores.

`bfbo` is TAO's name for Bayesian optimisation in batches: the confidence bound decides, and the surroundings of configurations that are
still being trained are made less attractive (local penalisation, Gonzalez et al. 2016, https://arxiv.org/abs/1505.08052).
`pb2` (Parker-Holder et al. 2020, https://arxiv.org/abs/2002.02518) is a population whose children get the values that promise the largest
gain in the next generation, given the time and how good the donor is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl.cube import Array, Cube, costs_at
from automl.distributions import from_unit
from automl.exploring import Heritage, changeable, inherit
from automl.gaussian import GaussianProcess
from automl.proposals import Need, Proposal
from automl.view import Observation, common_rung
from search_spaces.objective import Direction
from search_spaces.space import Value

_BOLD, _CAUTIOUS, _CALMER = 2.0, 0.5, 0.95  # deviations to hope for: at first, in the end, from one trial to the next (TAO's)
_HOPE = 1.5  # the same for a child of a population
_DRAWS, _NEAR, _ROUNDS = 1500, 150, (0.1, 0.03, 0.01)  # of the search for the best point; distances shrink from round to round
_NEARBY = 0.1  # how far from the donor's values every tenth draw lies
_FEWEST_GAINS = 4


def propose_by_bound(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The point with the best bound, away from what is being trained and from where trials fail; random for the first few trials."""
    cube, rng = Cube(need.space), np.random.default_rng(need.own_seed)
    rung = common_rung(observations, need.startup)
    there = [observation for observation in observations if rung in observation.best_by_rung]
    if rung is None or len(there) < need.startup:
        return Proposal(values=cube.values(rng.random(len(cube.axes))))
    points, costs = cube.settled(cube.points(there)), costs_at(there, rung, direction)
    model = GaussianProcess.fit(points, costs)
    bad = cube.settled(cube.points([observation for observation in observations if observation.infeasible]))
    works = None if not len(bad) else GaussianProcess.fit(np.vstack([points, bad]), np.repeat([1.0, -1.0], [len(points), len(bad)]))
    running = [observation for observation in observations if observation.running and rung not in observation.best_by_rung]
    penalty = _Penalty(model, cube.settled(cube.points(running)), best=float(costs.min()), rng=rng)
    hope = max(_CAUTIOUS, _BOLD * _CALMER ** len(there))

    def appeal(candidates: Array) -> Array:
        from scipy.special import ndtr  # type: ignore[import-untyped]

        mean, deviation = model.predict(candidates)
        found = np.logaddexp(0.0, (hope * deviation - mean + model.mean) / model.scale) * penalty(candidates)
        if works is not None:
            chance, doubt = works.predict(candidates)
            found = found * ndtr(chance / (0.1 + doubt))
        return np.asarray(found)

    best = _climb(appeal, cube, points[int(np.argmin(costs))], rng)
    return Proposal(values=cube.values(best), origin={"by": "model", "rung": rung})


class _Penalty:
    """How likely the optimum lies outside the surroundings of each running configuration, as a factor between 0 and 1."""

    def __init__(self, model: GaussianProcess, running: Array, *, best: float, rng: np.random.Generator) -> None:
        self._running = running
        if not len(running):
            return
        probes = rng.random((100, running.shape[1]))
        slopes = [(model.predict(probes + 1e-4 * axis)[0] - model.predict(probes)[0]) / 1e-4 for axis in np.eye(running.shape[1])]
        self._steepest = max(float(np.sqrt(np.sum(np.square(slopes), axis=0)).max()), 1e-6)
        mean, deviation = model.predict(running)
        self._gap, self._deviation = np.maximum(mean - best, 0.0), np.maximum(deviation, 1e-6)

    def __call__(self, candidates: Array) -> Array:
        from scipy.special import ndtr

        if not len(self._running):
            return np.ones(len(candidates))
        distance = np.linalg.norm(candidates[:, None, :] - self._running[None, :, :], axis=-1)
        return np.asarray(np.prod(ndtr((self._steepest * distance - self._gap) / self._deviation), axis=1))


def _climb(appeal: Callable[[Array], Array], cube: Cube, start: Array, rng: np.random.Generator) -> Array:
    """The best of many points, some of them ever closer to the best so far."""
    best, value = start, -np.inf
    for spread in (None, *_ROUNDS):
        drawn = rng.random((_DRAWS, len(start))) if spread is None else np.clip(best + spread * rng.normal(size=(_NEAR, len(start))), 0, 1)
        candidates = cube.settled(drawn)
        found = appeal(candidates)
        top = int(np.argmax(found))
        if found[top] > value:
            best, value = drawn[top], float(found[top])
    return best


def explore_by_bound(need: Need, heritage: Heritage, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The donor's values, the numbers among them that can change chosen for the largest gain that the next generation may bring.

    What is no number is perturbed as `pbt` does, and so is everything while too little is known.
    """
    cube, rng = Cube(need.space), np.random.default_rng(need.own_seed)
    parameters = need.space.parameters
    free = [
        axis
        for axis, parameter in enumerate(parameters)
        if changeable(parameter.key) and parameter.key in heritage.values and not cube.choices[axis] and not cube.axes[axis].single()
    ]
    rows = _gains(observations, direction)
    donor = next((row for row in rows if row.number == heritage.number and row.epoch == heritage.epoch), None)
    if not free or len(rows) < _FEWEST_GAINS or donor is None:
        return inherit(need, heritage, {})
    last = max(row.epoch for row in rows)
    inputs = np.array([[row.epoch / last, row.standing, *cube.point(row.params)[free]] for row in rows])
    model = GaussianProcess.fit(inputs, np.array([row.gain for row in rows]))
    siblings = [one for one in observations if one.origin.get("epoch") == heritage.epoch and "donor" in one.origin and one.running]
    now = [1.0, donor.reached]
    if siblings:
        model = model.expecting(np.array([[*now, *cube.point(sibling.params)[free]] for sibling in siblings]))
    own = cube.point(heritage.values)[free]
    near = np.clip(own + _NEARBY * rng.normal(size=(_NEAR, len(free))), 0.0, 1.0)
    drawn = np.vstack([rng.random((_DRAWS, len(free))), near])
    mean, deviation = model.predict(np.hstack([np.tile(now, (len(drawn), 1)), drawn]))
    best = drawn[int(np.argmax(mean + _HOPE * deviation))]
    chosen = {parameters[axis].key: from_unit(cube.axes[axis], float(x)) for axis, x in zip(free, best, strict=True)}
    return inherit(need, heritage, chosen)


@dataclass(frozen=True, kw_only=True)
class _Gain:
    """What a member won in a generation that ended at `epoch`, and where it stood before and after, all compared with the others then.

    `standing` and `reached` run from 0 (best) to 1.
    """

    number: int
    epoch: int
    params: Mapping[str, Value]
    standing: float
    reached: float
    gain: float


def _gains(observations: Sequence[Observation], direction: Direction) -> list[_Gain]:
    """The gains of every member in every generation.  In the first one all stood alike, so its costs are the gains."""
    sign = 1.0 if direction == "minimize" else -1.0
    costs = {one.number: {rung: sign * value for rung, value in one.best_by_rung.items()} for one in observations}
    rungs = sorted({rung for found in costs.values() for rung in found})
    rows: list[_Gain] = []
    for before, epoch in zip([0, *rungs], rungs, strict=False):
        here = [one for one in observations if epoch in costs[one.number]]
        after = np.array([costs[one.number][epoch] for one in here])
        begun = np.array([_cost_before(one, before, costs) for one in here])
        known = np.isfinite(begun)
        gain = _compared(np.where(known, begun - after, -after)) if known.all() or not known.any() else _compared(-after)
        standing = _compared(np.where(known, begun, np.nanmean(begun) if known.any() else 0.0))
        rows += [
            _Gain(number=one.number, epoch=epoch, params=one.params, standing=float(s), reached=float(r), gain=float(g))
            for one, s, r, g in zip(here, _share(standing), _share(_compared(after)), gain, strict=True)
        ]
    return rows


def _cost_before(one: Observation, epoch: int, costs: Mapping[int, Mapping[int, float]]) -> float:
    """What a member stood at after `epoch` epochs, its donor's cost where its own training began there; NaN at the very beginning."""
    source = int(one.origin["donor"]) if one.origin.get("epoch") == epoch and "donor" in one.origin else one.number
    return costs.get(source, {}).get(epoch, np.nan)


def _compared(values: Array) -> Array:
    """How many deviations above the mean each value is."""
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 0.0 else 1.0))


def _share(values: Array) -> Array:
    """Deviations as a place on an axis from 0 to 1: three of them reach either end."""
    return np.asarray(np.clip(0.5 + values / 6.0, 0.0, 1.0))
