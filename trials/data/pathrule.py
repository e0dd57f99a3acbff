"""Which files of a tree are images, and what the files that belong to them are called: the patterns of a convert spec.

An image's path below data_root contains every text of `image_dir_pattern` (a leading `/` marks where it starts) and ends in
`image_extension`.  Its right image, ground truth and mask have the same path with every occurrence of `image_dir_pattern[0]` replaced
and the ending swapped; the right image keeps its ending.
"""

from __future__ import annotations

import os

from search_spaces.spec.convert import Convert
from trials.data.decoders import IMAGE_SUFFIXES


class PathRule:
    """The patterns of one convert spec, applied to paths relative to data_root with `/` between parts."""

    def __init__(self, spec: Convert) -> None:
        self._contains = spec.image_dir_pattern
        self._ending = spec.image_extension
        endings = (None, spec.depth_extension, spec.nocc_extension)
        patterns = (spec.right_dir_pattern, spec.depth_dir_pattern, spec.nocc_dir_pattern)
        self._others = [(pattern[0], ending) for pattern, ending in zip(patterns, endings, strict=True) if pattern]

    def selects(self, path: str) -> bool:
        """Whether the file is an image that gets a row."""
        return self.has_ending(path) and self.has_patterns(path)

    def has_ending(self, path: str) -> bool:
        """Whether the path ends in `image_extension`, in any case; without one, as any image file does."""
        return path.lower().endswith(IMAGE_SUFFIXES if self._ending is None else self._ending.lower())

    def has_patterns(self, path: str) -> bool:
        """Whether the path contains all of `image_dir_pattern`."""
        return all(pattern in f"/{path}" for pattern in self._contains)

    def occurrences(self, path: str) -> int:
        """How often the text that is replaced stands in the path; 0 when nothing is replaced."""
        return f"/{path}".count(self._contains[0]) if self._others else 0

    def columns(self, path: str) -> list[str]:
        """The paths of an image's row, itself first."""
        return [path, *(self._other(path, pattern, ending) for pattern, ending in self._others)]

    def _other(self, path: str, pattern: str, ending: str | None) -> str:
        replaced = f"/{path}".replace(self._contains[0], pattern).removeprefix("/")
        if ending is None or replaced.endswith(ending):
            return replaced
        if self._ending is None:
            return os.path.splitext(replaced)[0] + ending  # noqa: PTH122  half the time of PurePath.with_suffix
        # a pattern that brought its own ending along keeps it
        return replaced[: -len(self._ending)] + ending if replaced.lower().endswith(self._ending.lower()) else replaced
