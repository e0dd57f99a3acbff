"""What every algorithm keeps, played by virtual workers: it ends, repeats itself, survives its driver and knows no direction but better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from automl.algorithms import ALGORITHMS
from automl.config import StudyConfig
from automl.engine import run_inline
from automl.snapshot import EndReason, StudySnapshot, TrialStatus
from automl.study import Study
from tests.automl.toy import LR, SPACE, ToyRun, toy_loss
from tests.automl.virtual import Killed, Workers, algorithm_config, study_in_memory
from trials.contract import Cause

TRIALS = 8
SMALL: Mapping[str, Mapping[str, Any]] = {  # so that models and generations come into play in so small a search
    "bohb": {"min_points_in_model": 4},
    "pbt": {"automl_eval_interval": 3},
    "pb2": {"automl_eval_interval": 3},
}
FAULTS = {1: Cause.OOM, 4: Cause.CRASH, 6: Cause.NAN, 7: Cause.DATA}


def config_of(name: str, **changes: Any) -> StudyConfig:
    return algorithm_config(name, **{"trials": TRIALS, "settings": SMALL.get(name, {}), **changes})


def searched(name: str, workers: Workers | None = None, **changes: Any) -> StudySnapshot:
    return (workers or Workers()).run(study_in_memory(config_of(name, **changes)))


def outcome(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.rung, t.stopped_by, dict(t.origin)) for t in snapshot.trials]


def negated(values: Mapping[str, Any], epoch: int) -> float:
    return -toy_loss(values, epoch)


@pytest.fixture(
    scope="module", params=sorted(set(ALGORITHMS) - {"llm"})
)  # a language model does not repeat itself: tests/automl/test_llm.py
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def whole(name: str) -> StudySnapshot:
    """A search of one worker, never disturbed."""
    return searched(name)


class TestAlgorithm:
    def test_it_ends_with_nothing_left_open_and_a_trial_at_the_full_budget(self, whole: StudySnapshot) -> None:
        assert whole.end is not None
        assert whole.end.reason is EndReason.EXHAUSTED
        assert {trial.status for trial in whole.trials} <= {TrialStatus.COMPLETE, TrialStatus.STOPPED}
        assert any(trial.status is TrialStatus.COMPLETE and trial.epoch == 9 for trial in whole.trials[1:])

    def test_every_trial_lies_inside_the_space(self, whole: StudySnapshot) -> None:
        for trial in whole.trials:
            SPACE.validate(trial.values)

    def test_the_baseline_is_trained_to_the_end(self, whole: StudySnapshot) -> None:
        assert whole.trial(0).status is TrialStatus.COMPLETE
        assert dict(whole.trial(0).values)[LR] == 1e-4

    def test_no_epoch_is_trained_twice(self, name: str) -> None:
        workers = Workers(count=3)
        snapshot = searched(name, workers)
        assert workers.epochs == sum(len(trial.curve) for trial in snapshot.trials) == sum(t.epoch - t.start for t in snapshot.trials)

    @pytest.mark.parametrize("share", [0.2, 0.8])
    def test_a_killed_driver_changes_nothing(self, name: str, whole: StudySnapshot, share: float) -> None:
        config, storage = config_of(name), InMemoryStorage()
        answers = sum(len(trial.curve) for trial in whole.trials)
        dying = Workers(kill_after=max(1, round(share * answers)))
        with pytest.raises(Killed):
            dying.run(study_in_memory(config, storage))
        assert outcome(Workers(states=dying.states).run(study_in_memory(config, storage))) == outcome(whole)

    def test_it_is_the_same_from_a_journal(self, name: str, whole: StudySnapshot, tmp_path: Path) -> None:
        study = Study.create(tmp_path / "s", config_of(name))
        half = Workers(kill_after=9)
        with pytest.raises(Killed):
            half.run(study)
        study.close()
        study = Study.open(tmp_path / "s")
        assert outcome(Workers(states=half.states).run(study)) == outcome(whole)
        study.close()

    def test_a_score_is_searched_as_its_negative(self, name: str, whole: StudySnapshot) -> None:
        upwards = searched(name, Workers(loss=negated), objective="val/d1", direction="maximize")
        assert [(t.number, t.status, dict(t.values), t.epoch) for t in upwards.trials] == [
            (t.number, t.status, dict(t.values), t.epoch) for t in whole.trials
        ]

    @pytest.mark.parametrize("count", [1, 4])
    def test_it_ends_although_trials_fail(self, name: str, count: int) -> None:
        snapshot = searched(name, Workers(count=count, faults=FAULTS))
        assert snapshot.end is not None
        assert snapshot.end.reason is EndReason.EXHAUSTED
        assert all(snapshot.trial(number).status is TrialStatus.FAILED for number in FAULTS)
        assert all(trial.value is None for trial in snapshot.trials if trial.status is TrialStatus.FAILED)
        assert any(trial.status is TrialStatus.COMPLETE and trial.epoch == 9 for trial in snapshot.trials)

    def test_it_ends_although_all_trials_fail(self, name: str) -> None:
        causes = (Cause.OOM, Cause.CRASH, Cause.NAN)
        snapshot = searched(name, Workers(count=2, faults={number: causes[number % 3] for number in range(99)}))
        assert snapshot.end is not None
        assert snapshot.end.reason is EndReason.FAILED

    def test_trials_that_are_all_alike_are_no_trouble(self, name: str) -> None:
        snapshot = searched(name, Workers(count=2, loss=lambda values, epoch: 1.0))
        assert snapshot.end is not None
        assert snapshot.end.reason is EndReason.EXHAUSTED

    def test_another_seed_gives_another_search(self, name: str, whole: StudySnapshot) -> None:
        other = searched(name, seed=2)
        assert [dict(t.values) for t in other.trials] != [dict(t.values) for t in whole.trials]


def low_valley(values: Mapping[str, Any], epoch: int) -> float:
    return abs(math.log10(values[LR]) + 5.0) + 1.0 / epoch


@pytest.mark.parametrize(("name", "trials"), [("mfgp", 40), ("tpe", 40), ("bayesian", 20), ("bfbo", 20), ("bohb", 40)])
def test_a_model_learns_where_trials_cannot_work(name: str, trials: int, tmp_path: Path) -> None:
    class Small(ToyRun):
        def __call__(self, trial: Any, report: Any, *, progress: Any = None) -> Any:
            self.faults = {trial.number: Cause.OOM} if trial.values[LR] > 3e-5 and trial.number else {}
            return super().__call__(trial, report, progress=progress)

    study = Study.create(tmp_path / "s", config_of(name, trials=trials, epochs=1, lr=1e-5))
    failed = [trial.status is TrialStatus.FAILED for trial in run_inline(study, run=Small(low_valley)).trials]
    study.close()
    assert sum(failed[trials // 2 :]) <= 0.4 * trials / 2  # of blind draws 63 % fail
