"""A study as JSON and as a table, from a snapshot and the files in its folder.

The keys of the JSON are a promise to programs: skill, metric, direction, state, trials, best, promotion, and no NaN.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from automl.config import StudyConfig
from automl.console import and_text, count_text, first_line, metric_text, number_text, seconds_text, state_text, values_text
from automl.folders import place_text
from automl.front import front_of, values_of
from automl.reader import final_trials
from automl.remaining import seconds_left
from automl.snapshot import StudySnapshot, TrialStatus, TrialSummary, ranking
from search_spaces.errors import shell_word
from trials.contract import ProgressEvent

PROMOTION_FILE = Path("promotion") / "promotion.json"
CHOICE_FILE = "choice.json"
VALUES_SHOWN = 5
ERROR_SHOWN = 100  # characters
STATE_WORDS = {"exhausted": "done", "limit": "ended at a limit"}  # for people; programs read the states themselves
ROWS_AT_MOST = 200  # laying out ten thousand takes seconds, and nobody reads them


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`, or None when the file is not there or not yet whole."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def study_state(snapshot: StudySnapshot) -> str:
    """In a word: running, finishing (finalists, choice, promotion), exhausted, limit (of time), stopped, interrupted, failed, or broken
    off when its driver died."""
    if snapshot.end is None:
        return "running" if snapshot.active else "broken off"
    return "finishing" if snapshot.active and snapshot.end.reason.is_success else snapshot.end.reason.value


def status_data(snapshot: StudySnapshot) -> dict[str, Any]:
    """The study as plain data, ready for `json.dumps(allow_nan=False)`."""
    config = snapshot.config
    return {
        "study": config.name,
        "folder": place_text(snapshot.folder),
        "skill": config.skill,
        "metric": config.objective,
        "direction": config.direction,
        "objectives": [asdict(objective) for objective in config.objectives],
        "state": study_state(snapshot),
        "remaining_s": seconds_left(snapshot) if snapshot.active else None,
        "message": None if snapshot.end is None else snapshot.end.message,
        "trials_asked": config.trials,
        "epochs": config.epochs,
        "searcher": config.searcher,
        "fidelity": config.fidelity,
        "seed": config.seed,
        "trials": [_trial_data(trial, config) for trial in snapshot.trials],
        "best": None if snapshot.best is None else _trial_data(snapshot.best, config),
        "front": [trial.number for trial in front_of(snapshot.trials, config)],
        "finalists": [_trial_data(trial, config) for trial in final_trials(snapshot.folder)],
        "choice": read_json(snapshot.folder / CHOICE_FILE),
        "promotion": read_json(snapshot.folder / PROMOTION_FILE),
    }


def _trial_data(trial: TrialSummary, config: StudyConfig) -> dict[str, Any]:
    error = trial.error
    return {
        "number": trial.number,
        "state": trial.status.value,
        "values": dict(trial.values),
        "seed": trial.seed,
        "rung": trial.rung,
        "epoch": trial.epoch,
        "value": trial.value,
        "objectives": values_of(trial, config),
        "best_epoch": trial.best_epoch,
        "metrics": dict(trial.metrics),
        "checkpoint": None if trial.checkpoint is None else place_text(trial.checkpoint),
        "folder": place_text(trial.folder),
        "elapsed_s": trial.elapsed_s,
        "peak_memory_mib": trial.peak_memory_mib,
        "segments": trial.segments,
        "stopped_by": trial.stopped_by,
        "error": None if error is None else {"cause": error.cause.value, "message": error.message, "details": dict(error.details)},
    }


def trials_table(
    trials: tuple[TrialSummary, ...],
    config: StudyConfig,
    *,
    best: int | None = None,
    front: Container[int] = (),
    progress: Mapping[int, ProgressEvent] | None = None,
    one_line: bool = False,
) -> Table:
    """One row a trial: state, the values that were sampled, epochs of its rung, best objectives, time, and why it ended.

    The best one has a star, the others of a front have a plus.  With `one_line` no row is higher than a line: what does not fit is cut.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    metrics = [(objective.metric, "right") for objective in config.objectives]
    for name, justify in (("trial", "right"), ("state", "left"), ("epochs", "right"), *metrics, ("time", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("values", overflow="fold")
    for trial in trials:
        mark = "[bold green]*[/]" if trial.number == best else "[green]+[/]" if trial.number in front else " "
        note = escape(values_text(trial.values, limit=VALUES_SHOWN))
        if trial.number == 0 and trial.parent is None:
            note = f"[dim]the spec's own:[/] {note}"
        if "donor" in trial.origin:
            note = f"[dim]from trial {trial.origin['donor']}:[/] {note}"
        if trial.error is not None:
            note = f"[red]{escape(trial.error.cause.value)}: {escape(first_line(trial.error.message)[:ERROR_SHOWN])}[/]"
        table.add_row(
            f"{mark}{trial.number}",
            state_text(trial.status.value) + _step_text(None if progress is None else progress.get(trial.number)),
            f"{trial.epoch}/{trial.rung}",
            *(metric_text(value, name) for name, value in values_of(trial, config).items()),
            seconds_text(trial.elapsed_s) if trial.elapsed_s else "-",
            _one_line(note) if one_line else note,
        )
    return table


def those_that_matter(trials: tuple[TrialSummary, ...], best: tuple[TrialSummary, ...], rows: int) -> tuple[TrialSummary, ...]:
    """All trials, or as many as there are rows: running ones, then the best of `best` (best first), then the newest; by number."""
    if len(trials) <= rows:
        return trials
    running = [trial for trial in trials if trial.status is TrialStatus.RUNNING]
    known = {trial.number: trial for trial in (*running, *best[: rows // 2], *reversed(trials))}
    return tuple(known[number] for number in sorted(list(known)[:rows]))


def status_view(snapshot: StudySnapshot) -> RenderableType:
    """The study for people: a line on what it is, the trials, the best, and what to do next."""
    config = snapshot.config
    arrow = "lower is better" if config.direction == "minimize" else "higher is better"
    counts = {status: sum(trial.status is status for trial in snapshot.trials) for status in TrialStatus}
    told = ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
    beside = "".join(f", {objective.metric}" for objective in config.further)
    objective = f"{escape(config.objective)} ({arrow}){escape(beside)}"
    state = study_state(snapshot)
    head = [f"[bold]{escape(config.name)}[/]  {escape(config.skill)}, {objective}, [bold]{STATE_WORDS.get(state, state)}[/]"]
    head.append(f"{snapshot.begun} trials begun: {told or 'none yet'}; full budget {count_text(config.epochs, 'epoch')}")
    best = snapshot.best
    left = seconds_left(snapshot) if snapshot.active else None
    if left is not None:
        head.append(f"about {seconds_text(left)} left, without finalists and promotion")
    if snapshot.end is not None and not snapshot.end.reason.is_success:
        head.append(escape(snapshot.end.message))
    parts: list[RenderableType] = [Text.from_markup("\n".join(head)), ""]
    front = [trial.number for trial in front_of(snapshot.trials, config)]
    shown = those_that_matter(snapshot.trials, ranking(snapshot.trials, config.direction), ROWS_AT_MOST)
    parts.append(trials_table(shown, config, best=None if best is None else best.number, front=front))
    if len(shown) < len(snapshot.trials):
        parts.append(Text(f"{len(snapshot.trials) - len(shown)} others are not shown; --json has all"))
    if best is not None:
        value = f"{config.objective} {number_text(best.value)}"
        checkpoint = "-" if best.checkpoint is None else place_text(best.checkpoint)
        told = f"best after {count_text(best.epoch, 'epoch')}: trial {best.number}, {value}, checkpoint {checkpoint}"
        parts += ["", Text(told)]
    if front:
        names, found = and_text([objective.metric for objective in config.objectives]), and_text([str(number) for number in front])
        parts.append(Text(f"front of {names}: {'trial' if len(front) == 1 else 'trials'} {found}"))
    promotion, finalists = read_json(snapshot.folder / PROMOTION_FILE), final_trials(snapshot.folder)
    if finalists:
        told = ", ".join(f"{one.number} (trial {one.parent}) {one.status.value} at {one.epoch}/{one.rung}" for one in finalists)
        parts.append(Text(f"{'finalist' if len(finalists) == 1 else 'finalists'} {told}"))
    if promotion is not None:
        model = snapshot.folder / PROMOTION_FILE.parent / str(promotion.get("model"))
        verdict = f"promoted: {place_text(model)}" if promotion.get("promoted") else f"not promoted: {promotion.get('reason')}"
        parts.append(Text(verdict))
    if not snapshot.active and (snapshot.end is None or not snapshot.end.reason.is_success or promotion is None):
        parts += ["", Text(f"continue it with: automl resume {shell_word(place_text(snapshot.folder))}")]
    return Group(*parts)


def _one_line(markup: str) -> Text:
    """A cell that is cut at the end of its column; a column that never wraps would take its width from the others."""
    text = Text.from_markup(markup, overflow="ellipsis")
    text.no_wrap = True
    return text


def _step_text(event: ProgressEvent | None) -> str:
    return "" if event is None else f" [dim]{'validates' if event.phase == 'validation' else f'step {event.step}/{event.total_steps}'}[/]"
