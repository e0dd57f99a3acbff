"""A search while it runs: a table that redraws itself in a terminal, one plain line per event everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from automl.board import Board
from automl.console import count_text, first_line, metric_text, number_text, seconds_text, values_text
from automl.events import (
    NodeAvoided,
    RoomChanged,
    StudyEnded,
    StudyEvent,
    StudyStarted,
    StudyStopping,
    TrialEnded,
    TrialPromoted,
    TrialReported,
    TrialStarted,
)
from automl.front import front_of
from automl.remaining import RemainingTime
from automl.snapshot import TrialStatus, TrialSummary
from automl.status import ROWS_AT_MOST, those_that_matter, trials_table
from trials.contract import Decision, ProgressEvent, Report

Clock = Callable[[], float]

ROWS_BESIDE_TABLE = 7
BAR_WIDTH = 28
OWN_VALUES = " (the spec's own values)"


class SearchView:
    """Shows a board as its events come.  A context manager: the live table is taken down when it is left.

    `since` is when the whole command began, if that was before this search; `spent_s` is what the search had used of its hours before.
    """

    def __init__(
        self,
        board: Board,
        console: Console,
        *,
        title: str,
        noun: str = "trial",
        since: float | None = None,
        spent_s: float = 0.0,
        clock: Clock = time.time,
    ) -> None:
        self._board, self._console = board, console
        self._title, self._noun, self._clock = title, noun, clock
        self._since = board.started_at if since is None else since
        self._remaining = RemainingTime(board.config, started_at=board.started_at, spent_s=spent_s)
        self._message = ""
        self._promoted: int | None = None  # the trial of the last event, if that was its promotion
        self._live = Live(get_renderable=self._draw, console=console, refresh_per_second=2, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._console.print(self._table(ROWS_AT_MOST))

    def on_event(self, event: StudyEvent) -> None:
        """Shows what `event` changed; the board has already taken note of it."""
        self._remaining.note(self._board, self._clock())
        if isinstance(event, StudyStopping):
            self._message = event.message
        if isinstance(event, NodeAvoided | RoomChanged) and self._live is not None:
            self.say(event_line(event, self._board) or "")
        told = isinstance(event, TrialStarted) and event.number == self._promoted  # one line says it
        self._promoted = event.number if isinstance(event, TrialPromoted) else None
        if self._live is None and not told:
            line = event_line(event, self._board, self._noun)
            if line:
                left = self.remaining_s() if isinstance(event, TrialEnded) and event.status is not TrialStatus.WAITING else None
                rest = f"; about {seconds_text(left)} left" if left is not None and left >= 1.0 else ""
                self._console.print(f"{seconds_text(self._clock() - self._since):>12}  {line}{rest}", soft_wrap=True, markup=False)

    def say(self, message: str) -> None:
        """A line that stays: a warning, a remark."""
        self._console.print(Text(message, style="yellow"), soft_wrap=True)

    def remaining_s(self) -> float | None:
        """Seconds until the search is likely to be over, or None before anything was trained."""
        return self._remaining.seconds(self._board, self._clock())

    def _draw(self) -> RenderableType:
        rows = max(self._console.height - ROWS_BESIDE_TABLE, 4)
        # rich cuts a live picture at the height of the terminal: its last line must not be pushed out
        return Group(self._table(rows, one_line=True), "", self._progress())

    def _table(self, rows: int, *, one_line: bool = False) -> Table:
        board = self._board
        best = board.best()
        front = {trial.number for trial in front_of(tuple(board.trials.values()), board.config)}
        shown = those_that_matter(tuple(board.trials.values()), board.ranked(rows // 2), rows)
        chosen = None if best is None else best.number
        table = trials_table(shown, board.config, best=chosen, front=front, progress=board.progress, one_line=one_line)
        table.title, table.title_justify, table.title_style = escape(self._title), "left", "bold"
        return table

    def _progress(self) -> RenderableType:
        board = self._board
        done = board.epochs_done()
        best = board.best()
        told = "no metric yet" if best is None else best_text(best)
        left = self.remaining_s()
        line = Table.grid(padding=(0, 2))
        line.add_column(max_width=BAR_WIDTH)
        line.add_row(
            ProgressBar(total=max(done + self._remaining.epochs(board), 1), completed=done),
            Text(f"{board.ended()}/{max(board.config.trials, len(board.trials))} trials over, {count_text(done, 'epoch')}", no_wrap=True),
            Text("time left: unknown" if left is None else f"about {seconds_text(left)} left", no_wrap=True),
        )
        lines: list[RenderableType] = [line, Text(f"{seconds_text(self._clock() - self._since)} so far, {told}")]
        return Group(*lines, *([Text(self._message, style="yellow")] if self._message else []))


def event_line(event: StudyEvent, board: Board, noun: str = "trial") -> str | None:
    """`event` in one line, or None for one that says nothing new; `noun` is what a trial is called."""
    line: str | None = None
    match event:
        case StudyStarted(resumed=True):
            line = f"study goes on with {count_text(len(event.snapshot.trials), noun)}"
        case TrialStarted():
            line = _start_line(event, noun)
        case TrialReported():
            answer = {Decision.PAUSE: ", pauses", Decision.STOP: ", stops"}.get(event.decision, "")
            best = board.best()
            told = "" if best is None else f"; {best_text(best, noun)}"
            known = {**event.metrics, board.config.objective: event.value}
            names = [objective.metric for objective in board.config.objectives]
            value = ", ".join(f"{name} {metric_text(known[name], name)}" for name in names if name in known)
            line = f"{noun} {event.number} epoch {event.epoch}/{board.config.epochs}  {value}{answer}{told}"
        case TrialPromoted():
            line = f"{noun} {event.number} is promoted from epoch {event.from_epoch} to {event.to_epoch}"
        case TrialEnded():
            line = _end_line(event, board, noun)
        case NodeAvoided():
            line = f"{event.host} gets no trials: {event.message} ({event.hint})"
        case RoomChanged() | StudyStopping():
            line = event.message
        case StudyEnded():
            reason, message = event.end.reason.value, event.end.message
            line = message if event.end.reason.is_success or message.startswith(reason) else f"{reason}: {message}"
    return line


def best_text(trial: TrialSummary, noun: str = "trial") -> str:
    """The leader and how long it was trained so far."""
    return f"best after {count_text(trial.epoch, 'epoch')}: {number_text(trial.value)} ({noun} {trial.number})"


def _start_line(event: TrialStarted, noun: str) -> str:
    if event.segment > 1:
        return f"{noun} {event.number} goes on from epoch {event.from_epoch} to {event.until_epoch}"
    values = values_text(event.values)
    if event.donor is not None:
        return f"{noun} {event.number} goes on from the state of trial {event.donor} after epoch {event.from_epoch}: {values}"
    if event.parent is not None:
        return f"{noun} {event.number} starts, trial {event.parent} with seed {event.seed}: {values}"
    return f"{noun} {event.number} starts{OWN_VALUES if event.number == 0 else ''}: {values}"


def _end_line(event: TrialEnded, board: Board, noun: str) -> str | None:
    error = event.result.error
    if event.retry:
        why = "" if error is None else f" ({first_line(error.message)})"
        return f"{noun} {event.number} lost its worker{why} and will be run again"
    if event.status is TrialStatus.FAILED and error is not None:
        return f"{noun} {event.number} FAILED ({error.cause.value}): {first_line(error.message)}"
    if not event.status.ended:
        return None
    trial, metric = board.trials[event.number], board.config.objective
    return f"{noun} {event.number} {event.status.value} after {count_text(trial.epoch, 'epoch')}, {metric} {number_text(event.value)}"


class TrainView:
    """One training run: a bar with the remaining time in a terminal, one line per epoch everywhere.  A context manager."""

    def __init__(self, console: Console, *, metric: str, epochs: int) -> None:
        self._console, self._metric, self._epochs = console, metric, epochs
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("starting", total=None, told="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def on_progress(self, event: ProgressEvent) -> None:
        """Moves the bar."""
        loss = "" if event.loss is None else f", loss {number_text(event.loss)}"
        left = "" if event.eta_s is None else f", about {seconds_text(event.eta_s)} left"
        told = f"step {event.step}/{event.total_steps}{loss}{left}"
        doing = "validates" if event.phase == "validation" else "trains"
        description = f"epoch {event.epoch}/{event.max_epochs} {doing}"
        self._progress.update(self._task, total=event.total_steps, completed=event.step, description=description, told=told)

    def on_report(self, report: Report) -> None:
        """Prints the epoch's metrics above the bar."""
        metrics = "  ".join(f"{name} {number_text(value)}" for name, value in report.metrics.items())
        self._console.print(
            f"{seconds_text(report.elapsed_s):>12}  epoch {report.epoch}/{self._epochs}  {metrics}", soft_wrap=True, markup=False
        )
