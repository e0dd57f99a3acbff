"""Reads `math_cond` and `depends_on` of TAO's train schemas (Apache-2.0): what a value must be beyond its bounds.

    math_cond   = condition+          condition = op operand | "^" number | "/" number
    op          = ">" ">=" "<" "<=" "!="          operand = number | "depends_on"
    depends_on  = name ("," name)* | op name

`^ 2` asks for powers of 2, `/ 8` for multiples of 8, `> depends_on` for more than the parameter that `depends_on` names.  Blanks do
not matter: `>0` and `> 0.0` are the same.  Bounds are exactly what they say: `<= 1.0` lets 1 be 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from search_spaces.errors import SpecError

Relation = Literal[">", ">=", "<", "<=", "!="]
PARENT = "depends_on"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CONDITION = re.compile(rf"\s*(>=|<=|!=|>|<|\^|/)\s*({_NUMBER}|{PARENT})")
_NAMED = re.compile(r"\s*(>=|<=|!=|>|<)\s*([\w.]+)\s*")
_KNOWN = "known are `> n`, `>= n`, `< n`, `<= n`, `!= n`, each with depends_on too, `^ n` and `/ n`"


@dataclass(frozen=True, kw_only=True)
class MathCond:
    """`bounds` compare with numbers, `relations` with the parents; `power` and `multiple` are None where they are not asked for."""

    bounds: tuple[tuple[Relation, float], ...] = ()
    relations: tuple[Relation, ...] = ()
    power: float | None = None
    multiple: float | None = None


@dataclass(frozen=True, kw_only=True)
class Parents:
    """The parameters that must be chosen before this one, and how it compares with them if `depends_on` itself says so."""

    names: tuple[str, ...] = ()
    relation: Relation | None = None


def parse_math_cond(text: str) -> MathCond:
    """What a `math_cond` asks for; SpecError for a text outside the grammar."""
    bounds: list[tuple[Relation, float]] = []
    relations: list[Relation] = []
    factors: dict[str, float] = {}
    at = 0
    while text[at:].strip():
        match = _CONDITION.match(text, at)
        if match is None:
            raise SpecError(f"math_cond {text!r} is not understood at {text[at:].strip()!r}", hint=_KNOWN)
        operator, operand = match.groups()
        at = match.end()
        if operator in "^/":
            factors[operator] = _factor(operator, operand, text)
        elif operand == PARENT:
            relations.append(cast(Relation, operator))
        else:
            bounds.append((cast(Relation, operator), float(operand)))
    if len(factors) == 2:
        raise SpecError(f"math_cond {text!r} asks for powers and for multiples", hint="one of the two can be kept")
    return MathCond(bounds=tuple(bounds), relations=tuple(relations), power=factors.get("^"), multiple=factors.get("/"))


def _factor(operator: str, operand: str, text: str) -> float:
    least = 1.0 if operator == "^" else 0.0
    if operand == PARENT or float(operand) <= least:
        raise SpecError(f"math_cond {text!r} is not understood: {operator} needs a number above {least:g}", hint=_KNOWN)
    return float(operand)


def parse_depends_on(text: str) -> Parents:
    """The parents that a `depends_on` names; SpecError for a text outside the grammar."""
    named = _NAMED.fullmatch(text)
    if named is not None:
        return Parents(names=(named[2],), relation=cast(Relation, named[1]))
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not all(re.fullmatch(r"[\w.]+", name) for name in names):
        raise SpecError(f"depends_on {text!r} is not understood", hint="it names parameters, with commas between them, or `> name`")
    return Parents(names=names)


def holds(left: float, relation: Relation, right: float) -> bool:
    """Whether `left relation right`."""
    match relation:
        case ">":
            return left > right
        case ">=":
            return left >= right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case "!=":
            return left != right
