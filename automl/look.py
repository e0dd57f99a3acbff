"""`automl status | stop | logs | skills`: what can be seen and asked from any shell, from the study folder alone."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from automl.console import count_text, number_text, screen, tell
from automl.entry import DONE
from automl.folders import place_text
from automl.policy import Policy, decide
from automl.reader import final_trials, read_snapshot
from automl.requests import request_stop
from automl.snapshot import StudySnapshot, TrialStatus
from automl.status import status_data, status_view
from automl.summary import shown_path
from automl.tracking import read_history
from search_spaces.errors import SkillError, StudyError, shell_word
from search_spaces.skill import INFO_FILE, Skill, list_skills, read_skill
from trials.copy_notes import url_of_copy

POLL_S = 1.0


def show_status(folder: Path, *, as_json: bool) -> int:
    """Prints the study; exit code 0 whatever state it is in."""
    snapshot = read_snapshot(folder)
    if as_json:
        tell(screen(), json.dumps(status_data(snapshot), indent=2, allow_nan=False))
    else:
        screen().print(status_view(snapshot))
    return DONE


def stop_study(folder: Path, trial: int | None) -> int:
    """Leaves a request that the driver reads; says what will happen."""
    snapshot = read_snapshot(folder)
    if trial is not None and trial not in {known.number for known in snapshot.trials}:
        raise StudyError(f"{folder} has no trial {trial}", hint=f"`automl status {shell_word(folder)}` lists them")
    if trial is not None and snapshot.trial(trial).status.ended:
        raise StudyError(
            f"trial {trial} is over already: {snapshot.trial(trial).status.value}",
            hint=f"`automl logs {shell_word(folder)} {trial}` shows it",
        )
    if trial is None and not snapshot.active:
        raise StudyError(
            f"nobody is running {folder}, so there is nothing to stop", hint=f"`automl status {shell_word(folder)}` shows how it stands"
        )
    told = _told_of_stop(snapshot, folder) if trial is None else _told_of_trial(snapshot, trial)
    request_stop(folder, trial=trial)
    tell(screen(), f"asked for: {told}")
    return DONE


def _told_of_stop(snapshot: StudySnapshot, folder: Path) -> str:
    """What a request to stop the whole study will do; StudyError when it comes too late to do anything."""
    trials, noun = snapshot.trials, "trial"
    if snapshot.end is not None:
        if not snapshot.end.reason.is_success:
            raise StudyError(
                f"{folder} is ending already: {snapshot.end.message}", hint=f"`automl resume {shell_word(folder)}` goes on when it has"
            )
        trials, noun = final_trials(folder), "finalist"
        if all(trial.status.ended for trial in trials):
            raise StudyError(
                f"the search in {folder} is over; choosing and promoting the winner ends by itself and cannot pause",
                hint=f"Ctrl-C in its shell breaks that off, and `automl resume {shell_word(folder)}` does it again",
            )
    running = sum(trial.status is TrialStatus.RUNNING for trial in trials)
    when = (
        f"once the running {noun}{'s have' if running > 1 else ' has'} paused at the next validation"
        if running
        else "before anything starts"
    )
    return f"the study ends {when}; `automl resume {shell_word(place_text(folder))}` goes on from there"


def _told_of_trial(snapshot: StudySnapshot, number: int) -> str:
    """What a request to stop one trial will do."""
    if not snapshot.active:
        return f"nobody is running the study; trial {number} ends as soon as somebody does"
    running = snapshot.trial(number).status is TrialStatus.RUNNING
    return f"trial {number} ends {'at its next validation' if running else 'where it is, and is never promoted'}"


def show_logs(folder: Path, number: int, *, follow: bool) -> int:
    """Prints one line per validated epoch of a trial, and how it ended; with `follow` until it ends."""
    console, shown = screen(), 0
    if follow and url_of_copy(folder) is not None:
        raise StudyError("--follow reads a file that grows, which a store does not have", hint="leave it out and ask again")
    while True:
        snapshot = read_snapshot(folder)
        if number not in {trial.number for trial in snapshot.trials}:
            begun = f"trials 0 to {len(snapshot.trials) - 1} have begun" if snapshot.trials else "no trial has begun"
            raise StudyError(f"{folder} has no trial {number}", hint=f"{begun}; `automl status {shell_word(folder)}` lists them")
        trial = snapshot.trial(number)
        history = read_history(trial.folder)
        for report in history[shown:]:
            metrics = "  ".join(f"{name} {number_text(value)}" for name, value in report.metrics.items())
            console.print(f"epoch {report.epoch}  step {report.step}  {escape(metrics)}", soft_wrap=True)
        shown = len(history)
        if not follow or trial.status.ended or not snapshot.active:
            break
        time.sleep(POLL_S)
    told = f"trial {number}: {trial.status.value} after {count_text(trial.epoch, 'epoch')}"
    tell(console, f"{told}; files in {place_text(trial.folder / 'train')}")
    if trial.error is not None:
        tell(console, f"{trial.error.cause.value}: {trial.error.message}")
        for name, value in trial.error.details.items():
            tell(console, f"  {name}: {value}")
    return DONE


def show_skills(folders: Sequence[Path], *, as_json: bool) -> int:
    """Prints the skills of this project and those in `folders`: network, AutoML, and whether each can run here, and if not, why."""
    found = [skill for folder in folders for skill in _skills_in(folder)]
    rows = [_skill_facts(skill) for skill in (*list_skills(), *found)]
    foreign = {str(skill.root) for skill in found}
    if as_json:
        tell(screen(), json.dumps([asdict(row) for row in rows], indent=2))
        return DONE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("skill", "network", "AutoML", "runnable", "actions", "what it is"):
        table.add_column(name, overflow="fold")
    for row in rows:
        enabled, runnable = "yes" if row.automl_enabled else "no", "yes" if row.runnable else f"no: {row.why}"
        name = f"{row.name} ({shown_path(Path(row.folder))})" if row.folder in foreign else row.name
        cells = (name, row.network_arch, enabled, runnable, ", ".join(row.actions), row.description)
        table.add_row(*(escape(cell) for cell in cells))
    screen().print(table)
    return DONE


def _skills_in(folder: Path) -> list[Skill]:
    """The skill in a folder, or those in the folders below it; SkillError when there is none."""
    if (folder / INFO_FILE).is_file():
        return [read_skill(folder)]
    roots = sorted(path.parents[1] for path in folder.glob(f"*/{INFO_FILE}"))
    if not roots:
        raise SkillError(f"there is no skill in {folder}", hint=f"a skill is a folder with {INFO_FILE}")
    return [read_skill(root) for root in roots]


@dataclass(frozen=True, kw_only=True)
class SkillFacts:
    """One line of `automl skills`; `why` is the route of a train request, or what keeps the skill from running."""

    name: str
    network_arch: str
    automl_enabled: bool
    runnable: bool
    why: str
    actions: tuple[str, ...]
    description: str
    folder: str


def _skill_facts(skill: Skill) -> SkillFacts:
    try:
        runnable, why = True, decide(Policy.AUTO, skill).why
    except SkillError as error:
        runnable, why = False, error.message
    if not skill.automl_enabled and skill.why_not_runnable() is not None:
        runnable, why = False, str(skill.why_not_runnable())
    return SkillFacts(
        name=skill.name,
        network_arch=skill.network_arch,
        automl_enabled=skill.automl_enabled,
        runnable=runnable,
        why=why,
        actions=tuple(skill.actions),
        description=skill.description,
        folder=str(skill.root),
    )
