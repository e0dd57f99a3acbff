"""A search whose cluster loses all of its nodes says so, goes on when one joins, and can be stopped; a node that kills workers is left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from automl.events import RoomChanged, StudyEvent, TrialReported
from automl.ray_engine import run_ray
from automl.ray_session import cluster_session
from automl.requests import request_stop
from automl.snapshot import EndReason, TrialStatus
from automl.study import Study
from tests.automl.toy import SlowRun, ToyRun, toy_config
from tests.scale.ray_nodes import RayCluster, kill
from trials.contract import ProgressTo, ReportTo, TrialResult, TrialSpec

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]


def test_a_search_without_nodes_says_so_waits_and_can_be_stopped(tmp_path: Path) -> None:
    with RayCluster(cpus=0) as cluster:
        node = cluster.join(cpus=1)
        config = toy_config(trials=2, fidelity="full", cpus_per_trial=1.0, address=cluster.address)
        study = Study.create(tmp_path / "s", config)
        told: list[str] = []

        def on_event(event: StudyEvent) -> None:
            nonlocal node
            if isinstance(event, TrialReported) and (event.number, event.epoch, len(told)) in {(0, 2, 0), (1, 2, 2)}:
                kill(node)
            if isinstance(event, RoomChanged):
                told.append(event.message)
                if len(told) == 1:
                    node = cluster.join(cpus=1)
                elif len(told) == 3:
                    request_stop(study.folder)

        with cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session:
            snapshot = run_ray(study, session, run=SlowRun(), on_event=on_event)
        study.close()
    lost = (
        f"no node of the cluster has room for a trial (1 core) any more: the search waits for one to join {cluster.address}; "
        f"Ctrl-C or `automl stop {study.folder}` ends it, `automl resume {study.folder}` goes on later"
    )
    assert told == [lost, "the cluster has room for 1 trial again", lost]
    assert snapshot.end is not None
    assert snapshot.end.reason is EndReason.STOPPED
    assert [(trial.status, trial.retries) for trial in snapshot.trials] == [(TrialStatus.COMPLETE, 1), (TrialStatus.WAITING, 1)]


class DeadlySomewhere(ToyRun):
    """Where the environment has DEADLY the process dies at once; elsewhere the first trial waits until two have."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        deaths = trial.folder.parent / "deaths.txt"
        if os.environ.get("DEADLY"):
            with deaths.open("a", encoding="utf-8") as stream:
                stream.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        while not deaths.exists() or len(deaths.read_text()) < 2:
            time.sleep(0.1)
        return super().__call__(trial, report, progress=progress)


def test_a_node_that_kills_its_workers_does_not_use_up_a_trial(tmp_path: Path) -> None:
    with RayCluster(cpus=0) as cluster:
        cluster.join(cpus=1)
        cluster.join(cpus=1, DEADLY="1")
        config = toy_config(trials=2, fidelity="full", parallel=2, cpus_per_trial=1.0, address=cluster.address)
        study = Study.create(tmp_path / "s", config)
        with cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session:
            snapshot = run_ray(study, session, run=DeadlySomewhere())
        study.close()
    assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 2
    assert sorted(trial.retries for trial in snapshot.trials) == [0, 2]
