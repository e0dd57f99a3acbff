"""What a fidelity rule sees and what it answers: plain numbers, no Optuna and no clock.

Words: a *cost* is the objective with its sign set so that less is better.  The value of a trial at a rung is its best
cost up to that epoch, because the best epoch is what a trial is judged by in the end.  A trial is *granted* epochs: up to
there nobody asks again, so an epoch that is reported twice (after a resume) cannot change what was decided.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from trials.contract import Decision

Entry = tuple[float, int]  # cost, number: equal costs are settled by number


@dataclass(frozen=True, kw_only=True)
class Course:
    """How one trial has gone: `costs` by epoch, epochs `granted`, `paused` at a rung or not, `over` for good or not.

    `exempt` trials (the baseline) are never stopped.  A failed trial has no costs.  A trial that went on from the state of
    another one began at epoch `start`, in the place of trial `replaces`.
    """

    number: int
    costs: Mapping[int, float]
    granted: int
    paused: bool = False
    exempt: bool = False
    over: bool = False
    start: int = 0
    replaces: int | None = None

    def cost_at(self, epoch: int) -> float | None:
        """The best cost up to `epoch`, or None when the trial has not come that far.

        A report lost with a killed process leaves a gap: then the first cost after it stands in.
        """
        if not self.costs or max(self.costs) < epoch:
            return None
        up_to = [cost for done, cost in self.costs.items() if done <= epoch]
        return min(up_to) if up_to else self.costs[min(self.costs)]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer to a report and the epochs that are granted from now on."""

    decision: Decision
    granted: int


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A paused trial that goes on, up to `to_epoch`."""

    number: int
    to_epoch: int


@dataclass(frozen=True, kw_only=True)
class Birth:
    """A new trial that takes the place of trial `replaces` and goes on from the state of one of `donors` after `epoch` epochs."""

    replaces: int
    donors: tuple[int, ...]
    epoch: int
    to_epoch: int


class Standings:
    """All trials of a search by number, and who stands where at each rung.

    Follows the record: `put` takes the newest course of a trial, and nothing is kept that a fresh copy would not hold.  Trials of
    different groups (brackets) are ranked apart.  Ranks are kept sorted, so a search of 10,000 trials is judged as fast as a small one.
    """

    def __init__(self, rungs: Sequence[int], group_of: Callable[[int], int] | None = None) -> None:
        self._rungs = tuple(rungs)
        self._group_of = group_of
        self._courses: dict[int, Course] = {}
        self._ranked: dict[tuple[int, int], list[Entry]] = {}
        self._paused: dict[tuple[int, int], list[Entry]] = {}
        self._places: dict[int, dict[int, float]] = {}  # number -> rung -> cost
        self._bests: list[Entry] = []

    def put(self, course: Course) -> None:
        """Take over the newest course of a trial."""
        number, before = course.number, self._courses.get(course.number)
        if before is not None:
            self._take_back(before, forget=not course.costs)
        self._courses[number] = course
        if not course.costs:
            return
        group, done, places = self.group(number), max(course.costs), self._places.setdefault(number, {})
        for rung in self._rungs:
            if rung > done:
                break
            if rung not in places and rung > course.start:
                cost = course.cost_at(rung)
                assert cost is not None
                places[rung] = cost
                insort(self._ranked.setdefault((group, rung), []), (cost, number))
            if course.paused and course.granted <= rung:
                insort(self._paused.setdefault((group, rung), []), (places[rung], number))
        insort(self._bests, (min(course.costs.values()), number))

    def __iter__(self) -> Iterator[Course]:
        return iter(self._courses.values())

    def __len__(self) -> int:
        return len(self._courses)

    def course(self, number: int) -> Course:
        """The newest course of a trial."""
        return self._courses[number]

    def ranked(self, rung: int, group: int = 0) -> Sequence[Entry]:
        """(cost, number) of the trials of a group that reached `rung`, best first."""
        return self._ranked.get((group, rung), [])

    def place(self, rung: int, entry: Entry, group: int = 0) -> int:
        """How many trials of the group are better than `entry` at `rung`."""
        return bisect_left(self.ranked(rung, group), entry)

    def entry(self, number: int, rung: int) -> Entry | None:
        """(cost, number) of a trial at `rung`, None when it has not come that far."""
        cost = self._places.get(number, {}).get(rung)
        return None if cost is None else (cost, number)

    def best_paused(self, rung: int, group: int = 0) -> Entry | None:
        """The best trial of the group that waits at `rung`, or None."""
        waiting = self._paused.get((group, rung))
        return waiting[0] if waiting else None

    def best_cost(self, *, but: int) -> float | None:
        """The best cost that any trial but `but` ever had, or None."""
        return next((cost for cost, number in self._bests[:2] if number != but), None)

    def group(self, number: int) -> int:
        """The group (bracket) of a trial."""
        return 0 if self._group_of is None else self._group_of(number)

    def _take_back(self, course: Course, *, forget: bool) -> None:
        """Remove what `put` will enter anew; the places at rungs stay unless the trial has failed."""
        if not course.costs:
            return
        group, places = self.group(course.number), self._places.get(course.number, {})
        _remove(self._bests, (min(course.costs.values()), course.number))
        for rung, cost in places.items():
            if course.paused and course.granted <= rung:
                _remove(self._paused[group, rung], (cost, course.number))
            if forget:
                _remove(self._ranked[group, rung], (cost, course.number))
        if forget:
            del self._places[course.number]


class FidelityRule(Protocol):
    """Decides from the courses of all trials; keeps no state of its own, so a resumed search decides alike."""

    @property
    def name(self) -> str:
        """The word that users write."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, ascending; the last one is the full budget."""

    def standings(self) -> Standings:
        """Empty standings as this rule reads them."""

    def first_grant(self, number: int) -> int:
        """Epochs that the new trial `number` may run before the first decision; number 0 is the baseline."""

    def judge(self, trial: Course, standings: Standings) -> Verdict:
        """What happens to `trial` after its newest report; `standings` hold it too."""

    def promotable(self, standings: Standings) -> Promotion | Birth | None:
        """What to go on with before a new trial is drawn, or None."""

    def likely_epochs(self, trials: int) -> int:
        """About how many epochs a search of so many trials trains in all, its baseline included."""


def _remove(entries: list[Entry], entry: Entry) -> None:
    position = bisect_left(entries, entry)
    assert entries[position] == entry
    del entries[position]
