"""What a user is told when a convert spec does not fit the tree: what is there, and the nearest key that would find it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from search_spaces.errors import DataError, nearest
from search_spaces.spec.convert import Convert
from trials.data.decoders import IMAGE_SUFFIXES
from trials.data.pathrule import PathRule
from trials.data.tree import Unread, files_below

# which keys say where the files of a column are
KEYS = {"right": "right", "disparity": "depth", "depth": "depth", "mask": "nocc"}
_NAMED_ROWS = 10
_NAMED_PATHS = 3
_MOST_WORDS = 5000


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An image and the files of its row that are not there; relative to data_root."""

    image: str
    files: tuple[str, ...]


def missing_files(spec: Convert, root: Path, missing: Sequence[Missing], images: int) -> DataError:
    """The error for rows with files that are not there: how many, the first ten, and what one of them may be called instead."""
    named = "\n".join(f"  {row.image}: no {', no '.join(row.files)}" for row in missing[:_NAMED_ROWS])
    more = f"\n  ... and {len(missing) - _NAMED_ROWS} more" if len(missing) > _NAMED_ROWS else ""
    rule = PathRule(spec)
    shown = next((row for row in missing if rule.occurrences(row.image) > 1), missing[0])
    again = "; allow_missing=true leaves such rows out" if len(missing) < images else ""
    return DataError(
        f"{len(missing)} of {images} images below {root} lack files of their row:\n{named}{more}",
        hint=_other_name(spec, root, shown) + again,
    )


def _other_name(spec: Convert, root: Path, row: Missing) -> str:
    """What the first missing file of `row` may be called, or what to look at."""
    rule, path, image = PathRule(spec), PurePosixPath(row.files[0]), PurePosixPath(row.image)
    if rule.occurrences(row.image) > 1:
        longer = f"/{spec.image_dir_pattern[0].strip('/')}/"
        return f"image_dir_pattern[0] stands more than once in {row.image} and all are replaced; give more of the path, {longer} say"
    key = KEYS[spec.columns[rule.columns(row.image).index(row.files[0])]]
    folder = root / path.parent
    if not folder.is_dir():
        while not folder.is_dir():
            absent, folder = folder.name, folder.parent
        near = nearest(absent, [entry.name for entry in folder.iterdir() if entry.is_dir()])
        return f"there is no folder {absent} in {folder}; " + (f"did you mean {near}?" if near else f"check {key}_dir_pattern")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name != image.name)
    same_stem = next((name for name in names if key != "right" and PurePosixPath(name).stem == path.stem), None)
    if same_stem is not None:
        return f"{path.parent / same_stem} is there: set {key}_extension={PurePosixPath(same_stem).suffix}"
    near = nearest(path.name, names)
    return f"{path.parent / near} is there; check {key}_dir_pattern" if near else f"check {key}_dir_pattern"


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What a tree holds: files by ending, those with all patterns by ending, paths with each pattern, names, a few images."""

    endings: Counter[str]
    with_patterns: Counter[str]
    hits: Counter[str]
    words: list[str]
    examples: list[str]


def nothing_found(spec: Convert, root: Path, unread: Unread) -> DataError:
    """The error for a tree without a single image of the spec; it is walked once more to say what is there."""
    seen = _look(spec, root)
    wanted = f"the ending {spec.image_extension}" if spec.image_extension else "the ending of an image"
    if spec.image_dir_pattern:
        wanted += f" and {' and '.join(map(repr, spec.image_dir_pattern))} in its path"
    found = ", ".join(f"{count} {ending}" for ending, count in seen.endings.most_common(5)) or "it holds no file"
    shown = f", such as {', '.join(seen.examples)}" if seen.examples else ""
    locked = f"; folders that could not be read: {len(unread.folders)}" if unread.folders else ""
    return DataError(f"no file below {root} has {wanted}: {found}{shown}{locked}", hint=_nearest_spec(spec, root, seen))


def _look(spec: Convert, root: Path) -> _Seen:
    rule = PathRule(spec)
    endings, with_patterns, hits = Counter[str](), Counter[str](), Counter[str]()
    words: dict[str, None] = {}
    examples: list[str] = []
    for path in files_below(root, Unread()):
        parts = PurePosixPath(path)
        ending = parts.suffix or "no ending"
        endings[ending] += 1
        with_patterns.update([ending] if rule.has_patterns(path) else [])
        hits.update(pattern for pattern in spec.image_dir_pattern if pattern in f"/{path}")
        if len(examples) < _NAMED_PATHS and rule.has_ending(path):
            examples.append(path)
        if len(words) < _MOST_WORDS:
            words.update(dict.fromkeys((*parts.parts[:-1], parts.stem)))
    return _Seen(endings=endings, with_patterns=with_patterns, hits=hits, words=list(words), examples=examples)


def _nearest_spec(spec: Convert, root: Path, seen: _Seen) -> str:
    """The key that would find something, by what was seen."""
    if not seen.endings:
        return "check data_root"
    for ending, count in seen.with_patterns.most_common():
        if ending.lower() in IMAGE_SUFFIXES:
            return f"{count} paths hold every text of image_dir_pattern, but end in {ending}: set image_extension={ending}"
    if seen.with_patterns:
        return "the files that hold every text of image_dir_pattern are no images"
    absent = next((pattern for pattern in spec.image_dir_pattern if not seen.hits[pattern]), None)
    return (
        _nearest_pattern(absent, root, seen.words) if absent else "each text of image_dir_pattern stands in some path, but none holds all"
    )


def _nearest_pattern(absent: str, root: Path, words: Sequence[str]) -> str:
    """What was probably meant by a pattern that stands in no path."""
    bare = absent.strip("/*")
    if absent in f"{root}/":
        return f"{absent!r} is part of data_root itself; patterns are looked for below it: set data_root to a folder further up"
    if "*" in absent and any(bare in word for word in words):
        return f"patterns are plain texts without wildcards: write {bare!r}"
    other_case = next((word for word in words if bare.lower() in word.lower() and bare not in word), None)
    if other_case is not None:
        return f"{absent!r} and {other_case!r} differ in upper and lower case, which counts"
    near = nearest(bare, words)
    return f"no path holds {absent!r}; " + (f"did you mean {near!r}?" if near else "give a text that stands in the path of every image")
