"""Workers killed with SIGKILL at random moments, again and again: `python -m tests.automl.many_worker_kills [KILLS] [SEED]`.

Searches on Ray whose worker processes are killed while they start, train, report or save.  Two in three train by formula, the third trains
real tiny networks.  With one worker a search must end as the same search that nobody disturbed; with two, every value must be the one
that its configuration has.  Prints one line a search; exit code 1 when anything is wrong.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch
import yaml

from automl.config import StudyConfig
from automl.engine import RunTrial, run_inline
from automl.events import StudyEvent, TrialEnded, TrialPromoted, TrialReported, TrialStarted
from automl.ray_engine import run_ray
from automl.ray_session import RaySession, ray_session
from automl.snapshot import EndReason, StudySnapshot, TrialStatus
from automl.study import MAX_RETRIES, Study
from search_spaces.spec import load_spec, spec_to_dict
from tests.automl.samples import small_mono_spec
from tests.automl.toy import LR, SPACE, SlowRun, ToyRun, toy_config, toy_loss
from trials.contract import Cause

RULES = ("asha", "hyperband", "median")
SLOTS = 2
START_S, EPOCH_S = 3.0, 0.3  # a kill comes within so much of a worker's start, or of a report
OVER_S = 30.0  # until processes of a session are gone


@dataclass
class Killer:
    """Takes note of every event of a search and kills its workers at moments of its own choice, `left` times at most.

    Never a worker while some trial has used up its retries: the next kill would rightly be that trial's failure.
    """

    rng: random.Random
    left: int
    chance: float = 0.7
    events: list[StudyEvent] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)
    _running: set[int] = field(default_factory=set)
    _retries: Counter[int] = field(default_factory=Counter)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, event: StudyEvent) -> None:
        """Called by the engine, one event at a time."""
        self.events.append(event)
        match event:
            case TrialStarted():
                self._running.add(event.number)
                self._plan("after a start", START_S)
            case TrialReported():
                self._plan("after a report", EPOCH_S)
            case TrialEnded():
                self._running.discard(event.number)
                self._retries[event.number] += died(event)
            case _:
                pass

    def _plan(self, moment: str, within_s: float) -> None:
        """Perhaps kill a worker within so many seconds."""
        if self.left and self.rng.random() < self.chance:
            timer = threading.Timer(within_s * self.rng.random() ** 2, self._kill, args=(moment,))
            timer.daemon = True
            timer.start()

    def _kill(self, moment: str) -> None:
        with self._guard:
            running = set(self._running)
            workers = sorted(worker_processes(), key=lambda process: process.pid)
            if self.left and workers and running and all(self._retries[number] < MAX_RETRIES for number in running):
                self.rng.choice(workers).kill()
                self.left -= 1
                self.moments[moment] += 1


def died(event: TrialEnded) -> bool:
    """Whether a segment ended with its worker."""
    return event.result.error is not None and event.result.error.cause is Cause.INFRASTRUCTURE


def worker_processes() -> Iterator[psutil.Process]:
    """Processes of this driver that run trials."""
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline()[:1] and "Trainable" in process.cmdline()[0]:
                yield process
        except psutil.Error:
            continue


def faults(killer: Killer, snapshot: StudySnapshot, wanted: StudyConfig) -> list[str]:
    """All that is wrong with a search in itself: lost, doubled or unended trials, gaps, retries, promotions without a parent."""
    found = []
    if snapshot.end is None or snapshot.end.reason is not EndReason.EXHAUSTED:
        found.append(f"it ended as {snapshot.end}")
    if [trial.number for trial in snapshot.trials] != list(range(wanted.trials)):
        found.append(f"its trials are {[trial.number for trial in snapshot.trials]}")
    for trial in snapshot.trials:
        name, epochs = f"trial {trial.number}", list(range(1, trial.epoch + 1))
        if trial.status not in {TrialStatus.COMPLETE, TrialStatus.STOPPED}:
            found.append(f"{name} is {trial.status.value}: {trial.error}")
        if [epoch for epoch, _ in trial.curve] != epochs:
            found.append(f"{name} has epochs {[epoch for epoch, _ in trial.curve]}")
        log = trial.folder / "train" / "metrics.jsonl"
        written = [json.loads(line)["epoch"] for line in log.read_text().splitlines()] if log.exists() else epochs
        if written != epochs:
            found.append(f"{name} wrote epochs {written}")
        retries = sum(isinstance(event, TrialEnded) and died(event) and event.number == trial.number for event in killer.events)
        if retries != trial.retries:
            found.append(f"{name} was retried {retries} times and counts {trial.retries}")
    told: dict[tuple[int, int], float | None] = {}
    promoted: dict[int, int] = {}
    for event in killer.events:
        if isinstance(event, TrialReported) and told.setdefault((event.number, event.epoch), event.value) != event.value:
            found.append(f"trial {event.number} reported epoch {event.epoch} as {told[event.number, event.epoch]} and as {event.value}")
        elif isinstance(event, TrialPromoted):
            promoted[event.number] = event.from_epoch
        elif isinstance(event, TrialStarted) and promoted.pop(event.number, 0) > 0 and event.from_epoch == 0:
            found.append(f"trial {event.number} was promoted without a checkpoint")
    litter = [path.name for path in (snapshot.folder / "trials").rglob("*") if path.suffix in {".tmp", ".part"}]
    return [*found, *([f"left behind: {litter}"] if litter else [])]


def outcome(snapshot: StudySnapshot) -> list[tuple[object, ...]]:
    """All that must not depend on kills."""
    return [(t.number, t.status, dict(t.values), t.seed, t.curve, t.value, t.best_epoch, t.rung, t.stopped_by) for t in snapshot.trials]


def by_formula(snapshot: StudySnapshot) -> bool:
    """Whether every value is the one that its configuration has."""
    return all(value == toy_loss(trial.values, epoch) for trial in snapshot.trials for epoch, value in trial.curve)


def real_config(folder: Path, **changes: object) -> StudyConfig:
    """A search over a tiny mono network on four generated scenes."""
    spec = yaml.safe_load(small_mono_spec(folder).read_text(encoding="utf-8"))
    spec["dataset"]["train_dataset"]["batch_size"] = 1
    (folder / "mono.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    whole = spec_to_dict(load_spec(folder / "mono.yaml"))
    space = replace(SPACE, skill="depth_net_mono", parameters=(replace(SPACE.parameter(LR), high=1e-3),))
    return toy_config(skill="depth_net_mono", spec=whole, space=space, trials=5, epochs=4, **changes)


def disturbed(folder: Path, config: StudyConfig, run: RunTrial | None, killer: Killer, session: RaySession) -> StudySnapshot:
    """A search on Ray, with its killer."""
    study = Study.create(folder, config)
    try:
        return run_ray(study, session, run=run, on_event=killer)
    finally:
        study.close()


def undisturbed(folder: Path, config: StudyConfig, run: RunTrial | None) -> StudySnapshot:
    """The same search in this process."""
    study = Study.create(folder, config)
    try:
        return run_inline(study, run=run)
    finally:
        study.close()


def one_search(scratch: Path, session: RaySession, killer: Killer, *, real: bool, seed: int, slots: int) -> list[str]:
    """Run one search and say what is wrong with it; `slots` workers."""
    rule, run = killer.rng.choice(RULES), None if real else SlowRun()
    make: Callable[..., StudyConfig] = (lambda **changes: real_config(scratch, **changes)) if real else toy_config
    config = make(seed=seed, fidelity=rule, parallel=slots)
    snapshot = disturbed(scratch / f"killed-{seed}", config, run, killer, session)
    found = faults(killer, snapshot, config)
    if slots == 1:
        whole = undisturbed(scratch / f"whole-{seed}", config, None if real else ToyRun())
        pairs = zip(outcome(whole), outcome(snapshot), strict=False)
        found += [f"{was} without kills, {now} with them" for was, now in pairs if was != now]
    elif not by_formula(snapshot):
        found.append("values that their configurations do not have")
    kind = "networks" if real else "formula"
    kills = ", ".join(f"{count} {moment}" for moment, count in sorted(killer.moments.items())) or "none"
    retries = sum(trial.retries for trial in snapshot.trials)
    verdict = "; ".join(found) or "nothing lost, nothing changed"
    print(f"{kind:8} {rule:9} {slots} workers, seed {seed:6}: killed {kills}; {retries} retries; {verdict}", flush=True)  # noqa: T201
    return found


def main(kills: int, seed: int) -> int:
    """Kill until `kills` workers are dead; the exit code."""
    rng, dead, wrong, searches = random.Random(seed), 0, 0, 0
    torch.set_num_threads(1)  # as many as each worker has: sums of more threads round differently
    with tempfile.TemporaryDirectory() as scratch:
        with ray_session(Path(scratch), slots=SLOTS) as session:
            while dead < kills:
                slots, real = (1, True) if searches % 3 == 2 else (rng.choice((1, SLOTS)), False)
                killer = Killer(rng, left=min(8, kills - dead))
                wrong += bool(one_search(Path(scratch), session, killer, real=real, seed=rng.randrange(10**6), slots=slots))
                dead, searches = dead + sum(killer.moments.values()), searches + 1
            processes = psutil.Process().children(recursive=True)
        stayed = psutil.wait_procs(processes, timeout=OVER_S)[1]
        if stayed:
            print(f"still there: {[process.cmdline() for process in stayed]}")  # noqa: T201
        wrong += bool(stayed)
    print(f"{dead} workers killed in {searches} searches, {wrong} faults")  # noqa: T201
    return int(wrong > 0)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(given + [50, 0][len(given) :])))
