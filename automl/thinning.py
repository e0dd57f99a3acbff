"""What a sampler reads of a search that is larger than it needs: the best trials and an even selection of the others.

The time of a model of densities grows with every trial it reads, and its answer hardly changes: TPE calls the best 25 trials good however
many there are, and estimates the density of the rest, for which some hundreds do.  So up to `MOST` trials all are read, and proposals are
exactly those of a model without a bound; beyond, the good ones, those that are being trained and have no value yet, and of the others as
many as are left, evenly spread over the course of the search, so that they stand for all of them in the same proportions.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from automl.view import Observation
from search_spaces.objective import Direction

MOST = 1000
GOOD = 25  # Optuna's TPE: a tenth of the trials, and never more than these


def thinned(observations: Sequence[Observation], direction: Direction, *, most: int = MOST, good: int = GOOD) -> Sequence[Observation]:
    """At most about `most` of `observations` in their order, all of them where there are no more.  More only where more are in training."""
    if len(observations) <= most:
        return observations
    sign = 1.0 if direction == "minimize" else -1.0

    def rank(place: int) -> tuple[bool, bool, int, float, int]:
        """As TPE ranks: the full budget first, then the highest rung, then its value, what cannot work last."""
        one = observations[place]
        top = max(one.best_by_rung, default=0)
        value = sign * one.best_by_rung[top] if top else math.inf
        return (one.infeasible, not one.complete, -top, value, place)

    kept = set(heapq.nsmallest(good, range(len(observations)), key=rank))
    kept.update(place for place, one in enumerate(observations) if one.running and not one.best_by_rung)
    others = [place for place in range(len(observations)) if place not in kept]
    count = max(0, most - len(kept))
    kept.update(others[index * len(others) // count] for index in range(count))
    return [observations[place] for place in sorted(kept)]
