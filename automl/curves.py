"""Learning curves: what a trial will probably end at, and the rule that stops those that will not win.

`hyperband_es` is Hyperband with a look ahead.  A power law, cost = a + b * epoch^-c (one of those in Domhan et al. 2015, "Speeding up
automatic hyperparameter optimization of deep neural networks by extrapolation of learning curves"), is fitted to the trial's own
curve; a trial whose chance of ending better than the best cost of any other is small is stopped.  TAO's rule of that name takes the
share of explained variance for the confidence and minimises whatever the metric; here the chance is that of the prediction, and
costs already have their sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from automl.course import Course, Promotion, Standings, Verdict
from automl.halving import Hyperband
from trials.contract import Decision

_EXPONENTS = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
_LEAST_NOISE = 0.01  # of the spread of the curve: no curve follows a law exactly


def chance_below(costs: Mapping[int, float], at: int, level: float) -> float | None:
    """The probability that a curve falls below `level` at epoch `at`; None for fewer than three points.

    For each exponent the law is a linear model with a flat prior, so its prediction is a Student-t distribution; exponents count as much
    as they explain.
    """
    if len(costs) < 3:
        return None
    from scipy.special import stdtr  # type: ignore[import-untyped]

    epochs = np.array(sorted(costs), dtype=float)
    values = np.array([costs[int(epoch)] for epoch in epochs])
    freedom = len(values) - 2
    least = (_LEAST_NOISE * max(float(np.ptp(values)), 1e-9)) ** 2 * len(values)
    weights, chances = [], []
    for exponent in _EXPONENTS:
        design = np.stack([np.ones_like(epochs), epochs**-exponent], axis=1)
        inverse = np.linalg.inv(design.T @ design)
        law = inverse @ design.T @ values
        error = float(np.sum((values - design @ law) ** 2)) + least
        there = np.array([1.0, float(at) ** -exponent])
        spread = np.sqrt(error / freedom * (1.0 + there @ inverse @ there))
        weights.append(0.5 * np.linalg.slogdet(inverse)[1] - 0.5 * freedom * np.log(error))
        chances.append(float(stdtr(freedom, (level - there @ law) / spread)))
    share = np.exp(np.array(weights) - max(weights))
    return float(share @ np.array(chances) / share.sum())


@dataclass(frozen=True, kw_only=True)
class CurveStopping(Hyperband):
    """Hyperband that also stops, between rungs, a trial whose chance to beat the best of the others is below `threshold`.

    A curve is looked at from epoch `first_look` on, or from the third, which is the first that says anything of a law.
    """

    first_look: int = 3
    threshold: float = 0.1
    name: str = "hyperband_es"

    def first_grant(self, number: int) -> int:
        """The lowest rung of the trial's bracket, or the first look at its curve; the baseline runs to the end."""
        granted = super().first_grant(number)
        return granted if number == 0 else min(granted, max(self.first_look, 3))

    def judge(self, trial: Course, standings: Standings) -> Verdict:
        """At a rung as Hyperband; in between stop, or go on to the next epoch."""
        done = max(trial.costs, default=0)
        if trial.exempt or done < trial.granted or trial.granted >= self.full:
            return Verdict(decision=Decision.CONTINUE, granted=trial.granted)
        if done >= min(rung for rung in self.rungs_of(trial.number) if rung >= trial.granted):
            verdict = super().judge(trial, standings)
            go_on = verdict.decision is Decision.CONTINUE
            return Verdict(decision=verdict.decision, granted=min(verdict.granted, done + 1) if go_on else verdict.granted)
        if self._hopeless(trial, standings):
            return Verdict(decision=Decision.STOP, granted=trial.granted)
        return Verdict(decision=Decision.CONTINUE, granted=done + 1)

    def promotable(self, standings: Standings) -> Promotion | None:
        """As Hyperband; the promoted trial is looked at again after one epoch."""
        chosen = super().promotable(standings)
        if chosen is None:
            return None
        done = max(standings.course(chosen.number).costs)
        return Promotion(number=chosen.number, to_epoch=min(chosen.to_epoch, done + 1))

    def _hopeless(self, trial: Course, standings: Standings) -> bool:
        best = standings.best_cost(but=trial.number)
        if best is None or len(trial.costs) < self.first_look or min(trial.costs.values()) <= best:
            return False
        chance = chance_below(trial.costs, self.full, best)
        return chance is not None and chance < self.threshold
