"""From runs to figures: regret over time, ranks, speed-ups and losses.

Definitions.  The regret of a task and method is the mean over seeds.  The speed-up of A over B on a task is the time B takes
to its own final regret, divided by the time A takes to that regret; 0 when A never gets there.  A task is lost when the
speed-up is below 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata  # type: ignore[import-untyped]

Curve = npt.NDArray[np.float64]
MOMENTS = (0.1, 0.25, 0.5, 1.0)  # shares of the budget at which ranks are given


@dataclass(frozen=True, kw_only=True)
class Run:
    """One search: regrets at evenly spaced shares of the budget, the last one at its end."""

    task: str
    method: str
    seed: int
    regrets: tuple[float, ...]
    trials: int
    epochs: int
    failures: int
    utilisation: float
    cpu_s: float


@dataclass(frozen=True, kw_only=True)
class SpeedUp:
    """Speed-ups of one method over another: quartiles over tasks, and the share of tasks lost."""

    quartiles: tuple[float, float, float]
    lost: float
    by_task: Mapping[str, float]


def mean_curves(runs: Sequence[Run]) -> dict[str, dict[str, Curve]]:
    """method -> task -> mean regret over seeds at each check."""
    gathered: dict[str, dict[str, list[tuple[float, ...]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        gathered[run.method][run.task].append(run.regrets)
    return {method: {task: np.mean(curves, axis=0) for task, curves in tasks.items()} for method, tasks in gathered.items()}


def overall(tasks: Mapping[str, Curve]) -> Curve:
    """The mean over tasks."""
    return np.asarray(np.mean(list(tasks.values()), axis=0))


def speed_up(ours: Mapping[str, Curve], theirs: Mapping[str, Curve]) -> SpeedUp:
    """Of `ours` over `theirs`, on the tasks that both ran."""
    by_task = {task: _speed_up(ours[task], theirs[task]) for task in theirs if task in ours}
    values = np.array(list(by_task.values()))
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return SpeedUp(quartiles=(float(low), float(middle), float(high)), lost=float((values < 1.0).mean()), by_task=by_task)


def mean_ranks(runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    """method -> mean rank over tasks and seeds (1 is best) at each of MOMENTS, among runs that every method made."""
    methods = sorted({run.method for run in runs})
    by_case: dict[tuple[str, int], dict[str, tuple[float, ...]]] = defaultdict(dict)
    for run in runs:
        by_case[run.task, run.seed][run.method] = run.regrets
    whole = [case for case in by_case.values() if len(case) == len(methods)]
    ranks: dict[str, list[float]] = {method: [] for method in methods}
    for moment in MOMENTS:
        table = np.array([rankdata([_at(case[method], moment) for method in methods]) for case in whole])
        for method, rank in zip(methods, table.mean(axis=0), strict=True):
            ranks[method].append(float(rank))
    return {method: tuple(found) for method, found in ranks.items()}


def _at(regrets: Sequence[float], share: float) -> float:
    return regrets[max(0, round(share * len(regrets)) - 1)]


def _speed_up(ours: Curve, theirs: Curve) -> float:
    goal = float(theirs[-1]) + 1e-9
    reached = np.flatnonzero(ours <= goal)
    return 0.0 if len(reached) == 0 else float((np.flatnonzero(theirs <= goal)[0] + 1) / (reached[0] + 1))
