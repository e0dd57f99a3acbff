"""Runs every method on every task with every seed, keeps each run in DIR/runs.jsonl, and skips those that are there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.search.measures import Run
from bench.search.method import MakeMethod, Setting
from bench.search.simulator import Simulation, check_times
from bench.search.task import Task

RUNS = "runs.jsonl"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared: `budget` is the search's length in trainings of the median configuration, shared by `workers`."""

    tasks: Sequence[Task]
    methods: Sequence[tuple[str, MakeMethod]]
    seeds: Sequence[int]
    budget: float = 40.0
    workers: int = 8
    eta: int = 3


def compare(plan: Plan, folder: Path) -> list[Run]:
    """All runs of the plan; those that `folder` holds already are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {(run.task, run.method, run.seed): run for run in read_runs(folder)}
    found = []
    with (folder / RUNS).open("a", encoding="utf-8") as stream:
        for task in plan.tasks:
            for seed in plan.seeds:
                for name, make in plan.methods:
                    run = known.get((task.name, name, seed))
                    if run is None:
                        run = _run(name, make, Setting(task=task, seed=seed, workers=plan.workers, eta=plan.eta), plan.budget)
                        stream.write(json.dumps(asdict(run)) + "\n")
                        stream.flush()
                    found.append(run)
    return found


def read_runs(folder: Path) -> Iterable[Run]:
    """The runs that `folder` holds."""
    path = folder / RUNS
    if not path.is_file():
        return []
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Run(**{**row, "regrets": tuple(row["regrets"])}) for row in rows]


def _run(name: str, make: MakeMethod, setting: Setting, budget: float) -> Run:
    deadline_s = budget * setting.task.typical_s / setting.workers
    started = time.process_time()
    outcome = Simulation(make, setting, deadline_s=deadline_s, checks=check_times(deadline_s)).run()
    return Run(
        task=setting.task.name,
        method=name,
        seed=setting.seed,
        regrets=outcome.regrets,
        trials=outcome.trials,
        epochs=outcome.epochs,
        failures=outcome.failures,
        utilisation=outcome.utilisation,
        cpu_s=time.process_time() - started,
    )
