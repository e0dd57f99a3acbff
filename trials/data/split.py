"""A validation list where there is none: one list divided in two, no file in both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search_spaces.errors import DataError
from search_spaces.spec import DataSource
from trials.data.annotations import Fetch, Root, choose_root, list_line, list_name, read_source_lines, under
from trials.data.decoders import write_atomically


def write_split(source: DataSource, fraction: float, seed: int, folder: Path, *, fetch: Fetch | None = None) -> tuple[Path, Path]:
    """(train list, val list) in `folder`, with absolute paths or URLs; about `fraction` of the samples go to val, at least one to each.

    Lines that share any file stay together, so that no image is in both.  The choice depends on the seed and the list alone.  The lists'
    class and depth_scale are those of `source`; their data_root is not needed.  Raises DataError for a fraction outside 0 to 1 or a list
    that cannot be divided.
    """
    if not 0 < fraction < 1:
        raise DataError(f"0 < fraction < 1 must hold for the validation share, but got {fraction}", hint="0.2 holds back a fifth")
    file = list_name(source)
    lines = [line.fields for line in read_source_lines(source, fetch)]
    root, _ = choose_root([fields[:1] for fields in lines], file=file, data_root=source.data_root)
    resolved = [tuple(_absolute(under(root, column)) for column in fields) for fields in lines]
    groups = _groups(resolved)
    if len(groups) < 2:
        raise DataError(
            f"{file} cannot be divided: it holds {len(groups)} independent {'sample' if len(groups) == 1 else 'samples'}",
            hint="give a validation list: dataset.val_dataset.data_sources",
        )
    order = np.random.default_rng(seed % 2**32).permutation(len(groups))
    count = min(len(groups) - 1, max(1, round(fraction * len(groups))))
    held_back = {int(group) for group in order[:count]}
    stem = f"{Path(file).stem}_{hashlib.sha256(_absolute(file).encode()).hexdigest()[:8]}"
    train, val = folder / f"{stem}_train.txt", folder / f"{stem}_val.txt"
    _write(train, resolved, [index for number, group in enumerate(groups) if number not in held_back for index in group])
    _write(val, resolved, [index for number, group in enumerate(groups) if number in held_back for index in group])
    return train, val


def _absolute(name: Root) -> str:
    return name if isinstance(name, str) else str(name.absolute())


def _groups(lines: Sequence[Sequence[str]]) -> list[list[int]]:
    """Indices of lines that are connected by shared files, in the order of the list."""
    leader = list(range(len(lines)))

    def find(index: int) -> int:
        while leader[index] != index:
            index = leader[index]
        return index

    first_with: dict[str, int] = {}
    for index, columns in enumerate(lines):
        for column in columns:
            one, other = find(first_with.setdefault(column, index)), find(index)
            leader[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for index in range(len(lines)):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())


def _write(path: Path, lines: Sequence[Sequence[str]], chosen: Sequence[int]) -> None:
    text = "".join(list_line(lines[index]) for index in sorted(chosen))
    write_atomically(path, text.encode())
