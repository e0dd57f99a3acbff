"""Decoded once, read by all trials of a machine: packs are made, found again and removed here (`dataset.cache: decoded`).

A pack is named by what its samples follow from: every file's path, size and time of change, the data class, `depth_scale`, the limits
of the ground truth.  Samples are the same with and without it, bit for bit.  The first process that wants a pack makes it and the others
wait; it appears in one step.  Packs that no process uses make way, longest unused first, when a new one needs their room.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from trials.data.annotations import Row
from trials.data.cache_folder import KEPT_FREE, CacheFolder, Lock, cache_folder, held_alone, in_words
from trials.data.decoders import quiet_opencv
from trials.data.pack import SAMPLES, Pack, PackWriter
from trials.data.reading import Sample, SampleReader
from trials.workers import usable_cores

logger = logging.getLogger(__name__)
FORMAT = 1  # goes up when the decoders or the layout of a pack change
CACHED_SPLITS = ("train", "val")  # the others are read once
_MOST_THREADS = 8
_POLL_S = 0.2
_STEP = 64 * 2**20  # bytes written between two looks at the disk
_UNFINISHED = ".making"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NoRoomError(Exception):
    """A pack does not fit; the text says by how much."""


def caches(spec: Spec, split: str) -> bool:
    """Whether the decoded samples of a split are kept."""
    return spec.dataset.cache == "decoded" and split in CACHED_SPLITS


def pack_of(spec: Spec, rows: Sequence[Row], reader: SampleReader) -> Pack | None:
    """The pack of the rows of one source, made if it is not there; None (and a warning) when it does not fit on the disk.

    DataError for a file that cannot be read, and for a cache folder that cannot be used.
    """
    folder = cache_folder(spec, "decoded")
    place = folder.path / pack_name(rows, reader)
    lock, told = Lock(place.with_suffix(".lock")), False
    while True:
        if lock.share():
            if place.is_dir():
                os.utime(place)  # when it was last wanted
                return Pack(place, lock)
            if lock.alone():
                break
        if not told:
            logger.info("waiting for another process, which is decoding the %d samples of %s", len(rows), rows[0].file)
            told = True
        time.sleep(_POLL_S)
    try:
        if not place.is_dir():  # it may have come between the two locks
            _make(folder, place, rows, reader)
    except NoRoomError as error:
        lock.free()
        logger.warning("no decoded cache for %s: %s; its files are decoded each time they are read", rows[0].file, error)
        return None
    except BaseException:
        lock.free()  # those who wait are to find out for themselves
        raise
    lock.share()
    return Pack(place, lock)


def pack_name(rows: Sequence[Row], reader: SampleReader) -> str:
    """Name of the pack: a hash of all that its samples follow from; DataError for a file that is gone."""
    facts = {
        "format": FORMAT,
        "class": [reader.data_class.family, reader.data_class.name],
        "depth_scale": reader.depth_scale,
        "rule": asdict(reader.rule),
        "columns": [[row.right is not None, row.target is not None, row.mask is not None] for row in rows],
        "files": [[_identity(path) for path in row.files()] for row in rows],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _identity(path: Path) -> tuple[str, int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check that the file exists and that you may read it") from error
    return os.path.abspath(path), facts.st_size, facts.st_mtime_ns  # noqa: PTH100  links stay as they are


def check_room(spec: Spec, wanted: Sequence[tuple[Sequence[Row], SampleReader, int]]) -> None:
    """DataError when packs of these sources (rows, reader, expected bytes), all in use at once, cannot fit."""
    folder = cache_folder(spec, "decoded")
    names = {pack_name(rows, reader): size for rows, reader, size in wanted}
    missing = sum(size for name, size in names.items() if not (folder.path / name).is_dir())
    sizes = {place: _size(place) for place in _places(folder)}
    stays = {place: size for place, size in sizes.items() if place.name in names or _in_use(place)}
    disk = shutil.disk_usage(folder.path).free - KEPT_FREE + sum(sizes.values()) - sum(stays.values())
    if missing <= min(disk, folder.limit - sum(stays.values())):
        return
    raise DataError(
        f"dataset.cache=decoded needs about {in_words(missing)} in {folder.path}, where {in_words(max(0, disk))} are free on the disk and "
        f"{in_words(sum(stays.values()))} of the {in_words(folder.limit)} of dataset.cache_limit_gib are in use",
        hint="set dataset.cache_dir to a larger disk, raise dataset.cache_limit_gib, or set dataset.cache=off",
    )


def _make(folder: CacheFolder, place: Path, rows: Sequence[Row], reader: SampleReader) -> None:
    """Writes the pack beside its place and moves it there; after an error nothing is left behind."""
    started, making = time.monotonic(), place.with_suffix(_UNFINISHED)
    shutil.rmtree(making, ignore_errors=True)  # of a process that was killed: its lock was free
    logger.info("decoding the %d samples of %s once for all trials of this machine, into %s", len(rows), rows[0].file, place)
    try:
        making.mkdir()
        _write(folder, making, rows, reader)
        making.replace(place)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise NoRoomError(f"the disk of {folder.path} is full") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    logger.info("decoded %s in %.1f s: %s", rows[0].file, time.monotonic() - started, in_words(_size(place)))


def _write(folder: CacheFolder, making: Path, rows: Sequence[Row], reader: SampleReader) -> None:
    """The pack's files; rows of the same files are written once."""
    first: dict[tuple[Path, ...], int] = {}
    for number, row in enumerate(rows):
        first.setdefault(tuple(row.files()), number)
    samples = _decoded([rows[number] for number in first.values()], reader)
    with contextlib.closing(PackWriter(making)) as writer, contextlib.closing(samples):
        allowed = _allowed(folder, 0)
        for number, row in enumerate(rows):
            if first[tuple(row.files())] != number:
                writer.repeat(first[tuple(row.files())])
                continue
            writer.add(next(samples))
            if writer.size >= allowed:
                allowed = _allowed(folder, writer.size)


