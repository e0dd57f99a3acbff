"""Reads `train.schema.json` of a skill: TAO's format (Apache-2.0), which is neither strict JSON nor JSON Schema.

Known oddities that are read without complaint: `Infinity` as a bound (no bound), lists among `properties`, absent keywords.  What follows
from each leaf, and what is wrong with it, says `search_spaces.ranges`.  Our own files carry one more keyword, `x_automl`: what TAO's
format cannot say (scale, condition, effect, reason).

    python -m search_spaces.schema      writes the schemas of our skills again (`make schemas`)
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.errors import SkillError
from search_spaces.space import Value

SCHEMA_FILE = Path("schemas") / "train.schema.json"


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One key of a train schema; `overlay` is its `x_automl`, empty in foreign schemas.

    `list_bounds` are the lowest and the highest list of a type whose bounds are lists.
    """

    key: str
    type: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    options: tuple[Value, ...] = ()
    weights: tuple[float, ...] = ()
    list_bounds: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    math_cond: str | None = None
    depends_on: str | None = None
    parent: bool = False
    automl_enabled: bool | None = None
    overlay: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainSchema:
    """A train schema, flat: leaves by dotted key, and the names that TAO's default search would vary."""

    leaves: Mapping[str, Leaf]
    automl_default_parameters: tuple[str, ...]
    listed: tuple[str, ...] = ()  # what the file's own list of default parameters says; the flags of the leaves decide

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
    listed = data.get("automl_default_parameters")
    named = tuple(sorted(map(str, listed))) if isinstance(listed, list) else flagged
    return TrainSchema(leaves=leaves, automl_default_parameters=flagged, listed=named)


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
    options, weights = node.get("enum"), node.get("option_weights")
    overlay = node.get("x_automl")
    return Leaf(
        key=dotted,
        type=node["type"],
        default=node.get("default"),
        low=_bound(node.get("minimum")),
        high=_bound(node.get("maximum")),
        options=tuple(options) if isinstance(options, list) else (),
        weights=tuple(map(float, weights or ())) if _numbers(weights) else (),
        list_bounds=_list_bounds(node.get("minimum"), node.get("maximum")),
        math_cond=_text(node.get("math_cond")),
        depends_on=_text(node.get("depends_on")),
        parent=str(node.get("parent_param", "")).lower() == "true",
        automl_enabled=node.get("automl_enabled"),
        overlay=overlay if isinstance(overlay, dict) else {},
    )


def _bound(value: Any) -> float | None:
    """A finite bound, or None for an absent, infinite or list-valued one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and math.isfinite(value) else None


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int | float) and math.isfinite(item) for item in value)


def _list_bounds(low: Any, high: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    paired = _numbers(low) and _numbers(high) and len(low) == len(high) > 0
    return (tuple(low), tuple(high)) if paired else None


def _text(value: Any) -> str | None:
    """TAO writes keywords as text; some generators write a bare number or nothing."""
    return None if value in (None, "") else str(value)


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
