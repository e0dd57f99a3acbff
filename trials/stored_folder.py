"""A results folder in an S3 store: a working folder on this machine, kept like it.

What counts is the store.  On entry the working folder becomes what the store holds; every half minute and at the end, whichever way that
comes, files that changed are put there and files that are gone are removed there.  Each object is whole at any time.  A machine that dies
loses what changed since the last round, and what it leaves can be continued from whichever moment it dies in:

    in a round go                     so that
    models, pictures                  no record speaks of a model that is not there
    records, the study's journal      every epoch in a state to resume has been recorded
    full states, links to them        a run goes on from an older state, or anew, at worst
    removals                          no record speaks of what was removed

A working folder that was the last to write is ahead of the store if anything; it is kept, and what had not been put is put now.  Otherwise
it is made anew.  One process writes at a time (`trials.writer_mark`).
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from search_spaces.errors import DataError, StudyError, UserError, shell_word
from trials.copy_notes import read_notes, write_notes
from trials.data.cache_folder import Lock
from trials.data.urls import SCHEME
from trials.remote_folder import TEXT, RemoteFolder, is_hidden
from trials.states import LATEST, full_states, is_full_state
from trials.transfer import Count, transfer
from trials.writer_mark import LEASE_S, WriterMark

logger = logging.getLogger(__name__)
EVERY_S = 30.0
FIRST_AFTER_S = 3.0  # others can see soon that there is something
THREADS = 8
_ASIDE = ".leaving"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A file as it was put: size and time; for a link the file beside it that it names."""

    size: int
    time_ns: int
    link: str | None = None


