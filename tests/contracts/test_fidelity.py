"""What every fidelity rule keeps, over a small asynchronous search worked through by hand-made curves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from automl.course import Birth, Course, FidelityRule, Promotion, Standings
from automl.fidelity import RULES, make_rule
from tests.automl.toy import standings_of
from trials.contract import Decision

FULL = 9
TRIALS = 15


@dataclass
class Played:
    """A rule played against curves `rank + 1 / epoch` (ranks 2 0 3 1 4 2 0 ...): what each trial was allowed to run."""

    epochs: dict[int, int] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    granted: dict[int, int] = field(default_factory=dict)
    births: dict[int, Birth] = field(default_factory=dict)

    def course(self, number: int) -> Course:
        birth = self.births.get(number)
        start = 0 if birth is None else birth.epoch
        costs = {epoch: (3 * number + 2) % 5 + 1.0 / epoch for epoch in range(start + 1, self.epochs[number] + 1)}
        return Course(
            number=number, costs=costs, granted=self.granted[number], paused=number in self.paused, exempt=number == 0,
            over=number in self.stopped or self.epochs[number] == FULL, start=start, replaces=None if birth is None else birth.replaces,
        )  # fmt: skip

    def standings(self, rule: FidelityRule) -> Standings:
        return standings_of(rule, map(self.course, self.epochs))


def made(name: str, epochs: int = FULL) -> FidelityRule:
    return make_rule(name, epochs=epochs, trials=TRIALS)


def play(rule: FidelityRule) -> Played:
    played = Played()
    for number in range(TRIALS):
        played.epochs[number], played.granted[number] = 0, rule.first_grant(number)
        run(rule, played, number)
        while (turn := rule.promotable(played.standings(rule))) is not None:
            go_on(rule, played, turn)
    return played


def go_on(rule: FidelityRule, played: Played, turn: Promotion | Birth) -> None:
    number = turn.number if isinstance(turn, Promotion) else len(played.epochs)
    if isinstance(turn, Birth):
        assert turn.replaces in played.paused
        assert {played.epochs[donor] for donor in turn.donors} == {turn.epoch}
        played.births[number], played.epochs[number] = turn, turn.epoch
        played.paused.discard(turn.replaces)
        played.stopped.add(turn.replaces)
    else:
        assert number in played.paused
    assert played.epochs[number] < turn.to_epoch <= FULL
    played.paused.discard(number)
    played.granted[number] = turn.to_epoch
    run(rule, played, number)


def run(rule: FidelityRule, played: Played, number: int) -> None:
    while played.epochs[number] < FULL:
        played.epochs[number] += 1
        verdict = rule.judge(played.course(number), played.standings(rule))
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
        rungs = made(name).rungs
        assert list(rungs) == sorted(set(rungs))
        assert rungs[-1] == FULL

    def test_the_baseline_reaches_the_full_budget(self, name: str) -> None:
        assert play(made(name)).epochs[0] == FULL

    def test_trials_pause_only_at_rungs_and_stop_only_where_they_are_judged(self, name: str) -> None:
        rule = made(name)
        played = play(rule)
        assert {played.epochs[number] for number in played.paused} <= set(rule.rungs)
        assert all(played.epochs[number] == played.granted[number] for number in played.stopped)

    def test_the_best_trial_is_never_lost(self, name: str) -> None:
        played = play(made(name))
        assert max(played.epochs[number] for number in (1, 6, 11)) == FULL  # rank 0

    def test_it_keeps_no_state(self, name: str) -> None:
        rule = made(name)
        assert play(rule) == play(rule) == play(made(name))

    def test_one_epoch_is_no_contest(self, name: str) -> None:
        rule = made(name, epochs=1)
        course = Course(number=1, costs={1: 9.0}, granted=rule.first_grant(1))
        verdict = rule.judge(course, standings_of(rule, [course]))
        assert verdict.decision is Decision.CONTINUE

    def test_epochs_spent_are_about_those_expected(self, name: str) -> None:
        rule = made(name)
        played = play(rule)
        spent = sum(epochs - (played.births[n].epoch if n in played.births else 0) for n, epochs in played.epochs.items())
        assert 0.5 * rule.likely_epochs(TRIALS) <= spent <= 1.5 * rule.likely_epochs(TRIALS)
