"""Annotation lists of a folder tree: `convert` finds the images, derives the files that belong to them, and writes the lists.

No file of the tree is opened.  What the patterns mean is `pathrule`'s part; why nothing was found, or what is missing, `findings`'.
The same tree, spec and seed give the same lists on every machine: a row goes to train or val by a hash of seed and path, so that rows
which join later move as few others as possible.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import DataError
from search_spaces.spec.convert import Convert
from trials.data.annotations import list_line
from trials.data.findings import Missing, missing_files, nothing_found
from trials.data.pathrule import PathRule
from trials.data.tree import Unread, files_below

# (what is counted, so far, of how many if that is known)
Progress = Callable[[str, int, int | None], None]
_STEP = 1000


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was written: each list with its number of rows, the columns, one row, files seen, rows left out, lines to show."""

    lists: tuple[tuple[Path, int], ...]
    columns: tuple[str, ...]
    example: str
    files: int
    left_out: int
    notes: tuple[str, ...]


def convert(spec: Convert, *, report: Progress) -> Converted:
    """Writes `train.txt` and `val.txt`, or `test.txt`, to results_dir, all or none, over older ones.

    Paths in the lists are absolute, rows stand in their order.  DataError: no such folder, no image found, files of rows that are not
    there (unless allow_missing), a division that leaves a list empty, a path that no list can hold.
    """
    root = root_of(spec)
    folder = Path(spec.results_dir or "").expanduser()
    rule, unread = PathRule(spec), Unread()
    images, files = [], 0
    for files, path in enumerate(files_below(root, unread), start=1):
        if rule.selects(path):
            images.append(path)
        if files % _STEP == 0:
            report("files seen", files, None)
    if not images:
        raise nothing_found(spec, root, unread)
    images.sort()
    rows, missing = _complete(images, root, rule, report)
    if missing and (not spec.allow_missing or not rows):
        raise missing_files(spec, root, missing, len(images))
    lists = {folder / f"{name}.txt": part for name, part in divided(rows, spec.split_ratio, spec.seed).items()}
    write_all({path: _counted(_lines(part, root, rule), f"rows of {path.name} written", len(part), report) for path, part in lists.items()})
    return Converted(
        lists=tuple((path, len(part)) for path, part in lists.items()),
        columns=spec.columns,
        example=next(_lines(rows[:1], root, rule)).rstrip("\n"),
        files=files,
        left_out=len(images) - len(rows),
        notes=tuple(_notes(root, folder, rule, rows, unread, lists)),
    )


def root_of(spec: Convert) -> Path:
    """data_root as an absolute path; links in it stay, so that the lists show what the user wrote."""
    return Path(os.path.abspath(Path(spec.data_root or "").expanduser()))  # noqa: PTH100  resolve() follows links


def _complete(images: Sequence[str], root: Path, rule: PathRule, report: Progress) -> tuple[list[str], list[Missing]]:
    """The images whose files are all there, and what the others lack."""
    rows, missing = [], []
    for number, image in enumerate(images, start=1):
        absent = [path for path in rule.columns(image)[1:] if not os.path.isfile(f"{root}/{path}")]  # noqa: PTH113  called 200,000 times
        if absent:
            missing.append(Missing(image=image, files=tuple(absent)))
        else:
            rows.append(image)
        if number % _STEP == 0:
            report("rows checked", number, len(images))
    return rows, missing


def divided(rows: Sequence[str], ratio: float, seed: int) -> dict[str, list[str]]:
    """The rows of each list: `test` for a ratio of 0 or 1, else `train` = the first int(N * ratio) of a shuffled order and `val`."""
    if ratio in (0.0, 1.0):
        return {"test": list(rows)}
    shuffled = sorted(rows, key=lambda path: hashlib.sha256(f"{seed}:{path}".encode(errors="surrogateescape")).digest())
    count = int(len(rows) * ratio)
    if not 0 < count < len(rows):
        number = f"{len(rows)} rows" if len(rows) != 1 else "1 row"
        ways = f"at least {1 / len(rows) + 5e-4:.3f} gives both lists a row" if len(rows) > 1 else "there is nothing to divide"
        raise DataError(
            f"split_ratio {ratio:g} of {number} leaves {'train' if count == 0 else 'val'}.txt empty",
            hint=f"{ways}; split_ratio=0.0 writes all rows to test.txt",
        )
    return {"train": sorted(shuffled[:count]), "val": sorted(shuffled[count:])}


def _lines(rows: Sequence[str], root: Path, rule: PathRule) -> Iterator[str]:
    for image in rows:
        yield list_line(os.path.normpath(f"{root}/{path}") for path in rule.columns(image))


def _counted(lines: Iterator[str], what: str, total: int, report: Progress) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        yield line
        if number % _STEP == 0:
            report(what, number, total)


def write_all(files: Mapping[Path, Iterator[str]]) -> None:
    """Puts every file in its place, or none: whatever is raised or interrupts leaves the folder's older files as they were."""
    folder = next(iter(files)).parent
    blocked = next((path for path in files if path.is_dir()), None)
    if blocked is not None:
        raise DataError(f"{blocked} is a folder where the list would be written", hint="name another folder with results_dir=...")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        old.mkdir()
        for path, lines in files.items():
            with (new / path.name).open("w", encoding="utf-8") as file:
                file.writelines(lines)
            if path.exists():
                shutil.copy2(path, old / path.name)
        try:
            for path in files:
                (new / path.name).replace(path)
        except BaseException:
            for path in files:
                if (old / path.name).exists():
                    (old / path.name).replace(path)
                else:
                    path.unlink(missing_ok=True)
            raise


def _notes(root: Path, folder: Path, rule: PathRule, rows: Sequence[str], unread: Unread, lists: Mapping[Path, object]) -> Iterator[str]:
    """What went well but should be known."""
    twice = [path for path in rows if rule.occurrences(path) > 1]
    if twice:
        example = ", ".join(rule.columns(twice[0])[1:])
        yield f"image_dir_pattern[0] stands more than once in {len(twice)} of {len(rows)} paths; all were replaced: {twice[0]} -> {example}"
    if unread.folders:
        yield f"{_folders(unread.folders)} could not be read, what lies in there is not in the lists: {_some(root, unread.folders)}"
    if unread.repeated:
        yield f"{_folders(unread.repeated)} passed over, a link leads to what was seen already: {_some(root, unread.repeated)}"
    others = [name for name in ("train.txt", "val.txt", "test.txt") if folder / name not in lists and (folder / name).is_file()]
    if others:
        yield f"older lists are left in {folder}: {', '.join(others)}"


def _folders(paths: Sequence[str]) -> str:
    return "1 folder" if len(paths) == 1 else f"{len(paths)} folders"


def _some(root: Path, paths: Sequence[str]) -> str:
    named = ", ".join(str(root / path) for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
    return named.encode(errors="backslashreplace").decode()
