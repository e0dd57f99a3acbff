"""From a leaf of a train schema to what a search may do with it, and what the schema itself got wrong about it.

Types are those of TAO's vocabulary (Apache-2.0).  Lists are searched as a whole: a `list_1_*` as runs that begin at the lowest number, a
`subset_list` as every subset, an `optional_list` as nothing or everything, a `list_2` between its lowest and its highest list, a `list_3`
as a pair of equal numbers; a plain `list` only among lists that somebody names.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from search_spaces.errors import SpecError
from search_spaces.math_cond import MathCond, parse_depends_on, parse_math_cond
from search_spaces.schema import Leaf
from search_spaces.space import Kind, Parameter, Value, choice_of

NUMBERS: Mapping[str, Kind] = {"float": "float", "int": "int"}
CHOICES = ("categorical", "ordered", "ordered_int", "enum")
LISTS = ("list", "list_1_backbone", "list_1_normal", "list_2", "list_3", "subset_list", "optional_list")
UNSEARCHED = ("string", "collection", "dict", "object", "const", "union")
TYPES = (*NUMBERS, "bool", *CHOICES, *LISTS, *UNSEARCHED)
# a range over this many times its lower end is searched on a log scale unless the schema says otherwise
DECADES = 100.0
MOST_SUBSETS, LONGEST_RUN, LEVELS = 5, 24, 5


def parameter_of(leaf: Leaf) -> Parameter:
    """The search parameter a leaf describes, with the overlay's range, scale and reason.

    Raises SpecError when the leaf cannot be searched: a text, a list without lists to choose from, an open range, a condition that is
    not understood.
    """
    why, condition = str(leaf.overlay.get("why", "")), parse_math_cond(leaf.math_cond or "")
    if leaf.type == "bool":
        return Parameter(key=leaf.key, kind="bool", default=leaf.default, why=why)
    if leaf.type in NUMBERS and not leaf.overlay.get("choices"):
        return replace(_number(leaf, condition), why=why)
    choices = tuple(choice_of(choice) for choice in leaf.overlay.get("choices", ())) or _choices(leaf, condition)
    weights = leaf.weights if len(leaf.weights) == len(choices) and all(weight > 0 for weight in leaf.weights) else ()
    return Parameter(key=leaf.key, kind="categorical", choices=choices, weights=weights, default=choice_of(leaf.default), why=why)


def _number(leaf: Leaf, condition: MathCond) -> Parameter:
    kind = NUMBERS[leaf.type]
    low, high = leaf.overlay.get("low", leaf.low), leaf.overlay.get("high", leaf.high)
    if low is None or high is None:
        hint = f"give one: --range {leaf.key}=LOW:HIGH, or custom_param_ranges"
        raise SpecError(f"{leaf.key} has an open range: a search needs both ends", hint=hint)
    if condition.power is not None:
        return Parameter(key=leaf.key, kind="categorical", choices=_powers(leaf, condition.power, low, high), default=leaf.default)
    step = leaf.overlay.get("step", condition.multiple)
    log = bool(leaf.overlay.get("log", step is None and low > 0 and high / low >= DECADES))
    low, high = _shut(condition, kind, low, high)
    if condition.multiple is not None:
        low = math.ceil(low / condition.multiple) * condition.multiple
    return Parameter(key=leaf.key, kind=kind, low=low, high=high, log=log, step=step, default=leaf.default)


def _shut(condition: MathCond, kind: Kind, low: float, high: float) -> tuple[float, float]:
    """The range within the condition's bounds.  An end that is no longer legal moves by one, or by a thousandth of the range."""
    gap = 1 if kind == "int" else (high - low) * 1e-3
    for relation, number in condition.bounds:
        match relation:
            case ">" if low <= number:
                low = number + gap
            case ">=":
                low = max(low, number)
            case "<" if high >= number:
                high = number - gap
            case "<=":
                high = min(high, number)
            case "!=" if number in (low, high):
                low, high = (low + gap, high) if number == low else (low, high - gap)
            case _:
                pass
    return low, high


