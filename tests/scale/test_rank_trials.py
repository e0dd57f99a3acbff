"""Trials of two ranks each on Ray, and two hundred ends that ranks have to agree on."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from automl.ray_engine import run_ray
from automl.ray_session import cluster_session
from automl.snapshot import TrialStatus
from automl.study import Study
from search_spaces.spec import spec_from_dict, spec_to_dict, with_values
from tests.automl.toy import toy_config
from tests.scale.processes import ranks_below, wait_for
from tests.scale.ray_nodes import RayCluster
from tests.trials.small import parts, stereo_spec
from tests.trials.stops import random_stops
from trials.contract import Decision, ProgressTo, Report, ReportTo, TrialResult, TrialSpec
from trials.data.sample import write_samples
from trials.run import run_trial

pytestmark = pytest.mark.scale


class OnTwoRanks:
    """Trains on two CPU ranks, which share the weights in trials of odd numbers; notes how many trials and ranks run at once.

    The first two runs wait for each other at their start.  The worker of trial 1 is killed at its first report, once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        mark = self.folder / f"running-{trial.number}"

        def noted(sent: Report) -> Decision:
            with (self.folder / "ranks").open("a") as stream:
                stream.write(f"{len(ranks_below(os.getpid()))}\n")
            if sent.number == 1 and not (self.folder / "killed").exists():
                (self.folder / "killed").touch()
                mark.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            return report(sent)

        strategy = {"train.distributed_strategy": ("ddp", "fsdp")[trial.number % 2]}
        trial = replace(trial, spec=spec_to_dict(with_values(spec_from_dict(trial.spec), strategy)))
        mark.touch()
        (self.folder / f"began-{trial.number}").touch()
        try:
            wait_for(lambda: len(list(self.folder.glob("began-*"))) >= 2)
            with (self.folder / "at-once").open("a") as stream:
                stream.write(f"{len(list(self.folder.glob('running-*')))}\n")
            return run_trial(trial, noted, progress=progress, parts=parts(), cpu_ranks=2)
        finally:
            mark.unlink()


@pytest.mark.timeout(900)
def test_trials_of_two_ranks_run_two_at_a_time(tmp_path: Path) -> None:
    scenes = write_samples(tmp_path / "scenes", scenes=9, seed=1, height=64, width=96, max_disparity=32)
    spec = stereo_spec(scenes)
    spec["dataset"]["train_dataset"]["batch_size"] = 1
    with RayCluster(cpus=4) as cluster:
        config = toy_config(
            trials=3, epochs=3, parallel=2, cpus_per_trial=2.0, address=cluster.address, spec=spec_to_dict(spec_from_dict(spec))
        )
        study = Study.create(tmp_path / "s", config)
        with cluster_session(study.folder, cluster.address, cpus_per_trial=2.0) as session:
            snapshot = run_ray(study, session, run=OnTwoRanks(tmp_path))
            assert ranks_below(os.getpid()) == []
    assert len(snapshot.trials) == 3
    assert {trial.status for trial in snapshot.trials} <= {TrialStatus.COMPLETE, TrialStatus.STOPPED, TrialStatus.PAUSED}
    assert all(trial.value is not None for trial in snapshot.trials)
    assert set((tmp_path / "ranks").read_text().split()) == {"2"}
    assert max((tmp_path / "at-once").read_text().split()) == "2"


@pytest.mark.timeout(1000)
def test_ranks_agree_on_two_hundred_random_stops(tmp_path: Path) -> None:
    ends = random_stops(200, tmp_path, limit_s=900.0)
    kinds = Counter(end.split()[0] for end in ends)
    assert len(ends) == 200
    assert min(kinds[kind] for kind in ("paused", "stopped")) > 20
    in_training = {end for end in ends if " in epoch " in end or " after epoch " in end}
    assert len(in_training) > 5  # at several steps
