"""A rank's own process: it trains its part, asks its leader through a pipe, and never outlives it.

Signals are the leader's: it starts ranks with SIGINT and SIGTERM blocked, so that Ctrl-C in a terminal, which reaches every process,
ends a run between two steps of all its ranks.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from trials.contract import Decision, Failure, ProgressEvent, Report, State, TrialSpec
from trials.failures import Interrupted, failure_of
from trials.layout import Layout, as_trained
from trials.ranks import connected, lost_another
from trials.run_log import LOG, run_log
from trials.segment import Channels, Facts, Known, Parts, resolved_spec, train
from trials.status import StatusWriter

# the network device of a machine's own address, by which gloo connects the ranks of one machine
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What a rank is told at its start: its part of the run, and where all ranks meet; `tells` says whether anybody watches progress."""

    trial: TrialSpec
    parts: Parts
    layout: Layout
    local: int
    port: int
    tells: bool


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A report that waits for its Decision, and what is known about the run by then."""

    report: Report
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a rank ended.  `at_s` is a time of the machine's monotonic clock; `lost` says that the failure is only that of another rank."""

    state: State
    facts: Facts
    at_s: float
    failure: Failure | None = None
    lost: bool = False
    traceback: str = ""


class Line:
    """A rank's end of the pipe to its leader, which sends Decisions, and None for a request to stop.  Used by one thread."""

    def __init__(self, pipe: Connection, known: Known) -> None:
        self._pipe, self._known = pipe, known
        self._stop = False

    @property
    def requested(self) -> bool:
        """Whether the leader wants the run to end."""
        while self._pipe.poll():
            self._take()
        return self._stop

    def report(self, report: Report) -> Decision:
        """The leader's answer."""
        self._pipe.send(Reported(report=report, facts=self._known.facts()))
        while True:
            decision = self._take()
            if decision is not None:
                return decision

    def progress(self, event: ProgressEvent) -> None:
        """Tells how far the run is."""
        self._pipe.send(event)

    def _take(self) -> Decision | None:
        message: Decision | None = self._pipe.recv()
        self._stop = self._stop or message is None
        return message


def run_rank(orders: Orders, pipe: Connection) -> None:
    """The whole life of a rank's process; what it has to say goes through `pipe`, what it prints to train.log."""
    end_with_leader()
    rank = orders.layout.rank(orders.local)
    folder = orders.trial.train_folder
    known = Known(status=StatusWriter(folder / "status.json" if rank.first else None))
    state, failure, lost, story = State.COMPLETE, None, False, ""
    with ExitStack() as stack:
        if orders.layout.node == 0:
            _print_to(folder / LOG)
        if rank.first:
            stack.enter_context(run_log(folder))
        else:  # the first one says the same
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        try:
            state = _train(orders, Line(pipe, known), known)
        except Interrupted:
            state = State.INTERRUPTED
        except (Exception, SystemExit) as error:  # noqa: BLE001  the border of the process: the leader gets it as data
            state, failure, lost = State.FAILED, failure_of(error), lost_another(error)
            story = "".join(traceback.format_exception(error))
        pipe.send(Ended(state=state, facts=known.facts(), at_s=time.monotonic(), failure=failure, lost=lost, traceback=story))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do, and threads that wait for ranks which are gone would keep it


def end_with_leader() -> None:
    """From here on this process ends as soon as the one that started it is gone, also after `kill -9`."""
    leader = multiprocessing.parent_process()
    assert leader is not None

    def wait() -> None:
        leader.join()
        os._exit(1)

    threading.Thread(target=wait, name="leader-watch", daemon=True).start()


def _train(orders: Orders, line: Line, known: Known) -> State:
    layout, rank = orders.layout, orders.layout.rank(orders.local)
    if layout.nodes == 1 and sys.platform in LOOPBACK:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK[sys.platform])
    known.spec = as_trained(resolved_spec(orders.trial), layout)
    progress = line.progress if rank.first and orders.tells else None
    channels = Channels(report=line.report, progress=progress, stop=line)
    with connected(rank, address=layout.address, port=orders.port, device=layout.devices[rank.local]) as joined:
        return train(orders.trial, channels, parts=orders.parts, rank=joined, devices=layout.devices, known=known)


def _print_to(log: Path) -> None:
    """Sends what this process and the C++ code in it print to `log`: a console shows the run as a whole."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(target, number)
    os.close(target)