def _powers(leaf: Leaf, base: float, low: float, high: float) -> tuple[Value, ...]:
    powers = [base**n for n in range(-64, 65)]
    legal = [power for power in powers if low <= power <= high and (leaf.type != "int" or power == int(power))]
    if not legal:
        raise SpecError(f"{leaf.key} must be a power of {base:g}, and there is none in [{low:g}, {high:g}]", hint="widen its range")
    return tuple(int(power) if leaf.type == "int" else power for power in legal)


def _choices(leaf: Leaf, condition: MathCond) -> tuple[Value, ...]:
    """The values of a choice, or the lists of a list as text."""
    named = tuple(choice_of(option) for option in leaf.options)
    if leaf.type in CHOICES and not named:
        raise SpecError(f"{leaf.key} is {leaf.type} and names no options", hint=f"name some: --choices {leaf.key}=A,B")
    if leaf.type in CHOICES:
        return named
    lists = [json.dumps(values) for values in _lists(leaf, condition)]
    if lists:
        return tuple(dict.fromkeys(lists))
    if leaf.type in LISTS:
        message = f"{leaf.key} is a {leaf.type}: only numbers, switches and choices can be searched, and lists that are named"
        raise SpecError(message, hint=f"name the lists to choose from: --choices {leaf.key}=[...],[...]")
    raise SpecError(f"{leaf.key} is a {leaf.type}: only numbers, switches and choices can be searched", hint="take it out of the space")


def _lists(leaf: Leaf, condition: MathCond) -> Iterator[Any]:
    """The values of a list type that has enough to go by; nothing for the others."""
    options, low, high = list(leaf.options), leaf.low, leaf.high
    if leaf.type == "optional_list" and options:
        yield from (None, options)
    elif leaf.type == "subset_list" and 0 < len(options) <= MOST_SUBSETS:
        for size in range(len(options) + 1):
            yield from (list(part) for part in itertools.combinations(options, size))
    elif leaf.type.startswith("list_1") and low is not None and high is not None and high - low < LONGEST_RUN:
        yield from (list(range(int(low), end)) for end in range(int(low), int(high) + 2))
    elif leaf.type == "list_2" and leaf.list_bounds is not None:
        first, last = leaf.list_bounds
        for share in (0.0, 0.5, 1.0):
            yield [_rounded(a + share * (b - a), condition, whole=isinstance(a, int)) for a, b in zip(first, last, strict=True)]
    elif leaf.type == "list_3" and low is not None and high is not None:
        levels = [low + (high - low) * level / (LEVELS - 1) for level in range(LEVELS)]
        yield from ([_rounded(level, condition, whole=isinstance(low, int))] * 2 for level in levels)


def _rounded(value: float, condition: MathCond, *, whole: bool) -> float:
    multiple = condition.multiple or (1 if whole else None)
    rounded = value if multiple is None else math.ceil(value / multiple) * multiple
    return int(rounded) if whole else round(rounded, 12)


def faults_of(leaf: Leaf) -> tuple[str, ...]:
    """What the schema says about this leaf that cannot be right, in words; none of it is obeyed."""
    found: list[str] = []
    default = leaf.default
    number = isinstance(default, int | float) and not isinstance(default, bool)
    low = -math.inf if leaf.low is None else leaf.low
    high = math.inf if leaf.high is None else leaf.high
    if low > high:
        found.append(f"its minimum {low:g} is above its maximum {high:g}")
    elif leaf.type in NUMBERS and number and not low <= default <= high:
        found.append(f"its default {default:g} lies outside its own range [{low:g}, {high:g}]")
    if leaf.type in CHOICES and leaf.options and default is not None and default not in leaf.options:
        found.append(f"its default {default} is none of its own options {', '.join(map(str, leaf.options))}")
    if leaf.weights and (len(leaf.weights) != len(leaf.options) or min(leaf.weights) <= 0):
        found.append(f"option_weights {list(leaf.weights)} do not give each of its {len(leaf.options)} options a weight above 0")
    if leaf.type not in TYPES:
        found.append(f"its type {leaf.type} is none of TAO's")
    for text, parse in ((leaf.math_cond, parse_math_cond), (leaf.depends_on, parse_depends_on)):
        try:
            parse(text or "")
        except SpecError as error:
            found.append(error.message)
    return tuple(found)
