"""What the user thinks before anything is known (`--prior`, option_weights) as proposals that are followed less and less.

The first proposal is the guess itself: guessed values, the spec's own for the rest (unless that is the spec as it stands, which trial 0
tries).  Of the later ones a share is drawn near it, one half at first and half as many with every `startup` trials more; the rest is the
searcher's.  So a good guess helps at once, and a bad one costs a few trials and never the search (a share that decays, as in PriorBand:
Mallik et al. 2023, https://arxiv.org/abs/2306.12370).  Nothing here looks at results, so that any searcher goes with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from optuna.distributions import CategoricalDistribution

from automl.distributions import by_weight, distribution_of, from_unit, to_unit
from automl.proposals import Need, Proposal, derive_seed
from search_spaces.space import Parameter, SearchSpace, Value

FIRST_SHARE = 0.5
SPREAD = 0.1  # standard deviation of a draw near a guess, in units of the parameter's range
LOYALTY = 0.75  # how often a draw near a guess keeps a guessed choice


def guesses_anything(space: SearchSpace) -> bool:
    """Whether the user said anything about good values."""
    return any(parameter.prior is not None or parameter.weights for parameter in space.parameters)


def propose_guess(need: Need, *, turn: int, own: Mapping[str, Value]) -> Proposal | None:
    """The proposal that follows the user's guess, or None where it is the searcher's turn.

    `turn` counts proposals from 1; `own` are the spec's values of the parameters that are active in it.
    """
    if not guesses_anything(need.space):
        return None
    rng = np.random.default_rng(derive_seed(need.seed, "guess", need.number, need.attempt))
    if turn == 1 and need.attempt == 0 and any(parameter.prior is not None for parameter in need.space.parameters):
        guess = _guess(need.space, own, rng)
        if guess != own:  # else the baseline has tried it
            return Proposal(values=guess, origin={"source": "your guess"})
    if rng.random() >= FIRST_SHARE * 0.5 ** ((turn - 1) / need.startup):
        return None
    values: dict[str, Value] = {}
    for parameter in need.space.parameters:
        drawn = _near(parameter, rng)
        if parameter.active_in(values):
            values[parameter.key] = drawn
    return Proposal(values=values, origin={"source": "near your guess"})


def _guess(space: SearchSpace, own: Mapping[str, Value], rng: np.random.Generator) -> dict[str, Value]:
    """Guessed values, else the spec's own; one that the spec does not have (or that lies outside the range) is drawn."""
    values: dict[str, Value] = {}
    for parameter in space.parameters:
        drawn, known = _near(parameter, rng), own.get(parameter.key)
        if not parameter.active_in(values):
            continue
        if parameter.prior is not None:
            values[parameter.key] = parameter.prior
        else:
            values[parameter.key] = known if known is not None and parameter.allows(known) else drawn
    return values


def _near(parameter: Parameter, rng: np.random.Generator) -> Value:
    """A draw near the guess; by the weights of the choices, or anywhere, where there is none.  Always takes three random numbers."""
    axis, anywhere, shift, loyal = distribution_of(parameter), rng.random(), float(rng.normal()), rng.random() < LOYALTY
    value: Value
    if not isinstance(axis, CategoricalDistribution):
        value = from_unit(axis, anywhere if parameter.prior is None else to_unit(axis, parameter.prior) + SPREAD * shift)
    elif parameter.prior is not None and loyal:
        value = parameter.prior
    else:
        value = from_unit(axis, by_weight(parameter, anywhere))
    return value