class StoredFolder:
    """Context in which `folder` is the working copy of the folder at `url`.

    Entering raises DataError or ConnectionError when the store refuses, StudyError when another process writes there.  A store that goes
    away meanwhile is told once, and caught up with.  Leaving raises as entering does when the last round fails: the working folder then
    holds what is missing.  The object `inbox`, which others may put, comes down within seconds; `on_lost` is called when another process
    took over, after which nothing is put any more.
    """

    def __init__(self, folder: Path, url: str, *, inbox: str | None = None, on_lost: Callable[[], None] | None = None) -> None:
        self._remote = RemoteFolder(url, folder)
        self.folder, self.url = self._remote.folder, self._remote.url
        self._inbox, self._inbox_etag = inbox, ""
        self._put: dict[str, _Seen] = {}
        self._copy = ""
        self._away = False
        self._end = threading.Event()
        self._rounds = threading.Thread(target=self._go_on, name="stored-folder", daemon=True)
        self._mark = WriterMark(self._remote, lease_s=LEASE_S, on_beat=self._look_into_inbox, on_lost=on_lost)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(folder.with_name(f".{folder.name}.lock"))

    def __enter__(self) -> StoredFolder:
        if not self._lock.alone():
            raise StudyError(
                f"another process of this machine writes to {self.url}",
                hint=f"wait for its end (`automl stop {shell_word(self.url)}` asks a study for it), or choose another folder",
            )
        try:
            last = self._mark.last_copy()
            self._copy = str(read_notes(self.folder).get("copy", ""))
            if not self._copy or self._copy != last:
                self._begin_anew()
            self._mark.take(self._copy)
            self._mend()
        except BaseException:
            self._mark.stop()
            self._lock.free()
            raise
        self._rounds.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._rounds.join()
        try:
            self.sync()
            self._mark.release()
        except (UserError, OSError) as failed:
            if error is None:
                raise
            logger.warning("the last files could not be put into %s: %s; they are in %s", self.url, failed, self.folder)
        finally:
            self._mark.stop()
            self._lock.free()

    def sync(self) -> int:
        """Makes the store like the working folder; gives how many objects were put."""
        self._mark.check()
        known = dict(self._put)
        before = dict(self._files())
        aside = self.folder / _ASIDE
        try:
            states = self._set_aside(
                {name: seen for name, seen in before.items() if is_full_state(name) and known.get(name) != seen}, aside
            )
            journals = self._set_aside({name: seen for name, seen in before.items() if name.endswith(".journal")}, aside, copied=True)
            now = {name: seen for name, seen in self._files() if not is_full_state(name) and seen.link is None}
            put = self._send({name: now[name] for name in now if not name.endswith(TEXT)})
            put += self._send({name: now[name] for name in now if name.endswith(TEXT) and name not in journals})
            put += self._send({name: before[name] for name in journals}, journals)
            put += self._send({name: before[name] for name in states}, states)
            put += self._link({name: seen for name, seen in before.items() if seen.link is not None})
            self._remove([name for name in known if name not in before])
            return put
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            self._note()

    def _set_aside(self, files: Mapping[str, _Seen], place: Path, *, copied: bool = False) -> dict[str, Path]:
        """A second name (or a copy) of each file, which stays what it is while the run goes on; a file that is gone is left out."""
        place.mkdir(exist_ok=True)
        held: dict[str, Path] = {}
        for name in files:
            second = place / f"{uuid.uuid4().hex}{Path(name).suffix}"
            try:
                shutil.copyfile(self.folder / name, second) if copied else second.hardlink_to(self.folder / name)
            except FileNotFoundError:
                continue
            held[name] = second
        return held

    def _send(self, files: Mapping[str, _Seen], content: Mapping[str, Path] | None = None) -> int:
        """Puts those of `files` that are not in the store as they are; how many."""
        changed = {name: seen for name, seen in files.items() if self._put.get(name) != seen}

        def send(name: str, count: Count) -> None:
            source = (content or {}).get(name, self.folder / name)
            try:
                self._remote.put(name, source, count=count)
            except (DataError, OSError):
                if source.exists():
                    raise
                return  # it went while it was read
            self._put[name] = changed[name]

        if changed:
            sizes = {name: seen.size for name, seen in changed.items()}
            transfer(sizes, send, doing=f"putting files into {self.url}", threads=THREADS)
        return len(changed)

    def _link(self, links: Mapping[str, _Seen]) -> int:
        """Gives objects that are in the store the names of links to them."""
        changed = [name for name, seen in links.items() if self._put.get(name) != seen and seen.link in self._put]
        for name in changed:
            self._remote.copy(str(links[name].link), name)
            self._put[name] = links[name]
        return len(changed)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            self._remote.remove(name)
            del self._put[name]
            if name == self._inbox:
                self._inbox_etag = ""  # the same words may come again

    def _go_on(self) -> None:
        """Round after round until the end; a store that cannot be reached is tried again in the next one."""
        pause_s = min(EVERY_S, FIRST_AFTER_S)
        while not self._end.wait(pause_s):
            pause_s = EVERY_S
            try:
                self.sync()
            except (UserError, OSError) as error:
                if not self._away and self._mark.lost_to is None:
                    logger.warning("%s is not up to date: %s; the work goes on, and what is missing follows", self.url, error)
                self._away = True
                continue
            if self._away:
                logger.warning("%s is up to date again", self.url)
            self._away = False

    def _look_into_inbox(self) -> None:
        """Brings the object that others leave for this process, when it is another one than before."""
        if self._inbox is None:
            return
        entry = self._remote.facts(self._inbox)
        if entry is None or entry.etag == self._inbox_etag:
            return
        self._remote.get(self._inbox)
        self._inbox_etag = entry.etag
        seen = dict(self._files()).get(self._inbox)
        if seen is not None:
            self._put[self._inbox] = seen

    def _begin_anew(self) -> None:
        """Empties the working folder: the store knows better, or nothing yet."""
        put = _noted(self.folder)
        left = [name for name, seen in self._files() if put.get(name) != seen] if self._copy else []
        if left:
            told = "another machine wrote to %s since; what never came there from %s is dropped, %s for instance"
            logger.warning(told, self.url, self.folder, min(left))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._copy = uuid.uuid4().hex
        self._note()

    def _mend(self) -> None:
        """Brings what the store has and the working folder never had; newest states get their link again."""
        there = self._remote.listing()
        if self._inbox in there:
            self._inbox_etag = there[self._inbox].etag
        self._put = {name: seen for name, seen in _noted(self.folder).items() if name in there}
        states = {name.rpartition("/")[0] for name in there if is_full_state(name)}
        missing = {
            name: entry.size
            for name, entry in there.items()
            if name not in self._put
            and not is_hidden(name)
            and not (name.endswith(LATEST) and name.rpartition("/")[0] in states)
            and not (self.folder / name).is_file()
        }
        if missing:
            get = self._remote.get
            transfer(missing, lambda name, count: get(name, count, size=missing[name]), doing=f"bringing {self.url}", threads=THREADS)
            logger.info("brought %d files of %s", len(missing), self.url)
        for place in {(self.folder / name).parent for name in missing if is_full_state(name)}:
            if not (place / LATEST).exists():
                (place / LATEST).symlink_to(full_states(place)[-1].name)
        now = dict(self._files())
        self._put |= {name: now[name] for name in now if name in missing or (now[name].link in missing and name in there)}
        self._note()

    def _note(self) -> None:
        """Keeps beside the files what is known of them."""
        notes = {"url": self.url, "copy": self._copy, "put": {name: asdict(seen) for name, seen in dict(self._put).items()}}
        write_notes(self.folder, notes)

    def _files(self) -> Iterator[tuple[str, _Seen]]:
        """Name below the folder and state of every file; those whose names begin with a dot are on their way to another name."""
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if is_hidden(name):
                continue
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # gone, or a link to what is gone
            if path.is_file():
                target = path.resolve() if path.is_symlink() else None
                inside = target is not None and target.is_relative_to(self.folder.resolve())
                link = target.relative_to(self.folder.resolve()).as_posix() if inside and target is not None else None
                yield name, _Seen(size=facts.st_size, time_ns=facts.st_mtime_ns, link=link)


def working_folder(root: Path, url: str) -> Path:
    """Where below `root` the working copy of the folder at `url` is: its own name, in a folder that its neighbours in the store share.

    No copy lies in another one's, whatever the URLs are.
    """
    parent, _, name = url.rstrip("/").rpartition("/")
    return root / f"{parent.removeprefix(SCHEME).partition('/')[0]}-{hashlib.sha256(parent.encode()).hexdigest()[:12]}" / name


def _noted(folder: Path) -> dict[str, _Seen]:
    return {name: _Seen(**seen) for name, seen in read_notes(folder).get("put", {}).items()}
