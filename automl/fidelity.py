"""When a trial pauses, stops or goes on: rules over plain numbers, no Optuna and no clock.

`asha` is asynchronous successive halving with promotion (Li et al. 2020, https://arxiv.org/abs/1810.05934), `median` the
rule of Vizier (Golovin et al. 2017), `full` trains everything to the end.

Words: a *cost* is the objective with its sign set so that less is better.  The value of a trial at a rung is its best
cost up to that epoch, because the best epoch is what a trial is judged by in the end.  A trial is *granted* epochs: up to
there nobody asks again, so an epoch that is reported twice (after a resume) cannot change what was decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Protocol

from search_spaces.errors import StudyError, nearest
from trials.contract import Decision


@dataclass(frozen=True, kw_only=True)
class Course:
    """How one trial has gone: `costs` by epoch, epochs `granted`, `paused` at a rung or not.

    `exempt` trials (the baseline) are never paused or stopped.  Failed trials are not shown to a rule at all.
    """

    number: int
    costs: Mapping[int, float]
    granted: int
    paused: bool = False
    exempt: bool = False

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


class FidelityRule(Protocol):
    """Decides from the courses of all trials; keeps no state of its own, so a resumed search decides alike."""

    @property
    def name(self) -> str:
        """The word that users write."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are compared, ascending; the last one is the full budget."""

    def first_grant(self) -> int:
        """Epochs that a new trial may run before the first decision."""

    def judge(self, trial: Course, others: Sequence[Course]) -> Verdict:
        """What happens to `trial` after its newest report; `others` are all the other trials."""

    def promotable(self, trials: Sequence[Course]) -> Promotion | None:
        """The paused trial to go on with before a new one is sampled, or None."""


def rung_epochs(full: int, eta: int, lowest: int) -> tuple[int, ...]:
    """Rungs from the top down: R, R/eta, R/eta^2, ... as long as the exact quotient is at least `lowest`.

    Quotients are rounded to the nearest epoch (halves up) in whole-number arithmetic: R = 27 gives 1, 3, 9, 27 and R = 10
    gives 1, 3, 10.  The full budget is always a rung, so nothing is ever compared just short of it.
    """
    found = {full}
    power = eta
    while full >= lowest * power:
        found.add((2 * full + power) // (2 * power))
        power *= eta
    return tuple(sorted(found))


@dataclass(frozen=True, kw_only=True)
class FullBudget:
    """Every trial runs to the end."""

    full: int
    name: str = "full"

    @property
    def rungs(self) -> tuple[int, ...]:
        """The full budget alone."""
        return (self.full,)

    def first_grant(self) -> int:
        """All epochs."""
        return self.full

    def judge(self, trial: Course, others: Sequence[Course]) -> Verdict:
        """Go on, always."""
        del trial, others
        return Verdict(decision=Decision.CONTINUE, granted=self.full)

    def promotable(self, trials: Sequence[Course]) -> Promotion | None:
        """This rule pauses nothing."""
        del trials
        return None


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Asynchronous successive halving: at each rung the best 1/eta of those that came so far may go on.

    A trial that reaches a rung among the best goes straight on; else it pauses and may be promoted later, when more
    trials have reached the rung.  Higher rungs are served first, and in a rung the best cost, then the lower number.
    """

    full: int
    eta: int = 3
    lowest: int = 1
    name: str = "asha"

    @property
    def rungs(self) -> tuple[int, ...]:
        """See `rung_epochs`."""
        return rung_epochs(self.full, self.eta, self.lowest)

    def first_grant(self) -> int:
        """The lowest rung."""
        return self.rungs[0]

    def judge(self, trial: Course, others: Sequence[Course]) -> Verdict:
        """Go on inside the granted epochs; at a rung go on or pause."""
        done = max(trial.costs, default=0)
        if trial.exempt or done < trial.granted or trial.granted >= self.full:
            return Verdict(decision=Decision.CONTINUE, granted=trial.granted)
        waiting = Course(number=trial.number, costs=trial.costs, granted=trial.granted, paused=True)
        chosen = self.promotable([*others, waiting])
        if chosen is not None and chosen.number == trial.number:
            return Verdict(decision=Decision.CONTINUE, granted=chosen.to_epoch)
        return Verdict(decision=Decision.PAUSE, granted=trial.granted)

    def promotable(self, trials: Sequence[Course]) -> Promotion | None:
        """The best paused trial within the best 1/eta of the highest rung that has one."""
        rungs = self.rungs
        for rung, above in reversed(list(pairwise(rungs))):
            reached = _ranked(trials, rung)
            for course in reached[: len(reached) // self.eta]:
                if course.paused and course.granted <= rung:
                    return Promotion(number=course.number, to_epoch=above)
        return None


@dataclass(frozen=True, kw_only=True)
class MedianRule:
    """Stops a trial that is worse than the median of the others at the same epoch.

    The first `startup` trials set the measure and are never stopped; before `lowest` epochs nothing is decided.
    """

    full: int
    lowest: int = 1
    startup: int = 4
    name: str = "median"

    @property
    def rungs(self) -> tuple[int, ...]:
        """Every epoch from `lowest` on."""
        return tuple(range(self.lowest, self.full + 1))

    def first_grant(self) -> int:
        """The first epoch at which trials are compared."""
        return self.lowest

    def judge(self, trial: Course, others: Sequence[Course]) -> Verdict:
        """Stop when worse than the median, else go on by one epoch."""
        done = max(trial.costs, default=0)
        if trial.exempt or done < trial.granted or trial.granted >= self.full:
            return Verdict(decision=Decision.CONTINUE, granted=trial.granted)
        own = trial.cost_at(done)
        peers = [cost for cost in (other.cost_at(done) for other in others) if cost is not None]
        if own is not None and len(peers) >= self.startup and own > median(peers):
            return Verdict(decision=Decision.STOP, granted=trial.granted)
        return Verdict(decision=Decision.CONTINUE, granted=min(done + 1, self.full))

    def promotable(self, trials: Sequence[Course]) -> Promotion | None:
        """This rule pauses nothing."""
        del trials
        return None


def last_chance(trials: Iterable[Course], full: int) -> Promotion | None:
    """When nothing reached the full budget: the paused trial to take there, the best among those that came furthest."""
    paused = [trial for trial in trials if trial.paused and trial.costs]
    if not paused:
        return None
    best = min(paused, key=lambda trial: (-max(trial.costs), min(trial.costs.values()), trial.number))
    return Promotion(number=best.number, to_epoch=full)


RULES = ("asha", "median", "full")


def make_rule(name: str, *, epochs: int, reduction_factor: int = 3, min_epochs: int = 1) -> FidelityRule:
    """The rule that users call `name`; StudyError suggests the nearest name for an unknown one."""
    match name:
        case "asha":
            return SuccessiveHalving(full=epochs, eta=reduction_factor, lowest=min_epochs)
        case "median":
            return MedianRule(full=epochs, lowest=min_epochs)
        case "full":
            return FullBudget(full=epochs)
    near = nearest(name, RULES)
    hint = f"did you mean {near}?" if near else "leave --fidelity out for asha"
    raise StudyError(f"unknown fidelity rule {name!r}; known are {', '.join(RULES)}", hint=hint)


def _ranked(trials: Sequence[Course], rung: int) -> list[Course]:
    """The trials that reached `rung`, best first."""
    reached = [(cost, trial.number, trial) for trial in trials if (cost := trial.cost_at(rung)) is not None]
    return [trial for _, _, trial in sorted(reached, key=lambda item: item[:2])]
