"""Names that users write -> samplers that propose the next configuration.

A sampler lives for one proposal: it is made anew from (study seed, trial number) and reads a view of the trials so far.
So a search that was killed and resumed proposes what it would have proposed anyway, and nothing needs to be pickled.

tpe, random and gp are Optuna's (https://optuna.readthedocs.io); qmc and cmaes are in `automl.samplers`, because Optuna's
own keep state between proposals, CMA-ES even as a pickle in the journal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from automl.distributions import distribution_of, suggest
from automl.samplers import CmaEsReplay, SobolPoints
from automl.view import Observation, PrunedView, SameRungView, View, study_in_view
from search_spaces.errors import StudyError, nearest
from search_spaces.objective import Direction
from search_spaces.space import SearchSpace, Value

_SOBOL_STRIDE = 1 << 14  # second draws come from a part of the sequence that no trial number reaches


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a sampler is made from: the study's seed, the trial's number, the space, and how many trials to draw blindly first.

    `attempt` counts draws for this number that the spec's own rules refused.
    """

    seed: int
    number: int
    space: SearchSpace
    startup: int
    attempt: int = 0

    @property
    def own_seed(self) -> int:
        """A seed for this one proposal."""
        return derive_seed(self.seed, "propose", self.number, self.attempt)


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """One way to search: what it is called, what it is, which view it reads and how its sampler is made."""

    name: str
    summary: str
    view: Callable[[int], View]
    make: Callable[[Need], BaseSampler]


def _pruned(startup: int) -> View:
    del startup
    return PrunedView()


def _same_rung(startup: int) -> View:
    return SameRungView(enough=startup)


SEARCHERS: Mapping[str, Searcher] = {
    item.name: item
    for item in (
        Searcher(
            name="tpe",
            summary="tree-structured Parzen estimator; learns from few trials, knows conditions and failures",
            view=_pruned,
            make=lambda need: TPESampler(n_startup_trials=need.startup, seed=need.own_seed),
        ),
        Searcher(
            name="random",
            summary="independent draws; the yardstick",
            view=_pruned,
            make=lambda need: RandomSampler(seed=need.own_seed),
        ),
        Searcher(
            name="qmc",
            summary="scrambled Sobol points; fills the space evenly",
            view=_pruned,
            make=lambda need: SobolPoints(need.space, seed=need.seed, number=need.number + need.attempt * _SOBOL_STRIDE),
        ),
        Searcher(
            name="gp",
            summary="Gaussian process with expected improvement; for small spaces and expensive trials",
            view=_same_rung,
            make=lambda need: GPSampler(n_startup_trials=need.startup, seed=need.own_seed),
        ),
        Searcher(
            name="cmaes",
            summary="CMA-ES on the numeric parameters; for many trials",
            view=_same_rung,
            make=lambda need: CmaEsReplay(need.space, seed=need.own_seed, startup=need.startup),
        ),
    )
}


def find_searcher(name: str) -> Searcher:
    """The searcher `name`; StudyError suggests the nearest name for an unknown one."""
    found = SEARCHERS.get(name)
    if found is None:
        near = nearest(name, SEARCHERS)
        hint = f"did you mean {near}?" if near else "leave --searcher out for tpe"
        raise StudyError(f"unknown searcher {name!r}; known are {', '.join(SEARCHERS)}", hint=hint)
    return found


def startup_trials(trials: int) -> int:
    """How many trials are drawn blindly before a model is trusted: a quarter of the budget, at least 4, at most 10."""
    return min(10, max(4, trials // 4))


def derive_seed(*parts: int | str) -> int:
    """A seed below 2^31 that depends on every part and on nothing else: not on the process, the platform or the order of calls."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def propose(searcher: Searcher, need: Need, observations: Sequence[Observation], *, direction: Direction) -> dict[str, Value]:
    """Values of the active parameters for trial `need.number`: inside the space, and the same for the same arguments."""
    study = study_in_view(
        searcher.view(need.startup),
        observations,
        distributions={parameter.key: distribution_of(parameter) for parameter in need.space.parameters},
        direction=direction,
        sampler=searcher.make(need),
    )
    return suggest(study.ask(), need.space)
