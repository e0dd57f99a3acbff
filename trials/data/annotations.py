"""Annotation files: one parser for every family, data class and action.

A list is plain text, one sample a line, columns separated by white space; a path that contains blanks stands in quotes; blank
lines and lines that open with `#` are skipped.

    columns   mono                              stereo
    1         image                             -
    2         image, ground truth               left, right (no ground truth)
    3         image, ignored, ground truth      left, right, disparity
    4         image, ignored, ground truth, -   left, right, disparity, mask of non-occluded pixels

A relative path is taken from the source's `data_root` if it has one, else from the list's own folder, else from the current
folder: whichever holds the files of the first line with relative paths.  The choice is part of what comes back.  List, root and
columns may be URLs (`s3://bucket/key`): their objects are fetched, and rows name the copies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import DataError, nearest
from search_spaces.spec import DataSource
from trials.data.datasets import DataClass, find_class
from trials.data.urls import is_url, joined, parent_of

ACTIONS = ("train", "val", "test", "infer")
_FIELD = re.compile(r"""\s*(?:"([^"]+)"(?=\s|$)|'([^']+)'(?=\s|$)|([^\s"']\S*))""")
_NAMED_FILES = 10
_LIST_IS = "data_file names a text file with one sample a line, not an image"


# brings the objects of URLs to this machine and gives the files, in the same order; the second argument says who names them
Fetch = Callable[[Sequence[str], str], Sequence[Path]]
Root = Path | str  # a folder, or its URL


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample of a list.  `image` is the left view in stereo; `file` (a path or URL) and `line` (from 1) say where it is written."""

    image: Path
    right: Path | None
    target: Path | None
    mask: Path | None
    file: Path | str
    line: int

    @property
    def place(self) -> str:
        """`file:line`, for messages."""
        return f"{self.file}:{self.line}"

    def files(self) -> list[Path]:
        """Every file that this sample is read from."""
        return [path for path in (self.image, self.right, self.target, self.mask) if path is not None]


@dataclass(frozen=True, kw_only=True)
class AnnotationList:
    """The rows of one list, and the folder its relative paths were taken from (None: all paths are absolute)."""

    rows: tuple[Row, ...]
    root: Root | None
    root_choice: str


@dataclass(frozen=True, kw_only=True)
class Line:
    """The columns of one line as they are written."""

    number: int
    fields: tuple[str, ...]


def read_annotations(source: DataSource, *, family: str, action: str, fetch: Fetch | None = None) -> list[Row]:
    """The samples of one data source; see `read_list`."""
    return list(read_list(source, family=family, action=action, fetch=fetch).rows)


def read_list(source: DataSource, *, family: str, action: str, fetch: Fetch | None = None) -> AnnotationList:
    """Rows with resolved, existing paths.

    `family` is stereo or mono, `action` one of train, val, test, infer; `fetch` brings what URLs name.  Raises DataError: no such list,
    nothing in it, a column count that the data class does not take, files that are not there (how many, the first ten with their lines).
    """
    data_class = find_class(source.dataset_name, family=family)
    file = list_name(source)
    lines = read_source_lines(source, fetch)
    samples = [(line, _columns(line, file=file, data_class=data_class, action=action)) for line in lines]
    if not samples:
        raise DataError(
            f"{file} holds no samples: every line is blank or a comment", hint="write one sample a line: " + _layout(data_class, action)
        )
    root, choice = choose_root([columns for _, columns in samples], file=file, data_root=source.data_root)
    named = [[None if column is None else under(root, column) for column in columns] for _, columns in samples]
    copies = fetched([name for names in named for name in names if isinstance(name, str)], file, fetch)
    rows = tuple(
        _row([copies[name] if isinstance(name, str) else name for name in names], file=file, line=line.number)
        for (line, _), names in zip(samples, named, strict=True)
    )
    _check_files(rows, root=root, choice=choice)
    return AnnotationList(rows=rows, root=root, root_choice=choice)


def fetched(urls: Sequence[str], file: Root, fetch: Fetch | None) -> dict[str, Path]:
    """The copy of each URL that `file` names; DataError where nothing can be fetched."""
    if not urls:
        return {}
    if fetch is None:
        raise DataError(f"{file} names {urls[0]}, but nothing is fetched here", hint="copy the files to this machine")
    return dict(zip(urls, fetch(urls, str(file)), strict=True))


def list_name(source: DataSource) -> Root:
    """The list of a source as it is called in messages: a path, or its URL."""
    return source.data_file if is_url(source.data_file) else Path(source.data_file).expanduser()


def read_source_lines(source: DataSource, fetch: Fetch | None) -> list[Line]:
    """The lines of a source's list, wherever it is."""
    name = list_name(source)
    if isinstance(name, Path):
        return read_lines(name)
    return read_lines(fetched([name], "data_file", fetch)[name], called=name)


