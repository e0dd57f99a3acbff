"""A search whose cluster loses all of its nodes: it says so, goes on when one joins, and can be stopped meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl.events import RoomChanged, StudyEvent, TrialReported
from automl.ray_engine import run_ray
from automl.ray_session import cluster_session
from automl.requests import request_stop
from automl.snapshot import EndReason, TrialStatus
from automl.study import Study
from tests.automl.toy import SlowRun, toy_config
from tests.scale.ray_nodes import RayCluster, kill

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
