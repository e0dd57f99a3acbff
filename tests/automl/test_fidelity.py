"""Rungs, pauses, promotions and stops against tables worked out by hand."""

from __future__ import annotations

import pytest

from automl.fidelity import (
    Course,
    FullBudget,
    MedianRule,
    Promotion,
    SuccessiveHalving,
    last_chance,
    make_rule,
    rung_epochs,
)
from search_spaces.errors import StudyError
from trials.contract import Decision


def course(number: int, *costs: float, granted: int = 1, paused: bool = False, exempt: bool = False) -> Course:
    """A trial that reported `costs` after epochs 1, 2, ..."""
    return Course(number=number, costs=dict(enumerate(costs, start=1)), granted=granted, paused=paused, exempt=exempt)


@pytest.mark.parametrize(
    ("full", "eta", "lowest", "rungs"),
    [
        (27, 3, 1, (1, 3, 9, 27)),
        (243, 3, 1, (1, 3, 9, 27, 81, 243)),
        (10, 3, 1, (1, 3, 10)),
        (100, 4, 1, (2, 6, 25, 100)),
        (27, 3, 2, (3, 9, 27)),
        (3, 3, 1, (1, 3)),
        (2, 3, 1, (2,)),
        (1, 2, 1, (1,)),
    ],
)
def test_rungs_are_whole_and_end_at_the_full_budget(full: int, eta: int, lowest: int, rungs: tuple[int, ...]) -> None:
    assert rung_epochs(full, eta, lowest) == rungs


def test_the_first_trial_at_a_rung_pauses() -> None:
    verdict = SuccessiveHalving(full=9).judge(course(1, 0.5), [])
    assert verdict.decision is Decision.PAUSE


def test_the_best_of_three_goes_straight_on() -> None:
    others = [course(1, 0.5, paused=True), course(2, 0.6, paused=True)]
    verdict = SuccessiveHalving(full=9).judge(course(3, 0.4), others)
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 3)


def test_the_third_trial_pauses_when_an_earlier_one_is_better() -> None:
    others = [course(1, 0.5, paused=True), course(2, 0.6, paused=True)]
    assert SuccessiveHalving(full=9).judge(course(3, 0.55), others).decision is Decision.PAUSE


def test_nobody_asks_again_below_the_granted_epochs() -> None:
    verdict = SuccessiveHalving(full=9).judge(course(1, 0.9, granted=3), [course(2, 0.1), course(3, 0.1)])
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 3)


def test_the_best_paused_trial_of_a_rung_is_promoted_to_the_next() -> None:
    trials = [course(1, 0.5, paused=True), course(2, 0.4, paused=True), course(3, 0.6, paused=True)]
    assert SuccessiveHalving(full=9).promotable(trials) == Promotion(number=2, to_epoch=3)


def test_higher_rungs_are_served_first() -> None:
    top = [course(n, 0.9, 0.9, 0.5 + n / 100, granted=3, paused=True) for n in range(3)]
    low = [course(n, n / 100, paused=True) for n in range(3, 9)]
    assert SuccessiveHalving(full=9).promotable(top + low) == Promotion(number=0, to_epoch=9)


def test_a_promoted_trial_uses_up_its_place() -> None:
    trials = [course(1, 0.5, paused=True), course(2, 0.4, granted=3), course(3, 0.6, paused=True)]
    assert SuccessiveHalving(full=9).promotable(trials) is None


def test_equal_costs_are_settled_by_number() -> None:
    trials = [course(n, 0.5, paused=True) for n in (4, 2, 3)]
    assert SuccessiveHalving(full=9).promotable(trials) == Promotion(number=2, to_epoch=3)


def test_the_value_at_a_rung_is_the_best_so_far() -> None:
    assert course(1, 0.9, 0.3, 0.8).cost_at(3) == 0.3


def test_a_lost_report_is_stood_in_for_by_the_next() -> None:
    late = Course(number=1, costs={2: 0.7}, granted=1)
    assert (late.cost_at(1), late.cost_at(3)) == (0.7, None)


def test_the_baseline_is_never_paused() -> None:
    others = [course(n, 0.1, granted=9) for n in range(1, 6)]
    verdict = SuccessiveHalving(full=9).judge(course(0, 9.0, granted=9, exempt=True), others)
    assert verdict.decision is Decision.CONTINUE


def test_median_stops_what_is_worse_than_the_middle_of_the_others() -> None:
    others = [course(n, cost) for n, cost in enumerate((0.1, 0.2, 0.4, 0.5))]  # median 0.3
    rule = MedianRule(full=5)
    assert rule.judge(course(9, 0.31), others).decision is Decision.STOP
    assert rule.judge(course(9, 0.29), others).decision is Decision.CONTINUE


def test_median_waits_for_enough_trials() -> None:
    others = [course(n, 0.1) for n in range(3)]
    verdict = MedianRule(full=5).judge(course(9, 5.0), others)
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 2)


def test_full_budget_never_stops() -> None:
    verdict = FullBudget(full=4).judge(course(1, 9.0, granted=4), [course(2, 0.1)])
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 4)


def test_last_chance_goes_to_the_best_of_those_that_came_furthest() -> None:
    trials = [course(1, 0.1, paused=True), course(2, 0.9, 0.9, 0.6, paused=True), course(3, 0.9, 0.9, 0.5, paused=True)]
    assert last_chance(trials, 9) == Promotion(number=3, to_epoch=9)


def test_an_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(StudyError) as caught:
        make_rule("ahsa", epochs=3)
    assert caught.value.hint == "did you mean asha?"