def _decoded(rows: Sequence[Row], reader: SampleReader) -> Generator[Sample]:
    """The samples in the order of `rows`, decoded a few ahead by as many threads as there are cores."""
    threads = min(_MOST_THREADS, usable_cores())
    with quiet_opencv(), ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Sample]] = deque()
        try:
            for row in rows:
                ahead.append(pool.submit(reader.read, row))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _allowed(folder: CacheFolder, written: int) -> int:
    """The bytes that a pack of `written` bytes may come to before this is asked again; unused packs make way first, then NoRoomError."""
    while True:
        more = folder.room(sum(_size(place) for place in _places(folder)))
        if more >= _STEP or (more > 0 and not _remove_one(folder)):
            return written + min(more, _STEP)
        if more == 0 and not _remove_one(folder):
            raise NoRoomError(
                f"{folder.path} may hold {in_words(folder.limit)} (dataset.cache_limit_gib), and its disk has "
                f"{in_words(shutil.disk_usage(folder.path).free)} left, of which {in_words(KEPT_FREE)} are kept free"
            )


def _remove_one(folder: CacheFolder) -> bool:
    """Removes the pack that was unused for longest, or what a killed process left; False when all are in use."""
    for place in _places(folder):
        with held_alone(place.with_suffix(".lock")) as free:
            if free:
                leaving = place.with_suffix(_UNFINISHED)  # a pack goes in one step, too
                place.replace(leaving)
                shutil.rmtree(leaving)
                logger.info("removed %s, which nothing uses", place)
                return True
    return False


def _in_use(place: Path) -> bool:
    with held_alone(place.with_suffix(".lock")) as free:
        return not free


def _places(folder: CacheFolder) -> list[Path]:
    """Packs, finished or not, the longest unused first."""
    wanted: dict[Path, float] = {}
    for place in folder.path.iterdir():
        with contextlib.suppress(FileNotFoundError):  # its maker may just have given it its name
            if place.is_dir():
                wanted[place] = place.stat().st_mtime
    return sorted(wanted, key=wanted.__getitem__)


def _size(place: Path) -> int:
    """Bytes of a pack; 0 when it is not there."""
    try:
        return (place / SAMPLES).stat().st_size
    except FileNotFoundError:
        return 0
