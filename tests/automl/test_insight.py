"""What a search says of its parameters and of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from automl.engine import run_inline
from automl.insight import convergence, importance
from automl.report import write_report
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary
from automl.study import Study
from tests.automl.toy import LR, OPTIMIZER, ToyRun, toy_config


def snapshot_of(costs: list[float], folder: Path = Path(), **changes: object) -> StudySnapshot:
    """One trial a cost, all trained to the end; the first is the baseline."""
    trials = tuple(
        TrialSummary(
            number=number,
            status=TrialStatus.COMPLETE,
            values={LR: 1e-4, OPTIMIZER: "AdamW"},
            seed=0,
            folder=folder,
            rung=9,
            epoch=9,
            value=cost,
            curve=((9, cost),),
        )
        for number, cost in enumerate(costs)
    )
    return StudySnapshot(folder=folder, config=toy_config(**changes), trials=trials, best=trials[0], active=False, end=None, taken_at=0.0)


@pytest.mark.parametrize(
    ("costs", "verdict"),
    [
        ([1.0] + [3.0] * 9, "too early to say: 9 trials"),
        ([1.0, 3.0, 2.0] + [3.0] * 8, "probably converged: the last 8 of 10 trials compared after 9 epochs"),
        ([1.0] + [3.0] * 9 + [2.0], "not converged: a better one came within the last 1 of 10"),
        ([1.0] + [3.0] * 5 + [2.0] + [3.0] * 4, "undecided: the last 4 of 10"),
    ],
)
def test_the_verdict_rests_on_when_the_best_came(costs: list[float], verdict: str) -> None:
    assert convergence(snapshot_of(costs)).startswith(verdict)
    scores = snapshot_of([-cost for cost in costs], direction="maximize")
    assert convergence(scores).startswith(verdict)


def test_the_parameter_that_acts_matters_most(tmp_path: Path) -> None:
    study = Study.create(tmp_path / "s", toy_config(trials=60, searcher="random"))
    snapshot = run_inline(study, run=ToyRun())
    study.close()
    found = importance(snapshot)
    assert found.shares[0][0] == LR
    assert sum(share for _, share in found.shares) == pytest.approx(1.0)
    assert (found.rung, found.trials) == (1, 60)  # too few for more than a guess came further
    assert found.told == "from 60 trials compared after 1 epoch: an estimate"
    text = write_report(snapshot).read_text()
    assert "Which parameters mattered" in text
    assert "Would more trials help?" in text


def test_few_trials_have_no_importance() -> None:
    found = importance(snapshot_of([1.0, 2.0]))
    assert (found.shares, found.told) == ((), "not estimated: at least 10 trials must have reached one rung, but 2 did")


def test_failed_and_foreign_trials_are_left_out() -> None:
    snapshot = snapshot_of([1.0] + [3.0] * 12)
    failed = tuple(replace(trial, status=TrialStatus.FAILED) for trial in snapshot.trials[:4])
    assert importance(replace(snapshot, trials=(*failed, *snapshot.trials[4:]))).trials == 9
