"""When a search is over, and why: exhausted, at a limit of time, stopped, interrupted or given up.

The study asks after each of its steps; the answer is kept in the record, so that it holds for whoever opens the study next.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from automl.config import StudyConfig
from automl.course import FidelityRule, Promotion
from automl.fidelity import last_chance
from automl.giving_up import FailureWatch, has_worked, limit_end
from automl.ledger import Ledger, snapshot_of
from automl.leftovers import drop_leftovers
from automl.requests import read_stop
from automl.snapshot import EndReason, StudyEnd, TrialStatus
from automl.sources import TrialSource
from automl.spending import Spending
from automl.standing import LedgerStandings


class Ending:
    """Settles the end of one study (`final` for the final of a search); called by the study, under its lock."""

    def __init__(
        self,
        folder: Path,
        config: StudyConfig,
        ledger: Ledger,
        *,
        source: TrialSource,
        rule: FidelityRule,
        standings: LedgerStandings,
        spending: Spending,
        clock: Callable[[], float],
        final: bool,
    ) -> None:
        self._folder, self._config, self._ledger = folder, config, ledger
        self._source, self._rule, self._standings = source, rule, standings
        self._spending, self._clock, self._final = spending, clock, final
        self._noun = "finalist" if final else "trial"
        self._halt: StudyEnd | None = None  # a stop that was asked for while trials run
        self.failures = FailureWatch()

    def halt(self, reason: EndReason, message: str) -> None:
        """Start nothing more; the first reason counts."""
        if self._halt is None:
            self._halt = StudyEnd(reason=reason, message=message)

    def pauses(self) -> bool:
        """Whether running trials shall pause at their next report."""
        return self._halt is not None or self._spending.reached(final=self._final) is not None

    def near(self) -> StudyEnd | None:
        """Why nothing more is started though there is more to do, or None."""
        limit = None if self._halt is not None else self._spending.reached(final=self._final)
        if limit is None:
            return self._halt or self.failures.verdict(self._ledger.records)
        return limit_end(limit, self._ledger.records, total=self._source.total, noun=self._noun, objective=self._config.objective)

    def is_over(self) -> bool:
        """Settle the end of the search when it has come; True when it has."""
        for number in sorted(self.heed_requests()):
            if number < len(self._ledger.records):
                record = self._ledger.records[number]
                if record.status in {TrialStatus.PAUSED, TrialStatus.WAITING}:
                    self._ledger.stop(record, "user")
        if self._ledger.standing(TrialStatus.RUNNING):
            return False
        if self._ledger.end_of_search() is not None:
            return True
        end = self.near()
        if end is None or end.reason is EndReason.LIMIT:
            end = self._exhausted() or end
        if end is not None:
            self._settle(end)
        return end is not None

    def can_go_on(self) -> bool:
        """Whether a search that came to its end has more to do: it was cut short, or extended since."""
        end = self._ledger.end_of_search()
        if end is None or end.reason is EndReason.EXHAUSTED:
            return end is not None and self._source.has_next(self._ledger.records)
        return end.reason is not EndReason.LIMIT or self._spending.reached(final=self._final) is None

    def heed_requests(self) -> frozenset[int]:
        """Numbers of trials that the user wants stopped; notes a request to stop the whole study."""
        asked = read_stop(self._folder)
        if asked.study:
            self.halt(EndReason.STOPPED, "stopped by `automl stop`")
        return frozenset() if self._final else asked.trials  # `automl stop --trial` names trials of the search

    def last_chance(self) -> Promotion | None:
        """The paused trial to take to the full budget when too few got there."""
        enough = int(self._config.settings.get("min_top_configs", 1))
        if sum(len(self._ledger.standing(status)) for status in (TrialStatus.RUNNING, TrialStatus.COMPLETE)) >= enough:
            return None
        return last_chance(self._standings.now(), self._config.epochs)

    def _exhausted(self) -> StudyEnd | None:
        records = self._ledger.records
        if self._source.has_next(records) or self._ledger.standing(TrialStatus.WAITING):
            return None
        if self._rule.promotable(self._standings.now()) is not None or self.last_chance() is not None:
            return None
        if records and not has_worked(records):
            causes = sorted({record.error.cause.value for record in records if record.error is not None})
            return StudyEnd(reason=EndReason.FAILED, message=f"no trial produced {self._config.objective} (causes: {', '.join(causes)})")
        told = f"the one {self._noun} was run" if len(records) == 1 else f"all {len(records)} {self._noun}s were run"
        return StudyEnd(reason=EndReason.EXHAUSTED, message=told)

    def _settle(self, end: StudyEnd) -> None:
        if end.reason is EndReason.EXHAUSTED:
            for record in self._ledger.records:
                if record.status is TrialStatus.PAUSED:
                    self._ledger.stop(record, "never promoted")
            # first: a driver that is killed in between does it again
            drop_leftovers(snapshot_of(self._folder, self._config, self._ledger, active=True, now=self._clock()))
        self._ledger.note_end(end)
