"""The user's guess: tried first, then followed by a share of the proposals that halves again and again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from automl.fidelity import rule_of
from automl.guesses import propose_guess
from automl.proposals import Need
from automl.sources import SearchSource
from search_spaces.space import Constraint, Parameter, SearchSpace
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, toy_config

GUESSED = replace(SPACE, parameters=(replace(SPACE.parameters[0], prior=1e-3), *SPACE.parameters[1:]))
OWN = {LR: 1e-4, OPTIMIZER: "AdamW"}


def need(number: int, *, space: SearchSpace = GUESSED, startup: int = 4) -> Need:
    return Need(seed=1, number=number, space=space, startup=startup)


def followed(turns: range, space: SearchSpace = GUESSED) -> list[dict[str, object]]:
    found = [propose_guess(need(turn, space=space), turn=turn, own=OWN) for turn in turns]
    return [dict(proposal.values) for proposal in found if proposal is not None]


def test_the_guess_itself_comes_first_with_the_specs_own_values_beside_it() -> None:
    assert followed(range(1, 2)) == [{LR: 1e-3, OPTIMIZER: "AdamW"}]


def test_a_guess_that_is_the_baseline_is_not_tried_twice() -> None:
    found = [propose_guess(need(number), turn=1, own={LR: 1e-3, OPTIMIZER: "AdamW"}) for number in range(20)]
    assert any(found)
    assert all(proposal is None or proposal.values[LR] != 1e-3 for proposal in found)


def test_a_guess_is_followed_less_and_less() -> None:
    early, late = followed(range(2, 202), GUESSED), followed(range(40, 240))
    assert len(early) > len(late) == 0
    always = [propose_guess(need(number, startup=10**9), turn=2, own=OWN) for number in range(200)]
    assert 80 <= sum(proposal is not None for proposal in always) <= 120


def test_draws_lie_near_the_guess_and_cover_the_rest() -> None:
    drawn = [propose_guess(need(number, startup=10**9), turn=2, own=OWN) for number in range(400)]
    values = [proposal.values for proposal in drawn if proposal is not None]
    steps = [abs(math.log10(float(value[LR])) + 3) / 4 for value in values]
    assert sum(steps) / len(steps) < 0.1  # the mean of |N(0, 0.1)| is 0.08
    assert {value[OPTIMIZER] for value in values} == {"AdamW", "SGD"}
    assert all((MOMENTUM in value) == (value[OPTIMIZER] == "SGD") for value in values)


def test_weights_of_choices_are_drawn_by() -> None:
    parameter = Parameter(key=OPTIMIZER, kind="categorical", choices=("AdamW", "SGD"), weights=(9.0, 1.0))
    space = SearchSpace(skill="s", parameters=(parameter,))
    drawn = [propose_guess(need(number, space=space, startup=10**9), turn=2, own=OWN) for number in range(400)]
    picked = [proposal.values[OPTIMIZER] for proposal in drawn if proposal is not None]
    assert 0.82 < picked.count("AdamW") / len(picked) < 0.98


@pytest.mark.parametrize("searcher", ["random", "qmc", "bohb", "dehb"])
def test_draws_without_a_model_go_by_the_weights_to_the_end(searcher: str) -> None:
    """Nothing is known of any trial, so that all four draw blindly; turn 1,000 is far beyond the share of the guesses."""
    weighted = replace(SPACE.parameters[1], weights=(9.0, 1.0))
    config = toy_config(space=replace(SPACE, parameters=(SPACE.parameters[0], weighted)), searcher=searcher, trials=2000)
    source = SearchSource(config, rule_of(config))
    picked = [source.draw(number, ()).values[OPTIMIZER] for number in range(1000, 1200)]
    assert 0.82 < picked.count("AdamW") / len(picked) < 0.98


def test_nobody_guessed() -> None:
    assert followed(range(1, 50), SPACE) == []


@pytest.mark.parametrize("searcher", ["tpe", "random", "qmc", "bohb"])
def test_trial_one_of_a_search_is_the_guess(searcher: str) -> None:
    config = toy_config(space=GUESSED, searcher=searcher)
    source = SearchSource(config, rule_of(config))
    assert source.draw(0, ()).values[LR] == 1e-4
    first = source.draw(1, ())
    assert (first.values, dict(first.origin)) == ({LR: 1e-3, OPTIMIZER: "AdamW"}, {"source": "your guess"})


def test_relations_between_parameters_hold_for_proposals() -> None:
    low, high = (f"dataset.train_dataset.augmentation.{name}" for name in ("min_scale", "max_scale"))
    parameters = tuple(Parameter(key=key, kind="float", low=-0.2, high=1.0) for key in (low, high))
    space = SearchSpace(skill="s", parameters=parameters, constraints=(Constraint(key=high, relation=">", other=low),))
    config = toy_config(space=space, searcher="random")
    source = SearchSource(config, rule_of(config))
    drawn = [source.draw(number, ()).values for number in range(1, 12)]
    assert all(values[high] > values[low] for values in drawn)
