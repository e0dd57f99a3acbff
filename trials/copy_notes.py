"""What a working copy of a folder in a store says of itself, in a file of its own.  Imports little: whoever prints a path asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces.writing import replace_text

NOTES = ".stored.json"  # the URL, the copy's name among copies, and what of it is in the store as it is


def read_notes(folder: Path) -> Mapping[str, Any]:
    """What the copy in `folder` says; nothing for any other folder."""
    try:
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def write_notes(folder: Path, notes: Mapping[str, Any]) -> None:
    """Makes `folder` say so, in one step."""
    replace_text(folder / NOTES, json.dumps(notes))


def url_of_copy(path: Path) -> str | None:
    """The URL that `path`, a working copy or something in one, has in the store; None for any other path."""
    path = path.absolute()
    for place in (path, *path.parents):
        url = read_notes(place).get("url") if (place / NOTES).is_file() else None
        if url is not None:
            rest = path.relative_to(place).as_posix()
            return str(url) if rest == "." else f"{url}/{rest}"
    return None
