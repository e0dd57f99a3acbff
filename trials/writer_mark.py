"""Who writes to a folder of an S3 store: a mark in it that its writer renews, and that the next one may take over when it has gone stale.

Age is told by the store's clock alone.  Where the store takes conditional writes (S3 does), two that want the mark cannot both get it;
elsewhere each sees at its next sign of life who has it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.errors import StudyError, UserError, shell_word
from trials.remote_folder import Entry, RemoteFolder

logger = logging.getLogger(__name__)
MARK = ".writer.json"
LEASE_S = 60.0  # after so long without a sign of life the next writer may take over
BEATS = 6  # signs of life in that time


class WriterMark:
    """The right of one copy of a folder to write to it: kept alive by a thread, which calls `on_beat` each time, `on_lost` once.

    `copy` names the copy, so that a writer finds out whether another one was there since.
    """

    def __init__(
        self, remote: RemoteFolder, *, lease_s: float, on_beat: Callable[[], None] | None, on_lost: Callable[[], None] | None
    ) -> None:
        self._remote, self._lease_s = remote, lease_s
        self._on_beat, self._on_lost = on_beat, on_lost
        self._copy, self._etag = "", ""
        self._alive_at = 0.0
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="writer-mark", daemon=True)
        self.lost_to: str | None = None

    def last_copy(self) -> str | None:
        """The copy that wrote last, None for a folder that nobody wrote to; StudyError while another process is at work in it."""
        writer, entry = _read(self._remote)
        if entry is not None and _is_alive(writer, entry, self._lease_s):
            stop = f"`automl stop {shell_word(self._remote.url)}`"
            raise StudyError(
                f"{_name(writer)} writes to {self._remote.url}, last seen {entry.age_s or 0:.0f} s ago",
                hint=f"wait for its end ({stop} asks a study for it), or {self._lease_s:.0f} s if it was killed",
            )
        self._etag = "" if entry is None else entry.etag
        return writer.get("copy")

    def take(self, copy: str) -> None:
        """Takes the mark for `copy`, after `last_copy`; StudyError when somebody was quicker."""
        self._copy = copy
        if not self._sign(self._etag or None):
            raise StudyError(
                f"another process has just begun to write to {self._remote.url}",
                hint="`automl status` shows what it does, if it is a study",
            )
        self._thread.start()

    def check(self) -> None:
        """StudyError when another process took over; asked before anything is written."""
        if self.lost_to is None and time.time() - self._alive_at > self._lease_s / 2:
            self._beat()
        if self.lost_to is not None:
            look = f"`automl status {shell_word(self._remote.url)}`"
            raise StudyError(
                f"{self.lost_to} has taken {self._remote.url} over, because this process gave no sign of life",
                hint=f"what came after that is in {self._remote.folder} alone; {look} shows the study",
            )

    def release(self) -> None:
        """Gives the right back; the mark goes on saying whose copy was there last.  Errors as from `RemoteFolder`."""
        self.stop()
        if self.lost_to is None:
            self._sign(self._etag, ended=True)

    def stop(self) -> None:
        """Ends the signs of life."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait(self._lease_s / BEATS) and self.lost_to is None:
            try:
                self._beat()
                if self._on_beat is not None and self.lost_to is None:
                    self._on_beat()
            except (UserError, OSError) as error:  # the next beat tries again; the rounds say that the store is away
                logger.debug("no sign of life at %s: %s", self._remote.url, error)

    def _beat(self) -> None:
        with self._turn:
            if self.lost_to is not None or self._over.is_set():
                return
            for _ in range(2):  # an answer that got lost makes the store refuse what it has done already
                writer, entry = _read(self._remote)
                if writer.get("copy", self._copy) != self._copy:
                    self.lost_to = _name(writer)
                    break
                if self._sign(None if entry is None else entry.etag):
                    return
        if self.lost_to is not None and self._on_lost is not None:
            self._on_lost()

    def _sign(self, etag: str | None, *, ended: bool = False) -> bool:
        asked_at = time.time()
        mark = {"host": socket.gethostname(), "process": os.getpid(), "copy": self._copy, "ended": ended, "at": round(asked_at, 3)}
        written = self._remote.write_if(MARK, json.dumps(mark).encode(), etag=etag)
        if written is not None:
            self._etag, self._alive_at = written, asked_at
        return written is not None


def is_written(remote: RemoteFolder) -> bool:
    """True while some process keeps the folder like its copy."""
    writer, entry = _read(remote)
    return entry is not None and _is_alive(writer, entry, LEASE_S)


def _read(remote: RemoteFolder) -> tuple[Mapping[str, Any], Entry | None]:
    """What the mark says, and what the store says of it."""
    entry = remote.facts(MARK)
    content = None if entry is None else remote.read(MARK)
    if content is None:
        return {}, None
    try:
        writer = json.loads(content)
    except ValueError:
        return {}, entry
    return (writer if isinstance(writer, dict) else {}), entry


def _is_alive(writer: Mapping[str, Any], entry: Entry, lease_s: float) -> bool:
    return not writer.get("ended") and not _is_gone(writer) and (entry.age_s or 0.0) < lease_s


def _name(writer: Mapping[str, Any]) -> str:
    return f"{writer.get('host', 'another machine')} (process {writer.get('process', 'unknown')})"


def _is_gone(writer: Mapping[str, Any]) -> bool:
    """Whether the process of a mark was one of this machine and has ended."""
    if writer.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(writer["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(writer["process"]) == os.getpid()
