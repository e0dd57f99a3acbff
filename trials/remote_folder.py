"""A folder in an S3 store and its copy on this machine: names, contents, and what texts say of the place they are in.

Records name files by their absolute path, which is another one on each machine.  So text that goes to the store names the URL of the
folder where it named the copy, and text that comes back names the copy again: what lies in the store can be used from there.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from trials.data.s3 import code_of, counting, refusal, store
from trials.data.urls import SCHEME, bucket_and_key
from trials.transfer import Count

TEXT = (".yaml", ".json", ".jsonl", ".journal", ".txt", ".html", ".md", ".log", ".csv")
_END = r"(?=$|[/\s\"'`,;:)\]}<\\])"  # a longer name is another folder


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One object as the store lists it; `age_s` since it was put, by the store's clock, where it was asked for alone."""

    size: int
    etag: str
    age_s: float | None = None


class RemoteFolder:
    """The objects below `url`, by their names relative to it; `folder` is their copy.  Any number of threads may use it.

    With `as_it_is` text that comes goes on naming the URL.

    Every method raises DataError for what a user can put right and ConnectionError for a store that cannot be reached.
    """

    def __init__(self, url: str, folder: Path, *, as_it_is: bool = False) -> None:
        bucket_and_key(url.rstrip("/"))
        self.url, self.folder, self._as_it_is = url.rstrip("/"), folder.absolute(), as_it_is
        here = str(self.folder)
        forms = {here, json.dumps(here)[1:-1]}
        self._local = re.compile("|".join(f"(?:{re.escape(form)})" for form in sorted(forms, key=len, reverse=True)) + _END)
        self._remote = re.compile(re.escape(self.url) + _END)

    def listing(self) -> dict[str, Entry]:
        """Every object below the URL; none where there is nothing.  DataError for a bucket that is not there."""
        root = f"{self._key('')}/"
        found: Mapping[str, Any] = self._call("find", self._key(""), name="", detail=True, refresh=True, absent={})
        return {
            key.removeprefix(root): Entry(size=entry["size"], etag=entry["ETag"])
            for key, entry in found.items()
            if key.startswith(root) and not key.endswith("/")
        }

    def get(self, name: str, count: Count = lambda _: None, *, size: int | None = None) -> None:
        """Brings one object to its place in the copy, in one step; `count` is told the bytes as they come.

        ConnectionError for one that does not have the `size` that it should.
        """
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{place.name}.part")
        try:
            self._call("get_file", self._key(name), str(partial), name=name, callback=counting(count))
            came = partial.stat().st_size
            if size not in (None, came):
                raise ConnectionError(errno.EIO, f"{came} of {size} bytes arrived from the S3 store", f"{self.url}/{name}")
            if name.endswith(TEXT) and not self._as_it_is:
                partial.write_text(self.told_here(_text(partial)), encoding="utf-8", errors="surrogateescape")
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)

    def put(self, name: str, file: Path | None = None, *, count: Count = lambda _: None) -> None:
        """Makes the object `name` what the file of that name in the copy holds, or what `file` does; `count` as in `get`."""
        source = file or self.folder / name
        if name.endswith(TEXT):
            self.write(name, self.told_there(_text(source)).encode(errors="surrogateescape"))
        else:
            self._call("put_file", str(source), self._key(name), name=name, callback=counting(count))

    def read(self, name: str) -> bytes | None:
        """The content of an object as it is; None where there is none."""
        content: bytes | None = self._call("cat_file", self._key(name), name=name, absent=b"")
        return content or None

    def write(self, name: str, content: bytes) -> None:
        """Makes the object `name` hold `content`."""
        self._call("pipe_file", self._key(name), content, name=name)

    def write_if(self, name: str, content: bytes, *, etag: str | None) -> str | None:
        """As `write`, but only while the object has this ETag (None: is not there); its new ETag, None when that was not so.

        A store that does not know the condition writes anyway.
        """
        bucket, key = bucket_and_key(f"{self.url}/{name}")
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            return str(store().call_s3("put_object", Bucket=bucket, Key=key, Body=content, **condition)["ETag"])
        except Exception as error:
            code = code_of(error)
            if code == "NotImplemented":
                self.write(name, content)
                written = self.facts(name)
                return None if written is None else written.etag
            if code in {"PreconditionFailed", "ConditionalRequestConflict"} or (code == "NoSuchKey" and etag is not None):
                return None
            raise refusal(error, f"{self.url}/{name}") from error

    def facts(self, name: str) -> Entry | None:
        """What the store says of one object; None where there is none."""
        bucket, key = bucket_and_key(f"{self.url}/{name}")
        try:
            answer: Mapping[str, Any] = store().call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise refusal(error, f"{self.url}/{name}") from error
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        now = parsedate_to_datetime(date) if date else datetime.now(UTC)
        age_s = max(0.0, (now - answer["LastModified"]).total_seconds())
        return Entry(size=answer["ContentLength"], etag=answer["ETag"], age_s=age_s)

    def copy(self, name: str, to: str) -> None:
        """Gives the object `name` a second name; nothing is sent."""
        self._call("copy", self._key(name), self._key(to), name=to)

    def remove(self, name: str) -> None:
        """Removes an object; nothing where there is none."""
        self._call("rm_file", self._key(name), name=name, absent=True)

    def told_there(self, text: str) -> str:
        """`text` with the URL in the place of the copy's path."""
        return self._local.sub(lambda _: self.url, text)

    def told_here(self, text: str) -> str:
        """`text` with the copy's path in the place of the URL."""
        return self._remote.sub(lambda _: str(self.folder), text)

    def _key(self, name: str) -> str:
        return f"{self.url.removeprefix(SCHEME)}/{name}".rstrip("/")

    def _call(self, method: str, *arguments: Any, name: str, absent: object = None, **options: Any) -> Any:
        """What the store answers; `absent` (if given) when it has no such object."""
        try:
            return getattr(store(), method)(*arguments, **options)
        except FileNotFoundError as error:
            if absent is not None and code_of(error) != "NoSuchBucket":
                return absent
            raise refusal(error, f"{self.url}/{name}".rstrip("/")) from error
        except Exception as error:
            raise refusal(error, f"{self.url}/{name}".rstrip("/")) from error


def is_hidden(name: str) -> bool:
    """Whether a file is on its way to another name, or a lock."""
    return any(part.startswith(".") for part in name.split("/")) or name.endswith((".part", ".lock"))


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="surrogateescape")
