"""The searcher `dehb`: differential evolution in one population per rung, with selection.

DEHB (Awad et al. 2021, https://arxiv.org/abs/2105.09821) in the asynchronous form that goes with the rule `hyperband`: a trial is bred
for the rung at which it will first be judged.  There it meets the member whose place it is after, and takes the place if it is at
least as good (TAO's `dehb` breeds without this selection).  A trial that is promoted joins the population of the higher rung in the
place of its worst member.  No population is kept anywhere: each proposal plays all trials so far again, in the order of their
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automl.cube import Array, Cube
from automl.proposals import Need, Proposal, derive_seed
from automl.view import Observation
from search_spaces.objective import Direction

_LEAST = 4  # a target and three others


@dataclass(frozen=True)
class Member:
    """A trial in a population and its cost at that rung."""

    cost: float
    observation: Observation


def population_at(rung: int, observations: Sequence[Observation], size: int, direction: Direction) -> list[Member]:
    """The members at `rung`, at most `size`, by place.

    The first trials to reach the rung found it.  Then a trial bred for a place there must be at least as good as the member that
    holds it; any other trial must be at least as good as the worst member.
    """
    sign, places = 1.0 if direction == "minimize" else -1.0, list[Member]()
    for observation in observations:
        value = observation.best_by_rung.get(rung)
        if value is None:
            continue
        member = Member(cost=sign * value, observation=observation)
        if len(places) < size:
            places.append(member)
            continue
        bred_here = observation.origin.get("rung") == rung
        place = observation.origin["place"] if bred_here else max(range(size), key=lambda index: places[index].cost)
        if member.cost <= places[place].cost:
            places[place] = member
    return places


def breed(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """A child for the next place at the trial's own rung (rand/1/bin), or a random configuration while its population is founded."""
    cube, rng = Cube(need.space), np.random.default_rng(need.own_seed)
    size = max(_LEAST, need.startup)
    places = population_at(need.rung, observations, size, direction)
    if len(places) < size:
        return Proposal(values=cube.blind(rng))
    place = sum(origin.get("rung") == need.rung for origin in need.origins) % size
    members = [_whole(cube, member.observation, need.seed) for member in places]
    first, second, third = rng.choice([index for index in range(size) if index != place], size=3, replace=False)
    mutant = members[first] + float(need.settings["mutation_factor"]) * (members[second] - members[third])
    outside = (mutant < 0.0) | (mutant > 1.0)
    mutant = np.where(outside, rng.random(len(mutant)), mutant)  # anew: clipped ones would gather at the ends
    crossed = rng.random(len(mutant)) < float(need.settings["crossover_prob"])
    crossed[rng.integers(len(mutant))] = True  # a child differs from its parent
    child = np.where(crossed, mutant, members[place])
    return Proposal(values=cube.values(child), origin={"rung": need.rung, "place": place, "parent": places[place].observation.number})


def _whole(cube: Cube, observation: Observation, seed: int) -> Array:
    """The point of a trial; a coordinate that it does not have is drawn once and for all."""
    point = cube.point(observation.params)
    drawn = np.random.default_rng(derive_seed(seed, "idle", observation.number)).random(len(point))
    return np.where(np.isfinite(point), point, drawn)
