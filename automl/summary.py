"""The last thing on the screen: what was found, what it is worth, where it lies, what to run next."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from automl.console import count_text, first_line, metrics_table, number_text, seconds_text, tell
from automl.front_choice import members_of
from automl.front_view import front_picture, front_table, shipped_table
from automl.insight import convergence, importance
from automl.limits import Limits
from automl.reader import final_trials
from automl.report import REPORT, gain_text
from automl.retention import DROPPED
from automl.snapshot import EndReason, StudyEnd, StudySnapshot, TrialStatus, TrialSummary
from automl.status import CHOICE_FILE, PROMOTION_FILE, read_json
from search_spaces.errors import shell_word
from search_spaces.spec import spec_from_dict
from trials.copy_notes import url_of_copy

FAILURES = 3  # causes that are told, and trials of each
IMPORTANT = 3  # parameters that are named on the screen; the report has all


def print_summary(console: Console, snapshot: StudySnapshot, end: StudyEnd, *, complete: bool) -> None:
    """Prints the end of a study; `complete` says whether MLflow holds everything."""
    folder = shown_path(snapshot.folder)
    colour = {EndReason.EXHAUSTED: "green", EndReason.LIMIT: "green", EndReason.FAILED: "red"}.get(end.reason, "yellow")
    message = Text(first_line(end.message), style=f"bold {colour}")
    fits = message.cell_len <= console.width - 6  # a panel cuts a longer title off
    if not fits:
        console.print(message, soft_wrap=True)
    console.print(Panel(_found(snapshot), title=message if fits else None, title_align="left"))
    if snapshot.config.further:
        _print_front(console, snapshot)
    test = (read_json(snapshot.folder / CHOICE_FILE) or {}).get("test")
    if test:
        spec = spec_from_dict(snapshot.config.spec)
        title = f"Test list, evaluated once ({count_text(test['num_images'], 'image')})"
        console.print(metrics_table(title, test["metrics"], spec.family, relative=spec.is_relative))
    if not complete:
        told = f"MLflow does not hold everything yet; `automl resume {shell_word(folder)}` writes the rest"
        console.print(Text(told, style="yellow"), soft_wrap=True)
    _next(console, snapshot, end, folder)


def _print_front(console: Console, snapshot: StudySnapshot) -> None:
    """The front as the search measured it, as table and picture, and what was shipped of it."""
    members = members_of(snapshot.folder)
    parts: list[RenderableType] = [front_table(snapshot), Text(front_picture(snapshot))]
    if any("objectives" in member.entry for member in members):
        parts.append(shipped_table(members, snapshot.config, [shown_path(member.folder) for member in members]))
    for part in parts:
        console.print("")
        console.print(part)


def shown_path(path: Path) -> str:
    """The path as a user would type it: relative to the current folder where it lies below it, a URL where it is a copy's."""
    url = url_of_copy(path)
    if url is not None:
        return url
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _found(snapshot: StudySnapshot) -> RenderableType:
    config = snapshot.config
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    counts = {status: sum(trial.status is status for trial in snapshot.trials) for status in TrialStatus}
    told = ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
    table.add_row("trials", f"{snapshot.begun}: {told or 'none'}")
    crowded = sum(trial.stopped_by == DROPPED for trial in snapshot.trials)
    if crowded:
        table.add_row("disk budget", f"{count_text(crowded, 'trial')} lost a checkpoint to it and could not be promoted")
    busy_s = sum(trial.elapsed_s for trial in snapshot.trials)
    whole = min(len(snapshot.trials), config.trials) * config.epochs
    ran_out = snapshot.end is not None and snapshot.end.reason is EndReason.EXHAUSTED
    spared = f", without early stopping {whole}" if ran_out and whole > snapshot.epochs_trained else ""
    table.add_row("epochs", f"{snapshot.epochs_trained}{spared}; {seconds_text(busy_s)} of training")
    best = snapshot.best
    if best is not None:
        table.add_row("best", f"trial {best.number}: {config.objective} {number_text(best.value)} at epoch {best.best_epoch}")
        values = ", ".join(f"{key} = {number_text(value)}" for key, value in best.values.items())
        course = f" since epoch {best.start}; before, it was trial {best.origin['donor']}" if best.start else ""
        table.add_row("its values", escape(values + course))
    gain = gain_text(snapshot)
    if gain is not None:
        table.add_row("gain", gain)
    if best is not None:
        table.add_row("converged?", escape(convergence(snapshot)))
    mattered = importance(snapshot)
    if mattered.shares:
        shares = ", ".join(f"{key} {share:.0%}" for key, share in mattered.shares[:IMPORTANT])
        table.add_row("mattered", escape(f"{shares} ({mattered.told})"))
    choice = read_json(snapshot.folder / CHOICE_FILE)
    if choice is not None:
        table.add_row("winner", escape(choice["reason"]))
        table.add_row("checkpoint", escape(shown_path(Path(choice["checkpoint"]))))
    promotion = read_json(snapshot.folder / PROMOTION_FILE)
    if promotion is not None and not (choice or {}).get("front"):
        for name, text in promotion_rows(promotion, snapshot.folder / PROMOTION_FILE.parent, config.objective.partition("/")[2]).items():
            table.add_row(name, escape(text))
    failed = {**failure_rows(snapshot.trials), **failure_rows(final_trials(snapshot.folder), "finalist")}
    for name, text in failed.items():
        table.add_row(name, f"[red]{escape(text)}[/]")
    return table


