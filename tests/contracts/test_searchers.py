"""What every searcher keeps: inside the space, only active parameters, seeded, deaf to crashes, no memory of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from automl.algorithms import SettingValue, complete_settings
from automl.fidelity import rule_of
from automl.proposals import Need
from automl.searchers import SEARCHERS, find_searcher
from automl.snapshot import TrialStatus
from automl.sources import SearchSource
from automl.trial_record import TrialRecord
from automl.view import Observation
from search_spaces.objective import Direction
from search_spaces.space import Value
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, toy_config
from trials.contract import Cause, Failure

PAST = tuple(
    Observation(
        number=n,
        params={LR: 10.0 ** (-6 + n / 3), OPTIMIZER: "AdamW"} if n % 2 else {LR: 10.0 ** (-6 + n / 3), OPTIMIZER: "SGD", MOMENTUM: 0.8},
        best_by_rung={1: abs(n - 7.0), 3: abs(n - 7.0) / 2} if n > 3 else {1: abs(n - 7.0)},
        infeasible=n == 11,
    )
    for n in range(12)
)


def need(number: int, *, seed: int = 1) -> Need:
    return Need(seed=seed, number=number, space=SPACE, startup=4, origins=[{}] * number)


def settings_for(name: str) -> dict[str, SettingValue]:
    return complete_settings({}, searcher=name, fidelity="asha")


def propose(name: str, need: Need, past: Sequence[Observation], direction: Direction = "minimize") -> dict[str, Value]:
    return find_searcher(name).propose(replace(need, settings=settings_for(name)), past, direction).values


def record(number: int, cause: Cause | None) -> TrialRecord:
    error = None if cause is None else Failure(cause=cause, message="x")
    params = {LR: 1e-5 * (number + 1), OPTIMIZER: "AdamW"}
    return TrialRecord(
        number=number, trial_id=number, values=params, params=params, seed=0, folder="", exempt=False, parent=None,
        status=TrialStatus.STOPPED if cause is None else TrialStatus.FAILED, granted=1, curve={1: 1.0}, error=error,
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(SEARCHERS) - {"llm"}))  # a language model does not repeat itself: tests/automl/test_llm.py
class TestSearcher:
    def test_every_proposal_lies_inside_the_space(self, name: str) -> None:
        for number in range(12, 16):
            SPACE.validate(propose(name, need(number), PAST))

    def test_the_first_proposal_needs_no_past(self, name: str) -> None:
        SPACE.validate(propose(name, need(1), (), "maximize"))

    def test_the_same_seed_number_and_past_give_the_same_proposal(self, name: str) -> None:
        first, second = (propose(name, need(12), PAST) for _ in range(2))
        assert first == second

    def test_another_seed_gives_another_proposal(self, name: str) -> None:
        first, second = (propose(name, need(2, seed=seed), PAST[:2]) for seed in (1, 2))
        assert first != second

    def test_a_crashed_trial_teaches_nothing(self, name: str) -> None:
        fidelity = "population" if find_searcher(name).explore is not None else "asha"
        config = toy_config(searcher=name, fidelity=fidelity, working_folder=Path())
        source = SearchSource(config, rule_of(config))
        sound = [record(number, None) for number in range(6)]
        crashed = [*sound, record(6, Cause.CRASH)]
        assert source.draw(7, crashed).values == source.draw(7, sound).values

    def test_it_says_what_it_is(self, name: str) -> None:
        assert len(find_searcher(name).summary) > 10
