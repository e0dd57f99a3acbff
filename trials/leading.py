"""A run on several devices: one process for each, started, answered and ended by this one, their leader.

Lightning trains in the ranks.  The leader passes the first one's reports on, hands requests to stop to all, and tells which rank's failure
is the cause when they break.  No rank is left when it returns, and none outlives it when it is killed.  On several machines each has a
leader; they meet at a store of machine 0's, through which a failure reaches them all.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from torch import distributed

from search_spaces.errors import SpecError
from trials.contract import Cause, Failure, ProgressEvent, State, TrialSpec
from trials.failures import Interrupted, RankFailed
from trials.interruption import Stop
from trials.layout import Layout
from trials.rank_process import Ended, Orders, Reported, run_rank
from trials.segment import Channels, Known, Parts

POLL_S = 0.5
# what the others get to say after one rank has failed, and to end in after one has done its part
LAST_WORDS_S, LAST_STEPS_S = 5.0, 120.0
JOIN_S, BRIEF = 1800.0, timedelta(seconds=5)
FAILURE, LEFT = "failure", "left"
SIGNALS = {signal.SIGINT, signal.SIGTERM}


def lead(trial: TrialSpec, channels: Channels, *, parts: Parts, layout: Layout, known: Known) -> State:
    """How the run of all ranks ended; `known` is what the first one told.

    RankFailed with the first cause when one breaks, Interrupted when all have stopped on request; a second Ctrl-C ends them as they are.
    """
    assert known.spec is not None
    trial = replace(trial, seed=known.spec.train.seed)  # one that was drawn, if it was
    with _meeting(layout, channels.stop) as meeting:
        orders = Orders(
            trial=trial,
            parts=parts,
            layout=layout,
            local=0,
            port=meeting.port,
            tells=channels.progress is not None,
        )
        with _started(orders) as ranks:
            ends = _Watch(ranks, channels, known, meeting).ends()
    states = {end.state for end in ends}
    if State.INTERRUPTED in states:
        raise Interrupted("all ranks have stopped")
    assert len(states) == 1, states
    return states.pop()


@dataclass(frozen=True, kw_only=True)
class _Process:
    """A rank as its leader sees it."""

    number: int
    where: str
    process: SpawnProcess
    pipe: Connection


@contextlib.contextmanager
def _started(orders: Orders) -> Iterator[list[_Process]]:
    """The ranks of this machine; they are gone afterwards, whatever they do."""
    context, layout, ranks = multiprocessing.get_context("spawn"), orders.layout, list[_Process]()
    try:
        with _without_signals():  # ranks inherit the mask
            for local, device in enumerate(layout.devices):
                number = layout.rank(local).number
                ours, theirs = context.Pipe()
                process = context.Process(target=run_rank, args=(replace(orders, local=local), theirs), name=f"rank-{number}")
                process.start()
                theirs.close()
                ranks.append(_Process(number=number, where=f"rank {number} of {layout.count}, {device}", process=process, pipe=ours))
        yield ranks
    finally:
        with _without_signals():
            for rank in ranks:
                rank.process.kill()
            for rank in ranks:
                rank.process.join()
                rank.process.close()
                rank.pipe.close()


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait meanwhile."""
    resource_tracker.ensure_running()  # `start` would do it, and it lets the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Watch:
    """Answers the ranks of this machine until all have ended, or one has failed."""

    def __init__(self, ranks: list[_Process], channels: Channels, known: Known, meeting: _Meeting) -> None:
        self._channels, self._known, self._meeting = channels, known, meeting
        self._open = {rank.pipe: rank for rank in ranks}  # of ranks that have not ended yet
        self._ranks = {rank.number: rank for rank in ranks}
        self._ends: dict[int, Ended] = {}
        self._died: dict[int, int | None] = {}  # exit codes of ranks that did not say how they ended
        self._elsewhere: Failure | None = None
        self._told_stop = False

    def ends(self) -> list[Ended]:
        """How each has ended; RankFailed when one has failed."""
        deadline_s: float | None = None
        while self._open and (deadline_s is None or time.monotonic() < deadline_s):
            self._pass_on_stop()
            for pipe in connection.wait(list(self._open), POLL_S):
                assert isinstance(pipe, Connection)
                self._listen(self._open[pipe])
            self._elsewhere = self._elsewhere or self._meeting.failure()
            failed = self._died or self._elsewhere or any(end.failure for end in self._ends.values())
            if deadline_s is None and (failed or self._ends):
                deadline_s = time.monotonic() + (LAST_WORDS_S if failed else LAST_STEPS_S)
        self._sum_up()
        failure = self._first_failure()
        if failure is not None:
            self._meeting.tell(failure.failure)
            raise failure
        return list(self._ends.values())

    def _pass_on_stop(self) -> None:
        if self._channels.stop.requested and not self._told_stop:
            self._told_stop = True
            for rank in self._open.values():
                with contextlib.suppress(OSError):
                    rank.pipe.send(None)

    def _listen(self, rank: _Process) -> None:
        try:
            message: object = rank.pipe.recv()
        except (EOFError, OSError):
            del self._open[rank.pipe]
            rank.process.join()
            self._died[rank.number] = rank.process.exitcode
            return
        match message:
            case Reported():
                self._known.told = message.facts
                decision = self._channels.report(message.report)
                with contextlib.suppress(OSError):
                    rank.pipe.send(decision)
            case ProgressEvent():
                assert self._channels.progress is not None
                self._channels.progress(message)
            case Ended():
                self._ends[rank.number] = message
                del self._open[rank.pipe]

    def _sum_up(self) -> None:
        """The first rank's facts, with the memory of the one that took most."""
        if not self._ends:
            return
        peaks = [end.facts.peak_memory_mib for end in self._ends.values() if end.facts.peak_memory_mib is not None]
        self._known.told = replace(self._ends[min(self._ends)].facts, peak_memory_mib=max(peaks, default=None))

    def _first_failure(self) -> RankFailed | None:
        """The cause: what a rank says of itself, here or elsewhere, before a death without a word, before the loss of another."""
        said = sorted((end.lost, end.at_s, number) for number, end in self._ends.items() if end.failure is not None)
        if said and not said[0][0]:
            return self._said_by(said[0][2])
        if self._elsewhere is not None:
            return RankFailed(self._elsewhere)
        silent = [number for number in self._ranks if number not in self._ends]
        for number in silent:
            return RankFailed(_death(self._ranks[number].where, self._died.get(number)))
        return self._said_by(said[0][2]) if said else None

    def _said_by(self, number: int) -> RankFailed:
        end = self._ends[number]
        assert end.failure is not None
        return RankFailed(replace(end.failure, message=f"{end.failure.message} ({self._ranks[number].where})"), story=end.traceback)


