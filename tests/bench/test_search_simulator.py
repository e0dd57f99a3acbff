"""The virtual clock: what workers live through, and that real threads that sleep take the same decisions."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import pytest

from bench.search.method import MakeMethod, NotInstalled, Setting
from bench.search.methods import PEERS, find_method, find_variant
from bench.search.ours import Ours, config_of, study_in_memory
from bench.search.simulator import Happened, Outcome, Simulation, check_times
from bench.search.sleeping import SleepingExecutor
from bench.search.synthetic import SyntheticTask

INSTALLED = [name for name in PEERS if not name.startswith(("syne", "neps", "tao"))]  # the others bring packages of their own
MONO = SyntheticTask(1, "dev", kind="mono")
CURATED = SyntheticTask(0, "dev", kind="curated")


def ours(name: str, trials: int) -> MakeMethod:
    return lambda setting, clock: Ours(study_in_memory(config_of(setting, find_variant(name), trials=trials), clock))


def searched(name: str, *, seed: int = 0, kills: float = 0.0) -> Outcome:
    return Simulation(ours(name, 8), Setting(task=MONO, seed=seed, workers=2), kills=kills).run()


def decisions(log: Sequence[Happened]) -> list[tuple[str, int, int, str]]:
    return [(one.what, one.number, one.epoch, one.answer) for one in log]


@pytest.mark.parametrize("name", ["tpe+asha", "random+hyperband"])
def test_real_threads_that_sleep_take_the_same_decisions(name: str) -> None:
    setting = Setting(task=MONO, seed=0, workers=2)
    virtual = Simulation(ours(name, 8), setting).run()
    for seconds in (2.0, 6.0, 18.0, 54.0):  # a busy machine may wake two threads in the other order: then once more, and slower
        log, _ = SleepingExecutor(ours(name, 8), setting, scale=seconds / virtual.makespan_s).run()
        if decisions(log) == decisions(virtual.log):
            return
    pytest.fail("real threads took other decisions than the simulator")


def test_the_same_seed_gives_the_same_search() -> None:
    assert searched("tpe+asha").log == searched("tpe+asha").log


def test_another_seed_gives_another_search() -> None:
    assert searched("tpe+asha").log != searched("tpe+asha", seed=1).log


def test_a_promoted_trial_goes_on_from_its_last_epoch() -> None:
    epochs: dict[int, list[int]] = {}
    for one in searched("random+asha").log:
        if one.what == "report":
            epochs.setdefault(one.number, []).append(one.epoch)
    assert all(reached == list(range(1, len(reached) + 1)) for reached in epochs.values())
    assert max(map(len, epochs.values())) == MONO.epochs


def test_a_killed_worker_costs_the_epoch_under_way_and_the_trial_goes_on() -> None:
    outcome = searched("random+asha", kills=2.0)
    killed = {one.number for one in outcome.log if one.answer == "infrastructure"}
    again = {one.number for one in outcome.log if one.what == "start" and one.epoch > 0}
    assert killed & again


def test_a_configuration_that_diverges_or_does_not_fit_fails() -> None:
    task = SyntheticTask(1, "dev", kind="wide")
    outcome = Simulation(ours("random+full", 60), Setting(task=task, seed=3, workers=8)).run()
    causes = {one.answer for one in outcome.log if one.what == "end"}
    assert {"nan", "oom", "complete"} <= causes
    assert outcome.failures == sum(one.answer in {"nan", "oom"} for one in outcome.log)
    assert outcome.useful < 1.0


def test_the_end_of_the_budget_ends_the_search() -> None:
    deadline_s = 2 * MONO.typical_s
    setting = Setting(task=MONO, seed=0, workers=2)
    outcome = Simulation(find_method("random+asha"), setting, deadline_s=deadline_s, checks=check_times(deadline_s, 10)).run()
    assert outcome.makespan_s <= deadline_s
    assert len(outcome.regrets) == 10
    assert outcome.utilisation == pytest.approx(1.0)


@pytest.mark.parametrize(
    "name", [*INSTALLED, "tpe+asha", "random+hyperband", "bohb", "dehb", "tpe+median", "tpe+asha@running", "qmc+full/3"]
)
def test_every_method_tries_the_default_first_and_names_what_it_would_return(name: str) -> None:
    setting = Setting(task=CURATED, seed=1, workers=4)
    deadline_s = 2 * CURATED.typical_s
    simulation = Simulation(find_method(name), setting, deadline_s=deadline_s, checks=[deadline_s])
    outcome = simulation.run()
    first = outcome.log[0]
    assert (first.what, first.number) == ("start", 0)
    assert outcome.trials >= setting.workers
    assert math.isfinite(outcome.regrets[-1])


@pytest.mark.parametrize(
    ("name", "package"), [("syne-asha", "syne_tune.optimizer"), ("neps-priorband", "neps"), ("tao-asha", "tao_automl")]
)
def test_a_peer_that_is_not_installed_says_which_extra_brings_it(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotInstalled, match="bench-"):
        find_method(name)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        find_method("tpee+asha")
