"""Ray Tune as the engine, several studies on one Ray: the inline engine's decisions, dead workers, Ctrl-C."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import ray

from automl.engine import run_inline
from automl.events import StudyEvent, StudyStopping, TrialEnded, TrialReported, TrialStarted
from automl.limits import Limits
from automl.ray_engine import run_ray
from automl.ray_session import RaySession, ray_session
from automl.ray_worker import LOG_FILE
from automl.silence import SilenceWatch
from automl.snapshot import EndReason, StudySnapshot, TrialStatus
from automl.study import Study
from search_spaces.errors import StudyError
from tests.automl.many_worker_kills import Killer, faults, outcome
from tests.automl.toy import SlowRun, ToyRun, toy_config
from trials.contract import Cause, Decision, ProgressEvent, ProgressTo, Report, ReportTo, TrialResult, TrialSpec

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a package of their own named `models`, which must not get in the way."""
    home = tmp_path_factory.mktemp("home")
    (home / "models").mkdir()
    (home / "models" / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    return home


@pytest.fixture(scope="module")
def session(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RaySession]:
    """One Ray for two trials at a time, started from that folder; all studies below run on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with ray_session(tmp_path_factory.mktemp("study"), slots=2) as session:
            assert Path.cwd() == home
            yield session


def decisions(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.rung, t.segments, t.value, t.stopped_by) for t in snapshot.trials]


class Talking(ToyRun):
    """Also tells how far it is, and writes to stdout."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        os.write(1, f"cwd {Path.cwd()}, niceness {os.nice(0)}\n".encode())
        if progress is not None:
            event = ProgressEvent(number=trial.number, phase="train", epoch=1, max_epochs=9, step=1, total_steps=9, loss=0.5, eta_s=None)
            progress(event)
        return super().__call__(trial, report, progress=progress)


class KilledOnce(ToyRun):
    """The process of trial 2 is killed in its fifth epoch, the first time."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def deadly(sent: Report) -> Decision:
            if (sent.number, sent.epoch) == (2, 5) and not self.marker.exists():
                self.marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return report(sent)

        return super().__call__(trial, deadly, progress=progress)


def test_one_slot_takes_the_decisions_of_the_inline_engine(tmp_path: Path, home: Path, session: RaySession) -> None:
    inline = Study.create(tmp_path / "inline", toy_config())
    expected = run_inline(inline, run=ToyRun())
    events: list[StudyEvent] = []
    study = Study.create(tmp_path / "ray", toy_config(working_folder=home))
    snapshot = run_ray(study, session, run=Talking(), on_event=events.append)
    assert decisions(snapshot) == decisions(expected)
    assert (study.folder / "trials" / "0001" / LOG_FILE).read_text().startswith(f"cwd {home}, niceness {os.nice(0)}\n")
    assert sum(type(event).__name__ == "TrialProgress" for event in events) == sum(trial.segments for trial in snapshot.trials)


@pytest.mark.parametrize("searcher", ["random", "bohb", "dehb"])
def test_hyperband_decides_alike_on_both_engines(tmp_path: Path, session: RaySession, searcher: str) -> None:
    config = toy_config(searcher=searcher, fidelity="hyperband")
    expected = run_inline(Study.create(tmp_path / "inline", config), run=ToyRun())
    assert decisions(run_ray(Study.create(tmp_path / "ray", config), session, run=ToyRun())) == decisions(expected)


def test_a_killed_worker_costs_its_trial_nothing(tmp_path: Path, session: RaySession) -> None:
    events: list[StudyEvent] = []
    study = Study.create(tmp_path / "s", toy_config(trials=4, fidelity="full", parallel=2))
    snapshot = run_ray(study, session, run=KilledOnce(tmp_path / "killed"), on_event=events.append)
    assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 4
    victim = snapshot.trial(2)
    assert (victim.retries, victim.segments, [epoch for epoch, _ in victim.curve]) == (1, 2, list(range(1, 10)))
    assert [event.number for event in events if isinstance(event, TrialEnded) and event.retry] == [2]
    told = [event.epoch for event in events if isinstance(event, TrialReported) and event.number == 2]
    assert told == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # it went on from its checkpoint


def test_ctrl_c_pauses_and_resume_finishes(tmp_path: Path, session: RaySession) -> None:
    events: list[StudyEvent] = []

    def on_event(event: StudyEvent) -> None:
        events.append(event)
        if isinstance(event, TrialReported) and (event.number, event.epoch) == (1, 1):
            os.kill(os.getpid(), signal.SIGINT)

    study = Study.create(tmp_path / "s", toy_config(trials=3, fidelity="full"))
    snapshot = run_ray(study, session, run=Slow(), on_event=on_event)
    study.close()
    assert snapshot.end is not None
    assert (snapshot.end.reason, snapshot.trial(1).status) == (EndReason.INTERRUPTED, TrialStatus.WAITING)
    assert any(isinstance(event, StudyStopping) for event in events)
    study = Study.open(tmp_path / "s")
    resumed = run_inline(study, run=ToyRun())
    assert [trial.status for trial in resumed.trials] == [TrialStatus.COMPLETE] * 3
    assert resumed.trial(1).segments == 2


def test_nobody_waits_for_trials_that_no_worker_has_begun(tmp_path: Path, session: RaySession) -> None:
    now = 0.0

    def on_event(event: StudyEvent) -> None:
        nonlocal now
        if isinstance(event, TrialStarted):
            now += 7200.0

    study = Study.create(tmp_path / "s", toy_config(limits=Limits(max_hours=1.0)), clock=lambda: now)
    snapshot = run_ray(study, session, run=SlowRun(), on_event=on_event)
    assert [(trial.status, trial.epoch) for trial in snapshot.trials] == [(TrialStatus.WAITING, 0)]
    assert snapshot.end is not None
    assert snapshot.end.message == "no trial produced val/loss within 1 h, after 1 of 12 trials had begun"
    after = run_ray(Study.create(tmp_path / "t", toy_config(trials=1)), session, run=ToyRun())  # Ray is as good as before
    assert [trial.status for trial in after.trials] == [TrialStatus.COMPLETE]


def test_a_console_that_breaks_at_ctrl_c_leaves_no_worker_waiting(tmp_path: Path, session: RaySession) -> None:
    def on_event(event: StudyEvent) -> None:
        if isinstance(event, TrialReported) and (event.number, event.epoch) == (1, 2):
            os.kill(os.getpid(), signal.SIGINT)
        if isinstance(event, StudyStopping):
            raise BrokenPipeError("nobody reads")

    study = Study.create(tmp_path / "s", toy_config(trials=3, fidelity="full"))
    with pytest.raises(BrokenPipeError):
        run_ray(study, session, run=SlowRun(), on_event=on_event)
    study.close()
    resumed = run_inline(Study.open(tmp_path / "s"), run=ToyRun())
    assert [trial.status for trial in resumed.trials] == [TrialStatus.COMPLETE] * 3


def test_a_mailbox_that_dies_ends_the_search_with_one_error(tmp_path: Path, session: RaySession) -> None:
    def on_event(event: StudyEvent) -> None:
        if isinstance(event, TrialReported):
            (name,) = (name for name in ray.util.list_named_actors() if name.startswith("segments-"))
            ray.kill(ray.get_actor(name))

    study = Study.create(tmp_path / "s", toy_config(trials=2, fidelity="full"))
    with pytest.raises(StudyError, match="Ray has lost the process that carries reports") as caught:
        run_ray(study, session, run=SlowRun(), on_event=on_event)
    study.close()
    assert caught.value.hint == f"`automl resume {study.folder}` goes on from what was reported; was memory short?"
    resumed = run_inline(Study.open(tmp_path / "s"), run=ToyRun())
    assert [trial.status for trial in resumed.trials] == [TrialStatus.COMPLETE] * 2


def test_workers_killed_at_random_moments_change_nothing(tmp_path: Path, session: RaySession) -> None:
    config, killer = toy_config(trials=6), Killer(random.Random(0), left=2, chance=1.0)
    study = Study.create(tmp_path / "s", config)
    snapshot = run_ray(study, session, run=SlowRun(), on_event=killer)
    assert killer.moments.total() == 2
    assert faults(killer, snapshot, config) == []
    assert outcome(snapshot) == outcome(run_inline(Study.create(tmp_path / "whole", config), run=ToyRun()))


class Unusable(ToyRun):
    """Breaks before it can say anything."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        raise ImportError("libcudart.so.12: cannot open shared object file")


def test_a_worker_that_cannot_run_anything_says_why(tmp_path: Path, session: RaySession) -> None:
    snapshot = run_ray(Study.create(tmp_path / "s", toy_config()), session, run=Unusable())
    assert snapshot.end is not None
    assert snapshot.end.message == (
        "the first 3 trials all failed (crash): the worker cannot run trials: ImportError: libcudart.so.12: cannot open shared object file"
    )


class Slow(ToyRun):
    """Takes a moment for each epoch."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def slow(sent: Report) -> Decision:
            time.sleep(0.2)
            return report(sent)

        return super().__call__(trial, slow, progress=progress)


class Hanging(ToyRun):
    """Trial 1 never comes to its third epoch; `marker` is there from then on."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def stuck(sent: Report) -> Decision:
            if (sent.number, sent.epoch) == (1, 3):
                self.marker.touch()
                time.sleep(600.0)
            return report(sent)

        return super().__call__(trial, stuck, progress=progress)


def by_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    """Silence is measured by `clock`: on a busy machine a worker needs its time for everything."""
    monkeypatch.setattr("automl.ray_engine.SilenceWatch", partial(SilenceWatch, clock=clock))


def test_a_trial_that_says_nothing_is_given_up(tmp_path: Path, session: RaySession, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = tmp_path / "hangs"
    by_clock(monkeypatch, lambda: 7.0 if hangs.exists() else 0.0)
    study = Study.create(tmp_path / "s", toy_config(trials=3, fidelity="full", limits=Limits(trial_timeout_s=6.0)))
    snapshot = run_ray(study, session, run=Hanging(hangs))
    assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE, TrialStatus.FAILED, TrialStatus.COMPLETE]
    error = snapshot.trial(1).error
    assert error is not None
    assert (error.cause, error.message) == (Cause.TIMEOUT, "nothing was reported for 0.1 min, so the worker was ended")


class Together(ToyRun):
    """Trials 0 and 1 report each epoch when both have come to it."""

    def __call__(self, trial: TrialSpec, report: ReportTo, *, progress: ProgressTo | None = None) -> TrialResult:
        def together(sent: Report) -> Decision:
            come = [trial.folder.parent / f"{number}-at-{sent.epoch}" for number in (0, 1)]
            if sent.number < 2:
                come[sent.number].touch()
            while sent.number < 2 and not come[1 - sent.number].exists():
                time.sleep(0.01)
            return report(sent)

        return super().__call__(trial, together, progress=progress)


def test_waiting_for_a_free_place_is_no_silence(tmp_path: Path, session: RaySession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials 0 and 1 are silent for 3 s at a time, trial 2 waits for 18 s."""
    heard: Counter[int] = Counter()

    def on_event(event: StudyEvent) -> None:
        if isinstance(event, TrialReported):
            heard[event.number] += 1

    by_clock(monkeypatch, lambda: 3.0 * min(heard[0], heard[1]))
    study = Study.create(tmp_path / "s", toy_config(trials=3, epochs=6, fidelity="full", parallel=3, limits=Limits(trial_timeout_s=4.0)))
    snapshot = run_ray(study, replace(session, slots=3), run=Together(), on_event=on_event)  # which has room for two
    assert [trial.status for trial in snapshot.trials] == [TrialStatus.COMPLETE] * 3
