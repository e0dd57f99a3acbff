"""The same searches on real threads that really sleep: what shows that the virtual clock decides nothing.

A worker sleeps until the moment at which the simulator would let the same event happen, and only then takes its turn.  The order
in which workers come, and so every decision, is that of the operating system.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field

from bench.search.method import MakeMethod, Method, Segment, Setting
from bench.search.simulator import NO_MEMORY_S, Happened
from trials.contract import Cause, Decision, State


@dataclass
class _Turn:
    """What workers share, under `ready`: the log, what each trial has reached, the time of the newest event."""

    ready: threading.Condition = field(default_factory=threading.Condition)
    log: list[Happened] = field(default_factory=list)
    reached: dict[int, int] = field(default_factory=dict)
    running: int = 0
    newest_s: float = 0.0


class SleepingExecutor:
    """Runs a search on `setting.workers` threads; `scale` real seconds pass in a virtual one."""

    def __init__(self, make: MakeMethod, setting: Setting, *, scale: float) -> None:
        self._task, self._workers, self._scale = setting.task, setting.workers, scale
        self._turn = _Turn()
        self._began = 0.0
        self._method: Method = make(setting, lambda: self._turn.newest_s)

    def run(self) -> tuple[tuple[Happened, ...], float]:
        """The log of the whole search, and its real seconds."""
        self._began = time.monotonic()
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return tuple(self._turn.log), time.monotonic() - self._began

    def _work(self) -> None:
        """One worker, until nothing runs and nothing can start."""
        turn = self._turn
        while True:
            with turn.ready:
                segment = self._method.ask()
                while segment is None:
                    if turn.running == 0:
                        turn.ready.notify_all()
                        return
                    turn.ready.wait()
                    segment = self._method.ask()
                turn.running += 1
                started_s = turn.newest_s
                self._note("start", segment.number, turn.reached.get(segment.number, segment.start), "")
            self._train(segment, started_s)

    def _train(self, segment: Segment, started_s: float) -> None:
        training = self._task.train(segment.values, segment.seed)
        epoch, at_s = self._turn.reached.get(segment.number, segment.start) + 1, started_s
        at_s += NO_MEMORY_S if training.failure else self._task.startup_s + training.epoch_s
        while True:
            time.sleep(max(0.0, self._began + at_s * self._scale - time.monotonic()))
            with self._turn.ready:
                self._turn.newest_s = at_s
                cause = training.failure
                if cause is None and not math.isfinite(training.losses[epoch - 1]):
                    cause = Cause.NAN
                decision = Decision.STOP
                if cause is None:
                    self._turn.reached[segment.number] = epoch
                    decision = self._method.report(segment.number, epoch, training.losses[epoch - 1], at_s - started_s)
                    self._note("report", segment.number, epoch, decision.value)
                if decision is not Decision.CONTINUE or epoch >= self._task.epochs:
                    self._end(segment.number, epoch, decision, cause, at_s - started_s)
                    return
            epoch, at_s = epoch + 1, at_s + training.epoch_s

    def _end(self, number: int, epoch: int, decision: Decision, cause: Cause | None, elapsed_s: float) -> None:
        states = {Decision.PAUSE: State.PAUSED, Decision.STOP: State.STOPPED, Decision.CONTINUE: State.COMPLETE}
        state = states[decision] if cause is None else State.FAILED
        self._note("end", number, epoch, state.value if cause is None else cause.value)
        self._method.tell(number, state, cause, elapsed_s)
        self._turn.running -= 1
        self._turn.ready.notify_all()

    def _note(self, what: str, number: int, epoch: int, answer: str) -> None:
        self._turn.log.append(Happened(at_s=self._turn.newest_s, what=what, number=number, epoch=epoch, answer=answer))
