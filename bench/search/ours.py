"""Our search in the simulator: the production study, its fidelity rule and searcher, on a storage in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

from automl.algorithms import complete_settings, usual_lowest
from automl.config import StudyConfig
from automl.fidelity import rule_of
from automl.ledger import Ledger
from automl.snapshot import ranking
from automl.sources import SearchSource
from automl.study import Study
from bench.search.method import Clock, Segment, Setting
from trials.contract import Cause, Decision, Failure, Report, State, TrialResult

OBJECTIVE = "val/epe"
MANY = 100_000  # trials
MEMBERS = 40  # of a population: together they train for the default budget
_NOWHERE = Path("/nonexistent/study")  # a study in memory has no files


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of our searches: a searcher, a fidelity rule, and what an ablation changes; without `min_epochs` the usual lowest rung."""

    searcher: str
    fidelity: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    min_epochs: int | None = None


def config_of(setting: Setting, variant: Variant, *, trials: int | None = None) -> StudyConfig:
    """The config of a study of `setting`: without `trials`, the deadline alone ends it (a population is as many as are asked for)."""
    searcher, fidelity = variant.searcher, variant.fidelity
    lowest = variant.min_epochs or usual_lowest(searcher, fidelity, epochs=setting.task.epochs, eta=setting.eta)
    if trials is None:
        trials = MEMBERS if fidelity == "population" else MANY
    return StudyConfig(
        name=setting.task.name,
        skill=setting.task.space.skill,
        spec=setting.task.spec,
        space=setting.task.space,
        objective=OBJECTIVE,
        direction="minimize",
        trials=trials,
        epochs=setting.task.epochs,
        seed=setting.seed,
        searcher=searcher,
        fidelity=fidelity,
        settings=complete_settings(variant.settings, searcher=searcher, fidelity=fidelity),
        reduction_factor=setting.eta,
        min_epochs=lowest,
        parallel=setting.workers,
        engine="inline",
    )


def study_in_memory(config: StudyConfig, clock: Clock, storage: BaseStorage | None = None) -> Study:
    """A production study without a folder: nothing of it survives the process, unless `storage` does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = storage or InMemoryStorage()
    ledger = Ledger(storage, config.name, space=config.space, direction=config.direction, clock=clock, create=True)
    return Study(_NOWHERE, config, ledger=ledger, source=SearchSource(config, rule_of(config)), clock=clock)


class Ours:
    """A study, driven as an engine drives it."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def ask(self) -> Segment | None:
        """See Method."""
        spec = None if self._study.finished() else self._study.ask()
        if spec is None:
            return None
        return Segment(number=spec.number, values=spec.values, seed=spec.seed, start=self._study.trial(spec.number).start)

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """See Method."""
        return self._study.report(Report(number=number, epoch=epoch, step=epoch, metrics={OBJECTIVE: cost}, elapsed_s=elapsed_s))

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """See Method."""
        trial = self._study.trial(number)
        self._study.tell(
            TrialResult(
                number=number,
                state=state,
                metrics=dict(trial.metrics),
                best_epoch=trial.best_epoch,
                checkpoint=None,
                elapsed_s=elapsed_s,
                peak_memory_mib=None,
                error=None if cause is None else Failure(cause=cause, message=f"simulated: {cause.value}"),
            )
        )

    def incumbent(self) -> int | None:
        """The first of the production ranking."""
        snapshot = self._study.snapshot()
        best_first = ranking(snapshot.trials, snapshot.config.direction)
        return best_first[0].number if best_first else None


class OurSearch(Ours):
    """The search of `variant`."""

    def __init__(self, setting: Setting, clock: Clock, variant: Variant) -> None:
        super().__init__(study_in_memory(config_of(setting, variant), clock))
