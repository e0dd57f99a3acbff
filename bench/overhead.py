"""What the controller costs: a study of 100 to 10,000 trials on 1 to 512 virtual workers, its own time passing on their clock.

    python -m bench.overhead [--methods tpe random+asha] [--trials 100 1000 10000] [--workers 1 64 512] [--out results/overhead.csv]

The search is the production study in the simulator (`bench.search`, 16 parameters, 27 epochs of about a virtual minute); a trial
costs nothing, its curve is a formula.  One controller answers one question after another, and the seconds it really takes pass on
the virtual clock, so who asks meanwhile waits.  `all busy` is when the last worker got its first trial.  Utilisation is the share of
worker time that is training, from then until all trials are drawn and the search first has nothing for a free worker.  Real processes,
the network and files of checkpoints are not in it.

Milliseconds are CPU time, medians and 95th percentiles over the last tenth of the calls of a kind: the cost at (nearly) the full
number of trials.  A search of more than 1,000 trials begins with a past of random ones, which is written without being timed, and
makes only its last trials itself: one for each worker and 200.  A proposal is the answer to a free worker that is a new
trial, a promotion one that is a paused trial; `tell` takes in how a segment ended.  In memory the record is Optuna's storage in
memory.  `--journal` cases are whole studies on disk, and their milliseconds are wall-clock time, as they wait for the disk.  Every row
is a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import gc
import math
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from optuna.storages import InMemoryStorage

from automl.algorithms import DEFAULT_ALGORITHM
from automl.journal import JOURNAL_FILE
from automl.study import Study
from bench.search.method import Clock, Segment, Setting
from bench.search.methods import find_variant
from bench.search.ours import Ours, config_of, study_in_memory
from bench.search.past import Past
from bench.search.simulator import Simulation, VirtualClock
from bench.search.synthetic import SyntheticTask
from bench.timing import conditions
from trials.contract import Cause, Decision, State

Answer = TypeVar("Answer")
WARM_UP = 30  # trials: as many as bring every model into play
TIMED_WHOLE, LEAST_TIMED = 1000, 200  # trials
REPORT_MS = 10.0  # targets: of a report, of a proposal by trials, of the utilisation by workers
PROPOSAL_MS = {1000: 50.0, 10_000: 200.0}
UTILISATION = {64: 0.97, 512: 0.90}
COLUMNS = {
    "method": "method",
    "trials": "trials",
    "workers": "workers",
    "storage": "record",
    "report_ms": "report, ms",
    "report_p95_ms": "p95",
    "proposal_ms": "proposal, ms",
    "proposal_p95_ms": "p95",
    "promotion_ms": "promotion, ms",
    "tell_ms": "tell, ms",
    "controller_s": "controller, s",
    "all_busy_s": "all busy, s",
    "utilisation": "utilisation",
    "memory_mib": "memory, MiB",
    "journal_mib": "journal, MiB",
}
TASK = SyntheticTask(0, "dev", kind="wide")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One search: `method` as in `bench.search`, kept in memory or in a journal on disk."""

    method: str
    trials: int
    workers: int
    journal: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one search cost; None where nothing of the kind happened.

    `controller_s` is the time of all answers, `memory_mib` the growth of the largest resident set, the simulator's log in it.
    """

    method: str
    trials: int
    workers: int
    storage: str
    reports: int
    report_ms: float | None
    report_p95_ms: float | None
    proposal_ms: float | None
    proposal_p95_ms: float | None
    promotion_ms: float | None
    tell_ms: float | None
    controller_s: float
    all_busy_s: float | None
    utilisation: float | None
    memory_mib: float
    journal_mib: float | None


@dataclass
class Costs:
    """Seconds of the calls of each kind, in their order."""

    taken: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def total_s(self) -> float:
        """Of all calls together."""
        return sum(map(sum, self.taken.values()))

    def late_ms(self, kind: str, share: float) -> float | None:
        """What `share` of the last tenth of the calls of a kind stayed within, in milliseconds."""
        calls = self.taken[kind]
        late = sorted(calls[-max(1, len(calls) // 10) :])
        return late[math.ceil(share * len(late)) - 1] * 1e3 if late else None


class Charged(Ours):
    """Our search, whose answers take their time on the virtual clock; `timer` says how much."""

    def __init__(self, study: Study, clock: VirtualClock, timer: Callable[[], float]) -> None:
        super().__init__(study)
        self._clock, self._timer = clock, timer
        self._free_s: dict[int, float] = {}  # when the worker of a trial got its last answer
        self._work: list[tuple[float, float]] = []  # from, to: what workers did between two questions
        self._given: list[float] = []  # when a worker got something to do
        self._drawn = 0
        self.costs = Costs()
        self.idle_from_s = math.inf

    def ask(self) -> Segment | None:
        """See Method."""
        segment, taken_s = self._timed(super().ask)
        if segment is None:
            self.costs.taken["nothing"].append(taken_s)
            if self._drawn >= self._study.config.trials:  # before, a worker may have to wait for the first values
                self.idle_from_s = min(self.idle_from_s, self._clock.now)
            return None
        trial = self._study.trial(segment.number)
        self._drawn = max(self._drawn, segment.number + 1)
        self.costs.taken["proposal" if trial.segments == 1 else "promotion"].append(taken_s)
        self._free_s[segment.number] = self._clock.now
        self._given.append(self._clock.now)
        return replace(segment, start=trial.epoch)

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """See Method."""
        self._work.append((self._free_s[number], self._clock.due_s))
        decision, taken_s = self._timed(partial(super().report, number, epoch, cost, elapsed_s))
        self.costs.taken["report"].append(taken_s)
        self._free_s[number] = self._clock.now
        return decision

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """See Method."""
        if cause is not None:  # nothing was reported
            self._work.append((self._free_s[number], self._clock.due_s))
        _, taken_s = self._timed(partial(super().tell, number, state, cause, elapsed_s))
        self.costs.taken["tell"].append(taken_s)

    def all_busy_s(self, workers: int) -> float | None:
        """When every one of `workers` had begun; None when there was not enough for all of them."""
        return self._given[workers - 1] if len(self._given) >= workers else None

    def utilisation(self, workers: int) -> float | None:
        """See the top of this file."""
        begin_s, end_s = self.all_busy_s(workers), self.idle_from_s
        if begin_s is None or end_s <= begin_s:
            return None
        trained_s = sum(max(0.0, min(to_s, end_s) - max(from_s, begin_s)) for from_s, to_s in self._work)
        return trained_s / (workers * (end_s - begin_s))

    def _timed(self, call: Callable[[], Answer]) -> tuple[Answer, float]:
        started = self._timer()
        answer = call()
        taken_s = self._timer() - started
        self._clock.now += taken_s
        return answer, taken_s


def measure(case: Case) -> Row:
    """Runs `case` once, after a small search that loads what is loaded late."""
    _search(replace(case, trials=WARM_UP, workers=1, journal=False))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    method, journal_mib = _search(case)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    costs = method.costs
    return Row(
        method=case.method,
        trials=case.trials,
        workers=case.workers,
        storage="journal" if case.journal else "memory",
        reports=len(costs.taken["report"]),
        report_ms=costs.late_ms("report", 0.5),
        report_p95_ms=costs.late_ms("report", 0.95),
        proposal_ms=costs.late_ms("proposal", 0.5),
        proposal_p95_ms=costs.late_ms("proposal", 0.95),
        promotion_ms=costs.late_ms("promotion", 0.5),
        tell_ms=costs.late_ms("tell", 0.5),
        controller_s=costs.total_s,
        all_busy_s=method.all_busy_s(case.workers),
        utilisation=method.utilisation(case.workers),
        memory_mib=grown / 1024,
        journal_mib=journal_mib,
    )


def _search(case: Case) -> tuple[Charged, float | None]:
    """A whole search of `case`, or its last trials; the MiB of its journal, if it writes one."""
    setting = Setting(task=TASK, seed=0, workers=case.workers)
    config = config_of(setting, find_variant(case.method), trials=case.trials)
    past = case.trials - (LEAST_TIMED + case.workers) if case.trials > TIMED_WHOLE else 0
    made: list[Charged] = []

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "study"

        def make(setting: Setting, clock: Clock) -> Charged:
            assert isinstance(clock, VirtualClock)
            storage = InMemoryStorage()
            if past > 0:
                Past(storage, config, setting.task, clock).fill(past)
            study = Study.create(folder, config, clock=clock) if case.journal else study_in_memory(config, clock, storage)
            made.append(Charged(study, clock, time.perf_counter if case.journal else time.process_time))
            return made[0]

        Simulation(make, setting).run()
        return made[0], (folder / JOURNAL_FILE).stat().st_size / 2**20 if case.journal else None


def table(rows: Sequence[Row]) -> str:
    """A Markdown table of `rows`."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(_cell(name, getattr(row, name)) for name in COLUMNS) + " |" for row in rows]
    return "\n".join(lines)


