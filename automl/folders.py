"""Whether a results folder may be used, asked before anything is loaded, trained or written."""

from __future__ import annotations

import os
from pathlib import Path

from automl.config import CONFIG_FILE
from search_spaces.errors import StudyError, shell_word
from trials.copy_notes import url_of_copy

BY_OPTION = "name another folder with --results"
BY_KEY = "name another folder with results_dir=..."


def check_folder(folder: Path, *, resumes: bool = False) -> None:
    """StudyError when `folder` holds a study, or a training run that is not to be resumed, or cannot be written."""
    if (folder / CONFIG_FILE).is_file():
        raise StudyError(
            f"{folder} already holds a study; it is never overwritten",
            hint=f"continue it with `automl resume {shell_word(folder)}`, or {BY_OPTION}",
        )
    check_writable(folder, hint=BY_OPTION)
    if not resumes and (folder / "train").exists():
        raise StudyError(f"{folder} already holds a training run", hint=f"continue it with train.resume=auto, or {BY_OPTION}")


def check_writable(folder: Path, *, hint: str) -> None:
    """StudyError unless `folder` is one that this user may write to, or can be made."""
    check_here(folder, what="a folder", hint=hint)
    existing = folder.absolute()
    while not existing.exists():
        if existing.is_symlink():
            raise StudyError(f"{existing} is a link to a place that is not there", hint=hint)
        existing = existing.parent
    if not existing.is_dir():
        where = "" if existing == folder.absolute() else f", so {folder} cannot be made"
        raise StudyError(f"{existing if where else folder} is not a folder{where}", hint=hint)
    if not os.access(existing, os.W_OK | os.X_OK):
        where = "" if existing == folder.absolute() else f", where {folder} would be made"
        raise StudyError(f"no permission to write in {existing}{where}", hint=hint)


def check_here(path: Path, *, what: str, hint: str) -> None:
    """StudyError for a URL where only `what` of this machine will do."""
    url = stored_url(path)
    if url is not None:
        raise StudyError(f"{url} is in an S3 store, but this needs {what} of this machine", hint=hint)


def below(path: Path, folder: Path) -> str:
    """`path` relative to `folder` where it lies inside, else as it is."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def stored_url(path: Path) -> str | None:
    """The URL that `path` was typed as (`Path` has lost one of its slashes); None for a path of this machine."""
    return "s3://" + "/".join(path.parts[1:]) if path.parts[:1] == ("s3:",) else None


def place_text(path: Path) -> str:
    """`path` as people know it: the URL of what is in a working copy of a folder in a store."""
    return url_of_copy(path) or str(path)
