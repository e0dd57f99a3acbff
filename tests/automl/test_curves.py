"""Extrapolated learning curves, and the rule that stops what will not win, on laws whose end is known."""

from __future__ import annotations

import pytest

from automl.course import Course, Promotion
from automl.curves import CurveStopping, chance_below
from tests.automl.toy import standings_of
from trials.contract import Decision

RULE = CurveStopping(full=27, eta=3)  # trials of bracket 0 have rungs 1, 3, 9, 27
NUMBER = 5  # of bracket 3: one rung, 27


def law(end: float, epochs: int, *, fall: float = 2.0) -> dict[int, float]:
    return {epoch: end + fall / epoch for epoch in range(1, epochs + 1)}


@pytest.mark.parametrize(("level", "low", "high"), [(0.9, 0.0, 0.05), (1.074, 0.3, 0.7), (1.3, 0.95, 1.0)])
def test_a_power_law_is_carried_on(level: float, low: float, high: float) -> None:
    chance = chance_below(law(1.0, 6), 27, level)  # 1 + 2 / 27 = 1.074 at the end
    assert chance is not None
    assert low <= chance <= high


def test_three_points_say_little_and_two_say_nothing() -> None:
    few, more = chance_below(law(1.0, 3), 27, 0.9), chance_below(law(1.0, 9), 27, 0.9)
    assert few is not None
    assert more is not None
    assert few > 4 * more
    assert chance_below(law(1.0, 2), 27, 0.9) is None


def test_a_curve_that_rises_will_not_fall_below_its_start() -> None:
    chance = chance_below({1: 1.0, 2: 1.1, 3: 1.3, 4: 1.4, 5: 1.45}, 27, 0.9)
    assert chance is not None
    assert chance < 0.05


def judged(costs: dict[int, float], best: float, **changes: object) -> Decision:
    trial = Course(number=NUMBER, costs=costs, granted=max(costs), **changes)  # type: ignore[arg-type]
    others = [Course(number=1, costs={1: best}, granted=3)]
    return RULE.judge(trial, standings_of(RULE, [trial, *others])).decision


def test_a_trial_that_will_not_reach_the_best_is_stopped() -> None:
    assert RULE.rungs_of(NUMBER) == (27,)
    assert judged(law(1.0, 6), best=0.5) is Decision.STOP
    assert judged(law(1.0, 6), best=1.2) is Decision.CONTINUE
    assert judged(law(1.0, 2), best=0.5) is Decision.CONTINUE
    assert judged(law(1.0, 6), best=0.5, exempt=True) is Decision.CONTINUE


def test_the_leader_is_never_stopped() -> None:
    assert judged({1: 0.4, 2: 0.9, 3: 1.2, 4: 1.3, 5: 1.4}, best=0.5) is Decision.CONTINUE


def test_between_rungs_a_trial_is_asked_after_every_epoch() -> None:
    trial = Course(number=NUMBER, costs=law(1.0, 6), granted=6)
    assert RULE.judge(trial, standings_of(RULE, [trial])).granted == 7


def test_at_its_rung_a_trial_pauses_and_a_promoted_one_is_looked_at_again_at_once() -> None:
    trials = [Course(number=number, costs={1: number / 10}, granted=1, paused=True) for number in (2, 4)]
    assert {RULE.bracket_of(number) for number in (2, 4, 6)} == {0}
    last = Course(number=6, costs={1: 0.9}, granted=1)
    standings = standings_of(RULE, [*trials, last])
    assert RULE.judge(last, standings).decision is Decision.PAUSE
    assert RULE.promotable(standings) == Promotion(number=2, to_epoch=2)
