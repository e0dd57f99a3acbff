"""Differential evolution: who holds which place at a rung, and how a child comes about."""

from __future__ import annotations

import pytest

from automl.evolution import breed, population_at
from automl.proposals import Need, Proposal
from automl.view import Observation
from search_spaces.space import Parameter, SearchSpace

SQUARE = SearchSpace(skill="toy", parameters=tuple(Parameter(key=key, kind="float", low=0.0, high=1.0) for key in ("x", "y")))
SETTINGS = {"mutation_factor": 0.5, "crossover_prob": 1.0}


def member(number: int, cost: float, *, rungs: tuple[int, ...] = (1,), place: int | None = None, x: float = 0.5) -> Observation:
    origin = {} if place is None else {"rung": 1, "place": place}
    return Observation(number=number, params={"x": x, "y": 0.5}, best_by_rung=dict.fromkeys(rungs, cost), origin=origin)


def numbers(*past: Observation, rung: int = 1, direction: str = "minimize") -> list[int]:
    return [one.observation.number for one in population_at(rung, past, 4, direction)]  # type: ignore[arg-type]


FOUNDERS = tuple(member(number, cost) for number, cost in enumerate((0.4, 0.9, 0.6, 0.7)))


def test_a_child_takes_its_parents_place_when_it_is_at_least_as_good() -> None:
    assert numbers(*FOUNDERS, member(4, 0.3, place=0)) == [4, 1, 2, 3]
    assert numbers(*FOUNDERS, member(4, 0.4, place=0)) == [4, 1, 2, 3]
    assert numbers(*FOUNDERS, member(4, 0.5, place=0)) == [0, 1, 2, 3]  # better than three, but not than its parent


def test_a_stranger_takes_the_place_of_the_worst() -> None:
    assert numbers(*FOUNDERS, member(4, 0.5)) == [0, 4, 2, 3]
    assert numbers(*FOUNDERS, member(4, 0.95)) == [0, 1, 2, 3]


def test_each_rung_has_its_own_population() -> None:
    child = member(4, 0.1, rungs=(1, 3), place=1)
    assert numbers(*FOUNDERS, child) == [0, 4, 2, 3]
    assert numbers(*FOUNDERS, child, rung=3) == [4]


def test_of_a_score_the_higher_is_better() -> None:
    assert numbers(*FOUNDERS, member(4, 0.5, place=0), direction="maximize") == [4, 1, 2, 3]


def bred(past: tuple[Observation, ...], *, number: int = 4, **changes: object) -> Proposal:
    need = Need(seed=1, number=number, space=SQUARE, startup=4, settings={**SETTINGS, **changes}, origins=[one.origin for one in past])
    return breed(need, past, "minimize")


def test_places_are_bred_for_in_turn() -> None:
    past = FOUNDERS
    for number in range(4, 10):
        child = bred(past, number=number)
        assert child.origin["place"] == (number - 4) % 4
        past = (*past, Observation(number=number, params=child.values, best_by_rung={}, origin=child.origin))


def test_before_four_members_are_there_a_trial_is_random() -> None:
    assert bred(FOUNDERS[:3]).origin == {}


def test_a_mutant_is_one_member_and_half_the_difference_of_two_others() -> None:
    past = tuple(member(number, 0.5, x=x) for number, x in enumerate((0.9, 0.2, 0.4, 0.6)))
    reachable = {0.2 - 0.1, 0.2 + 0.1, 0.4 - 0.2, 0.4 + 0.2, 0.6 - 0.1, 0.6 + 0.1}  # from members 1, 2, 3: the parent has place 0
    for seed in range(8):
        child = breed(Need(seed=seed, number=4, space=SQUARE, startup=4, settings=SETTINGS), past, "minimize")
        assert min(abs(float(child.values["x"]) - x) for x in reachable) == pytest.approx(0.0, abs=1e-9)


def test_without_crossover_one_parameter_changes_all_the_same() -> None:
    past = tuple(Observation(number=n, params={"x": n / 4, "y": n / 5}, best_by_rung={1: 0.5}) for n in range(4))
    child = bred(past, crossover_prob=0.0).values
    assert [child["x"] == 0.0, child["y"] == 0.0].count(True) == 1


def test_what_leaves_the_cube_is_drawn_anew_inside() -> None:
    past = tuple(member(number, 0.5, x=x) for number, x in enumerate((0.5, 1.0, 0.0, 0.99)))
    drawn = [float(bred(past, number=number, mutation_factor=2.0).values["x"]) for number in range(4, 40, 4)]
    assert all(0.0 < x < 1.0 for x in drawn)
