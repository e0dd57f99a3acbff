"""The last thing on the screen: what was found, what it is worth, where it lies, what to run next."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from automl.console import metrics_table, number_text, seconds_text
from automl.report import REPORT, gain_text
from automl.snapshot import EndReason, StudyEnd, StudySnapshot, TrialStatus
from automl.status import CHOICE_FILE, PROMOTION_FILE, read_json
from search_spaces.spec import spec_from_dict


def print_summary(console: Console, snapshot: StudySnapshot, end: StudyEnd, *, complete: bool) -> None:
    """Prints the end of a study; `complete` says whether MLflow holds everything."""
    folder = shown_path(snapshot.folder)
    colour = {EndReason.EXHAUSTED: "green", EndReason.FAILED: "red"}.get(end.reason, "yellow")
    title = f"[bold {colour}]{escape(end.message)}[/]"
    console.print(Panel(_found(snapshot), title=title, title_align="left"))
    test = (read_json(snapshot.folder / CHOICE_FILE) or {}).get("test")
    if test:
        family = spec_from_dict(snapshot.config.spec).family
        console.print(metrics_table(f"Test list, evaluated once ({test['num_images']} images)", test["metrics"], family))
    if not complete:
        console.print(f"MLflow does not hold everything yet; `automl resume {folder}` writes the rest", style="yellow", soft_wrap=True)
    console.print(_next(snapshot, end, folder))


def shown_path(path: Path) -> str:
    """The path as a user would type it: relative to the current folder where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _found(snapshot: StudySnapshot) -> RenderableType:
    config = snapshot.config
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    counts = {status: sum(trial.status is status for trial in snapshot.trials) for status in TrialStatus}
    told = ", ".join(f"{count} {status.value}" for status, count in counts.items() if count)
    epochs = sum(trial.epoch for trial in snapshot.trials)
    table.add_row("trials", f"{len(snapshot.trials)} of {config.trials}: {told or 'none'}")
    busy_s = sum(trial.elapsed_s for trial in snapshot.trials)
    whole = len(snapshot.trials) * config.epochs
    table.add_row("epochs", f"{epochs}, without early stopping {whole}; {seconds_text(busy_s)} of training")
    best = snapshot.best
    if best is not None:
        table.add_row("best", f"trial {best.number}: {config.objective} {number_text(best.value)} at epoch {best.best_epoch}")
        values = ", ".join(f"{key} = {number_text(value)}" for key, value in best.values.items())
        table.add_row("its values", escape(values))
    gain = gain_text(snapshot)
    if gain is not None:
        table.add_row("gain", gain)
    choice = read_json(snapshot.folder / CHOICE_FILE)
    if choice is not None:
        table.add_row("winner", escape(f"{choice['chosen']}: {choice['reason']}"))
        table.add_row("checkpoint", escape(shown_path(Path(choice["checkpoint"]))))
    promotion = read_json(snapshot.folder / PROMOTION_FILE)
    if promotion is not None:
        for name, text in _promotion_rows(promotion, snapshot.folder / PROMOTION_FILE.parent).items():
            table.add_row(name, escape(text))
    failures = [trial for trial in snapshot.trials if trial.error is not None]
    for trial in failures[:3]:
        assert trial.error is not None
        table.add_row(f"trial {trial.number}", f"[red]{escape(trial.error.cause.value)}: {escape(trial.error.message.splitlines()[0])}[/]")
    return table


def _promotion_rows(promotion: dict[str, object], folder: Path) -> dict[str, str]:
    model = shown_path(folder / str(promotion["model"]))
    check = promotion["check"]
    figures = _error_figures(check) if isinstance(check, dict) else ""
    engine = promotion["engine"]
    told = {"model" if promotion["promoted"] else "rejected": f"{model} ({figures})" if figures else model}
    if promotion["reason"]:
        told["reason"] = str(promotion["reason"])
    if isinstance(engine, dict):
        told["TensorRT"] = "built" if engine["built"] else f"not built: {engine['reason']}"
    return told


def _error_figures(check: dict[str, object]) -> str:
    found = {name: value for name, value in check.items() if "error" in name and isinstance(value, float)}
    return ", ".join(f"{name.replace('_', ' ')} {number_text(value)}" for name, value in found.items())


def _next(snapshot: StudySnapshot, end: StudyEnd, folder: str) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    spec = spec_from_dict(snapshot.config.spec)
    choice = read_json(snapshot.folder / CHOICE_FILE)
    rows = {"report": f"{folder}/{REPORT}", "compare trials": f"automl dashboard {folder}"}
    if end.reason in {EndReason.STOPPED, EndReason.INTERRUPTED}:
        rows["go on"] = f"automl resume {folder}"
    if choice is not None:
        promoted = f"-e {folder}/promotion/spec.yaml"
        model = f"{folder}/promotion/model.onnx"
        if spec.dataset.test_dataset.data_sources:
            rows["evaluate"] = f"depth_net evaluate {promoted} evaluate.checkpoint={model} results_dir={folder}"
        if spec.dataset.infer_dataset.data_sources:
            rows["pictures"] = f"depth_net inference {promoted} inference.checkpoint={model} results_dir={folder}"
        rows["train it again"] = f"automl off --from {folder} --epochs {2 * snapshot.config.epochs}"
    rows["your own data"] = f"automl run --skill {snapshot.config.skill} -e spec.yaml"
    for name, command in rows.items():
        table.add_row(name, escape(command))
    return Group("", table)
