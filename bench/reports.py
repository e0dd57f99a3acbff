"""How many reports a second the driver of a search takes from Ray workers, without the study behind them.

    python -m bench.reports [--workers 8] [--reports 400]

The production actor carries each report from a worker to this process and its answer back, as in a search; all run on this machine.  The
actor and the driver each answer one after another, so that the CPU time of a report bounds their rate: on a machine with a core for each
it is the smaller of the two bounds; `by the clock` is with all of them on the cores that are here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import ray

from automl.mailbox import Mailbox, WorkOrder
from automl.ray_session import ray_session
from bench.timing import conditions
from trials.contract import Decision, Report, report_to_json

SMALL = Report(number=0, epoch=1, step=1, metrics={f"val/metric{name}": 0.123456789 * name for name in range(12)}, elapsed_s=1.0)


class Counted(Mailbox):
    """A mailbox that says what it cost."""

    async def pid(self) -> int:
        """Its process."""
        return os.getpid()


def send(mailbox: Any, ticket: int, reports: int) -> None:
    """What a worker does, without training between."""
    for _ in range(reports):
        ray.get(mailbox.report.remote(ticket, report_to_json(SMALL)))


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(workers: int, reports: int, scratch: Path) -> str:
    """One line of figures."""
    order = WorkOrder(run=None, root=scratch, code="", study_file=scratch, study_digest=None, working_folder=scratch)
    with ray_session(scratch, slots=1):
        mailbox = ray.remote(num_cpus=0)(Counted).remote(order)
        actor, driver = psutil.Process(ray.get(mailbox.pid.remote())), psutil.Process()
        ray.get([ray.remote(num_cpus=0)(send).remote(mailbox, -1, 0) for _ in range(workers)])  # processes start once
        total, answered = workers * reports, 0
        begun, actor_s, driver_s = time.perf_counter(), cpu_s(actor), cpu_s(driver)
        sent = [ray.remote(num_cpus=0)(send).remote(mailbox, ticket, reports) for ticket in range(workers)]
        while answered < total:
            for letter, _ in ray.get(mailbox.collect.remote(0.25)):
                mailbox.answer.remote(letter, Decision.CONTINUE.value)
                answered += 1
        taken_s, actor_s, driver_s = time.perf_counter() - begun, cpu_s(actor) - actor_s, cpu_s(driver) - driver_s
        ray.get(sent)
    each = f"CPU ms a report: actor {1e3 * actor_s / total:.2f}, driver {1e3 * driver_s / total:.2f}"
    return f"{workers} workers, {total} reports: {each}; by the clock {total / taken_s:.0f} a second"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the conditions and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--reports", type=int, default=400, help="of each worker")
    given = parser.parse_args(arguments)
    print(conditions())
    with tempfile.TemporaryDirectory() as scratch:
        print(measure(given.workers, given.reports, Path(scratch)))


if __name__ == "__main__":
    main()
