"""`depth_net convert`: annotation lists of a folder tree, what was found, and what to type next."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from automl.console import count_text, screen, tell
from automl.entry import DONE, INTERRUPTED, say_error
from automl.folders import BY_KEY, check_writable
from automl.records import failures_recorded
from automl.summary import shown_path
from search_spaces.errors import shell_word
from search_spaces.spec.convert import Convert, load_convert

if TYPE_CHECKING:
    from trials.data.convert import Converted

_LINE_EVERY_S = 10.0


def convert_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """Lists, status.json, and a summary on the screen; a refused spec writes nothing."""
    loaded, console = load_convert(spec_file, overrides), screen()
    spec = loaded.spec
    folder = Path(spec.results_dir or "").expanduser()
    for line in loaded.warnings:
        tell(console, f"note     {line}")
    check_writable(folder, hint=BY_KEY)
    from trials.data.convert import convert, root_of
    from trials.data.tree import check_folder

    check_folder(root_of(spec))
    try:
        with failures_recorded(folder, "convert") as status:
            status.write("STARTED", "Starting DepthNet dataset convert.")
            with _counted(console) as report:
                done = convert(spec, report=report)
            status.write("SUCCESS", "Dataset convert finished successfully.")
    except KeyboardInterrupt:
        say_error("interrupted", f"lists in {shown_path(folder)} are as they were; the same command starts again")
        return INTERRUPTED
    _say(console, spec, done)
    return DONE


def _say(console: Console, spec: Convert, done: Converted) -> None:
    left_out = f"; {count_text(done.left_out, 'row')} left out for want of a file" if done.left_out else ""
    rows = sum(number for _, number in done.lists)
    images = "left image" if spec.family == "stereo" else "image"
    tell(console, f"found    {count_text(done.files, 'file')}, {count_text(rows + done.left_out, images)}{left_out}")
    width = max(len(shown_path(path)) for path, _ in done.lists)
    for number, (path, count) in enumerate(done.lists):
        columns = f": {' '.join(done.columns)}" if number == 0 else ""
        tell(console, f"{'' if number else 'wrote':<8} {shown_path(path):<{width}}  {count_text(count, 'row')}{columns}")
    tell(console, f"example  {done.example}")
    for line in done.notes:
        tell(console, f"note     {line}")
    if not spec.depth_dir_pattern:
        tell(console, "note     the lists have no ground truth, depth_dir_pattern is empty: they serve inference alone")
    for number, line in enumerate(_next(spec, [path for path, _ in done.lists])):
        tell(console, f"{'' if number else 'next':<8} {line}")


def _next(spec: Convert, lists: Sequence[Path]) -> Iterator[str]:
    """The commands that use the lists, and which class they assume."""
    skill = f"depth_net_{spec.family}"
    if not spec.depth_dir_pattern:
        yield f"depth_net default_specs --skill {skill} --out specs"
        sources = ",".join(_source(path, _class_name(spec)) for path in lists)
        yield f"depth_net inference -e specs/inference.yaml results_dir=results inference.checkpoint=best.pth {_override('infer', sources)}"
        return
    sources_of = {path.stem: _override(path.stem, _source(path, _class_name(spec))) for path in lists}
    if "test" in sources_of:
        yield f"depth_net default_specs --skill {skill} --out specs"
        yield f"depth_net evaluate -e specs/evaluate.yaml results_dir=results evaluate.checkpoint=best.pth {sources_of['test']}"
    else:
        yield f"automl run --skill {skill} {sources_of['train']} {sources_of['val']}"
    yield f"# dataset_name says how ground truth is decoded; {_class_name(spec)} is a guess from the endings (docs/data.md lists all)"


def _class_name(spec: Convert) -> str:
    """The data class that the endings and columns make likely."""
    if not spec.depth_dir_pattern or spec.depth_extension != ".png":
        generic = "GenericDataset" if spec.family == "stereo" else "RelativeMonoDataset"
        return "Middlebury" if spec.nocc_dir_pattern else generic
    return ("Middlebury" if spec.nocc_dir_pattern else "Kitti") if spec.family == "stereo" else "NYUDV2Relative"


def _source(path: Path, name: str) -> str:
    text = shown_path(path)
    if not re.fullmatch(r"[-\w./]+", text):
        text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{{data_file:{text},dataset_name:{name}}}"


def _override(split: str, sources: str) -> str:
    return shell_word(f"dataset.{split}_dataset.data_sources=[{sources}]")


class _Pace:
    """How far a stage of the work is, with its rate; a stage begins where the one before was heard of last."""

    def __init__(self) -> None:
        self._what = ""
        self._since = self._heard = time.monotonic()

    def text(self, what: str, done: int, total: int | None) -> str:
        """`120,000 files seen, 45,000 a second`."""
        if what != self._what:
            self._what, self._since = what, self._heard
        self._heard = time.monotonic()
        rate = done / max(self._heard - self._since, 1e-3)
        return f"{done:,}{f' of {total:,}' if total else ''} {what}, {rate:,.0f} a second"


@contextmanager
def _counted(console: Console) -> Iterator[Callable[[str, int, int | None], None]]:
    """Counts and their rate: one moving line in a terminal, else a line every ten seconds."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking for images")
        pace, told = _Pace(), time.monotonic()

        def report(what: str, done: int, total: int | None) -> None:
            nonlocal told
            line = pace.text(what, done, total)
            bar.update(task, description=line)
            if not console.is_terminal and time.monotonic() - told >= _LINE_EVERY_S:
                told = time.monotonic()
                tell(console, line)

        yield report
