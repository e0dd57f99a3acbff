"""Names that users write -> who proposes the next configuration.

A proposal is made anew from (study seed, trial number) and what is known of the trials so far.  So a search that was killed
and resumed proposes what it would have proposed anyway, and nothing needs to be pickled.

tpe, random and gp are Optuna's samplers (https://optuna.readthedocs.io), reading a view of the search; qmc and cmaes are in
`automl.samplers`, because Optuna's own keep state between proposals, CMA-ES even as a pickle in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler, GPSampler

from automl.bandit import explore_by_bound, propose_by_bound
from automl.distributions import distribution_of, suggest
from automl.evolution import breed
from automl.exploring import Heritage, check_population, perturb, propose_founder
from automl.grid import any_point_left, check_grid, grid_size, propose_point
from automl.kde import propose_by_density
from automl.llm import ask_model, check_endpoint
from automl.mfgp import propose_by_model
from automl.proposals import Need, Proposal
from automl.samplers import CmaEsReplay, JointTPE, SobolPoints, WeightedDraws
from automl.thinning import thinned
from automl.view import Observation, find_view, study_in_view
from search_spaces.errors import StudyError, nearest
from search_spaces.objective import Direction
from search_spaces.space import SearchSpace

_SOBOL_STRIDE = 1 << 14  # second draws come from a part of the sequence that no trial number reaches

Propose = Callable[[Need, Sequence[Observation], Direction], Proposal]
Left = Callable[[Need], bool]
Explore = Callable[[Need, Heritage, Sequence[Observation], Direction], Proposal]
Size = Callable[[SearchSpace, Mapping[str, Any]], int]
Check = Callable[[SearchSpace, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """One way to search: what it is called, what it is and how it proposes.

    `left` says whether there is anything left to propose, and `size` how much there is, for a searcher that comes to an end by itself;
    `check` raises StudyError for a space or settings that it cannot search.  `explore` gives the values of a child that goes on from
    the state of another trial.  `several` says whether it takes several objectives.
    """

    name: str
    summary: str
    propose: Propose
    left: Left | None = None
    size: Size | None = None
    check: Check | None = None
    explore: Explore | None = None
    several: bool = False


def _sampled(make: Callable[[Need], BaseSampler], view: str, *, thin: bool = False) -> Propose:
    """Proposals of an Optuna sampler that reads the search through `view`, unless the setting `sampler_view` names another.

    With `thin` it reads a selection of a large search, unless there are several objectives: those have no single order.
    """

    def propose(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
        study = study_in_view(
            find_view(str(need.settings.get("sampler_view", view)), enough=need.startup),
            thinned(observations, direction) if thin and not need.further else observations,
            distributions={parameter.key: distribution_of(parameter) for parameter in need.space.parameters},
            direction=direction,
            sampler=make(need),
            further=need.further,
        )
        return Proposal(values=suggest(study.ask(), need.space))

    return propose


SEARCHERS: Mapping[str, Searcher] = {
    item.name: item
    for item in (
        Searcher(
            name="mfgp",
            summary="densities of single parameters draw, a Gaussian process over all rungs chooses; learns from few trials and failures",
            propose=propose_by_model,
        ),
        Searcher(
            name="tpe",
            summary="tree-structured Parzen estimator; learns from few trials, knows conditions and failures",
            propose=_sampled(lambda need: JointTPE(need.space, startup=need.startup, seed=need.own_seed), "running", thin=True),
            several=True,
        ),
        Searcher(
            name="random",
            summary="independent draws; the yardstick",
            propose=_sampled(lambda need: WeightedDraws(need.space, seed=need.own_seed), "blind"),
            several=True,
        ),
        Searcher(
            name="bohb",
            summary="density model of the good configurations at the highest rung that has enough; made for hyperband",
            propose=propose_by_density,
        ),
        Searcher(name="dehb", summary="differential evolution in one population per rung; made for hyperband", propose=breed),
        Searcher(
            name="grid",
            summary="every combination of a few values of each parameter",
            propose=propose_point,
            left=any_point_left,
            size=grid_size,
            check=check_grid,
            several=True,
        ),
        Searcher(
            name="llm",
            summary="a language model behind an endpoint of yours proposes; refused without one",
            propose=ask_model,
            check=check_endpoint,
        ),
        Searcher(
            name="qmc",
            summary="scrambled Sobol points; fills the space evenly",
            propose=_sampled(
                lambda need: SobolPoints(need.space, seed=need.seed, number=need.number + need.attempt * _SOBOL_STRIDE), "blind"
            ),
            several=True,
        ),
        Searcher(
            name="pbt",
            summary="random founders; children take over the values of a good member and perturb them; for the rule population",
            propose=propose_founder,
            explore=perturb,
            check=check_population,
        ),
        Searcher(
            name="bfbo",
            summary="Gaussian process with a confidence bound that keeps away from what is being trained; for many workers",
            propose=propose_by_bound,
        ),
        Searcher(
            name="pb2",
            summary="as pbt, but a Gaussian process chooses the numbers of a child; for the rule population",
            propose=propose_founder,
            explore=explore_by_bound,
            check=check_population,
        ),
        Searcher(
            name="gp",
            summary="Gaussian process with expected improvement; for small spaces and expensive trials",
            propose=_sampled(lambda need: GPSampler(n_startup_trials=need.startup, seed=need.own_seed), "same-rung"),
            several=True,
        ),
        Searcher(
            name="cmaes",
            summary="CMA-ES on the numeric parameters; for many trials",
            propose=_sampled(lambda need: CmaEsReplay(need.space, seed=need.own_seed, startup=need.startup), "same-rung"),
        ),
    )
}


def find_searcher(name: str) -> Searcher:
    """The searcher `name`; StudyError suggests the nearest name for an unknown one."""
    found = SEARCHERS.get(name)
    if found is None:
        near = nearest(name, SEARCHERS)
        hint = f"did you mean {near}?" if near else "leave --searcher out for the default"
        raise StudyError(f"unknown searcher {name!r}; known are {', '.join(SEARCHERS)}", hint=hint)
    return found


def startup_trials(trials: int) -> int:
    """How many trials are drawn blindly before a model is trusted: a quarter of the budget, at least 4, at most 10."""
    return min(10, max(4, trials // 4))
