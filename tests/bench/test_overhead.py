"""The controller's time on the virtual clock, and searches that begin with a past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from optuna.storages import InMemoryStorage

from automl.snapshot import TrialStatus
from bench.overhead import TASK, Case, Charged, Row, measure, missed_targets, table
from bench.search.method import Clock, Setting
from bench.search.methods import find_variant
from bench.search.ours import config_of, study_in_memory
from bench.search.past import Past
from bench.search.simulator import Simulation, VirtualClock

ROW = Row(
    method="tpe", trials=1000, workers=64, storage="memory", reports=3000, report_ms=0.05, report_p95_ms=0.1, proposal_ms=20.0,
    proposal_p95_ms=25.0, promotion_ms=None, tell_ms=0.1, controller_s=30.0, all_busy_s=1.0, utilisation=0.99, memory_mib=20.0,
    journal_mib=None,
)  # fmt: skip


def ticking(step_s: float) -> Callable[[], float]:
    """A timer by which everything that it times takes `step_s`."""
    now = [0.0]

    def timer() -> float:
        now[0] += step_s
        return now[0]

    return timer


def charged(step_s: float, *, workers: int = 2) -> tuple[Charged, float]:
    """A search of 12 trials whose controller takes `step_s` to answer, and its makespan."""
    made: list[Charged] = []
    setting = Setting(task=TASK, seed=0, workers=workers)

    def make(setting: Setting, clock: Clock) -> Charged:
        assert isinstance(clock, VirtualClock)
        study = study_in_memory(config_of(setting, find_variant("random+asha"), trials=12), clock)
        made.append(Charged(study, clock, ticking(step_s)))
        return made[0]

    outcome = Simulation(make, setting).run()
    return made[0], outcome.makespan_s


def test_a_controller_that_takes_no_time_keeps_every_worker_busy() -> None:
    method, _ = charged(0.0)
    assert method.utilisation(2) == pytest.approx(1.0)


def test_the_time_of_answers_passes_on_the_virtual_clock() -> None:
    (free, free_s), (slow, slow_s) = charged(0.0, workers=1), charged(1.0, workers=1)
    calls = sum(map(len, slow.costs.taken.values()))
    assert calls == sum(map(len, free.costs.taken.values()))
    assert slow_s == pytest.approx(free_s + calls)


def test_workers_wait_for_one_controller() -> None:
    method, _ = charged(30.0)
    busy = method.utilisation(2)
    assert busy is not None
    assert busy < 0.8


def test_a_past_is_what_the_study_itself_would_have_written() -> None:
    setting = Setting(task=TASK, seed=0, workers=1)
    config = config_of(setting, find_variant("random+asha"), trials=60)
    storage, clock = InMemoryStorage(), VirtualClock()
    Past(storage, config, TASK, clock).fill(40)
    study = study_in_memory(config, clock, storage)
    before = [(trial.status, trial.rung) for trial in study.snapshot().trials]
    spec = study.ask()
    assert spec is not None
    assert spec.number == 40  # no promotion was due, nothing waits
    assert [(trial.status, trial.rung) for trial in study.snapshot().trials[:40]] == before
    counts = [sum(status is one for status, _ in before) for one in (TrialStatus.PAUSED, TrialStatus.COMPLETE, TrialStatus.RUNNING)]
    assert counts[0] > 10
    assert counts[1] >= 1
    assert counts[2] == 0


def test_a_journal_is_measured_in_bytes() -> None:
    row = measure(Case(method="random+asha", trials=6, workers=2, journal=True))
    assert row.journal_mib is not None
    assert 0.01 < row.journal_mib < 1.0


def test_a_missed_target_is_named() -> None:
    rows = [
        ROW,
        replace(ROW, proposal_ms=51.0),
        replace(ROW, workers=512, utilisation=0.89),
        replace(ROW, report_ms=11.0, storage="journal"),
    ]
    assert missed_targets(rows) == [
        "tpe, 1000 trials, 64 workers: 51 ms a proposal, target 50",
        "tpe, 1000 trials, 512 workers: utilisation 89.0%, target 90%",
    ]


def test_what_did_not_happen_is_an_empty_cell() -> None:
    assert table([ROW]).splitlines()[-1].startswith("| tpe | 1,000 | 64 | memory | 0.05 | 0.10 | 20.00 | 25.00 |  | 0.10 |")
