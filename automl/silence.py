"""Trials that say nothing any more: a worker that hangs in a read or a deadlock never fails by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trials.contract import Cause, Failure


class SilenceWatch:
    """Knows since when each running segment was last heard of; `limit_s` None watches nothing.  May be used by several threads.

    A segment counts from when a worker has taken it, so loading weights and data is part of its first silence, and waiting for a free place
    is not.
    """

    def __init__(self, limit_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._heard: dict[int, float] = {}
        self._given_up: set[int] = set()
        self._guard = threading.Lock()

    def heard(self, number: int) -> None:
        """A worker has taken trial `number`, or it reported."""
        with self._guard:
            if number not in self._given_up:
                self._heard[number] = self._clock()

    def ended(self, number: int) -> Failure | None:
        """Trial `number` does not run any more; the failure of one that was given up."""
        with self._guard:
            self._heard.pop(number, None)
            if number not in self._given_up:
                return None
            self._given_up.discard(number)
        assert self._limit_s is not None
        return Failure(cause=Cause.TIMEOUT, message=f"nothing was reported for {self._limit_s / 60:g} min, so the worker was ended")

    def silent(self) -> list[int]:
        """Trials that are to be given up now."""
        if self._limit_s is None:
            return []
        with self._guard:
            return [number for number, since in self._heard.items() if self._clock() - since > self._limit_s]

    def give_up(self, number: int) -> bool:
        """Whether the worker of trial `number` is to be ended; not when the segment has ended by itself in the meantime."""
        with self._guard:
            running = self._heard.pop(number, None) is not None
            if running:
                self._given_up.add(number)
            return running
