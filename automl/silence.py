"""Trials that say nothing any more: a worker that hangs in a read or a deadlock never fails by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from trials.contract import Cause, Failure


class SilenceWatch:
    """Knows since when each running segment was last heard of; `limit_s` None watches nothing.  May be used by several threads.

    A segment counts from its start, so loading weights and data is part of its first silence.
    """

    def __init__(self, limit_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s, self._clock = limit_s, clock
        self._heard: dict[int, float] = {}
        self._given_up: set[int] = set()
        self._guard = threading.Lock()

    def heard(self, number: int) -> None:
        """Trial `number` started or reported."""
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

    def give_up(self, number: int) -> None:
        """The worker of trial `number` was ended."""
        with self._guard:
            if self._heard.pop(number, None) is not None:
                self._given_up.add(number)
