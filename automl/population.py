"""Population based training: members train side by side, and now and then the worst go on from the state of the best.

PBT (Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846) over segments.  A member is a trial.  After each generation (`interval`
epochs) the rule `population` pauses every member; when all are there, each of the worst ends and a new trial takes its place: it
begins with the weights and the optimiser of a member among the best (exploit) and with changed values (explore, `automl.exploring`).
So a trial has one set of values from its first to its last epoch, and its origin says where its weights come from.

Generations are taken together on purpose: who is replaced does not depend on which worker was quicker, and the state of every donor lies
still on disk when it is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from automl.course import Birth, Course, Promotion, Standings, Verdict
from trials.contract import Decision


@dataclass(frozen=True, kw_only=True)
class PopulationRule:
    """Pauses `size` members every `interval` epochs; the worst `share` of them is replaced by children of the best.

    A member that failed is replaced too, once a generation.  The baseline is a member that is never replaced.
    """

    full: int
    size: int
    interval: int
    share: float = 0.2
    name: str = "population"

    @property
    def rungs(self) -> tuple[int, ...]:
        """The ends of the generations; the last one is the full budget, whatever is left for it."""
        return (*range(self.interval, self.full, self.interval), self.full)

    def standings(self) -> Standings:
        """All trials in one group."""
        return Standings(self.rungs)

    def first_grant(self, number: int) -> int:
        """One generation, for the baseline too."""
        del number
        return self.rungs[0]

    def judge(self, trial: Course, standings: Standings) -> Verdict:
        """Pause at the end of a generation."""
        del standings
        done = max(trial.costs, default=0)
        pause = trial.granted <= done and trial.granted < self.full
        return Verdict(decision=Decision.PAUSE if pause else Decision.CONTINUE, granted=trial.granted)

    def promotable(self, standings: Standings) -> Promotion | Birth | None:
        """When all members have ended a generation: first the births, then the others go on, best first."""
        members = list(standings)
        if sum(member.start == 0 for member in members) < self.size:
            return None  # not all are there yet
        living = [member for member in members if not member.over]
        epoch = min((member.granted for member in living), default=self.full)
        here = [member for member in living if member.granted == epoch]
        if epoch >= self.full or not all(member.paused for member in here):
            return None
        ranked = sorted((member for member in members if epoch in self._reached(member)), key=lambda member: _rank(member, epoch))
        count = min(len(ranked) // 2, max(1, round(len(ranked) * self.share)))
        replaceable = [member.number for member in ranked if not member.exempt]
        losers = set(replaceable[max(0, len(replaceable) - count) :])
        donors = tuple(member.number for member in ranked if member in here and member.number not in losers)[: max(count, 1)]
        above = min(rung for rung in self.rungs if rung > epoch)
        replaced = {member.replaces for member in members}
        for member in members:
            failed = member.over and not member.costs and member.start < epoch
            lost = member in here and member.number in losers
            if donors and (failed or lost) and member.number not in replaced:
                return Birth(replaces=member.number, donors=donors, epoch=epoch, to_epoch=above)
        best = min(here, key=lambda member: _rank(member, epoch))
        return Promotion(number=best.number, to_epoch=above)

    def likely_epochs(self, trials: int) -> int:
        """Every place is trained to the end by one trial or another."""
        return trials * self.full

    def _reached(self, member: Course) -> range:
        """The epochs at which a member may be compared: those it trained itself."""
        return range(member.start + 1, max(member.costs, default=0) + 1)


def _rank(member: Course, epoch: int) -> tuple[float, int]:
    """Cost after `epoch`, which is that of the state that would be copied; a lost report is stood in for by the best so far."""
    cost = member.costs.get(epoch, member.cost_at(epoch))
    return (math.inf if cost is None else cost, member.number)
