"""What a search has used of its time limits, counted from its record, so that a resumed search does not start at nothing."""

from __future__ import annotations

from collections.abc import Callable

from automl.config import StudyConfig
from automl.ledger import Ledger
from automl.limits import FinalNeed, Spent, finalists_fit, limit_reached


class Spending:
    """The time of one search and its final; the search's `ledger` keeps the seconds of its drivers.

    Without a time limit nothing is counted or written.
    """

    def __init__(self, config: StudyConfig, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._config, self._clock = config, clock
        self._ledgers = [ledger]
        self._opened_at = clock()
        before = ledger.drivers()
        self._begun = self._opened_at if before is None else before.begun
        self._earlier_s = 0.0 if before is None else before.seconds
        self._running: dict[tuple[str, int], float] = {}

    def include(self, ledger: Ledger) -> None:
        """Count the trials of the final too."""
        self._ledgers.append(ledger)

    def note_running(self, study: str, number: int, elapsed_s: float | None) -> None:
        """How long the present segment of a trial has run; None when it ended and its record holds it."""
        if elapsed_s is None:
            self._running.pop((study, number), None)
            if self._config.limits.timed:
                self._ledgers[0].note_drivers(self._begun, self.driver_s())
        else:
            self._running[study, number] = elapsed_s

    def reached(self, *, final: bool = False) -> str | None:
        """The time limit that ends the search (or its final), in words, or None."""
        limits = self._config.limits
        return limit_reached(limits, self._spent(), FinalNeed() if final else self._need()) if limits.timed else None

    def finalists_fit(self) -> bool:
        """Whether there is time for the finalists."""
        limits = self._config.limits
        return not limits.timed or finalists_fit(limits, self._spent(), self._need())

    def driver_s(self) -> float:
        """Seconds of drivers so far, in all sessions."""
        return self._earlier_s + self._clock() - self._opened_at

    def _spent(self) -> Spent:
        busy_s = sum(ledger.effort.seconds for ledger in self._ledgers) + sum(self._running.values())
        return Spent(driver_s=self.driver_s(), gpu_s=busy_s * self._config.gpus_per_trial, begun=self._begun, now=self._clock())

    def _need(self) -> FinalNeed:
        """What the finalists need at the speed of the trials so far."""
        config = self._config
        effort = self._ledgers[0].effort
        if not effort.epochs:
            return FinalNeed()
        epoch_s = effort.seconds / effort.epochs
        runs = config.finalists * config.finalist_seeds
        one_s = epoch_s * config.epochs
        return FinalNeed(driver_s=one_s * -(-runs // config.parallel), gpu_s=one_s * runs * config.gpus_per_trial)
