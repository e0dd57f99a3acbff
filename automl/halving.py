"""Successive halving and Hyperband, asynchronous, with pause and promotion.

`asha` is successive halving as Li et al. 2020 run it without waiting (https://arxiv.org/abs/1810.05934).  `hyperband` (Li et al. 2018,
https://arxiv.org/abs/1603.06560, algorithm 1) divides the trials among brackets that begin at different rungs, down to the one
that trains everything to the end; in each bracket trials are promoted as in `asha`.  All arithmetic is on whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from automl.course import Course, Promotion, Standings, Verdict
from trials.contract import Decision


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
class Bracket:
    """One way to divide a budget: `configurations` begin at the first of `rungs` in one round of all brackets."""

    rungs: tuple[int, ...]
    configurations: int


def brackets_of(full: int, eta: int, lowest: int) -> tuple[Bracket, ...]:
    """Hyperband's brackets s = s_max ... 0, the most adventurous first; the last one trains everything to the end.

    Bracket s begins with ceil((s_max + 1) / (s + 1) * eta^s) configurations: R = 27, eta = 3 gives 27, 12, 6 and 4.
    """
    rungs = rung_epochs(full, eta, lowest)
    most = len(rungs) - 1
    return tuple(
        Bracket(rungs=rungs[most - s :], configurations=-(-(most + 1) * eta**s // (s + 1)))  # rounded up
        for s in range(most, -1, -1)
    )


@lru_cache(maxsize=32)
def bracket_plan(counts: tuple[int, ...]) -> tuple[int, ...]:
    """The bracket of each trial of one round, so mixed that every beginning of it is divided as the whole is.

    Each trial goes to the bracket that is furthest behind its share, the first of equals.
    """
    total, given = sum(counts), [0] * len(counts)
    plan = []
    for trial in range(1, total + 1):
        behind = [count * trial - have * total for count, have in zip(counts, given, strict=True)]
        chosen = behind.index(max(behind))
        given[chosen] += 1
        plan.append(chosen)
    return tuple(plan)


@dataclass(frozen=True, kw_only=True)
class SuccessiveHalving:
    """Lets the best 1/eta of the trials that reached a rung go on to the next one, and pauses the others.

    A paused trial may be promoted later, when more trials have reached the rung.  Higher rungs are served first, and in a rung the
    best cost, then the lower number.
    """

    full: int
    eta: int = 3
    lowest: int = 1
    name: str = "asha"

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """See `rung_epochs`."""
        return rung_epochs(self.full, self.eta, self.lowest)

    @cached_property
    def brackets(self) -> tuple[Bracket, ...]:
        """One for all."""
        return (Bracket(rungs=self.rungs, configurations=1),)

    def bracket_of(self, number: int) -> int:
        """Which of `brackets` a trial is in."""
        plan = bracket_plan(tuple(bracket.configurations for bracket in self.brackets))
        return plan[number % len(plan)]

    def rungs_of(self, number: int) -> tuple[int, ...]:
        """The rungs of a trial's bracket."""
        return self.brackets[self.bracket_of(number)].rungs

    def standings(self) -> Standings:
        """Ranks by bracket."""
        return Standings(self.rungs, self.bracket_of)

    def first_grant(self, number: int) -> int:
        """The lowest rung of the trial's bracket; the baseline runs to the end."""
        return self.full if number == 0 else self.rungs_of(number)[0]

    def judge(self, trial: Course, standings: Standings) -> Verdict:
        """Go on inside the granted epochs; at a rung go on or pause."""
        done = max(trial.costs, default=0)
        if trial.exempt or done < trial.granted or trial.granted >= self.full:
            return Verdict(decision=Decision.CONTINUE, granted=trial.granted)
        chosen = self._chosen(standings, arriving=trial)
        if chosen is not None and chosen.number == trial.number:
            return Verdict(decision=Decision.CONTINUE, granted=chosen.to_epoch)
        return Verdict(decision=Decision.PAUSE, granted=trial.granted)

    def promotable(self, standings: Standings) -> Promotion | None:
        """The best paused trial within the best 1/eta of the highest rung that has one."""
        return self._chosen(standings, arriving=None)

    def likely_epochs(self, trials: int) -> int:
        """Epochs if of each rung's trials one in eta goes on, and the baseline runs to the end."""
        total = self.full
        for group, bracket in enumerate(self.brackets):
            there, before = sum(self.bracket_of(number) == group for number in range(1, trials)), 0
            for rung in bracket.rungs:
                total += there * (rung - before)
                there, before = -(-there // self.eta), rung
        return total

    def _chosen(self, standings: Standings, *, arriving: Course | None) -> Promotion | None:
        """The promotion to the highest rung that any bracket has; `arriving` counts as paused where it stands."""
        found = [self._chosen_in(group, standings, arriving) for group in range(len(self.brackets))]
        return max((one for one in found if one is not None), key=lambda one: one.to_epoch, default=None)

    def _chosen_in(self, group: int, standings: Standings, arriving: Course | None) -> Promotion | None:
        if arriving is not None and self.bracket_of(arriving.number) != group:
            arriving = None
        for rung, above in reversed(list(pairwise(self.brackets[group].rungs))):
            here = standings.entry(arriving.number, rung) if arriving is not None and arriving.granted <= rung else None
            best = min((entry for entry in (standings.best_paused(rung, group), here) if entry is not None), default=None)
            if best is not None and standings.place(rung, best, group) < len(standings.ranked(rung, group)) // self.eta:
                return Promotion(number=best[1], to_epoch=above)
        return None


@dataclass(frozen=True, kw_only=True)
class Hyperband(SuccessiveHalving):
    """Successive halving in brackets that begin at different rungs, so that nothing depends on one guess of the lowest one.

    The bracket of a trial follows from its number alone.  Nobody waits for a bracket to fill: where TAO's `hyperband` runs a rung to its
    end before the next begins, here a free worker always finds a promotion or a new trial.
    """

    name: str = "hyperband"

    @cached_property
    def brackets(self) -> tuple[Bracket, ...]:
        """See `brackets_of`."""
        return brackets_of(self.full, self.eta, self.lowest)

    @property
    def round_of_trials(self) -> int:
        """Trials in one round of all brackets."""
        return sum(bracket.configurations for bracket in self.brackets)
