"""Objects of an S3 store as files of this machine: fetched ahead and in parallel, checked, kept, and shared by all its processes.

`s3://bucket/key` becomes `<dataset.cache_dir>/objects/bucket/key`.  The store is asked for size, ETag and time of every object each time,
so that a changed object is fetched again; a copy carries the time of its object, and in the nanoseconds a mark of the ETag.  A copy
appears in one step, after its length and (where the ETag is one) its MD5 were found right.  Where the limit is reached, copies that were
longest unused make way, provided that no other process uses the folder.

Credentials, region and endpoint are those that every S3 program finds: AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws, AWS_ENDPOINT_URL, the role
of a container.  They are handed to nobody and written nowhere.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from trials.data.cache_folder import CacheFolder, Lock, cache_folder, in_words
from trials.data.s3 import counting, no_bucket, refusal, store
from trials.data.urls import SCHEME, bucket_and_key
from trials.transfer import Count, transfer

logger = logging.getLogger(__name__)
THREADS = 16  # objects on their way at the same time
_LISTED_FROM = 8  # as many objects of a bucket are asked for by listing what they have in common, fewer one by one
_PAGE, _SPARE_PAGES = 1000, 4  # objects that S3 lists at once; pages of other objects that are still cheaper than asking one by one
_NAMED = 10
_POLL_S = 0.2
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the store says about an object.  `sealed`: its ETag is no checksum of the content."""

    size: int
    etag: str
    modified: datetime
    sealed: bool = False

    @property
    def time_ns(self) -> int:
        """Time of change of a copy: the object's second, and nanoseconds that differ for another ETag."""
        mark = int.from_bytes(hashlib.sha256(self.etag.encode()).digest()[:4], "big") % 10**9
        return int(self.modified.timestamp()) * 10**9 + mark


@functools.cache
def _objects(folder: CacheFolder) -> Objects:
    return Objects(folder)


def objects_of(spec: Spec) -> Objects:
    """The copies that runs of `spec` share: one object for each folder in a process, which uses it until it ends."""
    return _objects(cache_folder(spec, "objects"))


def fetcher(spec: Spec) -> Callable[[Sequence[str], str], list[Path]]:
    """Gives the copies of URLs, fetched now; the folder of the copies is made when there is a first URL."""
    return lambda urls, named_by: objects_of(spec).fetch(urls, named_by=named_by)


def names_below(url: str) -> list[str]:
    """The objects below the URL of a folder, relative to it and by name; none where there is nothing.

    DataError when the store does not let them be listed, ConnectionError when it cannot be reached.
    """
    folder = f"{url.rstrip('/')}/"
    listed = _listed(folder, pages=sys.maxsize)
    if listed is None:
        raise DataError(f"the objects below {folder} may not be listed", hint="name them in a list, or have s3:ListBucket granted")
    return sorted(name.removeprefix(folder) for name in listed if not name.endswith("/"))


