"""What a sampler reads of a search that is larger than it needs."""

from __future__ import annotations

from automl.thinning import thinned
from automl.view import Observation


def seen(number: int, *, value: float | None, rung: int = 1, complete: bool = False, infeasible: bool = False) -> Observation:
    """A trial that is over with `value` at `rung`, or runs and has none yet."""
    best = {} if value is None else {rung: value}
    over = value is not None or infeasible
    return Observation(number=number, params={}, best_by_rung=best, complete=complete, running=not over, infeasible=infeasible)


def kept(trials: list[Observation], *, most: int, good: int, maximise: bool = False) -> list[int]:
    return [one.number for one in thinned(trials, "maximize" if maximise else "minimize", most=most, good=good)]


def test_a_search_within_the_bound_is_read_whole() -> None:
    trials = [seen(number, value=1.0) for number in range(5)]
    assert thinned(trials, "minimize", most=5, good=1) is trials


def test_the_best_stay_and_the_others_are_spread_evenly() -> None:
    trials = [seen(number, value=0.0 if number in {5, 6} else 1.0) for number in range(12)]
    assert kept(trials, most=7, good=2) == [0, 2, 4, 5, 6, 8, 10]


def test_better_is_higher_when_that_is_the_direction() -> None:
    trials = [seen(number, value=float(number)) for number in range(6)]
    assert kept(trials, most=2, good=2, maximise=True) == [4, 5]


def test_the_full_budget_goes_before_a_rung_and_a_higher_rung_before_a_better_value() -> None:
    trials = [
        seen(0, value=0.1),
        seen(1, value=0.5, rung=3),
        seen(2, value=0.9, rung=9, complete=True),
        seen(3, value=None, infeasible=True),
    ]
    assert [kept(trials, most=count, good=count) for count in (1, 2, 3)] == [[2], [1, 2], [0, 1, 2]]


def test_trials_in_training_are_always_read() -> None:
    trials = [seen(number, value=None if number < 3 else 1.0) for number in range(8)]
    assert kept(trials, most=2, good=1) == [0, 1, 2, 3]
