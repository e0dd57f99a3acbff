"""The standings of a search, kept in step with its record."""

from __future__ import annotations

from automl.course import Course, FidelityRule, Standings
from automl.ledger import Ledger
from automl.snapshot import TrialStatus
from automl.trial_record import TrialRecord
from search_spaces.objective import Direction


class LedgerStandings:
    """Reads a ledger as a fidelity rule does; only what changed since the last question is looked at again."""

    def __init__(self, ledger: Ledger, rule: FidelityRule, direction: Direction) -> None:
        self._ledger = ledger
        self._sign = 1.0 if direction == "minimize" else -1.0
        self._known = rule.standings()

    def now(self) -> Standings:
        """Where all trials stand."""
        for number in sorted(self._ledger.changed):
            self._known.put(self.course(self._ledger.records[number]))
        self._ledger.changed.clear()
        return self._known

    def course(self, record: TrialRecord) -> Course:
        """One trial as a rule sees it."""
        return Course(
            number=record.number,
            costs={} if record.error is not None else {epoch: self._sign * value for epoch, value in record.curve.items()},
            granted=record.granted,
            paused=record.status is TrialStatus.PAUSED,
            exempt=record.exempt,
            over=record.status.ended,
            start=record.start,
            replaces=record.origin.get("replaces"),
        )
