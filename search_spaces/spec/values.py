"""Plain data to typed sections and back: checks every type, range and option, and says where a bad value stands."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from search_spaces.errors import SpecError, nearest
from search_spaces.spec.dataset import DataSource
from search_spaces.spec.keys import Key, allows_none, section_fields, without_none
from search_spaces.spec.tree import all_fields, unknown_key

T = TypeVar("T")
Places = Mapping[str, str]
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
LARGEST = 2**53  # whole numbers up to here survive a trip through JSON and float
# written where nothing is meant: TAO's templates wait for the user with ???, and YAML reads None as a text
PLACEHOLDERS = ("", "???", "None")


def build(kind: type[T], data: Mapping[str, Any], places: Places, prefix: str = "") -> T:
    """A section of type `kind` from plain data; keys that are absent keep their defaults.

    Raises SpecError with rule, value and place for an unknown key or an illegal value.
    """
    known = section_fields(cast(Any, kind))
    hints = _hints(cast(Any, kind))
    values: dict[str, Any] = {}
    for name, value in data.items():
        dotted = f"{prefix}{name}"
        if name not in known:
            raise unknown_key(dotted, place=place_of(dotted, places))
        annotation = hints[name]
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            if value is None:
                continue
            if not isinstance(value, Mapping):
                raise _wrong(dotted, "must be a group of keys", value, places)
            values[name] = build(annotation, value, places, f"{dotted}.")
        else:
            values[name] = check_value(dotted, value, annotation, known[name].metadata["key"], places)
    return kind(**values)


def plain(section: object) -> dict[str, Any]:
    """JSON-able data of a section: groups become dicts, tuples lists.  The inverse of `build`."""
    return {name: _plain_value(getattr(section, name)) for name in section_fields(cast(Any, type(section)))}


def place_of(dotted: str, places: Places) -> str:
    """Where `dotted`, or the group it lies in, was written (`spec.yaml:12`, `command line`); empty when unknown."""
    name = dotted
    while name:
        if name in places:
            return places[name]
        name = re.sub(r"(\[\d+\]|\.?[^.\[\]]+)$", "", name)
    return ""


def check_value(dotted: str, value: Any, annotation: object, rule: Key, places: Places) -> Any:
    """`value` as the annotation's type (numbers widened, lists as tuples, options in their own spelling), or SpecError."""
    if allows_none(annotation) and value in (None, *PLACEHOLDERS):
        return None
    target = without_none(annotation)
    if typing.get_origin(target) is tuple:
        return _sequence(dotted, value, target, rule, places)
    if isinstance(target, type) and target in KINDS:
        return _scalar(dotted, value, target, rule, places)
    if not isinstance(value, Mapping):
        raise _wrong(dotted, "must be a mapping", value, places)
    return dict(value)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(name): _plain_value(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain_value(item) for item in value]
    return value


def _scalar(dotted: str, value: Any, target: type, rule: Key, places: Places) -> Any:
    if target is str and rule.options:
        return _option(dotted, value, rule, places)
    typed = _typed(value, target)
    if typed is None:
        hint = f"remove the quotes of {value!r}" if isinstance(value, str) and _is_number(value) and target is not str else None
        hint = "leave the key out to take its default" if value is None else hint
        raise _wrong(dotted, f"must be {KINDS[target]}", value, places, hint)
    if rule.options and typed not in rule.options:
        raise _wrong(dotted, f"must be one of {', '.join(map(str, rule.options))}", value, places)
    if target in (int, float):
        _check_range(dotted, typed, rule, places)
    return typed


def _typed(value: Any, target: type) -> Any:
    """`value` as `target`, or None when it is something else.  True is no number; 2.0 is a whole one."""
    if target is bool and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())  # TAO's templates quote some switches
    if target is bool or isinstance(value, bool):
        return value if isinstance(value, bool) and target is bool else None
    if isinstance(value, int) and abs(value) > LARGEST:
        return None
    if target is float and isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    if target is int and isinstance(value, int | float):
        return int(value) if abs(value) <= LARGEST and value == int(value) else None
    # a folder may be called 2024
    return str(value) if target is str and isinstance(value, str | int | float) else None


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text) is not None


def _option(dotted: str, value: Any, rule: Key, places: Places) -> str:
    words = [str(option) for option in rule.options]
    text = rule.aliases.get(value, value) if isinstance(value, str) else value
    for word in words:
        if isinstance(text, str) and text.lower() == word.lower():
            return word
    guess = nearest(str(text), words)
    hint = f"did you mean {guess}?" if guess else None
    raise _wrong(dotted, f"must be one of {', '.join(words)}", value, places, hint)


