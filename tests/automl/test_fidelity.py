"""Rungs, pauses, promotions and stops against tables worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from automl.course import Course, FidelityRule, Promotion, Verdict
from automl.fidelity import FullBudget, MedianRule, last_chance, make_rule
from automl.halving import Hyperband, SuccessiveHalving, brackets_of, rung_epochs
from search_spaces.errors import StudyError
from tests.automl.toy import standings_of
from trials.contract import Decision


def course(number: int, *costs: float, granted: int = 1, paused: bool = False, exempt: bool = False) -> Course:
    """A trial that reported `costs` after epochs 1, 2, ..."""
    return Course(number=number, costs=dict(enumerate(costs, start=1)), granted=granted, paused=paused, exempt=exempt)


def judged(rule: FidelityRule, trial: Course, others: Sequence[Course] = ()) -> Verdict:
    return rule.judge(trial, standings_of(rule, [*others, trial]))


def promoted(rule: FidelityRule, trials: Sequence[Course]) -> object:
    return rule.promotable(standings_of(rule, trials))


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
    verdict = judged(SuccessiveHalving(full=9), course(1, 0.5), [])
    assert verdict.decision is Decision.PAUSE


def test_the_best_of_three_goes_straight_on() -> None:
    others = [course(1, 0.5, paused=True), course(2, 0.6, paused=True)]
    verdict = judged(SuccessiveHalving(full=9), course(3, 0.4), others)
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 3)


def test_the_third_trial_pauses_when_an_earlier_one_is_better() -> None:
    others = [course(1, 0.5, paused=True), course(2, 0.6, paused=True)]
    assert judged(SuccessiveHalving(full=9), course(3, 0.55), others).decision is Decision.PAUSE


def test_nobody_asks_again_below_the_granted_epochs() -> None:
    verdict = judged(SuccessiveHalving(full=9), course(1, 0.9, granted=3), [course(2, 0.1), course(3, 0.1)])
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 3)


def test_the_best_paused_trial_of_a_rung_is_promoted_to_the_next() -> None:
    trials = [course(1, 0.5, paused=True), course(2, 0.4, paused=True), course(3, 0.6, paused=True)]
    assert promoted(SuccessiveHalving(full=9), trials) == Promotion(number=2, to_epoch=3)


def test_higher_rungs_are_served_first() -> None:
    top = [course(n, 0.9, 0.9, 0.5 + n / 100, granted=3, paused=True) for n in range(3)]
    low = [course(n, n / 100, paused=True) for n in range(3, 9)]
    assert promoted(SuccessiveHalving(full=9), top + low) == Promotion(number=0, to_epoch=9)


def test_a_promoted_trial_uses_up_its_place() -> None:
    trials = [course(1, 0.5, paused=True), course(2, 0.4, granted=3), course(3, 0.6, paused=True)]
    assert promoted(SuccessiveHalving(full=9), trials) is None


def test_equal_costs_are_settled_by_number() -> None:
    trials = [course(n, 0.5, paused=True) for n in (4, 2, 3)]
    assert promoted(SuccessiveHalving(full=9), trials) == Promotion(number=2, to_epoch=3)


def test_the_value_at_a_rung_is_the_best_so_far() -> None:
    assert course(1, 0.9, 0.3, 0.8).cost_at(3) == 0.3


def test_a_lost_report_is_stood_in_for_by_the_next() -> None:
    late = Course(number=1, costs={2: 0.7}, granted=1)
    assert (late.cost_at(1), late.cost_at(3)) == (0.7, None)


def test_the_baseline_is_never_paused() -> None:
    others = [course(n, 0.1, granted=9) for n in range(1, 6)]
    verdict = judged(SuccessiveHalving(full=9), course(0, 9.0, granted=9, exempt=True), others)
    assert verdict.decision is Decision.CONTINUE


def test_median_stops_what_is_worse_than_the_middle_of_the_others() -> None:
    others = [course(n, cost) for n, cost in enumerate((0.1, 0.2, 0.4, 0.5))]  # median 0.3
    rule = MedianRule(full=5)
    assert judged(rule, course(9, 0.31), others).decision is Decision.STOP
    assert judged(rule, course(9, 0.29), others).decision is Decision.CONTINUE


def test_median_waits_for_enough_trials() -> None:
    others = [course(n, 0.1) for n in range(3)]
    verdict = judged(MedianRule(full=5), course(9, 5.0), others)
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 2)


def test_full_budget_never_stops() -> None:
    verdict = judged(FullBudget(full=4), course(1, 9.0, granted=4), [course(2, 0.1)])
    assert (verdict.decision, verdict.granted) == (Decision.CONTINUE, 4)


def test_last_chance_goes_to_the_best_of_those_that_came_furthest() -> None:
    trials = [course(1, 0.1, paused=True), course(2, 0.9, 0.9, 0.6, paused=True), course(3, 0.9, 0.9, 0.5, paused=True)]
    assert last_chance(trials, 9) == Promotion(number=3, to_epoch=9)


def test_an_unknown_rule_suggests_the_nearest() -> None:
    with pytest.raises(StudyError) as caught:
        make_rule("ahsa", epochs=3)
    assert caught.value.hint == "did you mean asha?"


@pytest.mark.parametrize(
    ("full", "eta", "rungs", "configurations"),
    [
        (27, 3, (1, 3, 9, 27), (27, 12, 6, 4)),
        (81, 3, (1, 3, 9, 27, 81), (81, 34, 15, 8, 5)),
        (243, 3, (1, 3, 9, 27, 81, 243), (243, 98, 41, 18, 9, 6)),
        (10, 3, (1, 3, 10), (9, 5, 3)),
        (100, 3, (1, 4, 11, 33, 100), (81, 34, 15, 8, 5)),
        (27, 4, (2, 7, 27), (16, 6, 3)),
        (81, 4, (1, 5, 20, 81), (64, 22, 8, 4)),
        (243, 4, (4, 15, 61, 243), (64, 22, 8, 4)),
        (10, 4, (3, 10), (4, 2)),
        (100, 4, (2, 6, 25, 100), (64, 22, 8, 4)),
        (1, 2, (1,), (1,)),
    ],
)
def test_hyperband_has_every_bracket_down_to_the_full_budget(
    full: int, eta: int, rungs: tuple[int, ...], configurations: tuple[int, ...]
) -> None:
    brackets = brackets_of(full, eta, 1)
    assert tuple(bracket.configurations for bracket in brackets) == configurations
    assert tuple(bracket.rungs for bracket in brackets) == tuple(rungs[start:] for start in range(len(rungs)))


def test_a_round_of_hyperband_fills_its_brackets_and_every_beginning_is_divided_alike() -> None:
    rule = Hyperband(full=27)
    chosen = [rule.bracket_of(number) for number in range(49)]
    assert [chosen.count(bracket) for bracket in range(4)] == [27, 12, 6, 4]
    assert [chosen[:20].count(bracket) for bracket in range(4)] == [11, 5, 2, 2]  # of 20: 11.02, 4.9, 2.4, 1.6
    assert [rule.bracket_of(number) for number in range(49, 98)] == chosen


def test_trials_of_different_brackets_are_not_compared() -> None:
    rule = Hyperband(full=9)  # rungs 1, 3, 9; brackets 0 1 2 0 0 1 0 ...
    assert [rule.bracket_of(number) for number in range(7)] == [0, 1, 0, 2, 0, 1, 0]
    assert [rule.first_grant(number) for number in range(1, 7)] == [3, 1, 9, 1, 3, 1]
    wide = [course(number, 0.5, paused=True) for number in (2, 4)]
    narrow = course(1, 0.1, 0.1, 0.1, granted=3, paused=True)
    assert promoted(rule, [*wide, narrow]) is None
    assert promoted(rule, [*wide, narrow, course(6, 0.4, paused=True)]) == Promotion(number=6, to_epoch=3)


def test_a_failed_trial_loses_its_places() -> None:
    rule = SuccessiveHalving(full=9)
    standings = standings_of(rule, [course(1, 0.5, paused=True), course(2, 0.4, paused=True), course(3, 0.1)])
    standings.put(Course(number=3, costs={}, granted=3, over=True))
    assert rule.promotable(standings) is None
    assert [number for _, number in standings.ranked(1)] == [2, 1]


def test_likely_epochs_count_the_baseline_to_the_end() -> None:
    assert SuccessiveHalving(full=9).likely_epochs(10) == 9 + 9 * 1 + 3 * 2 + 1 * 6
    assert Hyperband(full=9).likely_epochs(5) == 9 + (2 * 1 + 1 * 2 + 1 * 6) + (1 * 3 + 1 * 6) + 1 * 9
    assert FullBudget(full=9).likely_epochs(4) == 36
