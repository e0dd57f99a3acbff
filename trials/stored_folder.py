"""A results folder in an S3 store: a working folder on this machine, kept like it.

What counts is the store.  On entry the working folder becomes what the store holds; every half minute and at the end, whichever way that
comes, files that changed are put there and files that are gone are removed there.  Weights go first and the study's journal last, so
that nothing in the store speaks of weights that are not there.  Each object is whole at any time; a machine that dies loses what changed
since the last round.  One process writes at a time: a mark in the folder says which, and is fresh while that process lives.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from search_spaces.errors import DataError, StudyError, UserError
from trials.data.cache_folder import Lock
from trials.data.s3 import refusal, store
from trials.data.urls import SCHEME, bucket_and_key

logger = logging.getLogger(__name__)
EVERY_S = 30.0
MARK = ".writer.json"
_STALE_AFTER = 4  # rounds without a sign of life
_WEIGHTS, _LAST = (".pth", ".onnx", ".data", ".engine", ".safetensors"), "study.journal"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A file as it was put: size and time; for a link the file beside it that it names."""

    size: int
    time_ns: int
    link: str | None = None


class StoredFolder:
    """Context in which `folder` is the working copy of the folder at `url`.

    Entering raises DataError or ConnectionError when the store refuses, StudyError when another process writes there; leaving raises them
    when the last round fails: the working folder then holds what is missing.
    """

    def __init__(self, folder: Path, url: str, *, every_s: float = EVERY_S) -> None:
        bucket_and_key(url)
        self.folder, self.url = folder, url.rstrip("/")
        self._every_s = every_s
        self._put: dict[str, _Seen] = {}
        self._end = threading.Event()
        self._rounds = threading.Thread(target=self._go_on, name="stored-folder", daemon=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(folder.with_name(f"{folder.name}.lock"))

    def __enter__(self) -> StoredFolder:
        if not self._lock.alone():
            raise StudyError(f"another process of this machine writes to {self.url}", hint="wait for its end, or choose another folder")
        try:
            self._claim()
            self._bring()
        except BaseException:
            self._lock.free()
            raise
        self._rounds.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._rounds.join()
        try:
            self.sync()
            self._call("rm_file", self._key(MARK), name=MARK)
        except (UserError, OSError) as failed:
            if error is None:
                raise
            logger.warning("the last files could not be put into %s: %s; they are in %s", self.url, failed, self.folder)
        finally:
            self._lock.free()

    def sync(self) -> int:
        """Makes the store like the working folder; gives how many objects were put."""
        now = dict(self._files())
        changed = [name for name in sorted(now, key=_order) if self._put.get(name) != now[name]]
        for name in changed:
            link = now[name].link
            try:
                if link is not None:
                    self._call("copy", self._key(link), self._key(name), name=name)
                else:
                    self._call("put_file", str(self.folder / name), self._key(name), name=name)
            except (DataError, ConnectionError):
                if (self.folder / name).exists():
                    raise
                continue  # it went while it was read
            self._put[name] = now[name]
        for name in [name for name in self._put if name not in now]:
            self._call("rm_file", self._key(name), name=name)
            del self._put[name]
        return len(changed)

    def _go_on(self) -> None:
        """Round after round until the end; a store that cannot be reached is tried again in the next one."""
        while not self._end.wait(self._every_s):
            try:
                self.sync()
                self._sign()
            except (UserError, OSError) as error:
                logger.warning("%s is not up to date: %s", self.url, error)

    def _claim(self) -> None:
        """Signs the folder, which also shows that it can be written; StudyError while another process is at work in it."""
        before = self._call("ls", self._key(""), name="", refresh=True, detail=True, absent=[])
        mark = next((entry for entry in before if entry["name"].endswith(f"/{MARK}")), None)
        writer = {} if mark is None else json.loads(self._call("cat_file", self._key(MARK), name=MARK, absent=b"{}"))
        self._call("pipe_file", self._key(f"{MARK}.new"), b"", name=MARK)
        here = self._call("info", self._key(f"{MARK}.new"), name=MARK, refresh=True)
        self._call("rm_file", self._key(f"{MARK}.new"), name=MARK)
        if mark is not None and not _is_gone(writer):
            age_s = (here["LastModified"] - mark["LastModified"]).total_seconds()
            if age_s < _STALE_AFTER * self._every_s:
                raise StudyError(
                    f"{writer.get('host')} (process {writer.get('process')}) writes to {self.url}, last seen {age_s:.0f} s ago",
                    hint=f"wait for its end, or {_STALE_AFTER * self._every_s:.0f} s if it was killed",
                )
        self._sign()

    def _sign(self) -> None:
        mark = {"host": socket.gethostname(), "process": os.getpid()}
        self._call("pipe_file", self._key(MARK), json.dumps(mark).encode(), name=MARK)

    def _bring(self) -> None:
        """Makes the working folder what the store holds."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        root = f"{self._key('')}/"
        there: Mapping[str, Any] = self._call("find", self._key(""), name="", detail=True, refresh=True, absent={})
        for key in sorted(there):
            name = key.removeprefix(root)
            if key.startswith(root) and not _hidden(name):
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                self._call("get_file", key, str(self.folder / name), name=name)
        self._put = dict(self._files())
        if self._put:
            logger.info("brought %d files of %s", len(self._put), self.url)

    def _files(self) -> Iterator[tuple[str, _Seen]]:
        """Name below the folder and state of every file; those whose names begin with a dot are on their way to another name."""
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # gone, or a link to what is gone
            if path.is_file() and not _hidden(name):
                target = path.resolve() if path.is_symlink() else None
                inside = target is not None and target.is_relative_to(self.folder.resolve())
                link = target.relative_to(self.folder.resolve()).as_posix() if inside and target is not None else None
                yield name, _Seen(size=facts.st_size, time_ns=facts.st_mtime_ns, link=link)

    def _key(self, name: str) -> str:
        return f"{self.url.removeprefix(SCHEME)}/{name}".rstrip("/")

    def _call(self, method: str, *arguments: Any, name: str, absent: object = None, **options: Any) -> Any:
        """What the store answers; `absent` (if given) when it has no such object."""
        try:
            return getattr(store(), method)(*arguments, **options)
        except FileNotFoundError as error:
            if absent is not None:
                return absent
            raise refusal(error, f"{self.url}/{name}") from error
        except Exception as error:
            raise refusal(error, f"{self.url}/{name}") from error


def _order(name: str) -> tuple[int, str]:
    """Weights first, links to them and everything else next, the journal last."""
    if name.endswith(_LAST):
        return 2, name
    return (0 if name.endswith(_WEIGHTS) and not name.endswith("latest.pth") else 1), name


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


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
