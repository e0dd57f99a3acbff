"""What a search says about its parameters and about itself: which of them mattered, and whether more trials would help.

Importance is PED-ANOVA (Watanabe et al. 2023, https://arxiv.org/abs/2304.10255) as Optuna has it: how much a parameter decides about being
among the best tenth, or among the best five where a tenth is fewer.  Only values of one rung are compared.  Both answers are statistics
of few noisy numbers, and say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from automl.config import StudyConfig
from automl.console import count_text
from automl.distributions import distribution_of, drawable
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary
from search_spaces.space import Value

FEWEST = 10  # values at one rung; with fewer any order of the parameters is chance
ENOUGH = 50  # before the shares can be taken for more than a hint
AMONG_BEST, FEWEST_BEST = 0.1, 5  # what counts as good; one or two trials would make any parameter look decisive
FEWEST_FOR_VERDICT = 10
CALM, LIVELY = 0.75, 0.2  # share of the trials since the best one; of independent draws a quarter would look calm by chance


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Shares of the parameters that add up to 1, the largest first, from `trials` trials compared after `rung` epochs."""

    shares: tuple[tuple[str, float], ...]
    rung: int | None
    trials: int

    @property
    def told(self) -> str:
        """What the shares are worth."""
        if not self.shares:
            return f"not estimated: at least {FEWEST} trials must have reached one rung, but {self.trials} did"
        worth = "an estimate" if self.trials >= ENOUGH else "a hint, no more"
        return f"from {self.trials} trials compared after {count_text(self.rung or 0, 'epoch')}: {worth}"


def importance(snapshot: StudySnapshot) -> Importance:
    """How much each parameter decided about being among the best; without shares where too few trials can be compared."""
    config = snapshot.config
    rung, compared = _same_rung(snapshot.trials, config, ENOUGH)
    if len(compared) < FEWEST or len({value for _, value in compared}) == 1:
        return Importance(shares=(), rung=rung, trials=len(compared))
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=config.direction)
    for trial, value in compared:
        used = {key: distribution_of(config.space.parameter(key)) for key in trial.values}
        study.add_trial(optuna.trial.create_trial(params=dict(trial.values), distributions=used, value=value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is experimental is said by `told`
        evaluator = PedAnovaImportanceEvaluator(target_quantile=max(AMONG_BEST, FEWEST_BEST / len(compared)))
        found = get_param_importances(study, evaluator=evaluator)
    shares = sorted(((key, float(share)) for key, share in found.items()), key=lambda one: (-one[1], one[0]))
    return Importance(shares=tuple(shares), rung=rung, trials=len(compared))


def convergence(snapshot: StudySnapshot) -> str:
    """Whether more trials of the same kind would probably help, in a sentence that says what it rests on."""
    sign = 1.0 if snapshot.config.direction == "minimize" else -1.0
    rung, compared = _same_rung(snapshot.trials, snapshot.config, FEWEST_FOR_VERDICT)
    searched = [(trial, sign * value) for trial, value in compared if trial.number > 0]
    if len(searched) < FEWEST_FOR_VERDICT:
        return f"too early to say: {count_text(len(searched), 'trial')} beside the first can be compared, and it takes {FEWEST_FOR_VERDICT}"
    costs = [cost for _, cost in sorted(searched, key=lambda one: one[0].number)]
    count = len(costs)
    since = count - 1 - costs.index(min(costs))
    where = f"of {count} trials compared after {count_text(rung or 0, 'epoch')}"
    if since >= CALM * count:
        return f"probably converged: the last {since} {where} brought nothing better, so more of the same will hardly help"
    if since <= LIVELY * count:
        return f"not converged: a better one came within the last {since + 1} {where}, so more trials will probably help"
    return f"undecided: the last {since} {where} brought nothing better, which may be chance"


def _same_rung(trials: Sequence[TrialSummary], config: StudyConfig, wanted: int) -> tuple[int | None, list[tuple[TrialSummary, float]]]:
    """The highest rung that as many trials as `wanted` reached, or else the one that most reached, with the best value of each up to it."""
    from automl.fidelity import rule_of

    usable = [trial for trial in trials if trial.status is not TrialStatus.FAILED and trial.curve and trial.start == 0]
    usable = [trial for trial in usable if all(_inside(config, key, value) for key, value in trial.values.items())]
    reached = {rung: [trial for trial in usable if trial.curve[-1][0] >= rung] for rung in rule_of(config).rungs}
    enough = [rung for rung, there in reached.items() if len(there) >= wanted]
    rung = max(enough) if enough else max(reached, key=lambda one: (len(reached[one]), one), default=None)
    if rung is None:
        return None, []
    pick = min if config.direction == "minimize" else max
    found = [(trial, [value for epoch, value in trial.curve if epoch <= rung]) for trial in reached[rung]]
    return rung, [(trial, pick(values)) for trial, values in found if values]


def _inside(config: StudyConfig, key: str, value: Value) -> bool:
    return drawable(config.space.parameter(key), value)
