"""`automl extend`: more trials or more time for a study, from where it stands.

What was run counts; nothing is run twice.  Trials that were never promoted when the search ended stay ended, and new ones are compared with
their values.  Finalists are chosen again when the longer search is over; those that were trained already are kept.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from automl.amend import amend
from automl.config import StudyConfig
from automl.console import screen, tell
from automl.fidelity import rule_of
from automl.launch import confirm, resume_study
from automl.limits import Limits
from automl.population import PopulationRule
from automl.reader import read_snapshot
from automl.sources import FEWEST_FOR_FINALISTS, usual_finalists
from automl.unchanged import check_surroundings
from search_spaces.errors import StudyError, shell_word

_MORE = re.compile(r"\+(\d+(?:\.\d+)?)")


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What is to be added (`+20`), and limits that are set anew; None: as it was."""

    trials: str | None = None
    epochs: int | None = None
    max_hours: str | None = None
    gpu_hours: str | None = None
    deadline: float | None = None
    disk_budget_gib: float | None = None


def extend_study(folder: Path, extension: Extension, *, yes: bool) -> int:
    """Raises what was asked for and goes on with the search; the exit code.  Asks first: Abort on no, and all stays as it was."""
    snapshot = read_snapshot(folder)
    if snapshot.active:
        raise StudyError(f"{folder} is being run by another process", hint=f"end it with `automl stop {shell_word(folder)}` first")
    config = extended(snapshot.config, extension)
    check_surroundings(snapshot.config)  # what is refused must not leave the study extended
    before = snapshot.config
    told = [f"{config.trials} trials instead of {before.trials}"] if config.trials != before.trials else []
    told += [f"limits: {', '.join(config.limits.describe())}"] if config.limits != before.limits else []
    tell(screen(), f"extended study: {'; '.join(told)}")
    confirm(yes or not sys.stdin.isatty(), question="Extend?")
    amend(snapshot.folder, before, config)
    return resume_study(folder, yes=True)


def extended(config: StudyConfig, extension: Extension) -> StudyConfig:
    """The config with more of what was asked for; StudyError for what cannot be extended."""
    if extension.epochs is not None:
        raise StudyError(
            f"the full budget of {config.epochs} epochs is the horizon of every learning-rate schedule, so the trials so far are no "
            "beginnings of longer ones",
            hint="start a new study with --epochs and --warm-start, or train the winner longer with `automl off --from`",
        )
    if extension == Extension():
        raise StudyError("nothing is to be extended", hint="add --trials +10, --max-hours +2, --gpu-hours +2, --deadline or --disk-budget")
    limits = config.limits
    raised = Limits(
        max_hours=_raised("--max-hours", limits.max_hours, extension.max_hours),
        gpu_hours=_raised("--gpu-hours", limits.gpu_hours, extension.gpu_hours),
        deadline=extension.deadline if extension.deadline is not None else limits.deadline,
        disk_budget_gib=extension.disk_budget_gib if extension.disk_budget_gib is not None else limits.disk_budget_gib,
        trial_timeout_s=limits.trial_timeout_s,
    )
    trials = config.trials
    if extension.trials is not None:
        more = _amount("--trials", extension.trials)
        if isinstance(rule_of(config), PopulationRule):
            raise StudyError("the trials of a population are its members and train side by side", hint="start a new study with --trials")
        if more != int(more) or more < 1:
            raise StudyError(f"--trials must be +N with a whole N, but got {extension.trials}", hint="for instance --trials +10")
        trials += int(more)
    # a search that was too short for finalists may have become long enough
    grown = not config.finalists and config.trials < FEWEST_FOR_FINALISTS <= trials
    finalists = usual_finalists(trials, config) if grown else config.finalists
    return replace(config, trials=trials, limits=raised, finalists=finalists)


def _raised(option: str, before: float | None, text: str | None) -> float | None:
    if text is None:
        return before
    if before is None:
        raise StudyError(
            f"the study has no limit of {option.strip('-').replace('-', ' ')} that could be raised", hint=f"leave {option} out"
        )
    return before + _amount(option, text)


def _amount(option: str, text: str) -> float:
    found = _MORE.fullmatch(text)
    if found is None or not float(found[1]):
        meant = re.sub("[^0-9.]", "", text)
        raise StudyError(
            f"{option} says how much is added, with a plus, but got {text!r}", hint=f"write {option} +{meant if meant.strip('0.') else 1}"
        )
    return float(found[1])
