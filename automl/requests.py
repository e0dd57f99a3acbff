"""What `automl stop` asks of a running search: a small file in the study folder that the driver reads.

It works from any shell and needs no address.  `{"study": true}` ends the whole search (it can be resumed), `{"trials": [3]}`
stops trials for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import StudyError
from search_spaces.writing import replace_text

STOP_FILE = "stop.json"


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    """What is to stop: the whole `study`, single `trials`, or nothing."""

    study: bool = False
    trials: frozenset[int] = frozenset()


def request_stop(folder: Path, *, trial: int | None = None) -> StopRequest:
    """Ask the driver of the study in `folder` to stop, or only to stop `trial`; gives all that is asked for by now."""
    with _alone(folder):
        before = read_stop(folder)
        if trial is None:
            asked = StopRequest(study=True, trials=before.trials)
        else:
            asked = StopRequest(study=before.study, trials=before.trials | {trial})
        _write(folder, asked)
        return asked


def read_stop(folder: Path) -> StopRequest:
    """What was asked for so far; nothing when there is no file.  StudyError when someone wrote something else into it."""
    path = folder / STOP_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return StopRequest()
    try:
        data = json.loads(text)
        return StopRequest(study=bool(data.get("study", False)), trials=frozenset(int(number) for number in data.get("trials", ())))
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(f"{path} is no stop request: {error}", hint="remove the file and use `automl stop`") from error


def forget_study_stop(folder: Path) -> None:
    """Drop a request that ended the whole study, because it is being resumed; requests for single trials stay."""
    with _alone(folder):
        trials = read_stop(folder).trials
        if trials:
            _write(folder, StopRequest(trials=trials))
        else:
            (folder / STOP_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process after another reads and writes the request, where the file system has locks."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _write(folder: Path, request: StopRequest) -> None:
    replace_text(folder / STOP_FILE, json.dumps({"study": request.study, "trials": sorted(request.trials)}) + "\n")
