"""The spec of `depth_net convert`: its own flat set of keys (names follow TAO's convert spec, Apache-2.0), loaded and checked.

    spec = load_convert(Path("convert.yaml"), ["split_ratio=0.8"]).spec
    spec.family, spec.columns

What the patterns do is `trials.data.convert`'s part; what they may say together is checked here.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.errors import SpecError, nearest
from search_spaces.spec.keys import Acts, Key, key
from search_spaces.spec.overrides import Override, parse_overrides
from search_spaces.spec.references import resolve_references
from search_spaces.spec.tree import Family
from search_spaces.spec.values import check_value, place_of
from search_spaces.spec.yaml_file import read_mapping

RUNNING, INERT = Acts.RUNNING, Acts.INERT
# what people call the keys who think of them as the left image, the disparity, the mask
FAMILIAR = {
    "left_dir_pattern": "image_dir_pattern",
    "left_extension": "image_extension",
    "disparity_dir_pattern": "depth_dir_pattern",
    "disp_dir_pattern": "depth_dir_pattern",
    "disparity_extension": "depth_extension",
    "mask_dir_pattern": "nocc_dir_pattern",
    "mask_extension": "nocc_extension",
    "output_dir": "results_dir",
    "root": "data_root",
}


@dataclass(frozen=True, kw_only=True)
class Convert:
    """A checked convert spec; build one with `load_convert`.  An ending has its dot; None stands for any, or for leaving it as it is."""

    data_root: str | None = key(None, "folder that holds the images, at any depth", acts=RUNNING)
    results_dir: str | None = key(None, "folder of the lists and of status.json", acts=RUNNING)
    image_dir_pattern: tuple[str, ...] = key((), "texts that the path of a left or only image contains, all of them", acts=RUNNING)
    right_dir_pattern: tuple[str, ...] = key((), "what stands in place of image_dir_pattern[0] in a right image's path", acts=RUNNING)
    depth_dir_pattern: tuple[str, ...] = key((), "what stands in place of image_dir_pattern[0] in a ground truth's path", acts=RUNNING)
    nocc_dir_pattern: tuple[str, ...] = key((), "what stands in place of image_dir_pattern[0] in a mask's path", acts=RUNNING)
    split_ratio: float = key(0.0, "share of the rows that trains; 0 or 1: one list, test.txt", low=0.0, high=1.0, acts=RUNNING)
    image_extension: str | None = key(".jpg", "ending of the images; '' takes every image file", acts=RUNNING)
    depth_extension: str | None = key(".png", "ending of the ground truth; '' keeps that of the image", acts=RUNNING)
    nocc_extension: str | None = key(".png", "ending of the masks; '' keeps that of the image", acts=RUNNING)
    nocc_mask_dir_name: str = key("", "name of the mask folder", acts=INERT, why="nocc_dir_pattern says it")
    seed: int = key(1234, "seed of the division into train and val", low=0, acts=RUNNING)
    allow_missing: bool = key(False, "leave out rows whose files are not all there, instead of an error", acts=RUNNING)

    @property
    def family(self) -> Family:
        """`stereo` if right images are asked for, else `mono`."""
        return "stereo" if self.right_dir_pattern else "mono"

    @property
    def columns(self) -> tuple[str, ...]:
        """What the lists hold, in their order."""
        stereo = self.family == "stereo"
        columns = [("left" if stereo else "image", True), ("right", stereo)]
        columns += [("disparity" if stereo else "depth", bool(self.depth_dir_pattern)), ("mask", bool(self.nocc_dir_pattern))]
        return tuple(name for name, there in columns if there)


PATTERNS = ("right_dir_pattern", "depth_dir_pattern", "nocc_dir_pattern")
ENDINGS = ("image_extension", "depth_extension", "nocc_extension")


@dataclass(frozen=True, kw_only=True)
class LoadedConvert:
    """A checked convert spec and the lines that a user should see about it."""

    spec: Convert
    warnings: tuple[str, ...]


def load_convert(path: Path, overrides: Sequence[str] = ()) -> LoadedConvert:
    """The convert spec of a file and `key=value` overrides; SpecError names the key, the value, its place and the fix."""
    tree, places = read_mapping(path)
    for override in parse_overrides(overrides):
        _apply(tree, override)
        places[override.key] = override.place
    spec = _build(resolve_references(tree, places), places)
    _check_columns(spec)
    return LoadedConvert(spec=spec, warnings=tuple(_warnings(spec)))


def _rules() -> dict[str, Key]:
    return {item.name: item.metadata["key"] for item in dataclasses.fields(Convert)}


def _apply(tree: dict[str, Any], override: Override) -> None:
    if override.key not in _rules():
        raise _unknown(override.key, override.place)
    if override.delete:
        tree.pop(override.key, None)
    else:
        tree[override.key] = override.value


def _build(data: Mapping[str, Any], places: Mapping[str, str]) -> Convert:
    hints, rules = typing.get_type_hints(Convert), _rules()
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in rules:
            raise _unknown(name, place_of(name, places))
        try:
            values[name] = check_value(name, value, hints[name], rules[name], places)
        except SpecError as error:
            listed = f"write {name}=[{value}]" if isinstance(value, str) and name.endswith("_pattern") else None
            raise SpecError(error.message, hint=listed or error.hint or f"{name}: {rules[name].doc}") from error
    for name in ("image_dir_pattern", *PATTERNS):
        # TAO's templates hold an empty text where there is no pattern
        values[name] = tuple(pattern for pattern in values.get(name, ()) if pattern)
    for name in ENDINGS:
        if values.get(name):
            values[name] = _with_dot(values[name])
    spec = Convert(**values)
    for name in ("data_root", "results_dir"):
        if getattr(spec, name) is None:
            raise SpecError(f"depth_net convert needs {name}: {rules[name].doc}", hint=f"add {name}=... to the command or to the spec")
    return spec


def _with_dot(ending: str) -> str:
    """`jpg` as `.jpg`; what begins with a mark (`.color.jpg`, `_left.png`) is taken as it is."""
    return f".{ending}" if ending[0].isalnum() else ending


def _unknown(name: str, place: str) -> SpecError:
    known = list(_rules())
    guess = FAMILIAR.get(name) or nearest(name, known)
    where = f" ({place})" if place else ""
    keys = f"the keys of a convert spec are {', '.join(known)}"
    return SpecError(f"unknown key {name}{where}", hint=f"did you mean {guess}?" if guess else keys)


def _check_columns(spec: Convert) -> None:
    """Raises for columns that no list has, and for a column that would repeat the image."""
    sets = "lists are: image; image depth; left right; left right disparity; left right disparity mask"
    if spec.nocc_dir_pattern and not (spec.right_dir_pattern and spec.depth_dir_pattern):
        lacks = " and ".join(name for name in PATTERNS[:2] if not getattr(spec, name))
        raise SpecError(
            f"nocc_dir_pattern {list(spec.nocc_dir_pattern)} asks for a mask, the column after right and disparity, but {lacks} is empty",
            hint=f"set {lacks}, or leave out nocc_dir_pattern; {sets}",
        )
    for name in PATTERNS:
        given = getattr(spec, name)
        if given and not spec.image_dir_pattern:
            raise SpecError(
                f"{name} {list(given)} has nothing to stand in for: image_dir_pattern is empty",
                hint="set image_dir_pattern to the text in an image's path that differs in the other files, image_dir_pattern=[im0] say",
            )
        ending = {"right_dir_pattern": None, "depth_dir_pattern": spec.depth_extension, "nocc_dir_pattern": spec.nocc_extension}[name]
        if given and given[0] == spec.image_dir_pattern[0] and ending in (None, spec.image_extension) and spec.image_extension:
            raise SpecError(
                f"{name}[0] and image_dir_pattern[0] are both {given[0]!r}, and the ending stays: the image itself would be listed again",
                hint="give the text by which the paths differ, or another ending",
            )


def _warnings(spec: Convert) -> list[str]:
    lines = []
    if spec.nocc_mask_dir_name:
        lines.append(f"nocc_mask_dir_name does nothing: {_rules()['nocc_mask_dir_name'].why}")
    for name in PATTERNS:
        more = [pattern for pattern in getattr(spec, name)[1:] if pattern not in spec.image_dir_pattern]
        if more:
            lines.append(
                f"{name}: only its first text, {getattr(spec, name)[0]!r}, is put in place of image_dir_pattern[0]; {more} does nothing"
            )
    return lines