class Objects:
    """Copies of objects below one folder.  Any number of processes may share the folder; an instance is for one thread."""

    def __init__(self, folder: CacheFolder) -> None:
        self._folder = folder
        self._use = Lock(folder.path / ".use.lock")
        self._turn = Lock(folder.path / ".fetch.lock")
        while not self._use.share():  # somebody is making room
            time.sleep(_POLL_S)

    def path_of(self, url: str) -> Path:
        """Where the copy of an object is, or will be."""
        bucket, key = bucket_and_key(url)
        return self._folder.path / bucket / key

    def fetch(self, urls: Sequence[str], *, named_by: str) -> list[Path]:
        """The copies of all `urls`, in their order, made current.

        `named_by` says who wants them, for messages.  DataError for objects that are not there, that may not be read or arrive damaged, and
        when they do not fit; ConnectionError when the store cannot be reached.
        """
        wanted = list(dict.fromkeys(urls))
        facts = self._facts(wanted, named_by)
        if self._stale(facts):
            self._wait_for_turn()
            try:
                self._fetch(facts, named_by)
            finally:
                self._turn.free()
        now = time.time_ns()
        for url, fact in facts.items():
            os.utime(self.path_of(url), ns=(now, fact.time_ns))  # when it was last wanted
        return [self.path_of(url) for url in urls]

    def _stale(self, facts: Mapping[str, Facts]) -> list[str]:
        """The objects whose copy is missing or old."""

        def current(url: str, fact: Facts) -> bool:
            try:
                copy = self.path_of(url).stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            return copy.st_size == fact.size and copy.st_mtime_ns == fact.time_ns

        return [url for url, fact in facts.items() if not current(url, fact)]

    def _wait_for_turn(self) -> None:
        told = False
        while not self._turn.alone():
            if not told:
                logger.info("waiting for another process, which fetches objects into %s", self._folder.path)
                told = True
            time.sleep(_POLL_S)

    def _fetch(self, facts: Mapping[str, Facts], named_by: str) -> None:
        missing = self._stale(facts)  # another process may have brought them meanwhile
        size = sum(facts[url].size for url in missing)
        if not missing:
            return
        self._make_room(size, keep={self.path_of(url) for url in facts}, named_by=named_by)
        logger.info("fetching %d objects named by %s (%s) into %s", len(missing), named_by, in_words(size), self._folder.path)
        started = time.monotonic()
        sizes = {url: facts[url].size for url in missing}
        transfer(sizes, lambda url, count: self._copy(url, facts[url], count), doing=f"fetching what {named_by} names", threads=THREADS)
        took_s = time.monotonic() - started
        logger.info("fetched %d objects in %.1f s, %.0f MiB/s", len(missing), took_s, size / 2**20 / max(took_s, 1e-3))

    def _copy(self, url: str, fact: Facts, count: Count) -> None:
        """Brings one object; an object that is replaced meanwhile is fetched once more."""
        place = self.path_of(url)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.part")
        try:
            for _ in range(2):
                try:
                    store().get_file(url.removeprefix(SCHEME), str(partial), callback=counting(count))
                except Exception as error:
                    raise refusal(error, url) from error
                if self._intact(partial, url, fact):
                    os.utime(partial, ns=(time.time_ns(), fact.time_ns))
                    partial.replace(place)
                    return
                fact = _head(url)
        finally:
            partial.unlink(missing_ok=True)
        raise DataError(
            f"{url} arrived damaged twice: it does not hold the {fact.size} bytes with the ETag that the store names",
            hint="is it being written? upload it again; a proxy in between may cut objects off",
        )

    @staticmethod
    def _intact(file: Path, url: str, fact: Facts) -> bool:
        if file.stat().st_size != fact.size:
            return False
        if _MD5.fullmatch(fact.etag) and not fact.sealed and _md5(file) == fact.etag:
            return True
        again = _head(url)  # sent in parts, or encrypted: the ETag is no MD5 then, but another one for another content
        return again.etag == fact.etag and (again.sealed or not _MD5.fullmatch(fact.etag))

    def _facts(self, urls: Sequence[str], named_by: str) -> dict[str, Facts]:
        """Facts of every object, in the order of `urls`; DataError names those that are not there."""
        known: dict[str, Facts] = {}
        alone: list[str] = []
        for prefix, members in _by_prefix(urls):
            listed = _listed(prefix, pages=_SPARE_PAGES + 2 * len(members) // _PAGE) if len(members) >= _LISTED_FROM else None
            if listed is None:
                alone += members
            else:
                known |= {url: listed[url] for url in members if url in listed}
        with ThreadPoolExecutor(THREADS) as pool:
            known |= {url: fact for url, fact in zip(alone, pool.map(_head_or_none, alone), strict=True) if fact is not None}
        missing = [url for url in urls if url not in known]
        if missing:
            for bucket in sorted({bucket_and_key(url)[0] for url in missing}):
                _check_bucket(bucket)
            named = "\n".join(f"  {url}" for url in missing[:_NAMED]) + ("\n  ..." if len(missing) > _NAMED else "")
            raise DataError(
                f"{len(missing)} of {len(urls)} objects named by {named_by} do not exist:\n{named}",
                hint="correct the names, or upload them; keys are compared letter by letter",
            )
        return {url: known[url] for url in urls}

    def _make_room(self, size: int, *, keep: set[Path], named_by: str) -> None:
        """Removes unused copies until `size` bytes fit; DataError when they do not."""
        copies = [(file, file.stat()) for file in self._folder.path.rglob("*") if file.is_file() and file.parent != self._folder.path]
        held = sum(facts.st_size for _, facts in copies)
        if self._folder.room(held) >= size:
            return
        others = [(file, facts) for file, facts in copies if file not in keep]
        if self._use.alone():
            for file, facts in sorted(others, key=lambda copy: copy[1].st_atime_ns):
                file.unlink()
                held -= facts.st_size
                if self._folder.room(held) >= size:
                    break
        self._use.share()
        if self._folder.room(held) < size:
            free = in_words(shutil.disk_usage(self._folder.path).free)
            raise DataError(
                f"the objects named by {named_by} need {in_words(size)} more in {self._folder.path}, which holds {in_words(held)} of the "
                f"{in_words(self._folder.limit)} of dataset.cache_limit_gib; its disk has {free} left",
                hint="set dataset.cache_dir to a larger disk or raise dataset.cache_limit_gib; what other runs use stays until they end",
            )


def _by_prefix(urls: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The objects of each bucket, with the characters that their URLs have in common."""
    buckets: dict[str, list[str]] = defaultdict(list)
    for url in urls:
        buckets[bucket_and_key(url)[0]].append(url)
    # a prefix may end within a name: S3 knows no folders
    return [(os.path.commonprefix(members), members) for members in buckets.values()]  # noqa: RUF071


def _listed(prefix: str, *, pages: int) -> dict[str, Facts] | None:
    """The objects whose URLs begin with `prefix`; None when they fill more pages, or may not be listed."""
    bucket, _, start = prefix.removeprefix(SCHEME).partition("/")
    found: dict[str, Facts] = {}
    more: dict[str, str] = {}
    for _ in range(pages):
        try:
            answer: Mapping[str, Any] = store().call_s3("list_objects_v2", Bucket=bucket, Prefix=start, **more)
        except FileNotFoundError:
            return {}
        except PermissionError:
            return None
        except Exception as error:
            raise refusal(error, prefix) from error
        for entry in answer.get("Contents", []):
            facts = Facts(size=entry["Size"], etag=entry["ETag"].strip('"'), modified=entry["LastModified"])
            found[f"{SCHEME}{bucket}/{entry['Key']}"] = facts
        if not answer.get("IsTruncated"):
            return found
        more = {"ContinuationToken": answer["NextContinuationToken"]}
    return None


def _head(url: str) -> Facts:
    bucket, key = bucket_and_key(url)
    try:
        answer: Mapping[str, Any] = store().call_s3("head_object", Bucket=bucket, Key=key)
    except Exception as error:
        raise refusal(error, url) from error
    sealed = str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or "SSECustomerAlgorithm" in answer
    return Facts(size=answer["ContentLength"], etag=answer["ETag"].strip('"'), modified=answer["LastModified"], sealed=sealed)


def _check_bucket(bucket: str) -> None:
    """DataError for a bucket that is not there; where that may not be asked, nothing."""
    try:
        store().call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError as error:
        raise no_bucket(bucket) from error
    except PermissionError:
        return
    except Exception as error:
        raise refusal(error, f"{SCHEME}{bucket}") from error


def _head_or_none(url: str) -> Facts | None:
    """Facts of an object, None when it is not there."""
    try:
        return _head(url)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
