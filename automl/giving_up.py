"""When going on is no use, or not allowed any more, and how that is said.

A point that ran out of memory, diverged or collapsed teaches the searcher something, so many of them are no reason to stop once any trial
has worked.  A crash, broken data, a refused spec, a silent trial or a broken machine say nothing of the point: several in a row for one
cause mean that the surroundings are at fault, whatever worked before (a disk that went away, a list that was replaced).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from automl.snapshot import EndReason, StudyEnd, TrialStatus
from automl.trial_record import INFEASIBLE_CAUSES, TrialRecord
from trials.contract import Cause, Failure

FIRST_ALIKE = 3  # first trials of a study that never worked, for one cause
IN_A_ROW = 5  # later trials, for one cause that is not the point's own


class FailureWatch:
    """Failures since this process opened the study: a resumed one gets another chance.  Not for several threads at once."""

    def __init__(self) -> None:
        self._causes: Counter[Cause] = Counter()
        self._last: Failure | None = None
        self._row: list[Failure] = []

    def note(self, failure: Failure | None) -> None:
        """A trial failed, or (None) a segment of one ended well."""
        if failure is None:
            self._row.clear()
            return
        self._causes[failure.cause] += 1
        self._last = failure
        if self._row and self._row[-1].cause is not failure.cause:
            self._row.clear()
        self._row.append(failure)

    def verdict(self, records: Sequence[TrialRecord]) -> StudyEnd | None:
        """Why the study gives up, with the message of the last failure as the diagnosis; None while there is hope."""
        count, row = self._causes.total(), self._row
        if self._last is not None and count >= FIRST_ALIKE and len(self._causes) == 1 and not has_worked(records):
            return _given_up(f"the first {count} trials all failed", self._last)
        if len(row) >= IN_A_ROW and row[-1].cause not in INFEASIBLE_CAUSES:
            return _given_up(f"{len(row)} trials in a row failed", row[-1])
        return None


def has_worked(records: Sequence[TrialRecord]) -> bool:
    """Whether any trial has a value that counts: what a failed one had reported by then does not."""
    return any(record.value is not None and record.status is not TrialStatus.FAILED for record in records)


def limit_end(limit: str, records: Sequence[TrialRecord], *, total: int, noun: str, objective: str) -> StudyEnd:
    """How a search ends at a limit of time: as a success when any trial has worked.  `noun` is what a trial is called."""
    begun = f"after {len(records)} of {total} {noun}s had begun"
    if has_worked(records):
        return StudyEnd(reason=EndReason.LIMIT, message=f"the search ended for its limit of time ({limit}), {begun}")
    return StudyEnd(reason=EndReason.FAILED, message=f"no trial produced {objective} within {limit}, {begun}")


def _given_up(what: str, last: Failure) -> StudyEnd:
    return StudyEnd(reason=EndReason.FAILED, message=f"{what} ({last.cause.value}): {last.message}")
