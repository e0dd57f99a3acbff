"""When a trial pauses, stops or goes on: the rules that stand behind `--fidelity`.

`median` is the rule of Vizier (Golovin et al. 2017), `full` trains everything to the end; the others are in `automl.halving`,
`automl.curves` and `automl.population`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from automl.algorithms import GENERATIONS
from automl.config import StudyConfig
from automl.course import Course, FidelityRule, Promotion, Standings, Verdict
from automl.curves import CurveStopping
from automl.halving import Hyperband, SuccessiveHalving
from automl.population import PopulationRule
from search_spaces.errors import StudyError, nearest
from trials.contract import Decision


@dataclass(frozen=True, kw_only=True)
class FullBudget:
    """Every trial runs to the end."""

    full: int
    name: str = "full"

    @property
    def rungs(self) -> tuple[int, ...]:
        """The full budget alone."""
        return (self.full,)

    def standings(self) -> Standings:
        """All trials in one group."""
        return Standings(self.rungs)

    def first_grant(self, number: int) -> int:
        """All epochs."""
        del number
        return self.full

    def judge(self, trial: Course, standings: Standings) -> Verdict:
        """Go on, always."""
        del trial, standings
        return Verdict(decision=Decision.CONTINUE, granted=self.full)

    def promotable(self, standings: Standings) -> Promotion | None:
        """This rule pauses nothing."""
        del standings
        return None

    def likely_epochs(self, trials: int) -> int:
        """All of them."""
        return trials * self.full


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

    def standings(self) -> Standings:
        """All trials in one group."""
        return Standings(self.rungs)

    def first_grant(self, number: int) -> int:
        """The first epoch at which trials are compared; the baseline runs to the end."""
        return self.full if number == 0 else self.lowest

    def judge(self, trial: Course, standings: Standings) -> Verdict:
        """Stop when worse than the median, else go on by one epoch."""
        done = max(trial.costs, default=0)
        if trial.exempt or done < trial.granted or trial.granted >= self.full:
            return Verdict(decision=Decision.CONTINUE, granted=trial.granted)
        own = trial.cost_at(done)
        peers = [cost for cost, number in standings.ranked(done) if number != trial.number]
        if own is not None and len(peers) >= self.startup and own > median(peers):
            return Verdict(decision=Decision.STOP, granted=trial.granted)
        return Verdict(decision=Decision.CONTINUE, granted=min(done + 1, self.full))

    def promotable(self, standings: Standings) -> Promotion | None:
        """This rule pauses nothing."""
        del standings
        return None

    def likely_epochs(self, trials: int) -> int:
        """Epochs if half of the trials, beyond the first few, end halfway."""
        judged = max(0, trials - self.startup - 1)
        return trials * self.full - judged * self.full // 4


def last_chance(trials: Iterable[Course], full: int) -> Promotion | None:
    """When nothing reached the full budget: the paused trial to take there, the best among those that came furthest."""
    paused = [trial for trial in trials if trial.paused and trial.costs]
    if not paused:
        return None
    best = min(paused, key=lambda trial: (-max(trial.costs), min(trial.costs.values()), trial.number))
    return Promotion(number=best.number, to_epoch=full)


RULES = ("asha", "hyperband", "hyperband_es", "population", "median", "full")


def make_rule(
    name: str,
    *,
    epochs: int,
    reduction_factor: int = 3,
    min_epochs: int = 1,
    trials: int = 10,
    settings: Mapping[str, Any] | None = None,
) -> FidelityRule:
    """The rule that users call `name`; StudyError suggests the nearest name for an unknown one."""
    own = settings or {}
    match name:
        case "asha":
            return SuccessiveHalving(full=epochs, eta=reduction_factor, lowest=min_epochs)
        case "hyperband":
            return Hyperband(full=epochs, eta=reduction_factor, lowest=min_epochs)
        case "hyperband_es":
            first_look, threshold = own.get("min_early_stop_epochs", 3), own.get("early_stop_threshold", 0.1)
            return CurveStopping(full=epochs, eta=reduction_factor, lowest=min_epochs, first_look=first_look, threshold=threshold)
        case "population":
            interval = own.get("automl_eval_interval", -(-epochs // GENERATIONS))
            if "automl_eval_interval" in own and interval >= epochs:
                raise StudyError(
                    f"automl_eval_interval must be below the full budget of {epochs} epochs, but is {interval}",
                    hint="nobody would ever be replaced: make generations shorter, or train longer",
                )
            return PopulationRule(full=epochs, size=trials, interval=interval, share=own.get("exploit_share", 0.2))
        case "median":
            return MedianRule(full=epochs, lowest=min_epochs)
        case "full":
            return FullBudget(full=epochs)
    near = nearest(name, RULES)
    hint = f"did you mean {near}?" if near else "leave --fidelity out for asha"
    raise StudyError(f"unknown fidelity rule {name!r}; known are {', '.join(RULES)}", hint=hint)


def rule_of(config: StudyConfig) -> FidelityRule:
    """The rule of a study, with its settings."""
    return make_rule(
        config.fidelity,
        epochs=config.epochs,
        reduction_factor=config.reduction_factor,
        min_epochs=config.min_epochs,
        trials=config.trials,
        settings=config.settings,
    )