def _cell(name: str, value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1%}" if name == "utilisation" else f"{value:.2f}" if name.endswith("_ms") else f"{value:.1f}"


def missed_targets(rows: Sequence[Row]) -> list[str]:
    """The targets that the rows in memory miss, in words."""
    found = []
    for row in rows:
        proposal_most, busy_least = PROPOSAL_MS.get(row.trials), UTILISATION.get(row.workers)
        name = f"{row.method}, {row.trials} trials, {row.workers} workers"
        if row.storage != "memory":
            continue
        if row.report_ms is not None and row.report_ms > REPORT_MS:
            found.append(f"{name}: {row.report_ms:.1f} ms a report, target {REPORT_MS:g}")
        if proposal_most is not None and row.proposal_ms is not None and row.proposal_ms > proposal_most:
            found.append(f"{name}: {row.proposal_ms:.0f} ms a proposal, target {proposal_most:g}")
        if busy_least is not None and row.utilisation is not None and row.utilisation < busy_least:
            found.append(f"{name}: utilisation {row.utilisation:.1%}, target {busy_least:.0%}")
    return found


def main() -> int:
    """Prints the table, writes --out; 1 when a target is missed."""
    args = _arguments()
    grid = [(method, trials, workers) for method in args.methods for trials in args.trials for workers in args.workers]
    cases = [Case(method=method, trials=trials, workers=workers) for method, trials, workers in grid]
    cases += [Case(method=method, trials=trials, workers=64, journal=True) for method in args.methods for trials in args.journal]
    rows = []
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [item.name for item in fields(Row)])
        writer.writeheader()
        for case in cases:
            with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as process:
                rows.append(process.submit(measure, case).result())
            writer.writerow(asdict(rows[-1]))
            stream.flush()
            print(f"{len(rows)} of {len(cases)}: {case}", file=sys.stderr)
    missed = missed_targets(rows)
    print(f"{conditions()}\n\n{table(rows)}\n\n" + "\n".join(missed or ["every target is met"]))
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description="what the controller of a search costs")
    parser.add_argument("--methods", nargs="+", default=[DEFAULT_ALGORITHM, "random+asha"], help="an algorithm, or SEARCHER+RULE")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--journal", type=int, nargs="*", default=[1000], help="trials of the searches on disk, with 64 workers")
    parser.add_argument("--out", type=Path, default=Path("results/overhead.csv"))
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
