"""What several objectives ask of a search: who can search for a front, when a cost says anything, and what the user should know."""

from __future__ import annotations

from automl.config import StudyConfig
from automl.course import FidelityRule
from automl.curves import CurveStopping
from automl.searchers import SEARCHERS, Searcher
from search_spaces.errors import SpecError, StudyError
from search_spaces.objective import LATENCY, PARAMETERS, PEAK_MEMORY

OF_THE_NETWORK = (LATENCY, PARAMETERS)
NETWORK, TRAINING_ALONE = "model.", ("model.train_iters",)


def check_several(searcher: Searcher, rule: FidelityRule, config: StudyConfig) -> None:
    """StudyError for several objectives with a searcher that takes one, or with a rule that keeps nothing but the best by one."""
    if not config.further:
        return
    named = ", ".join(objective.metric for objective in config.objectives)
    if not searcher.several:
        able = ", ".join(item.name for item in SEARCHERS.values() if item.several)
        raise StudyError(f"the searcher {searcher.name} takes one objective, but there are several: {named}", hint=f"use one of {able}")
    if isinstance(rule, CurveStopping):
        raise StudyError(
            f"{rule.name} stops every trial that will not beat the best by one objective, but there are several: {named}",
            hint="use asha, hyperband, median or full: they keep more than the best",
        )


def check_costs(config: StudyConfig) -> None:
    """SpecError for a cost of the network where nothing that is searched changes the network: its differences would be noise."""
    costs = [objective.metric for objective in config.further if objective.metric in OF_THE_NETWORK]
    keys = [parameter.key for parameter in config.space.parameters]
    if costs and not any(key.startswith(NETWORK) and key not in TRAINING_ALONE for key in keys):
        stereo = "" if config.skill.endswith("mono") else " or model.hidden_dims"
        raise SpecError(
            f"nothing that is searched changes the network, so {' and '.join(costs)} would be the same for every trial",
            hint=f"search model.encoder{stereo} too: --params {','.join(key.rsplit('.', 1)[-1] for key in keys[:2])},model.encoder "
            "--choices model.encoder=vits,vitb",
        )


def objective_notes(config: StudyConfig) -> tuple[str, ...]:
    """Lines on what several objectives mean for this search."""
    names = [objective.metric for objective in config.objectives]
    notes = []
    if config.further and config.fidelity != "full":
        told = f"{config.fidelity} ends trials by {names[0]} alone, so that few less exact ones reach the front"
        notes.append(f"{told}; --fidelity full trains all to the end")
    if LATENCY in names and config.parallel > 1:
        notes.append(f"{LATENCY} is measured while other trials train; what is shipped is measured again, one after another")
    if PEAK_MEMORY in names and not config.gpus_per_trial:
        notes.append(f"{PEAK_MEMORY} on a CPU is that of the whole process, with what earlier trials left in it: rough figures")
    return tuple(notes)
