"""What a search may vary: parameters with ranges, scales and conditions; checking, applying, fingerprint.

The order of a space is the order of suggestion: a condition looks only at parameters that stand before it, so a
searcher walks `space.parameters` once, asks `parameter.active_in(values)` and suggests the active ones alone.  Relations between
parameters are checked after a proposal: one that breaks a relation, or a rule of the spec, is drawn again.

A list is chosen as a whole: its choices are texts such as `[320, 736]`, so that every searcher and every record can hold them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from search_spaces.errors import SpecError, nearest
from search_spaces.math_cond import Relation, holds
from search_spaces.spec import Spec, get_value, with_values

Value = bool | int | float | str
Kind = Literal["float", "int", "categorical", "bool"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Holds while the key `key` (a parameter that is active, or a key that the spec fixes) has one of `values`."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """`key relation other` must hold where both are active; `other` is a key of the space or a number."""

    key: str
    relation: Relation
    other: str | float

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise SpecError when `values` break it."""
        left = values.get(self.key)
        right = values.get(self.other) if isinstance(self.other, str) else self.other
        if left is not None and right is not None and not holds(left, self.relation, right):
            raise SpecError(f"{self.describe()} must hold, but {left:g} and {right:g} were chosen", hint="choose other values")

    def describe(self) -> str:
        """`model.a > model.b`."""
        return f"{self.key} {self.relation} {self.other if isinstance(self.other, str) else format(self.other, 'g')}"


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One dotted key of the spec and what it may become.

    `float` and `int` have `low <= high`, both included, on a log scale if `log`, or in multiples of `step` above
    `low`; `categorical` has `choices`; `default` is the spec's own value, `why` the reason it is searched.  `prior` is the user's guess of
    a good value, `weights` say how likely each choice is before anything is known; both steer blind draws and early proposals alone.
    """

    key: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()
    default: Value | None = None
    condition: Condition | None = None
    prior: Value | None = None
    weights: tuple[float, ...] = ()
    why: str = ""

    def __post_init__(self) -> None:
        """Check the definition itself."""
        if self.kind in ("float", "int"):
            self._check_bounds()
        elif self.kind == "categorical" and not self.choices:
            raise SpecError(f"{self.key} is categorical and has no choices", hint="name its choices")
        if self.weights and (len(self.weights) != len(self.choices) or min(self.weights) <= 0):
            message = f"{self.key} needs a weight above 0 for each of its {len(self.choices)} choices, but has {list(self.weights)}"
            raise SpecError(message, hint="give one positive number for each choice, or none at all")
        if self.prior is not None:
            self.check(self.prior)

    def _check_bounds(self) -> None:
        low, high = self.low, self.high
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
            raise SpecError(f"{self.key} needs finite bounds, but has low={low}, high={high}", hint="give both ends of the range")
        if low > high:
            raise SpecError(f"low <= high must hold for {self.key}, but low={low:g}, high={high:g}", hint="swap the two")
        if self.log and (low <= 0 or self.step is not None):
            message = f"a log scale needs low > 0 and no step, but {self.key} has low={low:g}, step={self.step}"
            raise SpecError(message, hint="raise low, leave the step out, or search it on a linear scale")
        if self.step is not None and self.step <= 0:
            raise SpecError(f"the step of {self.key} must be above 0, but is {self.step:g}", hint="leave it out for any value")
        if self.kind == "int" and self.step is not None and self.step != int(self.step):
            raise SpecError(f"{self.key} is a whole number, but its step is {self.step:g}", hint="give a whole step, or leave it out")

    def active_in(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition holds, given the values chosen so far."""
        condition = self.condition
        return condition is None or (condition.key in values and values[condition.key] in condition.values)

    def allows(self, value: object) -> bool:
        """Whether `value` may be chosen."""
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "categorical":
            return any(value == choice and type(value) is type(choice) for choice in self.choices)
        return self._in_range(value)

    def check(self, value: object) -> None:
        """Raise SpecError unless `value` may be chosen."""
        if not self.allows(value):
            raise SpecError(f"{self.key} must be {self.describe()}, but is {value!r}", hint="choose a value of the search space")

    def _in_range(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        if not math.isfinite(value):
            return False
        if self.kind == "int" and value != int(value):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9

    def describe(self) -> str:
        """The domain in words: `in [1e-06, 0.01] (log)`, `one of AdamW, SGD`."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "categorical":
            weighted = f", weighted {' : '.join(f'{weight:g}' for weight in self.weights)}" if self.weights else ""
            return f"one of {', '.join(map(str, self.choices))}{weighted}"
        notes = ["log"] if self.log else []
        notes += [f"steps of {self.step:g}"] if self.step is not None else []
        kind = "a whole number in " if self.kind == "int" else "in "
        return f"{kind}[{self.low:g}, {self.high:g}]" + (f" ({', '.join(notes)})" if notes else "")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The parameters of one search, parents before the parameters that depend on them, and the relations between them."""

    skill: str
    parameters: tuple[Parameter, ...]
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        """Check that names are unique and that conditions look back."""
        seen: set[str] = set()
        for parameter in self.parameters:
            if parameter.key in seen:
                raise SpecError(f"{parameter.key} stands twice in the search space", hint="leave one of the two out")
            seen.add(parameter.key)
        for position, parameter in enumerate(self.parameters):
            later = {other.key for other in self.parameters[position:]}
            if parameter.condition is not None and parameter.condition.key in later:
                message = f"{parameter.key} depends on {parameter.condition.key}, which must stand before it in the search space"
                raise SpecError(message, hint=f"put {parameter.condition.key} first")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what is searched (reasons left out); equal spaces have equal ones."""
        content = [{name: value for name, value in asdict(parameter).items() if name != "why"} for parameter in self.parameters]
        relations = [asdict(constraint) for constraint in self.constraints]
        data = {"skill": self.skill, "parameters": content, "constraints": relations}
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def parameter(self, key: str) -> Parameter:
        """The parameter of that name; SpecError with the nearest name when there is none."""
        for parameter in self.parameters:
            if parameter.key == key:
                return parameter
        guess = nearest(key, [parameter.key for parameter in self.parameters])
        raise SpecError(f"{key} is not in the search space", hint=f"did you mean {guess}?" if guess else None)

    def active(self, values: Mapping[str, Any] | Spec) -> tuple[Parameter, ...]:
        """The parameters that count under `values` (or under a spec's own values), in order."""
        found: list[Parameter] = []
        chosen: dict[str, Any] = {}
        for parameter in self.parameters:
            if not parameter.active_in(chosen):
                continue
            found.append(parameter)
            if isinstance(values, Spec):
                chosen[parameter.key] = choice_of(get_value(values, parameter.key))
            elif parameter.key in values:
                chosen[parameter.key] = values[parameter.key]
        return tuple(found)

    def values_of(self, spec: Spec) -> dict[str, Value]:
        """The spec's own values of the active parameters: the baseline of a search."""
        return {parameter.key: choice_of(get_value(spec, parameter.key)) for parameter in self.active(spec)}

    def validate(self, values: Mapping[str, Any]) -> None:
        """Raise SpecError unless `values` holds a legal value for each active parameter and nothing else."""
        for key in values:
            self.parameter(key)
        active = self.active(values)
        for parameter in active:
            if parameter.key not in values:
                raise SpecError(f"a value for {parameter.key} is missing", hint=f"it must be {parameter.describe()}")
            parameter.check(values[parameter.key])
        idle = set(values) - {parameter.key for parameter in active}
        for key in sorted(idle):
            condition = self.parameter(key).condition
            reason = f": it counts only when {condition.key} is {', '.join(map(str, condition.values))}" if condition else ""
            raise SpecError(f"{key} has a value although it is not active{reason}", hint="leave it out")
        self.check_relations(values)

    def check_relations(self, values: Mapping[str, Any]) -> None:
        """Raise SpecError for the first relation between parameters that `values` break."""
        for constraint in self.constraints:
            constraint.check(values)

    def apply(self, spec: Spec, values: Mapping[str, Any]) -> Spec:
        """A checked copy of `spec` with `values`; SpecError when they are not of this space."""
        self.validate(values)
        return with_values(spec, values)


def choice_of(value: Any) -> Any:
    """A value of the spec as a search holds it: lists as text (`[320, 736]`), everything else as it is."""
    return json.dumps(list(value)) if isinstance(value, list | tuple) else value


def parents_first(keys: Sequence[str], parents: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """`keys` in their order, but each after its `parents` among them; SpecError shows a circle."""
    placed: list[str] = []

    def place(key: str, path: tuple[str, ...]) -> None:
        if key in path:
            circle = " -> ".join((*path[path.index(key) :], key))
            raise SpecError(f"these parameters wait for each other: {circle}", hint="mend depends_on in the skill's train schema")
        if key in placed:
            return
        for parent in parents.get(key, ()):
            if parent in keys:
                place(parent, (*path, key))
        placed.append(key)

    for key in keys:
        place(key, ())
    return tuple(placed)
