"""The images of a folder as annotation rows without ground truth: inference needs no list.

Mono takes every image of the tree but depth maps and masks beside colour images.  Stereo takes the pairs that the usual names show:
a folder or a part of a file name says `left`, `image_02`, `im0`, ..., and the same path with its counterpart exists.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from search_spaces.errors import DataError
from search_spaces.spec import DataSource
from trials.data.annotations import AnnotationList, Fetch, Root, Row, fetched, read_list
from trials.data.decoders import IMAGE_SUFFIXES
from trials.data.objects import names_below
from trials.data.tree import Unread, files_below
from trials.data.urls import is_url

# left and right views in the names of KITTI, Middlebury, ETH3D, Scene Flow and most recorders; also with a capital or in capitals
PAIRS = (
    ("left", "right"),
    ("image_02", "image_03"),
    ("image_2", "image_3"),
    ("image_0", "image_1"),
    ("im0", "im1"),
    ("imL", "imR"),
    ("view1", "view5"),
    ("cam0", "cam1"),
    ("l", "r"),
)
_PATTERNS = tuple(
    (re.compile(rf"(?<![A-Za-z0-9]){left}(?![A-Za-z{'' if left == 'left' else '0-9'}])"), right)
    for pair in PAIRS
    for left, right in dict.fromkeys((pair, (pair[0].title(), pair[1].title()), (pair[0].upper(), pair[1].upper())))
)
_NO_VIEW = re.compile(r"(?<![a-z])(depth|disp|disparity|mask|seg)(?![a-z])", re.IGNORECASE)
_NO_PHOTO = re.compile(r"(?<![a-z])(depth|disp|disparity|mask|groundtruth)(?![a-z])", re.IGNORECASE)
MAC_FILES = re.compile(r"(^|/)(\._|__MACOSX/)")  # what `trials.data.tree` passes over as well
_NAMED_FILES = 5
FOLDER = "folder of images"


def read_source(source: DataSource, *, family: str, action: str, fetch: Fetch | None = None) -> AnnotationList:
    """The rows of a data source: those of its list, in inference also those of a folder that stands in its place.

    A URL names a folder if it ends with a slash.  `fetch` brings what URLs name.
    """
    folder = Path(source.data_file).expanduser()
    if action == "infer" and is_url(source.data_file) and source.data_file.endswith("/"):
        return AnnotationList(rows=stored_rows(source.data_file, family=family, fetch=fetch), root=None, root_choice=FOLDER)
    if action == "infer" and folder.is_dir():
        return AnnotationList(rows=input_rows(folder, family=family), root=None, root_choice=FOLDER)
    return read_list(source, family=family, action=action, fetch=fetch)


def input_rows(folder: Path, *, family: str) -> tuple[Row, ...]:
    """One row for each image (mono) or pair (stereo) below `folder`, by path; a row's place is the folder and its number.

    DataError: no such folder, no image in it, no pair (says which names were looked for), left views whose right view is missing,
    folders that may not be read.
    """
    folder = folder.expanduser()
    unread = Unread()
    files = list(files_below(folder, unread))
    if unread.folders:
        named = ", ".join(str(folder / name) for name in unread.folders[:_NAMED_FILES])
        raise DataError(f"{len(unread.folders)} folders below {folder} cannot be read: {named}", hint="change their owner or mode")
    return tuple(
        Row(image=folder / image, right=None if right is None else folder / right, target=None, mask=None, file=folder, line=number)
        for number, (image, right) in enumerate(_views(folder, files, family), start=1)
    )


def stored_rows(folder: str, *, family: str, fetch: Fetch | None) -> tuple[Row, ...]:
    """As `input_rows` for the URL of a folder; its images alone are fetched."""
    url = folder.rstrip("/")
    views = _views(url, [name for name in names_below(url) if not MAC_FILES.search(name)], family)
    names = [f"{url}/{name}" for pair in views for name in pair if name is not None]
    copies = fetched(names, url, fetch)
    return tuple(
        Row(
            image=copies[f"{url}/{image}"],
            right=None if right is None else copies[f"{url}/{right}"],
            target=None,
            mask=None,
            file=url,
            line=number,
        )
        for number, (image, right) in enumerate(views, start=1)
    )


def _views(folder: Root, files: Sequence[str], family: str) -> Sequence[tuple[str, str | None]]:
    """The images among `files`, with their right views in stereo."""
    images = sorted(name for name in files if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(f"no image below {folder}: {_found(files)}", hint=f"images end in {' '.join(IMAGE_SUFFIXES)} (any case)")
    return [(image, None) for image in _photos(images)] if family == "mono" else _pairs(folder, images)


def _photos(images: Sequence[str]) -> Sequence[str]:
    return [image for image in images if not _NO_PHOTO.search(image)] or images  # a scene may be called depth_test


def _pairs(folder: Root, images: Sequence[str]) -> list[tuple[str, str]]:
    views = [image for image in images if not _NO_VIEW.search(image)]
    pairs, alone = _matched(views)
    if not pairs:
        pairs, alone = _matched(images)  # a scene may be called depth_test
    if not pairs:
        looked_for = ", ".join("/".join(pair) for pair in PAIRS)
        raise DataError(
            f"no stereo pair among {_count(images)} below {folder}, such as {images[0]}",
            hint=f"folders or parts of file names say which view it is ({looked_for}); for other names write a list of `left right` lines",
        )
    # a left view named like those that have a right one
    shapes = {_shape(image) for image in pairs}
    missing = [image for image in alone if _shape(image) in shapes]
    if missing:
        named = ", ".join(missing[:_NAMED_FILES]) + (", ..." if len(missing) > _NAMED_FILES else "")
        raise DataError(
            f"{len(missing)} of {len(pairs) + len(missing)} left views below {folder} have no right view: {named}",
            hint="copy the right views, or write a list of the pairs that are there: `left right` lines",
        )
    return list(pairs.items())


def _matched(images: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Right view by left view, and images that are called like a left view but have no right one."""
    known = set(images)
    pairs: dict[str, str] = {}
    alone: list[str] = []
    for image in images:
        names = list(_right_names(image))
        right = next((name for name in names if name in known), None)
        if right is not None:
            pairs[image] = right
        elif names:
            alone.append(image)
    return pairs, alone


def _right_names(image: str) -> Iterator[str]:
    """What the right view of `image` may be called: every mark of a left view replaced, then one alone, the last first."""
    for pattern, right in _PATTERNS:
        marks = list(pattern.finditer(image))
        if not marks:
            continue
        yield pattern.sub(right, image)
        if len(marks) > 1:
            yield from (image[: mark.start()] + right + image[mark.end() :] for mark in reversed(marks))


def _shape(image: str) -> str:
    """The last two parts of a path without their numbers."""
    return re.sub(r"\d+", "#", "/".join(PurePosixPath(image).parts[-2:]))


def _found(files: Sequence[str]) -> str:
    if not files:
        return "the folder is empty"
    endings = Counter(PurePosixPath(name).suffix.lower() or "no ending" for name in files)
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"{count} ({', '.join(ending for ending, _ in endings.most_common(_NAMED_FILES))})"


def _count(images: Sequence[str]) -> str:
    return "1 image" if len(images) == 1 else f"{len(images)} images"
