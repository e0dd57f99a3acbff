"""A search on a Ray cluster whose nodes die in the middle, join, do not share the folder, have GPUs or none."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from automl.amend import moved as moved_to
from automl.cluster import look
from automl.events import NodeAvoided, StudyEvent, TrialReported
from automl.ray_engine import run_ray
from automl.ray_session import cluster_session
from automl.snapshot import TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.toy import ToyRun, toy_config
from tests.scale.ray_nodes import RayCluster, hidden, kill
from trials.contract import Decision, ProgressTo, Report, ReportTo, TrialResult, TrialSpec

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]  # a new process of Ray takes half a minute on a busy machine

TRIALS, EPOCHS = 16, 9


class Noted(ToyRun):
    """Takes a moment for each epoch and notes in the shared folder what was trained, by which process."""

    def __init__(self, epoch_s: float = 0.25) -> None:
        super().__init__()
        self.epoch_s = epoch_s

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def noted(sent: Report) -> Decision:
            time.sleep(self.epoch_s)
            with (trial.folder / "trained.txt").open("a", encoding="utf-8") as stream:
                stream.write(f"{sent.epoch} {os.getppid()}\n")
            return report(sent)

        return super().__call__(trial, noted, progress=progress)


class Meeting(Noted):
    """From trial 1 on each waits at its start until two nodes work on the study: a new one takes its time to start a process."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        present = trial.folder.parent / "nodes"
        present.mkdir(exist_ok=True)
        (present / str(os.getppid())).touch()
        deadline = time.monotonic() + 400.0
        while trial.number and len(list(present.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        return super().__call__(trial, report, progress=progress)


class Holding(Noted):
    """Keeps its node busy after its first report until the study folder says `released`."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def held(sent: Report) -> Decision:
            answer, deadline = report(sent), time.monotonic() + 400.0
            while not (trial.folder.parent / "released").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            return answer

        return super().__call__(trial, held, progress=progress)


class Sharing(Noted):
    """Notes the GPUs that Ray gave it; the first four wait for each other at their start."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        seen, deadline = trial.folder.parent / "seen.txt", time.monotonic() + 400.0
        with seen.open("a", encoding="utf-8") as stream:
            stream.write(f"{os.environ['CUDA_VISIBLE_DEVICES']}\n")
        while len(seen.read_text().split()) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        return super().__call__(trial, report, progress=progress)


def trained(folder: Path) -> Counter[int]:
    """How often each epoch of a trial was trained."""
    return Counter(int(line.split()[0]) for line in (folder / "trained.txt").read_text().splitlines())


def raylets(folder: Path) -> set[str]:
    """The nodes that worked for a trial."""
    return {line.split()[1] for line in (folder / "trained.txt").read_text().splitlines()}


def test_a_node_that_dies_costs_at_most_the_epochs_it_was_in(tmp_path: Path) -> None:
    with RayCluster(cpus=2) as cluster:
        second = cluster.join(cpus=2)
        told = 0

        def on_event(event: StudyEvent) -> None:
            nonlocal told
            told += isinstance(event, TrialReported)
            if told >= 30 and isinstance(event, TrialReported) and second.poll() is None:
                working = (study.folder / f"trials/{event.number:04d}/trained.txt").read_text().split()[-1]
                if psutil.Process(int(working)).ppid() == second.pid:  # a trial of that node, in the middle
                    kill(second)

        config = toy_config(trials=TRIALS, epochs=EPOCHS, fidelity="full", parallel=4, cpus_per_trial=1.0, address=cluster.address)
        study = Study.create(tmp_path / "s", config)
        with cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session:
            assert session.room() == 4
            snapshot = run_ray(study, session, run=Meeting(), on_event=on_event)
            assert session.room() == 2
        study.close()
    assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * TRIALS
    assert all([epoch for epoch, _ in trial.curve] == list(range(1, EPOCHS + 1)) for trial in snapshot.trials)
    moved = [trial for trial in snapshot.trials if trial.retries]
    assert 1 <= len(moved) <= 2
    assert all((trial.retries, trial.segments) == (1, 2) for trial in moved)
    counts = {trial.number: trained(trial.folder) for trial in snapshot.trials}
    assert all(set(count) == set(range(1, EPOCHS + 1)) for count in counts.values())
    assert sum(sum(count.values()) - EPOCHS for count in counts.values()) <= len(moved)  # a moved trial repeats one epoch at most
    assert max(len(raylets(trial.folder)) for trial in moved) == 2  # another one may have ended no epoch on the node that died


def test_a_node_that_joins_takes_trials(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign" / "models"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    with RayCluster(cpus=1) as cluster:
        joined: list[subprocess.Popen[bytes]] = []
        told = 0

        def on_event(event: StudyEvent) -> None:
            nonlocal told
            told += isinstance(event, TrialReported)
            if told == EPOCHS and not joined:  # where somebody keeps another package named models
                joined.append(cluster.join(cpus=2, PYTHONPATH=str(foreign.parent)))

        config = toy_config(trials=6, epochs=EPOCHS, fidelity="full", parallel=3, cpus_per_trial=1.0, address=cluster.address)
        study = Study.create(tmp_path / "s", config)
        with cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session:
            assert session.room() == 1
            snapshot = run_ray(study, session, run=Meeting(), on_event=on_event)
            assert session.room() == 3
        study.close()
    assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 6
    assert sum(trial.retries for trial in snapshot.trials) == 0
    assert len(set().union(*(raylets(trial.folder) for trial in snapshot.trials))) == 2


def test_trials_share_gpus_and_leave_nodes_without_any_to_others(tmp_path: Path) -> None:
    """GPUs are only said to be there: what is tried is who is put where, and what each is told to see."""
    with RayCluster(cpus=0) as cluster:
        cluster.join(cpus=4, gpus=2)
        cluster.join(cpus=2)
        shares = toy_config(
            trials=6, epochs=3, fidelity="full", parallel=8, gpus_per_trial=0.5, cpus_per_trial=1.0, address=cluster.address
        )
        study = Study.create(tmp_path / "gpus", shares)
        with cluster_session(study.folder, cluster.address, gpus_per_trial=0.5, cpus_per_trial=1.0) as session:
            assert session.room() == 4
            snapshot = run_ray(study, session, run=Sharing(0.0))
        study.close()
        assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 6
        assert Counter((study.folder / "trials" / "seen.txt").read_text().split()[:4]) == {"0": 2, "1": 2}  # all four at once
        assert len(set().union(*(raylets(trial.folder) for trial in snapshot.trials))) == 1

        plain = toy_config(trials=4, epochs=3, fidelity="full", parallel=8, cpus_per_trial=2.0, address=cluster.address)
        study = Study.create(tmp_path / "cpus", plain)
        with cluster_session(study.folder, cluster.address, cpus_per_trial=2.0) as session:
            assert session.room() == 3
            snapshot = run_ray(study, session, run=Meeting(0.0))
        study.close()
        assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 4
        assert len(set().union(*(raylets(trial.folder) for trial in snapshot.trials))) == 2


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="hiding a folder from one node takes root and unshare")
def test_nodes_that_do_not_see_the_study_folder_are_said_once_and_avoided(tmp_path: Path) -> None:
    with RayCluster(cpus=0) as cluster:
        cluster.join(cpus=1, within=hidden(tmp_path))
        assert [node.cpus for node in look(cluster.address)] in ([0.0, 1.0], [1.0, 0.0])
        there = moved_to(toy_config(trials=5, cpus_per_trial=None, engine="inline"), cluster.address)
        assert (there.engine, there.address, there.parallel, there.cpus_per_trial) == ("ray", cluster.address, 1, 1.0)
        config = toy_config(trials=4, epochs=EPOCHS, fidelity="full", parallel=3, cpus_per_trial=1.0, address=cluster.address)
        study = Study.create(tmp_path / "s", config)
        with (
            cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session,
            pytest.raises(StudyError, match=r"no node is left that can work on this study: .*the study folder is not shared") as caught,
        ):
            run_ray(study, session, run=Noted())
        mount = f"mount the same storage at {study.folder} on every node, or name a folder that they share with --results"
        assert caught.value.hint == mount
        assert study.snapshot().trials == ()

        seeing = cluster.join(cpus=1)
        events: list[StudyEvent] = []

        def on_event(event: StudyEvent) -> None:
            events.append(event)
            if sum(isinstance(event, TrialReported) for event in events) == 1 and isinstance(event, TrialReported):
                cluster.join(cpus=1, within=hidden(tmp_path))
            if isinstance(event, NodeAvoided) and event is not next(event for event in events if isinstance(event, NodeAvoided)):
                (study.folder / "trials" / "released").touch()

        with cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session:
            snapshot = run_ray(study, session, run=Holding(0.0), on_event=on_event)
            assert session.room() == 1
        study.close()
        assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 4
        assert sorted((trial.retries, trial.segments) for trial in snapshot.trials) == [(0, 1)] * 3 + [(0, 2)]
        said = [event for event in events if isinstance(event, NodeAvoided)]
        assert ["is not there: the study folder is not shared" in event.message for event in said] == [True, True]
        assert {event.hint for event in said} == {mount}

        def end_the_last(event: StudyEvent) -> None:
            if isinstance(event, TrialReported) and seeing.poll() is None:
                kill(seeing)

        study = Study.create(tmp_path / "t", config)
        with (
            cluster_session(study.folder, cluster.address, cpus_per_trial=1.0) as session,
            pytest.raises(StudyError, match=r"no node is left that can work on this study: .*; "),
        ):
            run_ray(study, session, run=Noted(), on_event=end_the_last)
        assert study.trial(0).status is TrialStatus.WAITING
        study.close()
