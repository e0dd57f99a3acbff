"""Searches under a virtual clock: W workers as a heap of events, so that days of training take a second.

A segment takes its start-up and then an epoch after another; each epoch is reported, and what is answered happens at
once.  A trial that pauses keeps its epochs, one that is killed with its worker loses the epoch under way.  The clock is
the one that the method was made with, so production code lives in virtual time too.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.search.method import MakeMethod, Method, Segment, Setting
from bench.search.task import Task, Training
from trials.contract import Cause, Decision, State

NO_MEMORY_S = 30.0  # until a training that does not fit fails
_KILL_STREAM = 31


class VirtualClock:
    """Seconds since the search began, moved by the simulator, and by a method whose own time is to count.

    `due_s` is when the event that is dealt with happened: before `now` when the method was still busy.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.due_s = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, kw_only=True)
class Happened:
    """One entry of the log: what was asked, reported, decided and told, in order."""

    at_s: float
    what: str  # "start", "report" or "end"
    number: int
    epoch: int
    answer: str  # decision or state


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A search as it went.

    `checks` are the times at which the method was asked what it would return; `regrets` belong to them (that of the default before it
    has an answer).  `utilisation` is the share of worker time in segments, `useful` the share of epochs that ended in no failure.
    """

    checks: tuple[float, ...]
    regrets: tuple[float, ...]
    makespan_s: float
    trials: int
    segments: int
    epochs: int
    failures: int
    utilisation: float
    useful: float
    log: tuple[Happened, ...] = ()


@dataclass(kw_only=True)
class _Worker:
    """A segment under way: `epoch` is the one that ends at the next event."""

    segment: Segment
    training: Training
    started_s: float
    epoch: int
    killed_s: float = math.inf


@dataclass
class _Tally:
    trials: dict[int, Segment] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)
    segments: int = 0
    epochs: int = 0
    lost: int = 0
    failures: int = 0
    busy_s: float = 0.0


class Simulation:
    """One search of `make` on `setting.task` until `deadline_s`, or until the method has nothing more to run.

    `kills` is the rate of worker deaths per virtual hour of work.
    """

    def __init__(
        self, make: MakeMethod, setting: Setting, *, deadline_s: float = math.inf, checks: Sequence[float] = (), kills: float = 0.0
    ):
        self.clock = VirtualClock()
        self._task: Task = setting.task
        self._workers = setting.workers
        self._deadline_s = deadline_s
        self._checks = list(checks)
        self._regrets: list[float] = []
        self._kills = kills
        self._chance = np.random.default_rng([_KILL_STREAM, setting.seed])
        self._method: Method = make(setting, self.clock)
        self._heap: list[tuple[float, int, _Worker]] = []
        self._order = 0
        self._tally = _Tally()
        self._log: list[Happened] = []
        self._values: dict[int, float] = {}

    def run(self) -> Outcome:
        """The whole search."""
        self._fill()
        while self._heap and self._heap[0][0] <= self._deadline_s:
            at_s, _, worker = heapq.heappop(self._heap)
            self._check_until(at_s)
            self.clock.due_s, self.clock.now = at_s, max(at_s, self.clock.now)
            self._step(worker)
        self._check_until(math.inf)
        return self._outcome()

    def _outcome(self) -> Outcome:
        tally, end_s = self._tally, self.clock.now
        under_way = sum(end_s - worker.started_s for _, _, worker in self._heap)
        return Outcome(
            checks=tuple(self._checks),
            regrets=tuple(self._regrets),
            makespan_s=end_s,
            trials=len(tally.trials),
            segments=tally.segments,
            epochs=tally.epochs,
            failures=tally.failures,
            utilisation=(tally.busy_s + under_way) / (end_s * self._workers) if end_s > 0 else 0.0,
            useful=1.0 - tally.lost / tally.epochs if tally.epochs else 1.0,
            log=tuple(self._log),
        )

    def _fill(self) -> None:
        """Give every free worker a segment while the method has one."""
        while len(self._heap) < self._workers:
            segment = self._method.ask()
            if segment is None:
                return
            self._start(segment)

    def _start(self, segment: Segment) -> None:
        tally, now = self._tally, self.clock.now
        tally.trials.setdefault(segment.number, segment)
        tally.segments += 1
        training = self._task.train(segment.values, segment.seed)
        done = tally.reached.get(segment.number, segment.start)
        killed_s = now + float(self._chance.exponential(3600.0 / self._kills)) if self._kills > 0 else math.inf
        worker = _Worker(segment=segment, training=training, started_s=now, epoch=done + 1, killed_s=killed_s)
        self._note("start", segment.number, done, "")
        self._push(worker, now + (NO_MEMORY_S if training.failure else self._task.startup_s + training.epoch_s))

    def _push(self, worker: _Worker, at_s: float) -> None:
        self._order += 1
        heapq.heappush(self._heap, (min(at_s, worker.killed_s), self._order, worker))

    def _step(self, worker: _Worker) -> None:
        """What happens at the end of an epoch, or at a death."""
        number, training = worker.segment.number, worker.training
        if self.clock.now >= worker.killed_s:
            self._end(worker, State.FAILED, Cause.INFRASTRUCTURE)
        elif training.failure is not None:
            self._end(worker, State.FAILED, training.failure)
        elif not math.isfinite(training.losses[worker.epoch - 1]):
            self._tally.epochs += 1
            self._tally.lost += worker.epoch
            self._end(worker, State.FAILED, Cause.NAN)
        else:
            self._tally.epochs += 1
            self._tally.reached[number] = worker.epoch
            elapsed_s = self.clock.now - worker.started_s
            decision = self._method.report(number, worker.epoch, training.losses[worker.epoch - 1], elapsed_s)
            self._note("report", number, worker.epoch, decision.value)
            self._obey(worker, decision)

    def _obey(self, worker: _Worker, decision: Decision) -> None:
        if decision is Decision.PAUSE:
            self._end(worker, State.PAUSED, None)
        elif decision is Decision.STOP:
            self._end(worker, State.STOPPED, None)
        elif worker.epoch >= self._task.epochs:
            self._end(worker, State.COMPLETE, None)
        else:
            worker.epoch += 1
            self._push(worker, self.clock.now + worker.training.epoch_s)

    def _end(self, worker: _Worker, state: State, cause: Cause | None) -> None:
        elapsed_s = self.clock.now - worker.started_s
        self._tally.busy_s += elapsed_s
        self._tally.failures += cause is not None
        self._note("end", worker.segment.number, worker.epoch, state.value if cause is None else cause.value)
        self._method.tell(worker.segment.number, state, cause, elapsed_s)
        self._fill()

    def _note(self, what: str, number: int, epoch: int, answer: str) -> None:
        self._log.append(Happened(at_s=self.clock.now, what=what, number=number, epoch=epoch, answer=answer))

    def _check_until(self, at_s: float) -> None:
        """Ask what the method would return at each check before `at_s`."""
        while len(self._regrets) < len(self._checks) and self._checks[len(self._regrets)] < at_s:
            number = self._method.incumbent()
            value = self._task.scale.default if number is None else self._value(number)
            self._regrets.append(self._task.scale.regret(value))

    def _value(self, number: int) -> float:
        if number not in self._values:
            self._values[number] = self._task.value(self._tally.trials[number].values)
        return self._values[number]


def check_times(deadline_s: float, count: int = 100) -> tuple[float, ...]:
    """`count` moments, evenly spread over the budget, the last one at its end."""
    return tuple(deadline_s * (index + 1) / count for index in range(count))