def failure_rows(trials: Sequence[TrialSummary], noun: str = "trial") -> dict[str, str]:
    """The first causes of failure, each once with the trials that it ended and what helps; `noun` is what a trial is called."""
    numbers: dict[str, list[int]] = {}
    for trial in trials:
        if trial.error is not None:
            hint = trial.error.details.get("hint")
            told = f"{trial.error.cause.value}: {first_line(trial.error.message)}{f'; hint: {hint}' if hint else ''}"
            numbers.setdefault(told, []).append(trial.number)
    rows = {}
    for told, failed in list(numbers.items())[:FAILURES]:
        more = f" and {len(failed) - FAILURES} more" if len(failed) > FAILURES else ""
        rows[f"{noun}{'s' if len(failed) > 1 else ''} {', '.join(map(str, failed[:FAILURES]))}{more}"] = told
    return rows


def more_time(limits: Limits) -> str:
    """Options of `automl extend` that double the time limits."""
    given = {"--max-hours": limits.max_hours, "--gpu-hours": limits.gpu_hours}
    told = [f"{option} +{hours:g}" for option, hours in given.items() if hours is not None]
    return " ".join([*told, "--deadline TIME"] if limits.deadline is not None else told)


def promotion_rows(promotion: Mapping[str, Any], folder: Path, metric: str) -> dict[str, str]:
    """The verdict with its figures; keys as in `promotion.json`."""
    check, metrics = promotion["check"], promotion["metrics"]
    rows = {"model" if promotion["promoted"] else "rejected": shown_path(folder / str(promotion["model"]))}
    if promotion["promoted"] and "model.xml" in promotion.get("files", {}):
        rows["OpenVINO"] = shown_path(folder / "model.xml")
    if promotion["reason"]:
        rows["reason"] = str(promotion["reason"])
    gap = f"largest difference {number_text(check['max_abs'])} {check['unit']}, mean {number_text(check['mean_abs'])}"
    values = ", ".join(f"{name} {number_text(values.get(metric))}" for name, values in metrics.items())
    rows["same answer"] = f"{gap}; {metric} {values}"
    timed = promotion["latency"]["rows"]
    for batch in sorted({row["batch"] for row in timed}):
        speeds = ", ".join(f"{row['runtime']} {number_text(row['median_ms'])} ms" for row in timed if row["batch"] == batch)
        rows["speed" if batch == 1 else f"batch {batch}"] = speeds
    for title, key in (("TensorRT", "engine"), ("int8", "int8")):
        form = promotion.get(key)
        if form is None:
            continue
        if form["file"] is not None and not form["built"]:
            rows[title] = f"rejected: {form['reason']}; kept as {shown_path(folder / str(form['file']))}"
        else:
            rows[title] = shown_path(folder / str(form["file"])) if form["built"] else f"not built: {form['reason']}"
    return rows


def _next(console: Console, snapshot: StudySnapshot, end: StudyEnd, folder: str) -> None:
    """What to run now, one command a line, so that it can be copied."""
    config, stored = snapshot.config, url_of_copy(snapshot.folder) is not None
    here = str(snapshot.folder) if stored else folder  # MLflow's database is beside it
    spec = spec_from_dict(config.spec)
    rows = {"report": f"{folder}/{REPORT}"}
    promoted = shell_word(f"{folder}/{PROMOTION_FILE.parent}/spec.yaml")
    folder = shell_word(folder)
    rows["compare trials"] = f"automl dashboard {shell_word(here)}"
    if end.reason in {EndReason.STOPPED, EndReason.INTERRUPTED}:
        rows["go on"] = f"automl resume {folder}"
    # without a failed trial it was a limit that was too small, and would be again
    limited = end.reason is EndReason.FAILED and all(trial.error is None for trial in snapshot.trials)
    late = limited and config.limits.timed and all(trial.value is None for trial in snapshot.trials)
    full = limited and not late and config.limits.disk_budget_gib is not None
    if end.reason is EndReason.FAILED and not (late or full) and len(snapshot.trials) < config.trials:
        rows["try again"] = f"automl resume {folder}"
    if end.reason is EndReason.EXHAUSTED and config.fidelity != "population":
        rows["more trials"] = f"automl extend {folder} --trials +{config.trials}"
    if late or end.reason is EndReason.LIMIT:
        rows["more time"] = f"automl extend {folder} {more_time(config.limits)}"
    if full or any(trial.stopped_by == DROPPED for trial in snapshot.trials):
        rows["more room"] = f"automl extend {folder} --disk-budget GIB"
    if (snapshot.folder / PROMOTION_FILE).is_file():
        if spec.dataset.test_dataset.data_sources:
            rows["evaluate it"] = f"depth_net evaluate -e {promoted}"
        if spec.dataset.infer_dataset.data_sources:
            rows["pictures"] = f"depth_net inference -e {promoted}"
        if (read_json(snapshot.folder / PROMOTION_FILE) or {}).get("promoted"):
            images = "--left LEFT --right RIGHT" if spec.family == "stereo" else "--image IMAGE"
            rows["your images"] = f"automl try {folder} {images}{' --out try' if stored else ''}"
        if config.fidelity != "population":  # its winner has a course of values, of which the last alone would train another network
            rows["train it longer"] = f"automl off --from {folder} --epochs {2 * config.epochs}{' --results DIR' if stored else ''}"
    rows["your own data"] = f"automl run --skill {shell_word(config.notes.get('asked_skill', config.skill))} -e spec.yaml"
    width = max(map(len, rows))
    tell(console, "")
    for name, command in rows.items():
        tell(console, f"{name:{width}}  {command}")