def _check_range(dotted: str, value: float, rule: Key, places: Places) -> None:
    if rule.off is not None and value == rule.off:
        return
    low = rule.low if rule.low is not None else -math.inf
    high = rule.high if rule.high is not None else math.inf
    if low <= value <= high and (rule.above is None or value > rule.above):
        return
    exclusive = rule.above is not None and rule.above >= low
    parts = [f"above {rule.above:g}"] if exclusive else ([f"at least {low:g}"] if low > -math.inf else [])
    parts += [f"at most {high:g}"] if high < math.inf else []
    unit = f" {rule.unit}" if rule.unit else ""
    near = None if exclusive and value <= cast(float, rule.above) else min(max(value, low), high)
    hint = None if near is None else f"the nearest legal value is {near:g}"
    raise _wrong(dotted, f"must be {' and '.join(parts)}{unit}", value, places, hint)


def _sequence(dotted: str, value: Any, target: Any, rule: Key, places: Places) -> tuple[Any, ...]:
    arguments = typing.get_args(target)
    if value is None and arguments[-1] is Ellipsis:
        return ()
    if isinstance(value, Mapping) and arguments[0] not in (int, float, str):
        value = [value]
    if isinstance(value, str) or not isinstance(value, Sequence):
        example = "[{data_file: train.txt, dataset_name: ...}]" if arguments[0] is DataSource else f"[{str(value).strip('()')}]"
        raise _wrong(dotted, "must be a list", value, places, f"for example {example}")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise _wrong(dotted, f"must have {len(arguments)} values", list(value), places)
    if arguments[0] is DataSource:
        sources = [_data_source(f"{dotted}[{i}]", item, places) for i, item in enumerate(value)]
        return tuple(source for source in sources if source is not None)
    if arguments[0] in KINDS:
        return tuple(_scalar(f"{dotted}[{i}]", item, arguments[0], rule, places) for i, item in enumerate(value))
    for i, item in enumerate(value):
        if not isinstance(item, Mapping):
            raise _wrong(f"{dotted}[{i}]", "must be a mapping", item, places)
    return tuple(dict(item) for item in value)


def _data_source(dotted: str, value: Any, places: Places) -> DataSource | None:
    """One entry of a `data_sources` list; None for the empty entry of a template."""
    if not isinstance(value, Mapping):
        raise _wrong(dotted, "must be a mapping with data_file and dataset_name", value, places)
    known = [item.name for item in dataclasses.fields(DataSource)]
    for name in value:
        if name not in known:
            guess = nearest(str(name), known)
            hint = f"did you mean {guess}?" if guess else f"an entry has {', '.join(known)}"
            raise SpecError(f"unknown key {dotted}.{name}{at_place(dotted, places)}", hint=hint)
    if "data_file" in value and value["data_file"] in (None, *PLACEHOLDERS):
        return None
    missing = [name for name in ("data_file", "dataset_name") if value.get(name) in (None, *PLACEHOLDERS)]
    if missing:
        raise SpecError(
            f"{dotted} needs both data_file and dataset_name; missing: {', '.join(missing)}{at_place(dotted, places)}",
            hint="for example {data_file: train.txt, dataset_name: GenericDataset}",
        )
    scale = value.get("depth_scale")
    if scale is not None and not (isinstance(scale, int | float) and not isinstance(scale, bool) and scale > 0):
        raise _wrong(f"{dotted}.depth_scale", "must be a number above 0: PNG values per metre", scale, places)
    for name in ("data_file", "dataset_name", "data_root"):
        if not isinstance(value.get(name, ""), str | None):
            raise _wrong(f"{dotted}.{name}", "must be a text", value[name], places)
    return DataSource(
        data_file=value["data_file"],
        dataset_name=value["dataset_name"],
        data_root=value.get("data_root") or None,
        depth_scale=None if scale is None else float(scale),
    )


def _wrong(dotted: str, rule: str, value: Any, places: Places, hint: str | None = None) -> SpecError:
    shown = "null" if value is None else f"{value:g}" if isinstance(value, float) else repr(value)
    return SpecError(f"{dotted} {rule}, but is {shown}{at_place(dotted, places)}", hint=hint or _meaning(dotted))


def _meaning(dotted: str) -> str | None:
    """What the key (of an entry: of its list) is for, and its default; None for a key of another kind of spec."""
    dotted = dotted.partition("[")[0]
    info = all_fields().get(dotted)
    if info is None:
        inside = next((name for name in all_fields() if name.startswith(f"{dotted}.")), None)
        return None if inside is None else f"set a key in it: {inside}=..."
    written = _plain_value(info.default)
    shown = "unset" if written in (None, [], {}, "") else str(written).lower() if isinstance(written, bool) else str(written)
    return f"{dotted}: {info.doc}; without the key it is {shown}"


def at_place(dotted: str, places: Places) -> str:
    """` (spec.yaml:12)` for the end of an error; empty where the place is unknown."""
    place = place_of(dotted, places)
    return f" ({place})" if place else ""
