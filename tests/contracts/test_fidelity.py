"""What every fidelity rule keeps, over a small asynchronous search worked through by hand-made curves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from automl.course import Course, FidelityRule, standings_of
from automl.fidelity import RULES, make_rule
from trials.contract import Decision

FULL = 9


@dataclass
class Played:
    """A rule played against curves `rank + 1 / epoch` (ranks 2 0 3 1 4 2 0 ...): what each trial was allowed to run."""

    epochs: dict[int, int] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    granted: dict[int, int] = field(default_factory=dict)

    def course(self, number: int) -> Course:
        costs = {epoch: (3 * number + 2) % 5 + 1.0 / epoch for epoch in range(1, self.epochs[number] + 1)}
        return Course(number=number, costs=costs, granted=self.granted[number], paused=number in self.paused, exempt=number == 0)


def play(rule: FidelityRule, trials: int = 15) -> Played:
    played = Played()
    for number in range(trials):
        played.epochs[number], played.granted[number] = 0, rule.first_grant(number)
        run(rule, played, number)
        while (chosen := rule.promotable(standings_of(rule, map(played.course, played.epochs)))) is not None:
            assert chosen.number in played.paused
            assert played.epochs[chosen.number] < chosen.to_epoch <= FULL
            played.paused.discard(chosen.number)
            played.granted[chosen.number] = chosen.to_epoch
            run(rule, played, chosen.number)
    return played


def run(rule: FidelityRule, played: Played, number: int) -> None:
    while played.epochs[number] < FULL:
        played.epochs[number] += 1
        verdict = rule.judge(played.course(number), standings_of(rule, map(played.course, played.epochs)))
        assert verdict.granted >= played.granted[number]
        if verdict.decision is Decision.CONTINUE:
            assert verdict.granted > played.epochs[number] or played.epochs[number] == FULL
            played.granted[number] = verdict.granted
            continue
        (played.paused if verdict.decision is Decision.PAUSE else played.stopped).add(number)
        return


@pytest.mark.parametrize("name", RULES)
class TestFidelityRule:
    def test_rungs_ascend_to_the_full_budget(self, name: str) -> None:
        rungs = make_rule(name, epochs=FULL).rungs
        assert list(rungs) == sorted(set(rungs))
        assert rungs[-1] == FULL

    def test_the_baseline_reaches_the_full_budget(self, name: str) -> None:
        assert play(make_rule(name, epochs=FULL)).epochs[0] == FULL

    def test_trials_pause_only_at_rungs_and_stop_only_where_they_are_judged(self, name: str) -> None:
        rule = make_rule(name, epochs=FULL)
        played = play(rule)
        assert {played.epochs[number] for number in played.paused} <= set(rule.rungs)
        assert all(played.epochs[number] == played.granted[number] for number in played.stopped)

    def test_the_best_trial_is_never_lost(self, name: str) -> None:
        played = play(make_rule(name, epochs=FULL))
        assert max(played.epochs[number] for number in (1, 6, 11)) == FULL  # rank 0

    def test_it_keeps_no_state(self, name: str) -> None:
        rule = make_rule(name, epochs=FULL)
        assert play(rule) == play(rule) == play(make_rule(name, epochs=FULL))

    def test_one_epoch_is_no_contest(self, name: str) -> None:
        rule = make_rule(name, epochs=1)
        course = Course(number=1, costs={1: 9.0}, granted=rule.first_grant(1))
        verdict = rule.judge(course, standings_of(rule, [course]))
        assert verdict.decision is Decision.CONTINUE