def read_lines(file: Path, *, called: str | None = None) -> list[Line]:
    """The lines of a list that hold columns.  Raises DataError if it is not there or not text; `called` is its name in messages."""
    name = called or file
    if file.is_dir():
        raise DataError(f"annotation file {name} is a folder", hint=_LIST_IS)
    if not str(file) or not file.is_file():
        raise DataError(f"annotation file {name} does not exist", hint=f"set data_sources[*].data_file; the current folder is {Path.cwd()}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"annotation file {name} is not text: {error.reason} at byte {error.start}", hint=_LIST_IS) from error
    except OSError as error:
        raise DataError(f"cannot read annotation file {name}: {error.strerror}", hint="check that you may read it") from error
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [Line(number=number, fields=_fields(line, f"{name}:{number}")) for number, line in stripped if line and not line.startswith("#")]


def _fields(line: str, place: str) -> tuple[str, ...]:
    fields: list[str] = []
    position = 0
    while position < len(line):
        match = _FIELD.match(line, position)
        if match is None:
            raise DataError(
                f"{place}: a quote is not closed, or a path is empty: {line}",
                hint="put a path that contains blanks between two quotes, and a blank after it",
            )
        fields.append(next(group for group in match.groups() if group is not None))
        position = match.end()
    return tuple(fields)


def list_line(columns: Iterable[str]) -> str:
    """The line of a list that is read back as these columns; DataError for a path that no line can hold."""
    return " ".join(_written(column) for column in columns) + "\n"


def _written(path: str) -> str:
    """`path`, between quotes where it needs them."""
    if len(path.splitlines()) != 1 or any("\ud800" <= character <= "\udfff" for character in path):
        raise DataError(
            f"a list cannot hold the path {path!r}: a line break or bytes that are no UTF-8 stand in it", hint="rename the file"
        )
    if path[0] not in "\"'#" and not any(character.isspace() for character in path):
        return path
    quote = next((quote for quote in "\"'" if quote not in path), None)
    if quote is None:
        raise DataError(f"a list cannot hold the path {path}: blanks and both kinds of quotes stand in it", hint="rename the file")
    return f"{quote}{path}{quote}"


def _columns(line: Line, *, file: Root, data_class: DataClass, action: str) -> tuple[str | None, str | None, str | None, str | None]:
    """Image, right, target, mask as written."""
    fields, count = line.fields, len(line.fields)
    if count not in _column_counts(data_class, action):
        taken = " or ".join(str(n) for n in _column_counts(data_class, action))
        raise DataError(
            f"{file}:{line.number}: {data_class.name} takes {taken} columns for {action}, but the line has {count}",
            hint=_column_hint(data_class, action, count),
        )
    if data_class.family == "stereo":
        padded = (*fields, None, None)
        return padded[0], padded[1], padded[2], padded[3]
    target = None if count == 1 else fields[min(count, 3) - 1]
    return fields[0], None, target, None


def _column_counts(data_class: DataClass, action: str) -> tuple[int, ...]:
    assert action in ACTIONS
    if data_class.family == "mono":
        return (1, 2, 3, 4) if action == "infer" else (2, 3, 4)
    counts = [3]
    if data_class.without_truth and action == "infer":
        counts.insert(0, 2)
    if data_class.mask_column:
        counts.append(4)
    return tuple(counts)


def _column_hint(data_class: DataClass, action: str, count: int) -> str:
    if data_class.family == "stereo" and count == 2:
        if action == "infer":
            return "dataset_name GenericDataset takes left and right alone for inference"
        return f"{action} needs ground truth: left right disparity"
    if data_class.family == "stereo" and count == 4:
        return "dataset_name Middlebury and Eth3d take a mask of non-occluded pixels as fourth column"
    return f"expected: {_layout(data_class, action)}; a path that contains blanks stands in quotes"


def _layout(data_class: DataClass, action: str) -> str:
    if data_class.family == "mono":
        return "image [ground truth]" if action == "infer" else "image ground-truth"
    pair = "left right [disparity]" if data_class.without_truth and action == "infer" else "left right disparity"
    return pair + (" [mask]" if data_class.mask_column else "")


def choose_root(samples: Iterable[Sequence[str | None]], *, file: Root, data_root: str | None) -> tuple[Root | None, str]:
    """The folder (or URL) for relative paths, and why: it is where the files of the first sample with relative paths lie."""
    if data_root:
        return data_root if is_url(data_root) else Path(data_root).expanduser(), "data_root"
    for columns in samples:
        relative = [column for column in columns if column is not None and not Path(column).is_absolute() and not is_url(column)]
        if not relative:
            continue
        if isinstance(file, str):
            return parent_of(file), "the list's own folder"
        candidates = ((file.parent, "the list's own folder"), (Path(), "the current folder"))
        found = [sum((root / column).is_file() for column in relative) for root, _ in candidates]
        if max(found) > 0:
            return candidates[found.index(max(found))]
        raise DataError(
            f"{file}: {relative[0]} is neither in the list's own folder ({file.parent}) nor in the current folder ({Path.cwd()})",
            hint="set data_root of this data source to the folder that the paths start from",
        )
    return None, "absolute paths"


def under(root: Root | None, column: str) -> Root:
    """Where the file of a column is: below `root` if it is relative."""
    if is_url(column):
        return column
    if isinstance(root, str) and not Path(column).is_absolute():
        return joined(root, column)
    return (root if isinstance(root, Path) else Path()) / column


def _row(columns: Sequence[Path | None], *, file: Root, line: int) -> Row:
    image, right, target, mask = columns
    assert image is not None
    return Row(image=image, right=right, target=target, mask=mask, file=file, line=line)


def _check_files(rows: Sequence[Row], *, root: Root | None, choice: str) -> None:
    missing = [(row, path) for row in rows for path in row.files() if not path.is_file()]
    if not missing:
        return
    named = "\n".join(f"  {row.place}: {path}" for row, path in missing[:_NAMED_FILES])
    more = f"\n  ... and {len(missing) - _NAMED_FILES} more" if len(missing) > _NAMED_FILES else ""
    total = sum(len(row.files()) for row in rows)
    where = "all paths are absolute" if root is None else f"relative paths were taken from {root} ({choice})"
    first = missing[0][1]
    near = nearest(first.name, [path.name for path in first.parent.iterdir()]) if first.parent.is_dir() else None
    guess = f"did you mean {near}? " if near else ""
    if not first.parent.is_dir():
        guess = f"there is no folder {first.parent} (in a container: is it mounted there?); "
    raise DataError(
        f"{len(missing)} of {total} files named by {rows[0].file} do not exist:\n{named}{more}", hint=f"{guess}correct the list; {where}"
    )