def _death(where: str, code: int | None) -> Failure:
    """What the end of a rank without a word stands for."""
    if code is None:
        return Failure(cause=Cause.CRASH, message=f"a process of the run hangs ({where})")
    if code < 0:
        message = f"a process of the run was killed by signal {-code} ({where}); when memory ran out, a smaller batch helps"
        return Failure(cause=Cause.INFRASTRUCTURE, message=message)
    return Failure(cause=Cause.CRASH, message=f"a process of the run ended with exit code {code}; train.log has its output ({where})")


@dataclass(frozen=True, kw_only=True)
class _Meeting:
    """The store where all ranks meet, and through which the leaders of several machines tell each other of a failure."""

    store: Any
    port: int
    layout: Layout

    def tell(self, failure: Failure) -> None:
        """Leaves `failure` for the other machines."""
        if self.layout.nodes > 1:
            with contextlib.suppress(distributed.DistError):
                plain = {"cause": failure.cause.value, "message": failure.message, "details": dict(failure.details)}
                self.store.set(FAILURE, json.dumps(plain, default=str))

    def failure(self) -> Failure | None:
        """What another machine told, or that machine 0 is gone."""
        if self.layout.nodes == 1:
            return None
        try:
            if not self.store.check([FAILURE]):
                return None
            plain = json.loads(self.store.get(FAILURE))
        except distributed.DistError:
            return Failure(cause=Cause.INFRASTRUCTURE, message="machine 0 of this run is gone")
        return Failure(cause=Cause(plain["cause"]), message=plain["message"], details=plain["details"])

    def leave(self) -> None:
        """Says that this machine is done; machine 0, which holds the store, waits for the others to have read it."""
        layout = self.layout
        with contextlib.suppress(distributed.DistError):
            if layout.node:
                self.store.set(f"{LEFT}/{layout.node}", "")
            elif layout.nodes > 1:
                self.store.wait([f"{LEFT}/{node}" for node in range(1, layout.nodes)], timedelta(seconds=2 * LAST_WORDS_S))


@contextlib.contextmanager
def _meeting(layout: Layout, stop: Stop) -> Iterator[_Meeting]:
    """The store: held here on machine 0, elsewhere a connection to it, once it is there."""
    meeting = _opened(layout) if layout.node == 0 else _joined(layout, stop)
    try:
        yield meeting
    finally:
        meeting.leave()


def _opened(layout: Layout) -> _Meeting:
    address = layout.address if layout.nodes == 1 else ""  # only ranks of this machine, or those of others too
    try:
        listener = socket.create_server((address, layout.port))
    except OSError as error:
        raise SpecError(
            f"ranks cannot meet at port {layout.port} of this machine: {error.strerror}", hint="set MASTER_PORT to a free one everywhere"
        ) from error
    port = listener.getsockname()[1]
    store = distributed.TCPStore(layout.address, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach())  # type: ignore[attr-defined]  # unlisted
    return _Meeting(store=store, port=port, layout=layout)


def _joined(layout: Layout, stop: Stop) -> _Meeting:
    until_s = time.monotonic() + JOIN_S
    while True:
        try:
            store = distributed.TCPStore(layout.address, layout.port, is_master=False, timeout=BRIEF)  # type: ignore[attr-defined]  # unlisted
            return _Meeting(store=store, port=layout.port, layout=layout)
        except distributed.DistError as error:
            if stop.requested:
                raise Interrupted("stopped before machine 0 was there") from error
            if time.monotonic() > until_s:
                raise SpecError(
                    f"machine 0 of this run was not found at {layout.address}:{layout.port} within {JOIN_S / 60:g} min",
                    hint="start the same command there with NODE_RANK=0; MASTER_ADDR and MASTER_PORT say where it is",
                ) from error
