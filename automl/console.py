"""How things look in a terminal: numbers, durations, tables of metrics.  Results go to stdout; errors are `entry.say_error`.

Made with rich (https://github.com/Textualize/rich, MIT).  A console is made per command, never at import, so that
redirection and tests see the stream that is current.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from search_spaces.errors import SpecError
from search_spaces.objective import PARAMETERS, metric_info
from search_spaces.spec import Family
from trials.transfer import Progress as Transferred
from trials.transfer import Show

# a log file has no width: wide enough for a trial table, narrow enough for a CI page
PLAIN_WIDTH = 140
LINE_EVERY_S = 30.0
Count = Callable[[int, int], None]
MARKS: Mapping[str, tuple[str, str]] = {
    "waiting": ("dim", "waiting"),
    "running": ("cyan", "running"),
    "paused": ("yellow", "paused"),
    "complete": ("green", "complete"),
    "stopped": ("magenta", "stopped"),
    "failed": ("red", "FAILED"),
    "interrupted": ("yellow", "interrupted"),
}


class Screen(Console):
    """A console that falls silent when nobody reads any more, as after `| head`: a search is worth more than its lines."""

    def on_broken_pipe(self) -> None:
        """Throw the rest away."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def screen() -> Console:
    """The console on stdout; without a terminal it is wide and without colour."""
    if sys.stdout.isatty():
        return Screen(highlight=False)
    return Screen(highlight=False, width=PLAIN_WIDTH, no_color=True)


def tell(console: Console, text: str) -> None:
    """One line as it is: no markup, no wrapping, so that paths and commands can be copied."""
    console.print(text, soft_wrap=True, markup=False)


def number_text(value: float | int | bool | str | None) -> str:
    """A value as people read it: four significant digits, exact integers, `-` for a missing one."""
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case float() if math.isfinite(value):
            return _float_text(value)
    return str(value)


def metric_text(value: float | None, name: str) -> str:
    """The value of the metric or cost `name`: as `number_text`, but counts to the last digit."""
    return f"{value:,.0f}" if name == PARAMETERS and value is not None else number_text(value)


def _float_text(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def and_text(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def first_line(text: str) -> str:
    """The first line of a message, for places that have no room for its list."""
    return text.partition("\n")[0].removesuffix(":")


def count_text(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seconds_text(seconds: float | None) -> str:
    """A duration as people say it: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return "unknown"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def percent_text(value: float, reference: float, *, minimise: bool) -> str:
    """How much better `value` is than `reference`: `12.3 % better`; direction is taken into account."""
    if reference == 0:
        return "no percentage: the reference is 0"
    gain = (reference - value if minimise else value - reference) / abs(reference) * 100
    return f"{abs(gain):.1f} % {'better' if gain > 0 else 'worse' if gain < 0 else 'different'}"


def values_text(values: Mapping[str, bool | int | float | str], *, limit: int | None = None) -> str:
    """Sampled values on one line, each by the last part of its name."""
    parts = [f"{key.rsplit('.', 1)[-1]}={number_text(value)}" for key, value in values.items()]
    if limit is not None and len(parts) > limit:
        parts = [*parts[:limit], f"+{len(parts) - limit}"]
    return " ".join(parts)


def state_text(state: str) -> str:
    """A trial state in its colour, as rich markup."""
    colour, word = MARKS.get(state, ("", state))
    return f"[{colour}]{word}[/]" if colour else word


def metrics_table(title: str, metrics: Mapping[str, float | None], family: Family, *, relative: bool = False) -> Table:
    """One row a metric: name, value, unit, which way is better, definition; `relative` for networks without a unit."""
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("unit")
    table.add_column("better")
    table.add_column("what it is", style="dim")
    for name, value in metrics.items():
        try:
            info = metric_info(family, name, relative=relative)
        except SpecError:
            table.add_row(escape(name), number_text(value), "", "", "")
            continue
        better = "lower" if info.direction == "minimize" else "higher"
        table.add_row(escape(name), number_text(value), escape(info.unit), better, escape(info.definition))
    return table


@contextmanager
def counted(console: Console, doing: str) -> Iterator[Count]:
    """How many images are done: a bar with the remaining time in a terminal, elsewhere a line every half minute."""
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=None)
        started = told = time.monotonic()

        def count(done: int, total: int) -> None:
            nonlocal told
            progress.update(task, completed=done, total=total)
            now = time.monotonic()
            if not console.is_terminal and now - told >= LINE_EVERY_S:
                told = now
                tell(console, f"{doing} {done}/{total}, {seconds_text((now - started) / done * (total - done))} left")

        yield count


@contextmanager
def transferred(doing: str) -> Iterator[Show]:
    """How far a transfer from or to a store is: as `counted`, but on stderr, since what a command prints may be read by a program."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None, told="")
        shown = time.monotonic()

        def show(far: Transferred) -> None:
            nonlocal shown
            left = "" if far.left_s is None else f", {seconds_text(far.left_s)} left"
            told = f"{far.objects}/{far.of_objects} objects, {far.size / 2**20:,.0f}/{far.of_size / 2**20:,.0f} MiB{left}"
            bar.update(task, completed=far.size, total=far.of_size, told=told)
            now = time.monotonic()
            if not console.is_terminal and now - shown >= LINE_EVERY_S:
                shown = now
                tell(console, f"{doing}: {told}")

        yield show
