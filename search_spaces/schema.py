"""Reads `train.schema.json` of a skill: TAO's format (Apache-2.0), which is neither strict JSON nor JSON Schema.

Known oddities that are read without complaint: `Infinity` as a bound (no bound), lists among `properties`, defaults outside
their own bounds.  Our own files carry one more keyword, `x_automl`: what TAO's format cannot say (scale, condition, effect, reason).

    python -m search_spaces.schema      writes the schemas of our skills again (`make schemas`)
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.errors import SkillError, SpecError
from search_spaces.space import Kind, Parameter, Value

SCHEMA_FILE = Path("schemas") / "train.schema.json"
KINDS: dict[str, Kind] = {"float": "float", "int": "int", "bool": "bool", "categorical": "categorical", "ordered": "categorical"}
KINDS["ordered_int"] = "categorical"
# a range over this many times its lower end is searched on a log scale unless the schema says otherwise
DECADES = 100.0


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One key of a train schema; `overlay` is its `x_automl`, empty in foreign schemas."""

    key: str
    type: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    options: tuple[Value, ...] = ()
    math_cond: str | None = None
    automl_enabled: bool | None = None
    overlay: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainSchema:
    """A train schema, flat: leaves by dotted key, and the names that TAO's default search would vary."""

    leaves: Mapping[str, Leaf]
    automl_default_parameters: tuple[str, ...]

    @property
    def has_overlay(self) -> bool:
        """Whether the file is ours: it says itself which parameters act and which are searched by default."""
        return any(leaf.overlay for leaf in self.leaves.values())


def read_train_schema(path: Path) -> TrainSchema:
    """The schema in a file; SkillError when it is missing or not one."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkillError(
            f"the train schema {path} cannot be read: {error.strerror}", hint="a skill needs schemas/train.schema.json"
        ) from error
    except ValueError as error:
        raise SkillError(
            f"the train schema {path} is not JSON: {error}", hint="generate it again (`make schemas` for our own skills)"
        ) from error
    if not isinstance(data, dict) or not isinstance(data.get("properties"), dict):
        raise SkillError(f"the train schema {path} has no properties", hint="it must hold an object with a properties tree")
    leaves = {leaf.key: leaf for leaf in _leaves(data["properties"])}
    flagged = tuple(sorted(key for key, leaf in leaves.items() if leaf.automl_enabled))
    return TrainSchema(leaves=leaves, automl_default_parameters=flagged)


def parameter_of(leaf: Leaf) -> Parameter:
    """The search parameter a leaf describes, with the overlay's range, scale and reason.

    Raises SpecError when the leaf cannot be searched: a list or a text, an open range, a condition that is not understood.
    """
    kind = KINDS.get(leaf.type)
    if kind is None:
        raise SpecError(f"{leaf.key} is a {leaf.type}: only numbers, switches and choices can be searched", hint="take it out of the space")
    why = str(leaf.overlay.get("why", ""))
    if kind == "bool":
        return Parameter(key=leaf.key, kind=kind, default=leaf.default, why=why)
    if kind == "categorical":
        choices = tuple(leaf.overlay.get("choices", leaf.options))
        return Parameter(key=leaf.key, kind=kind, choices=choices, default=leaf.default, why=why)
    low, high = leaf.overlay.get("low", leaf.low), leaf.overlay.get("high", leaf.high)
    if low is None or high is None:
        raise SpecError(f"{leaf.key} has an open range: a search needs both ends", hint="give low and high in the skill's overlay")
    low, step = _apply_math_cond(leaf, kind, low, high)
    log = bool(leaf.overlay.get("log", step is None and low > 0 and high / low >= DECADES))
    return Parameter(key=leaf.key, kind=kind, low=low, high=high, log=log, step=step, default=leaf.default, why=why)


def _apply_math_cond(leaf: Leaf, kind: Kind, low: float, high: float) -> tuple[float, float | None]:
    """Lower bound and step under TAO's `math_cond`: `> n` shuts the lower end, `/ n` asks for multiples of n."""
    text = (leaf.math_cond or "").strip()
    if not text:
        return low, None
    match = re.fullmatch(r"(>=|>|/|!=)\s*(-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)", text)
    if match is None:
        raise SpecError(f"{leaf.key} has a math_cond that is not understood: {text!r}", hint="known are `> n`, `>= n`, `/ n` and `!= n`")
    operator, number = match.group(1), float(match.group(2))
    if operator == "/":
        return math.ceil(low / number) * number, number
    if operator == ">=":
        return max(low, number), None
    if low > number or (operator == "!=" and low != number):
        return low, None
    # just inside the open end: one whole number, or a thousandth of the range
    return (number + 1 if kind == "int" else number + (high - number) * 1e-3), None


def _leaves(properties: Mapping[str, Any], prefix: str = "") -> Iterator[Leaf]:
    for name, node in properties.items():
        if not isinstance(node, dict):
            continue
        dotted = f"{prefix}{name}"
        if isinstance(node.get("properties"), dict):
            yield from _leaves(node["properties"], f"{dotted}.")
        elif isinstance(node.get("type"), str):
            yield _leaf(dotted, node)


def _leaf(dotted: str, node: Mapping[str, Any]) -> Leaf:
    options = node.get("enum")
    overlay = node.get("x_automl")
    return Leaf(
        key=dotted,
        type=node["type"],
        default=node.get("default"),
        low=_bound(node.get("minimum")),
        high=_bound(node.get("maximum")),
        options=tuple(options) if isinstance(options, list) else (),
        math_cond=node.get("math_cond"),
        automl_enabled=node.get("automl_enabled"),
        overlay=overlay if isinstance(overlay, dict) else {},
    )


def _bound(value: Any) -> float | None:
    """A finite bound, or None for an absent, infinite or list-valued one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and math.isfinite(value) else None


def main() -> int:
    """Write the generated files of our skills again; prints each path."""
    from search_spaces.schema_writer import write_schemas
    from search_spaces.skill import list_skills

    for skill in list_skills():
        for path in write_schemas(skill.root):
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
