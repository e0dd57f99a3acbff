"""What the record of a study costs: a journal in the study folder, or PostgreSQL.

    python -m bench.storages [--database postgresql://USER@HOST:PORT/DB] [--trials 100 1000] [--out results/storages.csv]

Each study is the production one with random proposals, so that what is timed is the record: for each trial one question, nine reports
and one result, by wall clock, because it waits for disk or network; `report_cpu_ms` is what the driver itself computes.  Medians and 95th
percentiles are of the last hundred calls of a kind; `open_s` is what `automl resume` reads, `read_s` what `automl status` reads.  A driver
answers one report after another, so that `report_ms` bounds their rate.  Trips are messages to the database that wait for an answer
(statements, the begin and end of transactions, and the question whether a connection is still there), the median of all calls.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

from automl.config import StudyConfig
from automl.database import open_database
from automl.reader import read_snapshot
from automl.study import Study
from bench.search.method import Setting
from bench.search.methods import find_variant
from bench.search.ours import config_of
from bench.search.synthetic import SyntheticTask
from bench.timing import conditions
from trials.contract import Report, State, TrialResult

REPORTS, LATE = 9, 100


@dataclass(frozen=True, kw_only=True)
class Row:
    """One study: milliseconds of a call, seconds of reading it whole."""

    record: str
    trials: int
    ask_ms: float
    report_ms: float
    report_p95_ms: float
    report_cpu_ms: float
    tell_ms: float
    open_s: float
    read_s: float
    ask_trips: int
    report_trips: int
    tell_trips: int


class Trips:
    """Counts what goes to a database and waits for an answer; nothing without one."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._count = 0
        for name in ("before_cursor_execute", "begin", "commit", "rollback"):
            if engine is not None:
                event.listen(engine, name, self._one)
        if engine is not None:
            event.listen(engine.pool, "checkout", self._one)

    def since(self) -> int:
        """How many since the last call."""
        count, self._count = self._count, 0
        return count

    def _one(self, *_: object) -> None:
        self._count += 1


def measure(config: StudyConfig, folder: Path) -> Row:
    """Runs the study of `config` in `folder`, one trial after another, and reads it again."""
    calls: dict[str, list[float]] = defaultdict(list)
    trips: dict[str, list[int]] = defaultdict(list)
    count = Trips() if config.storage is None else Trips(open_database(config.storage).engine)
    study = Study.create(folder, config)

    def timed(kind: str, begun: float) -> None:
        calls[kind].append(time.perf_counter() - begun)
        trips[kind].append(count.since())

    for _ in range(config.trials):
        count.since()
        begun = time.perf_counter()
        trial = study.ask()
        timed("ask", begun)
        assert trial is not None
        for epoch in range(1, REPORTS + 1):
            metrics = {config.objective: 1.0 / (epoch + trial.number)}
            begun, worked = time.perf_counter(), time.process_time()
            study.report(Report(number=trial.number, epoch=epoch, step=epoch, metrics=metrics, elapsed_s=1.0))
            timed("report", begun)
            calls["report_cpu"].append(time.process_time() - worked)
        begun = time.perf_counter()
        study.tell(_complete(trial.number, metrics))
        timed("tell", begun)
    study.close()
    begun = time.perf_counter()
    read_snapshot(folder)
    read_s = time.perf_counter() - begun
    begun = time.perf_counter()
    Study.open(folder).close()
    open_s = time.perf_counter() - begun
    late = {kind: sorted(taken[-LATE:]) for kind, taken in calls.items()}
    return Row(
        record="journal" if config.storage is None else "PostgreSQL",
        trials=config.trials,
        ask_ms=1e3 * statistics.median(late["ask"]),
        report_ms=1e3 * statistics.median(late["report"]),
        report_p95_ms=1e3 * late["report"][int(0.95 * len(late["report"]))],
        report_cpu_ms=1e3 * statistics.median(late["report_cpu"]),
        tell_ms=1e3 * statistics.median(late["tell"]),
        open_s=open_s,
        read_s=read_s,
        ask_trips=statistics.median_low(trips["ask"]),
        report_trips=statistics.median_low(trips["report"]),
        tell_trips=statistics.median_low(trips["tell"]),
    )


def _complete(number: int, metrics: dict[str, float]) -> TrialResult:
    return TrialResult(
        number=number, state=State.COMPLETE, metrics=metrics, best_epoch=REPORTS, checkpoint=None, elapsed_s=1.0, peak_memory_mib=None
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table, and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="address without a password; without it only the journal is measured")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    setting = Setting(task=SyntheticTask(0, "dev", kind="wide"), seed=0, workers=1)
    rows = []
    print(conditions())
    for trials in given.trials:
        config = replace(config_of(setting, find_variant("random+full"), trials=trials), epochs=REPORTS)
        for storage in [None, *([given.database] if given.database else [])]:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(replace(config, storage=storage), Path(folder) / "study"))
            told = ", ".join(
                f"{name} {value if isinstance(value, (int, str)) else f'{value:.3g}'}" for name, value in asdict(rows[-1]).items()
            )
            print(told, flush=True)
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, [item.name for item in fields(Row)])
            table.writeheader()
            table.writerows(asdict(row) for row in rows)


if __name__ == "__main__":
    main()
