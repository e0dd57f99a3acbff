"""The folder on this machine where trials share what they have fetched or decoded, and the locks that keep it whole.

    <dataset.cache_dir>/decoded/     packs of decoded samples (`trials.data.packing`)
    <dataset.cache_dir>/objects/     copies of objects of an S3 store (`trials.data.objects`)
    <dataset.cache_dir>/results/     working copies of folders of results in a store (`trials.stored_folder`), studies/ of studies

Locks are those of `flock`: the system drops them when a process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import DataError
from search_spaces.spec import Spec

GIB = 2**30
KEPT_FREE = GIB  # of the disk: checkpoints and logs may lie on it too
_NAME = "depth-automl"


@dataclass(frozen=True, kw_only=True)
class CacheFolder:
    """One part of the cache, and how many bytes it may take."""

    path: Path
    limit: int

    def room(self, held: int) -> int:
        """Bytes that may still be written when the part holds `held`: what limit and disk leave, 0 or more."""
        return max(0, min(self.limit - held, shutil.disk_usage(self.path).free - KEPT_FREE))


def cache_folder(spec: Spec, part: str) -> CacheFolder:
    """The folder of `part`, made if need be; DataError where it cannot be.

    dataset.cache_dir, else the user's own cache ($XDG_CACHE_HOME, ~/.cache).
    """
    hint = "set dataset.cache_dir to a folder on a disk of this machine"
    if spec.dataset.cache_dir:
        root = Path(spec.dataset.cache_dir).expanduser().absolute()
    else:
        try:
            root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _NAME
        except RuntimeError as error:
            raise DataError("there is no home folder to keep a cache in", hint=hint) from error
    try:
        (root / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the cache folder {root / part}: {error.strerror}", hint=hint) from error
    if not os.access(root / part, os.W_OK):
        raise DataError(f"cannot write into the cache folder {root / part}", hint=hint)
    return CacheFolder(path=root / part, limit=int(spec.dataset.cache_limit_gib * GIB))


class Lock:
    """A lock file of the cache, held until the object is gone.  Shared: in use; alone: being made or removed.  Not for threads."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        weakref.finalize(self, os.close, self._handle)

    def share(self) -> bool:
        """Whether the lock could be had together with others; one that is held alone is shared from then on."""
        return self._take(fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Whether the lock could be had alone."""
        return self._take(fcntl.LOCK_EX)

    def free(self) -> None:
        """Gives the lock back."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def _take(self, kind: int) -> bool:
        try:
            fcntl.flock(self._handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Tries to hold the lock file at `path` alone for the block; gives whether that is so."""
    lock = Lock(path)
    taken = lock.alone()
    try:
        yield taken
    finally:
        if taken:
            lock.free()


def in_words(size: int) -> str:
    """`size` bytes as MiB or GiB."""
    return f"{size / GIB:.3g} GiB" if size >= GIB else f"{size / 2**20:.3g} MiB"
