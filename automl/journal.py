"""The file a search is kept in: an Optuna journal, mended before it is opened, and one driver at a time.

Optuna's journal holds one JSON record a line (https://optuna.readthedocs.io, JournalFileBackend).  A process killed
while writing leaves half a record at the end; the next writer would append to it and spoil the file for good.  So the
driver cuts the half record off first.  It may do so because it alone holds `driver.lock`, which the kernel frees with the
process.  Readers take no lock and change nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search_spaces.errors import StudyError, shell_word

JOURNAL_FILE = "study.journal"
LOCK_FILE = "driver.lock"
_BLOCK = 1 << 16
_LOOKS, _LOOK_S = 100, 0.01  # a reader has the lock for microseconds


class DriverLock:
    """The right to change one study, held from `take` until `release` or the death of the process."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_FILE
        self._stream: IO[str] | None = None

    def take(self) -> None:
        """Take the lock; StudyError names the process that holds it, or says that there are no locks there."""
        stream = self.path.open("a+", encoding="utf-8")
        try:
            locked = _locked(stream)
        except OSError as error:
            stream.close()
            raise StudyError(
                f"{self.path} cannot be locked: {error.strerror}", hint="name a folder on a disk, or a file system with locks"
            ) from error
        if not locked:
            stream.seek(0)
            owner, place = stream.read().strip() or "unknown", shell_word(self.path.parent)
            stream.close()
            raise StudyError(
                f"the study in {self.path.parent} is being run by process {owner}",
                hint=f"watch it with `automl status {place}`, end it with `automl stop {place}`",
            )
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        self._stream = stream

    def check(self) -> None:
        """Nothing: the kernel takes it from nobody."""

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def is_driven(folder: Path) -> bool:
    """True while some process holds the driver's lock of `folder`."""
    path = folder / LOCK_FILE
    if not path.is_file():
        return False
    with path.open("r", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(stream, fcntl.LOCK_UN)
    return False


def _locked(stream: IO[str]) -> bool:
    """Whether the driver's lock is ours now.  A reader that is just asking `is_driven` is waited for, a driver is not."""
    for _ in range(_LOOKS):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(stream, fcntl.LOCK_UN)
        time.sleep(_LOOK_S)
    return False


def cut_torn_line(path: Path) -> int:
    """Cut what follows the last whole record of `path` and give the number of bytes cut (0 = nothing was torn).

    A last line that ends properly but is no JSON is cut too: a crash of the machine can leave it so.
    """
    if not path.is_file():
        return 0
    size = path.stat().st_size
    with path.open("r+b") as stream:
        keep = _end_of_last_record(stream, size)
        if keep < size:
            stream.truncate(keep)
            stream.flush()
            os.fsync(stream.fileno())
    return size - keep


def clear_stale_lock(path: Path) -> bool:
    """Remove the writer's lock that a killed driver left beside `path`; True when there was one."""
    lock = path.with_name(path.name + ".lock")
    if lock.is_symlink() or lock.exists():
        lock.unlink()
        return True
    return False


def open_journal(folder: Path, *, mend: bool) -> JournalStorage:
    """The storage of the study in `folder`.  `mend` is for the holder of the driver's lock alone."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings speak of samplers that no user named
    path = folder / JOURNAL_FILE
    if mend:
        cut_torn_line(path)
        clear_stale_lock(path)
    elif not path.is_file():
        raise StudyError(f"the record of the study in {folder} is gone: {JOURNAL_FILE} is not there", hint="restore it from a copy")
    try:
        return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError) as error:
        raise StudyError(f"{path} is damaged: {error}", hint="restore the file from a copy") from error


def _end_of_last_record(stream: IO[bytes], size: int) -> int:
    """Position after the last line that is complete and holds JSON."""
    end = size
    while end > 0:
        line_end = _find_newline_before(stream, end)
        if line_end == 0:
            return 0
        line_start = _find_newline_before(stream, line_end - 1)
        stream.seek(line_start)
        try:
            json.loads(stream.read(line_end - line_start))
        except ValueError:
            end = line_start
            continue
        return line_end
    return 0


def _find_newline_before(stream: IO[bytes], end: int) -> int:
    """Position just after the last newline among the first `end` bytes, 0 when there is none."""
    while end > 0:
        start = max(0, end - _BLOCK)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
