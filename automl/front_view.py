"""A front on the screen: its trials as a table, all trials as a picture of characters, and what was shipped of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from automl.config import StudyConfig
from automl.console import metric_text, number_text, values_text
from automl.front import front_of, values_of
from automl.front_choice import Member
from automl.snapshot import StudySnapshot, TrialStatus

WIDTH, HEIGHT = 64, 12  # of the picture, in characters
VALUES_SHOWN = 5


def front_table(snapshot: StudySnapshot) -> Table:
    """The trials of the front as the search measured them, the best by the first objective first."""
    config = snapshot.config
    table = Table(title="Front", title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *_names(config)):
        table.add_column(escape(name), justify="right", no_wrap=True)
    table.add_column("values", overflow="fold")
    for trial in front_of(snapshot.trials, config):
        own = "[dim]the spec's own:[/] " if trial.number == 0 else ""
        values = [metric_text(value, name) for name, value in values_of(trial, config).items()]
        table.add_row(str(trial.number), *values, f"{own}{escape(values_text(trial.values, limit=VALUES_SHOWN))}")
    return table


def shipped_table(members: Sequence[Member], config: StudyConfig, shown: Sequence[str]) -> Table:
    """What was shipped: the means of the fixed evaluation, how many runs they are of, the alias, and where the model lies (`shown`)."""
    table = Table(title="Shipped", title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for name in ("trial", *_names(config), "runs"):
        table.add_column(escape(name), justify="right", no_wrap=True)
    table.add_column("alias")
    table.add_column("model", overflow="fold")
    for member, place in zip(members, shown, strict=True):
        promotion = member.promotion or {}
        model = f"{place}/{promotion.get('model', '-')}"
        verdict = escape(model) if member.promoted else f"[red]rejected:[/] {escape(str(promotion.get('reason')))} ({escape(model)})"
        values = (metric_text(value, name) for name, value in member.entry["objectives"].items())
        aliases = ", ".join(member.entry["aliases"])
        table.add_row(str(member.entry["trial"]), *values, str(member.entry["runs"]), escape(aliases), verdict)
    return table


def front_picture(snapshot: StudySnapshot) -> str:
    """The first objective (upwards) against the second: `.` a trial of the full budget, a number a trial of the front; "" with too few."""
    config = snapshot.config
    front = {trial.number for trial in front_of(snapshot.trials, config)}
    full = [trial for trial in snapshot.trials if trial.status is TrialStatus.COMPLETE or trial.number in front]
    placed = []
    for trial in full:
        second, first = list(values_of(trial, config).values())[1::-1]
        if first is not None and second is not None:
            placed.append((second, first, trial.number))
    spans = [(min(column), max(column)) for column in list(zip(*placed, strict=True))[:2]]
    if len(placed) < 2 or any(low == high for low, high in spans):
        return ""
    (left, right), (bottom, top) = spans
    rows = [[" "] * (WIDTH + 4) for _ in range(HEIGHT)]
    for x, y, number in sorted(placed, key=lambda one: one[2] in front):  # numbers last: they stay readable
        column = round((x - left) / (right - left) * (WIDTH - 1))
        row = rows[round((top - y) / (top - bottom) * (HEIGHT - 1))]
        mark = str(number) if number in front else "."
        row[column : column + len(mark)] = list(mark)
    names = _names(config)
    upper, lower = number_text(top), number_text(bottom)
    margin = max(len(upper), len(lower))
    labels = [upper, *[""] * (HEIGHT - 2), lower]
    lines = [f"{label:>{margin}} |{''.join(row).rstrip()}" for label, row in zip(labels, rows, strict=True)]
    axis = f"{'':{margin}} +{'-' * WIDTH}"
    scale = f"{'':{margin}}  {number_text(left)}{number_text(right):>{WIDTH - len(number_text(left))}}"
    return "\n".join([names[0], *lines, axis, scale, f"{names[1]:>{margin + 2 + WIDTH}}"])


def _names(config: StudyConfig) -> list[str]:
    return [objective.metric for objective in config.objectives]
