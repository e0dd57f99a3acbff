"""The files below a folder, each once: safe with links, loops and folders that may not be read; nothing is opened.

Links to folders are followed after everything else, and only into folders that were not seen yet, so that a file is found by its
own path rather than by a link's and a loop ends.  Resource forks that macOS leaves behind (`._name`, `__MACOSX`) are passed over.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from search_spaces.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Unread:
    """What a walk had to leave out: folders that may not be read, links to folders that were seen already (both relative)."""

    folders: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)


def files_below(root: Path, unread: Unread) -> Iterator[str]:
    """Paths relative to `root`, with `/` between parts, by name within each folder; `unread` is filled meanwhile.

    DataError when `root` itself is no folder or may not be read.
    """
    check_folder(root)
    seen: set[tuple[int, int]] = set()
    plain, links = [""], deque[str]()
    while plain or links:
        folder = plain.pop() if plain else links.popleft()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                unread.repeated.append(folder)
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError:
            unread.folders.append(folder)
            continue
        kinds = [(_kind(entry), f"{folder}/{entry.name}" if folder else entry.name) for entry in entries]
        yield from (path for kind, path in kinds if kind == "file")
        plain.extend(path for kind, path in reversed(kinds) if kind == "folder")
        links.extend(path for kind, path in kinds if kind == "link")


def check_folder(root: Path) -> None:
    """DataError unless `root` is a folder that may be read."""
    if root.is_file():
        raise DataError(f"{root} is a file, not a folder", hint=f"give the folder that holds it: {root.parent}")
    if not root.is_dir():
        raise DataError(f"there is no folder {root}", hint=f"relative paths start from the current folder, {Path.cwd()}")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"no permission to read the folder {root}", hint="change its owner or mode")


def _kind(entry: os.DirEntry[str]) -> str:
    """`file`, `folder`, `link` (to a folder), or `other`: broken links, sockets, what macOS leaves behind."""
    if entry.name.startswith("._") or entry.name == "__MACOSX":
        return "other"
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        return "file" if entry.is_file() else "other"
    except OSError:
        return "other"  # a link that points at itself
