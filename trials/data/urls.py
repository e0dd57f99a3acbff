"""Names of objects in an S3 store: `s3://bucket/key`."""

from __future__ import annotations

from search_spaces.errors import DataError

SCHEME = "s3://"


def is_url(text: str) -> bool:
    """Whether `text` names an object (or a folder) of an S3 store."""
    return text.startswith(SCHEME)


def joined(folder: str, name: str) -> str:
    """The URL of the relative path `name` below the URL `folder`; `..` goes up."""
    parts: list[str] = []
    for part in f"{folder.removeprefix(SCHEME).rstrip('/')}/{name}".split("/"):
        if part == "..":
            del parts[-1:]
        elif part != ".":
            parts.append(part)
    return SCHEME + "/".join(parts)


def parent_of(url: str) -> str:
    """The URL of the folder that an object is in."""
    return url.rpartition("/")[0]


def bucket_and_key(url: str) -> tuple[str, str]:
    """The two parts of a URL; DataError for one that names no object, or one that no file can be called by."""
    bucket, _, key = url.removeprefix(SCHEME).partition("/")
    if not bucket or not key or any(part in {"", ".", ".."} for part in key.split("/")):
        raise DataError(f"{url} names no object", hint="write s3://bucket/folder/name, without empty parts and dots between the slashes")
    return bucket, key
